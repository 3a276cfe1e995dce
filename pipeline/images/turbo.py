"""The common kinds of JPEG, decoded by simplejpeg to the very bits that Pillow gives.

Both packages carry libjpeg-turbo and ask it for the same things (the accurate integer DCT, fancy
upsampling), so the pixels are equal; simplejpeg writes them once, three bytes each, where Pillow
copies its input in pieces and spreads pixels over four bytes. Only what libjpeg reads without any
warning is taken from here. All else goes to Pillow as if this module did not exist: rarer kinds,
whatever is damaged, and everything where the two packages carry decoders that differ.
"""

from __future__ import annotations

import io
from functools import cache
from typing import NamedTuple

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from pipeline.images.formats import check_size

_FRAMES = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})
_HUFFMAN = frozenset({0xC0, 0xC1, 0xC2})  # baseline, extended, progressive
_SOS = 0xDA
_MODES = {1: "L", 3: "RGB"}


class Pixels(NamedTuple):
    """A JPEG's pixels, uint8 (height, width, 3), and the mode that Pillow would name."""

    rgb: NDArray[np.uint8]
    mode: str


def pixels(data: bytes, stream: bytes) -> Pixels | None:
    """Decode a JPEG file of a common kind; None leaves it to Pillow.

    Parameters
    ----------
    data
        The file's bytes.
    stream
        What `jpeg.tidy` made of them.

    Raises
    ------
    Undecodable
        The picture has no pixels, or more than are read.
    """
    shape = _common_shape(stream)
    if shape is None or not same_as_pillow():
        return None
    height, width, components = shape
    check_size(width, height, "JPEG")
    return _decoded(data, height, width, components)


@cache
def same_as_pillow() -> bool:
    """Whether the two packages, as they are installed here, decode a few probes alike."""
    return all(_same(probe) for probe in _probes())


def _decoded(data: bytes, height: int, width: int, components: int) -> Pixels | None:
    rgb = np.empty((height, width, 3), np.uint8)
    try:
        # Into memory of our own, so that a second header in a hostile file cannot ask for more.
        result = simplejpeg.decode_jpeg(data, "RGB", buffer=rgb)
    except (ValueError, KeyError):
        return None  # an error or a mere warning; Pillow says what it is, or is lenient
    return Pixels(rgb, _MODES[components]) if result.shape == rgb.shape else None


def _common_shape(stream: bytes) -> tuple[int, int, int] | None:
    """Read height, width and components of a Huffman-coded frame of 8 bits; None for any other."""
    at = 2
    while at + 10 <= len(stream):
        marker = stream[at + 1]
        if marker in _FRAMES:
            height, width = (int.from_bytes(stream[i : i + 2]) for i in (at + 5, at + 7))
            components = stream[at + 9]
            usual = marker in _HUFFMAN and stream[at + 4] == 8 and components in _MODES
            return (height, width, components) if usual and height else None
        if marker == _SOS:
            return None
        at += 2 + int.from_bytes(stream[at + 2 : at + 4])
    return None


def _same(probe: bytes) -> bool:
    with Image.open(io.BytesIO(probe)) as image:
        expected = np.asarray(image.convert("RGB"))
    try:
        return np.array_equal(simplejpeg.decode_jpeg(probe, "RGB"), expected)
    except ValueError:
        return False


def _probes() -> list[bytes]:
    """Encode noise in the ways that exercise different routines of a decoder."""
    noise = np.random.default_rng(0).integers(0, 256, (37, 51, 3), dtype=np.uint8)
    image = Image.fromarray(noise)
    probes = []
    for subsampling in ("4:4:4", "4:2:2", "4:2:0"):
        for progressive in (False, True):
            file = io.BytesIO()
            image.save(file, "JPEG", subsampling=subsampling, progressive=progressive)
            probes.append(file.getvalue())
    return probes
