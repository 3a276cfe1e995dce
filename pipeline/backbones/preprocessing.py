"""From pixels to the network's input, by rule.

Each rule takes a batch of RGB pixels, shape (n, h, w, 3), dtype uint8, as a tensor of the Keras
backend in use, and returns float32 of the same shape. The names of the rules are part of every
recipe: a rule that changes a number gets another name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, TypeAlias

Tensor: TypeAlias = Any

# Means in RGB order. The first are those of the original Caffe networks, in pixels; the others
# come with torchvision's weights, as fractions of 255.
_CAFFE_MEAN_BGR = (103.939, 116.779, 123.68)
_TORCH_MEAN = (0.485, 0.456, 0.406)
_TORCH_STD = (0.229, 0.224, 0.225)


def _floats(pixels: Tensor) -> Tensor:
    from keras import ops

    return ops.cast(pixels, "float32")


def _row(values: tuple[float, ...]) -> Tensor:
    import numpy as np

    return np.asarray(values, dtype="float32")


def _caffe(pixels: Tensor) -> Tensor:
    from keras import ops

    return ops.subtract(ops.flip(_floats(pixels), axis=-1), _row(_CAFFE_MEAN_BGR))


def _tf(pixels: Tensor) -> Tensor:
    return _floats(pixels) / 127.5 - 1.0


def _torch(pixels: Tensor) -> Tensor:
    from keras import ops

    return ops.divide(ops.subtract(_floats(pixels) / 255.0, _row(_TORCH_MEAN)), _row(_TORCH_STD))


def _lite(pixels: Tensor) -> Tensor:
    return (_floats(pixels) - 127.0) / 128.0


PREPROCESSING: Mapping[str, Callable[[Tensor], Tensor]] = MappingProxyType(
    {"caffe": _caffe, "tf": _tf, "torch": _torch, "lite": _lite, "none": _floats}
)


def preprocess(rule: str, pixels: Tensor) -> Tensor:
    """Apply a rule to a batch of pixels.

    Parameters
    ----------
    rule
        ``"caffe"``: BGR, less the ImageNet mean. ``"tf"``: scaled to [-1, 1]. ``"torch"``: scaled
        to [0, 1], less the ImageNet mean, over its deviation. ``"lite"``: (x - 127) / 128.
        ``"none"``: as they are, because the network scales them itself.
    pixels
        RGB, shape (n, h, w, 3), dtype uint8.

    Returns
    -------
    Tensor
        float32, same shape.

    Raises
    ------
    KeyError
        For a rule that is not in :data:`PREPROCESSING`.
    """
    return PREPROCESSING[rule](pixels)
