"""ResNet50 as Keras has it, written for torch, with the weights copied from the Keras model."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import max_pool2d, relu

_MEAN = (103.939, 116.779, 123.68)  # blue, green, red: what Keras' "caffe" preprocessing takes off
_BLOCKS = {2: 3, 3: 4, 4: 6, 5: 3}
_EPSILON = 1.001e-5


class ConvNorm(nn.Module):
    """A convolution with bias, and its BatchNorm, copied from two Keras layers."""

    def __init__(self, keras: Any, name: str, stride: int = 1, padding: int = 0) -> None:
        super().__init__()
        kernel, bias = map(torch.tensor, keras.get_layer(f"{name}_conv").get_weights())
        kernel = kernel.permute(3, 2, 0, 1)
        outputs, inputs, side, _ = kernel.shape
        self.conv = nn.Conv2d(inputs, outputs, side, stride, padding)
        self.norm = nn.BatchNorm2d(outputs, eps=_EPSILON)
        statistics = map(torch.tensor, keras.get_layer(f"{name}_bn").get_weights())
        named = zip(("weight", "bias", "running_mean", "running_var"), statistics, strict=True)
        self.conv.load_state_dict({"weight": kernel, "bias": bias})
        self.norm.load_state_dict(dict(named), strict=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x))


class Block(nn.Module):
    """Bottleneck of the first version: the stride is in the first convolution."""

    def __init__(self, keras: Any, name: str, stride: int, shortcut: bool) -> None:
        super().__init__()
        self.shortcut = ConvNorm(keras, f"{name}_0", stride) if shortcut else nn.Identity()
        self.first = ConvNorm(keras, f"{name}_1", stride)
        self.second = ConvNorm(keras, f"{name}_2", padding=1)
        self.third = ConvNorm(keras, f"{name}_3")

    def forward(self, x: Tensor) -> Tensor:
        y = self.third(relu(self.second(relu(self.first(x)))))
        return relu(y + self.shortcut(x))


class ResNet50(nn.Module):
    """RGB pixels of 0 to 255, float32 (n, 3, 224, 224), to average-pooled features (n, 2048)."""

    def __init__(self, keras: Any) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(_MEAN).view(1, 3, 1, 1))
        self.stem = ConvNorm(keras, "conv1", stride=2, padding=3)
        blocks = [
            Block(keras, f"conv{s}_block{b}", 2 if b == 1 and s > 2 else 1, shortcut=b == 1)
            for s, count in _BLOCKS.items()
            for b in range(1, count + 1)
        ]
        self.blocks = nn.Sequential(*blocks)
        self.eval()

    def forward(self, pixels: Tensor) -> Tensor:
        x = relu(self.stem(pixels.flip(1) - self.mean))
        x = max_pool2d(x, 3, 2, 1)
        return self.blocks(x).mean((2, 3))
