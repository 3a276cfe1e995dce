"""What decoding an image tells besides its pixels, as a row of `FACTS_BYTES` bytes.

Layout ``v2`` of a row, little-endian, without gaps:

==== ====== ============ =======================================================
at   bytes  name         what
==== ====== ============ =======================================================
0    4      width        pixels, after orientation, uint32
4    4      height       pixels, after orientation, uint32
8    8      mode         mode as stored, as Pillow names it, ASCII, NUL-padded
16   8      format       file format, ASCII, NUL-padded
24   32     pixels       SHA-256 over width and height (uint32 each) and the
                         8-bit RGB rows, after orientation and before resizing
56   144    spectrum     the lowest frequencies of the grey picture, 12 x 12 int8
200  144    trimmed      the same of the picture without its uniform borders
==== ====== ============ =======================================================

The spectra are for finding near-duplicates; `pipeline.images.spectrum` says what they are. They
are computed on grey pixels that are first averaged over whole blocks, so that at least 128 remain
on each side (where there are that many), which is several times faster.

Layout ``v1`` held three hashes of 64 bits in their place.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from pipeline.images.picture import Picture
from pipeline.images.spectrum import SIDE, SPECTRUM, spectrum_of

FACTS_LAYOUT = "v2"
"""Name of the layout, for the recipe of the store of facts."""

FACTS_DTYPE = np.dtype(
    [
        ("width", "<u4"),
        ("height", "<u4"),
        ("mode", "S8"),
        ("format", "S8"),
        ("pixels", "u1", (32,)),
        ("spectrum", "i1", (SPECTRUM,)),
        ("trimmed", "i1", (SPECTRUM,)),
    ]
)
"""The layout as a NumPy dtype: ``rows.view(FACTS_DTYPE)`` reads many rows at once."""

FACTS_BYTES = FACTS_DTYPE.itemsize
"""Length of a row in bytes."""

_UNIFORM = 12  # grey levels within which a border counts as uniform; JPEG's noise stays below


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """What decoding an image told; see the module for the meaning of each.

    Attributes
    ----------
    width, height
        Size in pixels after orientation.
    mode, format
        As stored in the file, for example ``"RGB"`` and ``"JPEG"``.
    pixels
        SHA-256 of size and RGB pixels, 32 bytes.
    spectrum, trimmed
        Of the picture, and of what is within its uniform borders, 144 bytes each.
    """

    width: int
    height: int
    mode: str
    format: str
    pixels: bytes
    spectrum: bytes
    trimmed: bytes

    def pack(self) -> npt.NDArray[np.uint8]:
        """Return the row, uint8 of shape (`FACTS_BYTES`,)."""
        row = np.zeros(1, FACTS_DTYPE)
        pixels = np.frombuffer(self.pixels, np.uint8)
        spectra = (np.frombuffer(part, np.int8) for part in (self.spectrum, self.trimmed))
        mode, form = self.mode.encode("ascii"), self.format.encode("ascii")
        row[0] = (self.width, self.height, mode, form, pixels, *spectra)
        return row.view(np.uint8)

    @classmethod
    def unpack(cls, row: npt.NDArray[np.uint8]) -> ImageFacts:
        """Read a row that `pack` made; raises ValueError where it has another length."""
        values: Any = np.ascontiguousarray(row, np.uint8).view(FACTS_DTYPE)[0]
        width, height = int(values["width"]), int(values["height"])
        mode, form = values["mode"].decode("ascii"), values["format"].decode("ascii")
        rest = (values[name].tobytes() for name in ("pixels", "spectrum", "trimmed"))
        return cls(width, height, mode, form, *rest)


def facts_of(picture: Picture, mode: str, form: str) -> ImageFacts:
    """Compute the facts of a picture.

    Parameters
    ----------
    picture
        The decoded image.
    mode, form
        The mode and format that it was stored in.
    """
    width, height = picture.size
    grey = picture.reduced_grey((max(1, width // 128), max(1, height // 128)))
    spectrum = _spectrum(grey)
    trimmed = _trim(grey)
    return ImageFacts(
        width=width,
        height=height,
        mode=mode[:8],
        format=form,
        pixels=_digest(picture),
        spectrum=spectrum,
        trimmed=spectrum if trimmed is grey else _spectrum(trimmed),
    )


def _digest(picture: Picture) -> bytes:
    digest = hashlib.sha256(struct.pack("<II", *picture.size))
    for band in picture.bands():
        digest.update(band)
    return digest.digest()


def _spectrum(grey: Image.Image) -> bytes:
    small = grey.resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    return spectrum_of(np.asarray(small)).tobytes()


def _trim(grey: Image.Image) -> Image.Image:
    """Cut off uniform borders; the image itself where there are none, or nothing else."""
    pixels = np.asarray(grey)
    top, bottom = _varied(pixels)
    left, right = _varied(pixels[top:bottom].T)
    top, bottom = _varied(pixels[:, left:right])
    if (left, top, right, bottom) == (0, 0, *grey.size):
        return grey
    return grey.crop((left, top, right, bottom))


def _varied(pixels: npt.NDArray[np.uint8]) -> tuple[int, int]:
    """Return the range of rows between uniform ones at either end; all where all are uniform."""
    rows = np.flatnonzero(pixels.max(1) - pixels.min(1) > _UNIFORM)
    return (int(rows[0]), int(rows[-1]) + 1) if len(rows) else (0, len(pixels))
