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
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

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
_BAND_BYTES = 1 << 20


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


def facts_of(
    image: Image.Image, mode: str, form: str, rows: npt.NDArray[np.uint8] | None = None
) -> ImageFacts:
    """Compute the facts of an upright RGB image.

    Parameters
    ----------
    image
        Mode RGB.
    mode, form
        The mode and format that it was stored in.
    rows
        Its pixels, uint8 (height, width, 3), where they are at hand: saves a copy.
    """
    grey = _reduced_grey(image)
    spectrum = _spectrum(grey)
    trimmed = _trim(grey)
    return ImageFacts(
        width=image.width,
        height=image.height,
        mode=mode[:8],
        format=form,
        pixels=_digest(image, rows),
        spectrum=spectrum,
        trimmed=spectrum if trimmed is grey else _spectrum(trimmed),
    )


def _digest(image: Image.Image, rows: npt.NDArray[np.uint8] | None) -> bytes:
    digest = hashlib.sha256(struct.pack("<II", *image.size))
    for band in _bands(image) if rows is None else (rows.data,):
        digest.update(band)
    return digest.digest()


def _bands(image: Image.Image) -> Iterator[bytes]:
    """Yield an image's rows in pieces, so that one of a gigabyte is not copied whole."""
    rows = max(1, _BAND_BYTES // (3 * image.width))
    for top in range(0, image.height, rows):
        bottom = min(top + rows, image.height)
        # Not cropped where it is whole: Pillow warns of crops of a hundred million pixels.
        whole = rows >= image.height
        band = image if whole else image.crop((0, top, image.width, bottom))
        yield band.tobytes()


def _reduced_grey(image: Image.Image) -> Image.Image:
    across, down = max(1, image.width // 128), max(1, image.height // 128)
    small = image if across == down == 1 else image.reduce((across, down))
    return small.convert("L")


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
