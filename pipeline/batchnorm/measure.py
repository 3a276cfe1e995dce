"""What each BatchNorm layer is given by some images, and how far that lies from what it stores."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.backbones.quiet import import_keras
from pipeline.batchnorm.layers import Norm, Statistics, called_by, in_graph
from pipeline.batchnorm.moments import Moments, jeffreys


@dataclass(frozen=True, slots=True)
class LayerShift:
    """How far the data's own statistics lie from those that a BatchNorm layer stores.

    Attributes
    ----------
    name, channels
        The layer, and how many channels it has.
    distance
        Jeffreys divergence of the two Gaussians of a channel, averaged over the channels; to each
        variance the layer's own epsilon is added, as the layer does before it divides.
    median
        The same of the channel in the middle: where it is far below `distance`, few channels make
        the difference.
    mean_shift
        Distance of the means in stored deviations, averaged over the channels.
    deviation_ratio
        The data's deviation as a multiple of the stored one, geometric mean over the channels.
    """

    name: str
    channels: int
    distance: float
    median: float
    mean_shift: float
    deviation_ratio: float

    @classmethod
    def of(cls, name: str, stored: Statistics, data: Statistics, epsilon: float) -> LayerShift:
        """Compare what is stored with what the data have."""
        before, now = stored.variance + np.float64(epsilon), data.variance + np.float64(epsilon)
        distances = jeffreys(stored.mean, before, data.mean, now)
        apart = np.abs(data.mean.astype(np.float64) - stored.mean) / np.sqrt(before)
        return cls(
            name=name,
            channels=len(before),
            distance=float(distances.mean()),
            median=float(np.median(distances)),
            mean_shift=float(apart.mean()),
            deviation_ratio=float(np.exp(np.log(now / before).mean() / 2)),
        )


class InputMoments:
    """Runs a model and adds up the moments of what its BatchNorm layers are given.

    Moments of an image are computed in float32 where the image is, those of many images in float64
    from them: no average runs along, and the order of the images changes nothing beyond rounding.

    Parameters
    ----------
    model
        From a batch of inputs to anything.
    norms
        Layers of it.
    """

    def __init__(self, model: Any, norms: Sequence[Norm]) -> None:
        self._model = model
        self._norms = norms
        self._run = in_graph(self._heard)

    def __call__(self, batches: Sequence[NDArray[Any]], count: int) -> list[Moments]:
        """Run batches in inference mode.

        Parameters
        ----------
        batches
            Inputs; those after the first `count` fill up the last batch, and do not count.

        Returns
        -------
        list of Moments
            One a layer; of a layer that is called several times, of all its inputs.

        Raises
        ------
        ValueError
            A layer was not reached: no part of what the model computes.
        """
        total: list[Moments | None] = [None] * len(self._norms)
        left = count
        for batch in batches:
            for position, size, means, variances in self._parts(batch):
                part = Moments.of_parts(size, means[:left], variances[:left])
                before = total[position]
                total[position] = before.merged(part) if before else part
            left -= len(batch)
        if not all(total):
            missed = self._norms[total.index(None)].name
            raise ValueError(f"no input went through the BatchNorm layer {missed}")
        return [moments for moments in total if moments]

    def _parts(self, batch: NDArray[Any]) -> list[tuple[int, int, Any, Any]]:
        numpy: Callable[[Any], NDArray[np.float32]] = import_keras().ops.convert_to_numpy
        heard = self._run(import_keras().ops.convert_to_tensor(batch))
        return [(int(i), int(size), numpy(mean), numpy(var)) for i, size, mean, var in heard]

    def _heard(self, inputs: Any) -> list[tuple[int, int, Any, Any]]:
        """Position of the layer, numbers a channel, and moments (images, channels)."""
        heard: list[tuple[int, int, Any, Any]] = []

        def call_of(position: int, own: Any) -> Any:
            def call(inputs: Any, training: Any = None, mask: Any = None) -> Any:
                heard.append((position, *channel_moments(inputs, self._norms[position].layer.axis)))
                return own(inputs, training=False, mask=mask)

            return call

        with called_by(self._norms, call_of):
            self._model(inputs, training=False)
        return heard


def channel_moments(inputs: Any, axis: int) -> tuple[int, Any, Any]:
    """Tell numbers a channel and image, and their mean and variance: float32 (images, channels)."""
    ops = import_keras().ops
    rank = len(inputs.shape)
    axes = [i for i in range(1, rank) if i != axis % rank]
    inputs = ops.cast(inputs, "float32")
    if not axes:
        return 1, inputs, ops.zeros_like(inputs)
    mean = ops.mean(inputs, axis=axes, keepdims=True)
    variance = ops.mean(ops.square(inputs - mean), axis=axes)
    return math.prod(int(inputs.shape[i]) for i in axes), ops.squeeze(mean, axes), variance


def shifts(norms: Sequence[Norm], moments: Sequence[Moments]) -> tuple[LayerShift, ...]:
    """Compare each layer's stored statistics with the moments of its inputs."""
    return tuple(
        LayerShift.of(norm.name, norm.statistics, own.statistics, float(norm.layer.epsilon))
        for norm, own in zip(norms, moments, strict=True)
    )


def in_batches(images: NDArray[Any], size: int) -> list[NDArray[Any]]:
    """Cut images into batches of one size; the last is filled up with the first images."""
    count = -(-len(images) // size) * size
    filled = images[np.arange(count) % len(images)] if count != len(images) else images
    return [filled[start : start + size] for start in range(0, count, size)]
