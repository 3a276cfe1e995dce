"""From whatever mode an image was stored in to 8-bit RGB on white."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.images.formats import Undecodable

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

_TO_8_BITS = ((np.arange(1 << 16) + 128) // 257).astype(np.uint8)  # round(v / 257), exactly


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert a loaded image to RGB: alpha laid over white, 16 bits of grey divided by 257.

    Returns
    -------
    PIL.Image.Image
        Mode RGB; the image itself where it is that already.

    Raises
    ------
    Undecodable
        32-bit integers or floats, whose black and white nothing in the file tells.
    """
    if image.mode.startswith("I;16"):
        return _from_16_bits(image)
    if image.mode in ("I", "F"):
        kind = "integers" if image.mode == "I" else "floats"
        raise Undecodable(f"32-bit {kind} have no agreed white; convert the image to 8 or 16 bits")
    if image.has_transparency_data:
        # Pillow goes by way of straight alpha for the premultiplied modes.
        straight = {"La": "LA", "RGBa": "RGBA"}.get(image.mode)
        rgba = (image.convert(straight) if straight else image).convert("RGBA")
        white = Image.new("RGB", rgba.size, (255, 255, 255))
        white.paste(rgba, mask=rgba)
        return white
    return image if image.mode == "RGB" else image.convert("RGB")


def upright(image: Image.Image, orientation: int) -> Image.Image:
    """Apply EXIF's orientation, 1 to 8."""
    turn = _TURNS.get(orientation)
    return image if turn is None else image.transpose(turn)


def upright_view(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Apply EXIF's orientation to (height, width, 3) without a copy; the array itself for none."""
    if orientation not in _TURNS:
        return pixels
    turned = pixels.transpose(1, 0, 2) if orientation > 4 else pixels
    kind = (orientation - 1) % 4  # as it is, mirrored, mirrored and upside down, upside down
    return turned[:: -1 if kind > 1 else 1, :: -1 if kind in (1, 2) else 1]


def _from_16_bits(image: Image.Image) -> Image.Image:
    values = np.asarray(image)
    grey = _TO_8_BITS[values]
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        grey[values == transparent] = 255
    return Image.fromarray(grey).convert("RGB")
