"""From a decoded image to the pixels a network takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import UsageError
from pipeline.images.compiled import Box
from pipeline.images.picture import Picture

ResizeMode = Literal["stretch", "crop", "pad"]


@dataclass(frozen=True, slots=True)
class Resize:
    """How an image becomes ``height`` x ``width`` pixels; antialiased.

    Attributes
    ----------
    height, width
        Size of the result in pixels.
    mode
        ``"stretch"`` gives up the aspect ratio, ``"crop"`` scales the short side and cuts the
        middle out, ``"pad"`` scales the long side and fills the rest.
    fill
        Colour (red, green, blue) around the image in mode ``"pad"``.
    """

    height: int
    width: int
    mode: str = "stretch"
    fill: tuple[int, int, int] = (255, 255, 255)

    def __post_init__(self) -> None:
        if self.mode not in get_args(ResizeMode):
            raise UsageError(f"resize mode {self.mode!r} is none of {get_args(ResizeMode)}")
        if self.height < 1 or self.width < 1:
            raise UsageError(f"an image cannot be resized to {self.height} x {self.width} pixels")

    @property
    def rule(self) -> str:
        """The rule without the size, for a recipe: ``stretch-bicubic``, ``pad-bicubic-ffffff``."""
        fill = "-{:02x}{:02x}{:02x}".format(*self.fill) if self.mode == "pad" else ""
        return f"{self.mode}-bicubic{fill}"


def resized(picture: Picture, resize: Resize) -> NDArray[np.uint8]:
    """Apply a `Resize`; uint8 (height, width, 3), read-only."""
    size = (resize.width, resize.height)
    width, height = picture.size
    if resize.mode == "stretch":
        return picture.resized(size, (0, 0, width, height))
    if resize.mode == "crop":
        return picture.resized(size, _middle(width, height, resize))
    scale = min(resize.width / width, resize.height / height)
    inner_width = max(1, min(resize.width, round(width * scale)))
    inner_height = max(1, min(resize.height, round(height * scale)))
    left, top = (resize.width - inner_width) // 2, (resize.height - inner_height) // 2
    canvas = np.full((resize.height, resize.width, 3), resize.fill, np.uint8)
    inner = picture.resized((inner_width, inner_height), (0, 0, width, height))
    canvas[top : top + inner_height, left : left + inner_width] = inner
    canvas.flags.writeable = False
    return canvas


def _middle(width: int, height: int, resize: Resize) -> Box:
    """Find the window that fills the result at one exact scale and an exact centre.

    Its edges are fractions of pixels, so nothing is rounded on the way. The filter still sees the
    pixels outside of it.
    """
    scale = max(resize.width / width, resize.height / height)
    across, down = resize.width / scale, resize.height / scale
    left, top = (width - across) / 2, (height - down) / 2
    right, bottom = min(left + across, width), min(top + down, height)
    return max(left, 0.0), max(top, 0.0), right, bottom
