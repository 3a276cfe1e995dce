"""The BatchNorm layers of a Keras model: found, read, set, and called otherwise for a while."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.backbones.quiet import import_keras


@dataclass(frozen=True, slots=True)
class Statistics:
    """What a BatchNorm layer subtracts and divides by in inference.

    Attributes
    ----------
    mean, variance
        float32 ``(channels,)`` each.
    """

    mean: NDArray[np.float32]
    variance: NDArray[np.float32]

    def equal(self, other: Statistics) -> bool:
        """Whether these are the same numbers, bit for bit."""
        return (
            self.mean.tobytes() == other.mean.tobytes()
            and self.variance.tobytes() == other.variance.tobytes()
        )


@dataclass(frozen=True, slots=True)
class Norm:
    """One BatchNorm layer.

    Attributes
    ----------
    name
        Of the layer; of one inside of a nested model with that model's name, as in ``resnet50/bn``.
    layer
        The ``keras.layers.BatchNormalization``.
    """

    name: str
    layer: Any

    @property
    def statistics(self) -> Statistics:
        """What the layer holds now, as a copy."""
        held = (self.layer.moving_mean, self.layer.moving_variance)
        return Statistics(*(np.array(each.numpy(), np.float32) for each in held))

    def set(self, statistics: Statistics) -> None:
        """Have the layer hold these."""
        self.layer.moving_mean.assign(statistics.mean)
        self.layer.moving_variance.assign(statistics.variance)


def norms_of(model: Any) -> tuple[Norm, ...]:
    """List a Keras model's BatchNorm layers in the order of the model, each once.

    In a functional model that is an order of depth: what a layer is given comes from those before.
    """
    norm = import_keras().layers.BatchNormalization
    found: dict[int, Norm] = {}
    for name, layer in _leaves(model, ""):
        if isinstance(layer, norm):
            found.setdefault(id(layer), Norm(name, layer))
    return tuple(found.values())


def _leaves(model: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    """Layers that hold no others, with the names of the models that they are in."""
    for layer in getattr(model, "layers", None) or model._flatten_layers(False, False):
        if getattr(layer, "layers", None) or layer._layers:
            yield from _leaves(layer, f"{prefix}{layer.name}/")
        else:
            yield f"{prefix}{layer.name}", layer


@contextlib.contextmanager
def called_by(norms: Sequence[Norm], call_of: Callable[[int, Any], Any]) -> Iterator[None]:
    """Have layers be called by other functions, and by their own again afterwards.

    So a model is looked into wherever its layers are, in models within models too, and nothing of
    it is built again.

    Parameters
    ----------
    call_of
        From the position of a layer, and its own ``call``, to what takes its place.
    """
    for position, norm in enumerate(norms):
        norm.layer.call = call_of(position, norm.layer.call)
    try:
        yield
    finally:
        for norm in norms:
            del norm.layer.call


@contextlib.contextmanager
def in_training_form(norms: Sequence[Norm]) -> Iterator[None]:
    """Have BatchNorm alone do what it does in ``fit``: use the batch's own mean and variance.

    Keras' own code does it. What that moves is put back: afterwards the layers hold, bit for bit,
    what they held before.
    """
    before = [(norm.statistics, norm.layer.trainable) for norm in norms]

    def call_of(_: int, own: Any) -> Any:
        return lambda inputs, training=None, mask=None: own(inputs, training=True, mask=mask)

    try:
        for norm in norms:
            norm.layer.trainable = True
        with called_by(norms, call_of):
            yield
    finally:
        for norm, (statistics, trainable) in zip(norms, before, strict=True):
            norm.layer.trainable = trainable
            norm.set(statistics)


def in_graph(function: Callable[..., Any]) -> Callable[..., Any]:
    """Make one graph a shape of a function on tensors, where Keras runs on TensorFlow.

    Some two times as fast there; elsewhere the function is called as it is.
    """
    keras = import_keras()
    if keras.backend.backend() != "tensorflow":
        return function
    import tensorflow as tf

    traced: Callable[..., Any] = tf.function(function, autograph=False)
    return traced
