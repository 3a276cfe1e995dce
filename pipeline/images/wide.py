"""Colour of 16 bits, of which Pillow keeps the high bytes only: the low ones, and how to round.

Pillow can unpack 16-bit samples of either byte order. Told the wrong one, it takes the low bytes
for the high ones, so a second decoding yields what the first one dropped. Rarer kinds of TIFF
(planes stored apart, premultiplied alpha, CMYK) keep their high bytes, one level off at most.
"""

from __future__ import annotations

import sys
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageChops, ImageFile

_NATIVE_IS_LITTLE = sys.byteorder == "little"
_SWAPPED = {"B": "L", "L": "B", "N": "B" if _NATIVE_IS_LITTLE else "L"}
_PLANES = 284  # TIFF's tag: 2 where each colour is stored on its own


class Low(NamedTuple):
    """How to decode an image to its low bytes."""

    tile: list[ImageFile._Tile]
    grey: bool


def low_of(image: ImageFile.ImageFile) -> Low | None:
    """Tell how to come by the low bytes of an image that is not loaded; None if it has none."""
    if getattr(image, "tag_v2", {}).get(_PLANES, 1) != 1:
        return None
    several = [t.args if isinstance(t.args, tuple) else (t.args,) for t in image.tile]
    raws = {str(args[0]) for args in several if args}
    if raws == {"LA;16B"}:
        # No other byte order is known for this one, but its samples fill four bytes like RGBA's.
        return Low([t._replace(args="RGBA") for t in image.tile], grey=True)
    if not raws or not raws <= {f"{mode};16{order}" for mode in ("RGB", "RGBA") for order in "BLN"}:
        return None
    tiles = []
    for tile, (raw, *more) in zip(image.tile, several, strict=True):
        other = f"{raw[:-1]}{_SWAPPED[raw[-1]]}"
        tiles.append(tile._replace(args=(other, *more) if isinstance(tile.args, tuple) else other))
    return Low(tiles, grey=False)


def rounded(high: Image.Image, again: ImageFile.ImageFile, low_bytes: Low) -> Image.Image:
    """Divide by 257 and round, exactly, given the loaded image and the same one not loaded yet.

    A transparent colour, which is one of 16 bits, becomes white.
    """
    again.tile = low_bytes.tile
    again.load()
    low: Image.Image = again
    if low_bytes.grey:
        grey, alpha = again.getchannel(1), again.getchannel(3)
        low = Image.merge("RGBA", (grey, grey, grey, alpha))
    # (256 high + low) / 257 = high + (low - high) / 257: to round is to go one up or down at most.
    half = [0] * 129 + [1] * 127
    up = ImageChops.subtract(low, high).point(half * len(high.getbands()))
    down = ImageChops.subtract(high, low).point(half * len(high.getbands()))
    result = ImageChops.subtract(ImageChops.add(high, up), down)
    transparent = result.info.pop("transparency", None)
    if isinstance(transparent, tuple):
        colour = np.array(transparent)
        hit = (np.asarray(high) == colour >> 8) & (np.asarray(low) == colour & 255)
        result.paste((255, 255, 255), mask=Image.fromarray(hit.all(-1)))
    return result
