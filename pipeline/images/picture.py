"""A decoded image, upright and RGB, in one of two forms: Pillow's own, or plain rows of pixels.

Both do the same to the bit; rows need compiled kernels, and save Pillow's copying.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.images.compiled import Box, Kernels, Size

_BAND_BYTES = 1 << 20


class Picture(Protocol):
    """What the rest of the work needs of a decoded image."""

    @property
    def size(self) -> Size:
        """Width and height in pixels."""

    @property
    def image(self) -> Image.Image:
        """The image as Pillow's, mode RGB."""

    def resized(self, size: Size, box: Box) -> NDArray[np.uint8]:
        """Scale the part in `box` to `size`, antialiased bicubic.

        Returns
        -------
        ndarray
            uint8 (height, width, 3), read-only.
        """

    def reduced_grey(self, block: Size) -> Image.Image:
        """Average blocks of pixels, as wide and high as `block`, and convert to grey."""

    def bands(self) -> Iterator[memoryview | bytes]:
        """Yield the pixels, row by row, three bytes each, in pieces of any length."""


@dataclass(frozen=True, slots=True)
class PillowPicture:
    """An image as Pillow has it.

    Attributes
    ----------
    image
        Mode RGB.
    rows
        Its pixels once more, uint8 (height, width, 3), where they are at hand.
    """

    image: Image.Image
    rows: NDArray[np.uint8] | None = None

    @property
    def size(self) -> Size:
        """Width and height in pixels."""
        return self.image.size

    def resized(self, size: Size, box: Box) -> NDArray[np.uint8]:
        """Scale the part in `box`; read-only."""
        return np.asarray(self.image.resize(size, Image.Resampling.BICUBIC, box=box))

    def reduced_grey(self, block: Size) -> Image.Image:
        """Average blocks of pixels in grey."""
        small = self.image if block == (1, 1) else self.image.reduce(block)
        return small.convert("L")

    def bands(self) -> Iterator[memoryview | bytes]:
        """Yield the pixels in pieces."""
        return _bands(self.image) if self.rows is None else iter((self.rows.data,))


@dataclass(frozen=True, slots=True)
class RowsPicture:
    """An image as its pixels, uint8 (height, width, 3), and what works on them."""

    rows: NDArray[np.uint8]
    kernels: Kernels

    @property
    def size(self) -> Size:
        """Width and height in pixels."""
        height, width = self.rows.shape[:2]
        return width, height

    @property
    def image(self) -> Image.Image:
        """The image as Pillow's, a copy."""
        return Image.fromarray(self.rows)

    def resized(self, size: Size, box: Box) -> NDArray[np.uint8]:
        """Scale the part in `box`; read-only."""
        resized = self.kernels.resized(self.rows, size, box)
        resized.flags.writeable = False
        return resized

    def reduced_grey(self, block: Size) -> Image.Image:
        """Average blocks of pixels in grey."""
        return Image.fromarray(self.kernels.reduced_grey(self.rows, block))

    def bands(self) -> Iterator[memoryview | bytes]:
        """Yield the pixels in pieces."""
        yield self.rows.data


def _bands(image: Image.Image) -> Iterator[bytes]:
    """Yield an image's rows in pieces, so that one of a gigabyte is not copied whole."""
    rows = max(1, _BAND_BYTES // (3 * image.width))
    for top in range(0, image.height, rows):
        bottom = min(top + rows, image.height)
        # Not cropped where it is whole: Pillow warns of crops of a hundred million pixels.
        whole = rows >= image.height
        band = image if whole else image.crop((0, top, image.width, bottom))
        yield band.tobytes()
