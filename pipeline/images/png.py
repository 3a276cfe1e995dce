"""PNG: checked chunk by chunk, and reduced to the chunks that say what its pixels are."""

from __future__ import annotations

import struct
import zlib

from pipeline.images import tiff
from pipeline.images.formats import Undecodable

_PIXELS = frozenset({b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"})


def tidy(data: bytes) -> tuple[bytes, int]:
    """Check that a PNG file is complete, and drop text, profiles, animation and the like.

    Returns
    -------
    stream, orientation
        Bytes for Pillow's PNG decoder, and EXIF's orientation, 1 to 8.

    Raises
    ------
    Undecodable
        A chunk is cut off, or one that matters fails its checksum.
    """
    view = memoryview(data)
    kept: list[bytes | memoryview] = [view[:8]]
    turn, at, name, wide = 1, 8, b"", False
    while name != b"IEND":
        if at + 12 > len(data):
            raise Undecodable("the PNG file is cut off")
        length, name = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        if end > len(data):
            raise Undecodable("the PNG file is cut off")
        body = view[at + 8 : end - 4]
        if name in _PIXELS:
            if zlib.crc32(view[at + 4 : end - 4]) != int.from_bytes(view[end - 4 : end]):
                raise Undecodable(f"the PNG file is damaged: checksum of {name.decode()}")
            wide = bytes(body[8:10]) == b"\x10\x02" if name == b"IHDR" else wide
            kept.append(_high_bytes(body) if wide and name == b"tRNS" else view[at:end])
        elif name == b"eXIf":
            turn = tiff.orientation(bytes(body))
        at = end
    return b"".join(kept), turn


def _high_bytes(transparent: memoryview) -> bytes:
    """Make the transparent colour of 16-bit RGB fit the 8 bits that Pillow decodes it to."""
    body = b"tRNS" + b"".join(b"\0" + bytes(transparent[i : i + 1]) for i in (0, 2, 4))
    return struct.pack(">I", 6) + body + struct.pack(">I", zlib.crc32(body))
