"""Random weights that are the same on every machine and with every version of every library.

For tests: features of such a network mean nothing. What matters is that a digest names them
exactly, that inference differs clearly from training mode (BatchNorm statistics are random too),
and that activations neither vanish nor explode, nor forget the image, on their way through.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.backbones.registry import Backbone

# Part of the digest: a rule that draws other numbers is another version.
_RULE = "headstart-random-weights-1"
_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)
# Kernels sum to zero, so that what all inputs have in common (activations are positive) does not
# drown what tells images apart. That loses up to a third of the variance that He et al. 2015
# (https://arxiv.org/abs/1502.01852, equation 10) preserve with a gain of 2. This one was chosen on
# eight networks of all families: features of photographs differ by 25 to 50 % of their deviation.
# Residual sums add up: with depth the deviation grows, from 40 in ResNet50 to 1e15 in the
# deepest, EfficientNetV2L.
_GAIN = 2.2
# Size of the input's numbers, where the rule of preprocessing does not bring it near 1.
_INPUT_SCALE = {"caffe": 64.0}


def random_digest(backbone: str, seed: int) -> str:
    """SHA-256 (hex) of the text that names random weights: rule, backbone and seed."""
    return hashlib.sha256(f"{_RULE} backbone={backbone} seed={seed}".encode("ascii")).hexdigest()


def set_random_weights(model: Any, backbone: Backbone, seed: int) -> None:
    """Draw every weight of a Keras model.

    The n-th weight of the model is drawn from SHAKE-128 of the digest and n, by arithmetic that
    IEEE 754 rounds in one way only. The weights' own names play no part in it: Keras makes them
    unique within a process, so that they depend on what was built before.

    Parameters
    ----------
    model
        The backbone as :func:`pipeline.backbones.network.construct` gives it; its weights are
        overwritten.
    backbone, seed
        What the weights are named by.
    """
    digest = random_digest(backbone.name, seed)
    input_scale = _INPUT_SCALE.get(backbone.preprocessing, 1.0)
    position = 0
    for layer in _leaves(model):
        values = []
        for variable in layer.weights:
            draw = _Draw(f"{digest} {position}", tuple(variable.shape), input_scale)
            values.append(draw.value(type(layer).__name__, variable.name))
            position += 1
        if values:
            layer.set_weights(values)
        if hasattr(layer, "finalize_state"):
            layer.finalize_state()


def _leaves(model: Any) -> Iterator[Any]:
    """Layers that hold weights themselves, in the order of the model."""
    for layer in model.layers:
        if hasattr(layer, "layers"):
            yield from _leaves(layer)
        else:
            yield layer


class _Draw:
    """One weight's numbers."""

    def __init__(self, name: str, shape: tuple[int, ...], input_scale: float) -> None:
        self._name = name
        self._shape = shape
        self._input_scale = input_scale

    def value(self, layer: str, role: str) -> NDArray[np.float32]:
        """Draw by the weight's role in its kind of layer."""
        if layer == "Normalization":
            # No weight but the dataset's statistics: others would only be another preprocessing.
            # The variance is the deviation on purpose, as in EfficientNet's own file.
            known = {"mean": _IMAGENET_MEAN, "variance": _IMAGENET_STD}.get(role, (0.0,))
            return np.asarray(known, np.float32).reshape(self._shape)
        if role in ("gamma", "moving_variance") or layer == "LayerScale":
            return (1.0 + 0.5 * self._uniform()).astype(np.float32)
        if role in ("beta", "moving_mean", "bias"):
            return (0.2 * self._uniform()).astype(np.float32)
        depthwise = layer == "DepthwiseConv2D" or role == "depthwise_kernel"
        return self._depthwise() if depthwise else self._kernel()

    def _kernel(self) -> NDArray[np.float32]:
        inputs = math.prod(self._shape[:-1])
        scale = math.sqrt(3.0 * _GAIN / inputs)
        if self._shape[-2] == 3:
            scale /= self._input_scale
        whole = self._integers()
        sums = whole.sum(axis=tuple(range(whole.ndim - 1)))
        centred: NDArray[np.float64] = whole - sums / inputs
        return (centred * (scale / 65536)).astype(np.float32)

    def _depthwise(self) -> NDArray[np.float32]:
        scale = math.sqrt(3.0 * _GAIN / math.prod(self._shape[:2]))
        return (scale * self._uniform()).astype(np.float32)

    def _uniform(self) -> NDArray[np.float64]:
        """Between -1 and 1, with variance 1/3."""
        return self._integers() / 65536

    def _integers(self) -> NDArray[np.int64]:
        """Odd numbers between -65536 and 65536: their sums are exact in any order."""
        stream = hashlib.shake_128(self._name.encode("ascii"))
        drawn = np.frombuffer(stream.digest(2 * math.prod(self._shape)), dtype="<u2")
        return 2 * drawn.astype(np.int64).reshape(self._shape) - 65535
