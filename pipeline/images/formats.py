"""The six formats that are read, known by a file's name or by its first bytes."""

from __future__ import annotations

import struct
from typing import Literal

Format = Literal["JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF"]

MAX_PIXELS = 178_956_970
"""Images of more pixels are taken for decompression bombs (half a gigabyte of RGB)."""

MAGIC_BYTES = 32
"""How many first bytes of a file `sniff` looks at."""

_READ = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".gif", ".bmp", ".dib", ".webp")
# Formats that are not read, whose files shall be told as rejects and not passed over in silence.
_NOT_READ = (".heic", ".heif", ".avif", ".jxl", ".jp2", ".j2k", ".ico", ".psd", ".svg", ".tga")
_SUFFIXES = frozenset((*_READ, ".tif", ".tiff", *_NOT_READ, ".ppm", ".pgm", ".pbm"))
# Pillow's plugins for these warn from half of the limit on, whatever the caller's own limit is.
_FEWER: dict[Format, int] = {"GIF": MAX_PIXELS // 2, "TIFF": MAX_PIXELS // 2}
_BMP_HEADERS = frozenset({12, 16, 40, 52, 56, 64, 108, 124})


class Undecodable(Exception):
    """No image could be had; the text is the reason, fit for a reject.

    Unless it is a `Transient`, the bytes are to blame, and the same bytes will fail again.
    """


class Transient(Undecodable):
    """The file or the machine failed, not the image: says nothing about the bytes of its key.

    The file could not be read, changed since it was hashed, or needed more memory than there was.
    """


def check_size(width: int, height: int, form: Format) -> None:
    """Raise `Undecodable` for an image of no pixels, or of more than are read in its format."""
    if min(width, height) < 1:
        raise Undecodable(f"the {form} file says it is {width} x {height} pixels")
    limit = _FEWER.get(form, MAX_PIXELS)
    if width * height > limit:
        raise Undecodable(
            f"the {form} file says it is {width} x {height} pixels, more than the {limit} that "
            "are read (a decompression bomb?)"
        )


def claims_image(name: str) -> bool:
    """Whether a file's name says that it is an image (``photo.jpg?itok=x`` does)."""
    stem = name.partition("?")[0]
    dot = stem.rfind(".")
    return dot > 0 and stem[dot:].lower() in _SUFFIXES


def sniff(head: bytes) -> Format | None:
    """Name the format that the first bytes of a file announce, if it is one that is read."""
    if head.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if head.startswith((b"GIF87a", b"GIF89a")):
        return "GIF"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if head.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")):
        return "TIFF"
    # Two letters are a weak magic (a text on BMW begins so), so the header has to fit too.
    if head.startswith(b"BM") and len(head) >= 18 and _u32(head, 14) in _BMP_HEADERS:
        return "BMP"
    return None


def what_it_is_instead(head: bytes) -> str:
    """Say in a few words what bytes are that are none of the six formats."""
    start = head.lstrip()[:16].lower()
    if start.startswith((b"<!doctype html", b"<html", b"<head", b"<body", b"<script")):
        return "is an HTML page"
    if start.startswith((b"<?xml", b"<svg")):
        return "is XML or SVG"
    if head[4:8] == b"ftyp":
        return f"is {head[8:12].decode('ascii', 'replace').strip().upper()}, which is not read"
    if not head.strip(b"\0"):
        return "holds zeros only where an image should begin"
    return "is none of JPEG, PNG, GIF, BMP, WebP and TIFF"


def _u32(data: bytes, at: int) -> int:
    value: int = struct.unpack_from("<I", data, at)[0]
    return value
