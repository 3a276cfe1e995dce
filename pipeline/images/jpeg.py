"""JPEG: what Pillow must be handed so that it refuses a picture that is not all there.

libjpeg paints what is missing grey and mentions it in a warning that Pillow drops. Two things
make that impossible here. The file must have its end-of-image marker, found by walking from
marker to marker. And in the common kind (one scan, not progressive) that marker is replaced by
stuffed ones before decoding: a complete scan never looks at them, while an incomplete one runs
through them within a block or two (all ones are no Huffman code), asks for more, and is refused.
What goes unseen is a progressive file that was cut and then closed again by some other program.
"""

from __future__ import annotations

import re

from pipeline.images import tiff
from pipeline.images.formats import Undecodable

# Two bytes and no group: the regex engine then jumps from 0xff to 0xff, twenty times as fast.
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7]")
_SOI, _EOI, _SOS, _APP0, _EXIF, _ADOBE, _COMMENT = 0xD8, 0xD9, 0xDA, 0xE0, 0xE1, 0xEE, 0xFE
_WITHIN_SCANS = frozenset({0x00, *range(0xD0, 0xD8)})
_SEQUENTIAL = (0xC0, 0xC1)
_FRAMES = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})
# libjpeg looks at most 57 bits ahead: eight bytes satisfy it and hide no missing block for long.
_PADDING = b"\xff\x00" * 8


def tidy(data: bytes) -> tuple[bytes, int]:
    """Check that a JPEG file is complete, and drop what says nothing about its pixels.

    Parameters
    ----------
    data
        The file's bytes. What follows the end of the first picture is not looked at.

    Returns
    -------
    stream, orientation
        Bytes for Pillow's JPEG decoder, and EXIF's orientation, 1 to 8.

    Raises
    ------
    Undecodable
        The file ends before its picture does.
    """
    kept: list[bytes | memoryview] = [b"\xff\xd8"]
    view = memoryview(data)
    turn, frame, scans, at = 1, 0, 0, 2
    while (start := _after_marker(data, at)) > 0:
        marker = data[start - 1]
        if marker == _EOI:
            break
        if marker in (_SOI, 0x01):
            at = start
            continue
        end = start + int.from_bytes(data[start : start + 2])
        if marker == _SOS:
            scans += 1
            tail = _after_marker(data, end)
            end = tail - 2 if tail else len(data) + 1
        if end > len(data):
            raise Undecodable("the JPEG file is cut off")
        if marker == _EXIF and data[start + 2 : start + 8] == b"Exif\0\0":
            turn = tiff.orientation(data[start + 8 : end])
        frame = marker if marker in _FRAMES and not frame else frame
        if not (_APP0 < marker <= 0xEF or marker == _COMMENT) or marker == _ADOBE:
            kept += [b"\xff", bytes([marker]), view[start:end]]
        at = end
    else:
        raise Undecodable("the JPEG file is cut off")
    if not scans:
        raise Undecodable("the JPEG file holds no picture")
    kept.append(_PADDING if scans == 1 and frame in _SEQUENTIAL else b"\xff\xd9")
    return b"".join(kept), turn


def _after_marker(data: bytes, at: int) -> int:
    """Return the place behind the next marker, those within scans passed over; 0 if none."""
    while (found := _MARKER.search(data, at)) is not None:
        at = found.end()
        while data[at - 1] == 0xFF:  # fill bytes may precede a marker
            at += 1
            if at > len(data):
                return 0
        if data[at - 1] not in _WITHIN_SCANS:
            return at
    return 0
