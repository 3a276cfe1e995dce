"""The two members of a head file in one zip: written whole or not at all, read within bounds.

The members are stored, not compressed, so that no file expands: reading one takes memory in
proportion to the bytes that are there.
"""

from __future__ import annotations

import contextlib
import os
import stat
import struct
import zipfile
from pathlib import Path
from typing import BinaryIO

from cache.atomic import fsync_folder, unique_name

FACTS = "head.json"
TENSORS = "tensors.safetensors"
MAX_FACTS = 16 << 20
MAX_TENSORS = (2 << 30) - (32 << 20)
"""Below two gibibytes a zip needs no extension of the format, and none is read."""
MAX_HEAD = MAX_TENSORS - (1 << 16)
"""Bytes of tensors that fit, whatever their names and shapes take in front of them."""

_DIRECTORY_END = struct.Struct("<4s4H2LH")
_MAX_DIRECTORY = 1024
_EPOCH = (1980, 1, 1, 0, 0, 0)


class ContainerError(Exception):
    """A file is not a zip of the two members; the text says why and fits behind a colon."""


def write_members(path: Path, facts: bytes, tensors: bytes) -> None:
    """Write the zip, replacing what has this name; the same members give the same bytes.

    The bytes are written beside, synced, and renamed: after a crash the name has the old file or
    the new one, whole.

    Raises
    ------
    ContainerError
        Where a member is larger than a reader takes.
    OSError
        Where it cannot be written; no temporary file is left.
    """
    for name, data, limit in ((FACTS, facts, MAX_FACTS), (TENSORS, tensors, MAX_TENSORS)):
        if len(data) > limit:
            raise ContainerError(f"{name} would take {len(data)} bytes, the limit is {limit}")
    path = path.absolute()
    temporary = path.parent / f".{unique_name()}.tmp"
    try:
        with temporary.open("xb") as file:
            with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
                archive.writestr(_info(FACTS), facts)
                archive.writestr(_info(TENSORS), tensors)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        fsync_folder(path.parent)
    finally:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()


def _info(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, date_time=_EPOCH)
    info.create_system = 3
    info.external_attr = 0o644 << 16
    return info


def read_members(path: Path) -> tuple[bytes, bytes]:
    """Read both members of a file that may come from a stranger.

    Raises
    ------
    ContainerError
        Where it is anything but a zip of exactly the two members, stored and undamaged.
    OSError
        Where it cannot be read.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise ContainerError("it is not a regular file")
    with path.open("rb") as file:
        _check_directory(file)
        try:
            with zipfile.ZipFile(file) as archive:
                facts, tensors = _infos(archive, os.fstat(file.fileno()).st_size)
                return archive.read(facts), archive.read(tensors)
        except (zipfile.BadZipFile, ValueError, NotImplementedError, EOFError) as error:
            raise ContainerError(f"the zip is damaged ({error})") from error


def _check_directory(file: BinaryIO) -> None:
    """Look at the end of the zip before a general reader does: a directory of two, and small."""
    size = file.seek(0, os.SEEK_END)
    if size < _DIRECTORY_END.size:
        raise ContainerError("it is too short for a zip")
    file.seek(size - _DIRECTORY_END.size)
    end = _DIRECTORY_END.unpack(file.read())
    magic, entries, length, start, comment = end[0], end[3:5], end[5], end[6], end[7]
    if magic != b"PK\5\6" or comment:
        raise ContainerError("it does not end as a zip does; it may be cut off")
    if entries != (2, 2):
        raise ContainerError(f"it has {entries[1]} members instead of {FACTS} and {TENSORS}")
    if length > _MAX_DIRECTORY or start + length + _DIRECTORY_END.size != size:
        raise ContainerError("the zip's directory is not where it should be")
    file.seek(0)


def _infos(archive: zipfile.ZipFile, size: int) -> tuple[zipfile.ZipInfo, zipfile.ZipInfo]:
    infos = archive.infolist()
    if [info.filename for info in infos] != [FACTS, TENSORS]:
        raise ContainerError(f"its members are not {FACTS} and {TENSORS}")
    for info, limit in zip(infos, (MAX_FACTS, MAX_TENSORS), strict=True):
        stored = info.compress_type == zipfile.ZIP_STORED and info.file_size == info.compress_size
        if not stored or info.flag_bits & 1:
            raise ContainerError(f"{info.filename} is compressed or encrypted")
        if info.file_size > min(limit, size):
            raise ContainerError(f"{info.filename} claims {info.file_size} bytes")
    return infos[0], infos[1]
