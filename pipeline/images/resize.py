"""From a decoded image to the pixels a network takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from PIL import Image

from pipeline.errors import UsageError

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


def resized(image: Image.Image, resize: Resize) -> Image.Image:
    """Apply a `Resize` to an RGB image."""
    size = (resize.width, resize.height)
    if resize.mode == "stretch":
        return image.resize(size, Image.Resampling.BICUBIC)
    across, down = resize.width / image.width, resize.height / image.height
    if resize.mode == "crop":
        # One exact scale and an exact centre: the source window has fractional edges, so nothing
        # is rounded to whole pixels on the way. The filter still sees the pixels outside of it.
        scale = max(across, down)
        width, height = resize.width / scale, resize.height / scale
        left, top = (image.width - width) / 2, (image.height - height) / 2
        box = (max(left, 0.0), max(top, 0.0), left + width, top + height)
        box = (box[0], box[1], min(box[2], image.width), min(box[3], image.height))
        return image.resize(size, Image.Resampling.BICUBIC, box=box)
    scale = min(across, down)
    width = max(1, min(resize.width, round(image.width * scale)))
    height = max(1, min(resize.height, round(image.height * scale)))
    canvas = Image.new("RGB", size, resize.fill)
    place = ((resize.width - width) // 2, (resize.height - height) // 2)
    canvas.paste(image.resize((width, height), Image.Resampling.BICUBIC), place)
    return canvas
