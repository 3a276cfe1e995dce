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
    turn, at, name = 1, 8, b""
    while name != b"IEND":
        if at + 12 > len(data):
            raise Undecodable("the PNG file is cut off")
        length, name = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        if end > len(data):
            raise Undecodable("the PNG file is cut off")
        if name in _PIXELS:
            if zlib.crc32(view[at + 4 : end - 4]) != int.from_bytes(view[end - 4 : end]):
                raise Undecodable(f"the PNG file is damaged: checksum of {name.decode()}")
            kept.append(view[at:end])
        elif name == b"eXIf":
            turn = tiff.orientation(bytes(view[at + 8 : end - 4]))
        at = end
    return b"".join(kept), turn
