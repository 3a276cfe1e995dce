"""TIFF's directory of tags: of TIFF files, and of the EXIF block that other formats carry.

Pillow is handed a directory with only the tags that say how to decode. Whatever else a camera or
an editor wrote there can then neither fail nor warn (warnings cannot be silenced per thread).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from pipeline.images.formats import Undecodable

_ORIENTATION = 274
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 16: 8, 17: 8}
_SINGLE = frozenset({256, 257, 259, 262, 266, 277, 278, 284, 292, 293, 317, 322, 323})
_SEVERAL = frozenset({258, 273, 279, 320, 324, 325, 332, 336, 338, 339, 347, 529, 530, 531, 532})
_DATA_AT, _DATA_LENGTH = (273, 324), (279, 325)


@dataclass(frozen=True, slots=True)
class _Tag:
    """One entry of a directory; ``raw`` is the entry as it stands in the file."""

    number: int
    type: int
    count: int
    raw: bytes


@dataclass(frozen=True, slots=True)
class _Shape:
    """Where things are: classic TIFF has 32-bit offsets, BigTIFF has 64-bit ones."""

    order: str
    first: int
    offset: str
    count: str
    entry: str

    @property
    def entry_size(self) -> int:
        return struct.calcsize(self.order + self.entry)


def orientation(exif: bytes) -> int:
    """Read the orientation, 1 to 8, of an EXIF block; 1 where it is absent or makes no sense."""
    exif = exif.removeprefix(b"Exif\0\0")
    try:
        shape = _shape(exif)
        return _orientation(exif, shape, _directory(exif, shape))
    except (Undecodable, struct.error):
        return 1


def tidy(data: bytes) -> tuple[bytes, int]:
    """Check a TIFF file and reduce it to its first picture and the tags that decode it.

    Returns
    -------
    stream, orientation
        A TIFF file with one directory, and the orientation, 1 to 8.

    Raises
    ------
    Undecodable
        The directory or the picture's data reach beyond the end of the file.
    """
    try:
        shape = _shape(data)
        tags = _directory(data, shape)
        _check_complete(data, shape, tags)
        turn = _orientation(data, shape, tags)
    except struct.error:
        raise Undecodable("the TIFF file is cut off or damaged") from None
    kept = [t for t in tags if t.number in _SINGLE or t.number in _SEVERAL]
    pad = b"\0" * (len(data) % 2)
    directory = struct.pack(shape.order + shape.count, len(kept)) + b"".join(t.raw for t in kept)
    end = struct.pack(shape.order + shape.offset, 0)
    place = struct.pack(shape.order + shape.offset, len(data) + len(pad))
    rest = memoryview(data)[shape.first + len(place) :]
    return b"".join((data[: shape.first], place, rest, pad, directory, end)), turn


def _shape(data: bytes) -> _Shape:
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None:
        raise Undecodable("the TIFF header is damaged")
    (version,) = struct.unpack_from(order + "H", data, 2)
    if version == 42:
        return _Shape(order, 4, "I", "H", "HHI4s")
    if version == 43:
        return _Shape(order, 8, "Q", "Q", "HHQ8s")
    raise Undecodable("the TIFF header is damaged")


def _directory(data: bytes, shape: _Shape) -> list[_Tag]:
    (at,) = struct.unpack_from(shape.order + shape.offset, data, shape.first)
    (count,) = struct.unpack_from(shape.order + shape.count, data, at)
    start = at + struct.calcsize(shape.order + shape.count)
    end = start + count * shape.entry_size + struct.calcsize(shape.order + shape.offset)
    if end > len(data):
        raise Undecodable("the TIFF file is cut off: its directory lies beyond its end")
    tags = []
    for i in range(count):
        place = start + i * shape.entry_size
        number, kind, values, _ = struct.unpack_from(shape.order + shape.entry, data, place)
        tags.append(_Tag(number, kind, values, data[place : place + shape.entry_size]))
    return tags


def _value_at(shape: _Shape, tag: _Tag) -> tuple[int, int]:
    """Return offset and length of a tag's values in the file; offset -1 where they are inline."""
    length = _SIZES.get(tag.type, 0) * tag.count
    field = struct.calcsize(shape.order + shape.offset)
    if length <= field:
        return -1, length
    (offset,) = struct.unpack_from(shape.order + shape.offset, tag.raw, len(tag.raw) - field)
    return offset, length


def _integers(data: bytes, shape: _Shape, tag: _Tag) -> tuple[int, ...]:
    letter = {1: "B", 3: "H", 4: "I", 16: "Q"}.get(tag.type)
    if letter is None:
        raise Undecodable(f"TIFF tag {tag.number} is damaged")
    offset, _ = _value_at(shape, tag)
    form = f"{shape.order}{tag.count}{letter}"
    if offset >= 0:
        return struct.unpack_from(form, data, offset)
    field = struct.calcsize(shape.order + shape.offset)
    return struct.unpack_from(form, tag.raw, len(tag.raw) - field)


def _check_complete(data: bytes, shape: _Shape, tags: list[_Tag]) -> None:
    found = {tag.number: tag for tag in tags}
    if len(found) != len(tags):
        raise Undecodable("the TIFF directory names a tag twice")
    for tag in tags:
        if tag.number in _SINGLE and tag.count != 1:
            raise Undecodable(f"TIFF tag {tag.number} is damaged")
        if tag.number in _SINGLE or tag.number in _SEVERAL:
            offset, length = _value_at(shape, tag)
            if length == 0 or offset + length > len(data):
                raise Undecodable(f"the TIFF file is cut off: tag {tag.number} is incomplete")
    for at, length_of in zip(_DATA_AT, _DATA_LENGTH, strict=True):
        if at in found and length_of in found:
            starts = _integers(data, shape, found[at])
            lengths = _integers(data, shape, found[length_of])
            if any(s + n > len(data) for s, n in zip(starts, lengths, strict=False)):
                raise Undecodable("the TIFF file is cut off: picture data lie beyond its end")


def _orientation(data: bytes, shape: _Shape, tags: list[_Tag]) -> int:
    for tag in tags:
        if tag.number == _ORIENTATION and tag.type == 3 and tag.count == 1:
            (value,) = _integers(data, shape, tag)
            return value if 1 <= value <= 8 else 1
    return 1
