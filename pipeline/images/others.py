"""GIF, WebP and BMP: checks that the file is all there, which Pillow does not always make."""

from __future__ import annotations

import struct

from pipeline.images import tiff
from pipeline.images.formats import Undecodable, check_size


def tidy_gif(data: bytes) -> tuple[bytes, int]:
    """Walk a GIF file's blocks to its trailer; return its bytes and the orientation 1.

    Raises
    ------
    Undecodable
        The file ends before its trailer, holds no picture, or too large a one.
    """
    pictures = 0
    try:
        at = 13 + _table(data[10])
        while data[at] != 0x3B:
            if data[at] == 0x2C:
                if not pictures:
                    _check_extent(data, at)
                pictures += 1
                at += 11 + _table(data[at + 9])
            elif data[at] == 0x21:
                at += 2
            else:
                raise Undecodable("the GIF file is damaged")
            while data[at]:
                at += 1 + data[at]
            at += 1
    except IndexError:
        raise Undecodable("the GIF file is cut off") from None
    if not pictures:
        raise Undecodable("the GIF file holds no picture")
    return data, 1


def _check_extent(data: bytes, at: int) -> None:
    """Check the canvas, which Pillow widens to hold the first picture before anybody can look."""
    try:
        width, height = struct.unpack_from("<HH", data, 6)
        left, top, across, down = struct.unpack_from("<HHHH", data, at + 1)
    except struct.error:
        raise Undecodable("the GIF file is cut off") from None
    check_size(max(width, left + across), max(height, top + down), "GIF")


def tidy_webp(data: bytes) -> tuple[bytes, int]:
    """Check a WebP file's length; return its bytes and EXIF's orientation, 1 to 8.

    Raises
    ------
    Undecodable
        The file is shorter than it says.
    """
    end = 8 + int.from_bytes(data[4:8], "little")
    if end > len(data):
        raise Undecodable("the WebP file is cut off")
    at = 12
    while at + 8 <= end:
        name, length = struct.unpack_from("<4sI", data, at)
        if name == b"EXIF":
            return data, tiff.orientation(data[at + 8 : at + 8 + length])
        at += 8 + length + length % 2
    return data, 1


def tidy_bmp(data: bytes) -> tuple[bytes, int]:
    """Return a BMP file's bytes and the orientation 1: Pillow refuses those that are cut off."""
    return data, 1


def _table(flags: int) -> int:
    """Length in bytes of a GIF colour table, from its descriptor's flags."""
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0
