"""EfficientNet-Lite0 in Keras, and its ImageNet weights from a file of torch's old kind.

Lite0 is EfficientNet-B0 without squeeze-and-excitation, with ReLU6 for swish, and with stem and
head of fixed width (https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite).
The checkpoint's numbers come from TensorFlow: "same" padding that is uneven at stride 2, BatchNorm
epsilon 1e-3, input (x - 127) / 128.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.backbones.quiet import import_keras
from pipeline.backbones.unpickle import load_tensors

_EPSILON = 1e-3
_STEM = 32
_HEAD = 1280
# kernel, stride of the first block, expansion, output channels, blocks; Tan & Le 2019, table 1
_STAGES = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)


@dataclass(frozen=True, slots=True)
class _Block:
    name: str
    kernel: int
    stride: int
    expansion: int
    channels: int


def _blocks() -> Iterator[_Block]:
    for stage, (kernel, stride, expansion, channels, repeats) in enumerate(_STAGES, start=1):
        for repeat in range(repeats):
            name = f"block{stage}{'abcd'[repeat]}_"
            yield _Block(name, kernel, stride if repeat == 0 else 1, expansion, channels)


def efficientnet_lite0(input_shape: tuple[int, int, int]) -> Any:
    """Build the network up to its last feature map.

    Parameters
    ----------
    input_shape
        (height, width, 3).

    Returns
    -------
    keras.Model
        From preprocessed pixels, float32, to (h, w, 1280); weights as Keras initialises them.
    """
    keras = import_keras()
    inputs = keras.Input(input_shape)
    x = _convolve(inputs, "stem_", _STEM, 3, 2)
    for block in _blocks():
        x = _inverted_residual(x, block)
    return keras.Model(inputs, _convolve(x, "top_", _HEAD, 1, 1), name="efficientnet_lite0")


def _convolve(x: Any, name: str, channels: int, kernel: int, stride: int) -> Any:
    from keras import layers

    x = layers.Conv2D(channels, kernel, stride, padding="same", use_bias=False, name=f"{name}conv")(
        x
    )
    return _normalise(x, name)


def _normalise(x: Any, name: str, *, activate: bool = True) -> Any:
    from keras import layers

    x = layers.BatchNormalization(epsilon=_EPSILON, name=f"{name}bn")(x)
    return layers.ReLU(6.0, name=f"{name}activation")(x) if activate else x


def _inverted_residual(inputs: Any, block: _Block) -> Any:
    from keras import layers

    x = inputs
    if block.expansion > 1:
        x = _convolve(x, f"{block.name}expand_", inputs.shape[-1] * block.expansion, 1, 1)
    x = layers.DepthwiseConv2D(
        block.kernel,
        block.stride,
        padding="same",
        use_bias=False,
        name=f"{block.name}depthwise_conv",
    )(x)
    x = _normalise(x, f"{block.name}depthwise_")
    name = f"{block.name}project_"
    x = layers.Conv2D(block.channels, 1, use_bias=False, name=f"{name}conv")(x)
    x = _normalise(x, name, activate=False)
    if block.stride == 1 and inputs.shape[-1] == block.channels:
        x = layers.Add(name=f"{block.name}add")([inputs, x])
    return x


def load_lite0(model: Any, path: Path) -> None:
    """Set the weights of :func:`efficientnet_lite0` from a checkpoint.

    Raises
    ------
    UnsafeFileError
        If the file is no plain set of tensors.
    ValueError
        If its tensors are not those of this network; the first that differs is named.
    """
    tensors = load_tensors(path)
    for layer, prefix in _layer_names():
        target = model.get_layer(layer)
        target.set_weights(_values(tensors, prefix, target))


def _layer_names() -> Iterator[tuple[str, str]]:
    """Names of a layer here and of its tensors in the checkpoint."""
    yield from (("stem_conv", "_conv_stem"), ("stem_bn", "_bn0"))
    for number, block in enumerate(_blocks()):
        there = f"_blocks.{number}."
        if block.expansion > 1:
            yield f"{block.name}expand_conv", f"{there}_expand_conv"
            yield f"{block.name}expand_bn", f"{there}_bn0"
        yield f"{block.name}depthwise_conv", f"{there}_depthwise_conv"
        yield f"{block.name}depthwise_bn", f"{there}_bn1"
        yield f"{block.name}project_conv", f"{there}_project_conv"
        yield f"{block.name}project_bn", f"{there}_bn2"
    yield from (("top_conv", "_conv_head"), ("top_bn", "_bn1"))


def _values(tensors: Mapping[str, NDArray[Any]], prefix: str, layer: Any) -> list[NDArray[Any]]:
    """One layer's tensors in Keras' order and layout."""
    suffixes = ("weight",) if len(layer.weights) == 1 else _BATCHNORM
    values = []
    for suffix, variable in zip(suffixes, layer.weights, strict=True):
        name = f"{prefix}.{suffix}"
        if name not in tensors:
            raise ValueError(f"it has no tensor {name}")
        value = tensors[name]
        if value.ndim == 4:
            # A depthwise kernel is (channels, 1, h, w) there and (h, w, channels, 1) here.
            depthwise = layer.name.endswith("depthwise_conv")
            value = value.transpose((2, 3, 0, 1) if depthwise else (2, 3, 1, 0))
        if value.shape != tuple(variable.shape) or value.dtype != np.float32:
            raise ValueError(
                f"its tensor {name} is {value.dtype} {value.shape}, "
                f"not float32 {tuple(variable.shape)}"
            )
        values.append(value)
    return values


_BATCHNORM = ("weight", "bias", "running_mean", "running_var")
