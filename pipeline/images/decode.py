"""From a file's bytes to RGB pixels, or to a reason why not. Safe to call from many threads.

Pillow's plugins are called directly and not through ``Image.open``, for three reasons: only the
six formats can be reached whatever the bytes are, the limit on pixels is `formats.check_size`'s,
and no warning can come up (a filter for warnings belongs to the whole process, so threads must not
touch it). Three plugins look at Pillow's own, global limit nevertheless: those for GIF and TIFF
warn beyond it, so for them the limit is half as high as for the others; that for WebP refuses
beyond its double, which is the limit here. A program that lowers ``Image.MAX_IMAGE_PIXELS`` thereby
lowers the limits of these three, and may be warned.

JPEG files of the common kinds go through `turbo` and, once they are ready, the kernels of
`compiled`, which give Pillow's pixels in less time.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from pipeline.images import compiled, jpeg, others, png, tiff, turbo, wide
from pipeline.images.augment import Look
from pipeline.images.colour import to_rgb, upright, upright_view
from pipeline.images.facts import ImageFacts, facts_of
from pipeline.images.formats import (
    MAGIC_BYTES,
    MAX_PIXELS,
    Format,
    Transient,
    Undecodable,
    check_size,
    sniff,
    what_it_is_instead,
)
from pipeline.images.picture import Picture, PillowPicture, RowsPicture
from pipeline.images.resize import Resize
from pipeline.images.views import views_of

__all__ = [
    "DECODER",
    "MAX_PIXELS",
    "Decoded",
    "Resize",
    "Undecodable",
    "decode",
    "decode_all",
    "decode_views",
    "load_rgb",
]

DECODER = "pillow-2"
"""Name of the rule from bytes to pixels; part of every recipe, changed whenever pixels change."""


class _Reader(NamedTuple):
    """How a format is checked and read."""

    tidy: Callable[[bytes], tuple[bytes, int]]
    plugin: Callable[[io.BytesIO], ImageFile.ImageFile]


_READERS: dict[Format, _Reader] = {
    "JPEG": _Reader(jpeg.tidy, JpegImagePlugin.JpegImageFile),
    "PNG": _Reader(png.tidy, PngImagePlugin.PngImageFile),
    "GIF": _Reader(others.tidy_gif, GifImagePlugin.GifImageFile),
    "BMP": _Reader(others.tidy_bmp, BmpImagePlugin.BmpImageFile),
    "WEBP": _Reader(others.tidy_webp, WebPImagePlugin.WebPImageFile),
    "TIFF": _Reader(tiff.tidy, TiffImagePlugin.TiffImageFile),
}


class Loaded(NamedTuple):
    """A decoded image, and the mode and format that it was stored in."""

    picture: Picture
    mode: str
    form: Format


@dataclass(frozen=True, slots=True)
class Decoded:
    """One image, ready for a network.

    Attributes
    ----------
    pixels
        uint8 of shape (height, width, 3), read-only.
    facts
        What decoding told besides.
    """

    pixels: npt.NDArray[np.uint8]
    facts: ImageFacts


def decode(data: bytes, resize: Resize) -> Decoded:
    """Decode an image file's bytes and resize the image.

    Parameters
    ----------
    data
        The whole file: JPEG, PNG, GIF (first frame), BMP, WebP or TIFF (first picture).
    resize
        Size of the result and the way to it.

    Raises
    ------
    Undecodable
        For whatever reason the bytes are not a whole, usable image; `Transient` where memory
        ran out.
    """
    return decode_all(data, (resize,))[0]


def decode_all(data: bytes, resizes: Sequence[Resize]) -> tuple[Decoded, ...]:
    """Decode an image file's bytes once, and resize the image in several ways.

    Parameters
    ----------
    data
        As for `decode`.
    resizes
        Sizes of the results and the ways to them.

    Returns
    -------
    tuple of Decoded
        One a way; they share their facts.

    Raises
    ------
    Undecodable
        As for `decode`.
    """
    return decode_views(data, resizes, (None,))[0]


def decode_views(
    data: bytes, resizes: Sequence[Resize], looks: Sequence[Look | None]
) -> tuple[tuple[Decoded, ...], ...]:
    """Decode an image file's bytes once, and make several views of the image.

    Parameters
    ----------
    data, resizes
        As for `decode_all`.
    looks
        What is done for each view; None for the plain picture.

    Returns
    -------
    tuple of tuple of Decoded
        For each view what `decode_all` gives; all share their facts, which are the plain picture's.

    Raises
    ------
    Undecodable
        As for `decode`.
    """
    picture, mode, form = load_rgb(data)
    try:
        facts = facts_of(picture, mode, form)
        return tuple(
            tuple(Decoded(pixels, facts) for pixels in view)
            for view in views_of(picture, resizes, looks)
        )
    except MemoryError:
        raise Transient(f"the {form} file needs more memory than there is") from None


def load_rgb(data: bytes) -> Loaded:
    """Decode an image file's bytes to an upright RGB image of its own size.

    Raises
    ------
    Undecodable
        For whatever reason the bytes are not a whole, usable image; `Transient` where memory
        ran out.
    """
    if not data:
        raise Undecodable("the file is empty")
    form = sniff(data[:MAGIC_BYTES])
    if form is None:
        raise Undecodable(f"the file {what_it_is_instead(data[:256])}")
    try:
        stream, orientation = _READERS[form].tidy(data)
        fast = turbo.pixels(data, stream) if form == "JPEG" else None
        if fast is not None:
            return Loaded(_picture(fast.rgb, orientation), fast.mode, form)
        image = _loaded(stream, form)
        picture = PillowPicture(upright(to_rgb(image), orientation))
        return Loaded(picture, image.mode, form)
    except Undecodable:
        raise
    except MemoryError:
        raise Transient(f"the {form} file needs more memory than there is") from None
    except Image.DecompressionBombError:
        raise Undecodable(
            f"the {form} file has more than the {MAX_PIXELS} pixels that are read "
            "(a decompression bomb?)"
        ) from None
    except Exception as error:
        # Pillow's plugins raise whatever their parsing runs into; each means the same to a user.
        reason = str(error) or type(error).__name__
        raise Undecodable(f"the {form} file cannot be decoded: {reason}") from error


def _picture(rows: npt.NDArray[np.uint8], orientation: int) -> Picture:
    kernels = compiled.ready()
    if kernels is not None:
        view = upright_view(rows, orientation)
        return RowsPicture(rows if view is rows else kernels.copied(view), kernels)
    whole = Image.fromarray(rows)
    turned = upright(whole, orientation)
    return PillowPicture(turned, rows if turned is whole else None)


def _loaded(stream: bytes, form: Format) -> Image.Image:
    plugin = _READERS[form].plugin
    image = plugin(io.BytesIO(stream))
    check_size(image.width, image.height, form)
    low = wide.low_of(image)
    image.load()
    return image if low is None else wide.rounded(image, plugin(io.BytesIO(stream)), low)
