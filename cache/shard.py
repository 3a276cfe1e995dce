"""One sealed shard, read through a map: libhdf5 has no part in it.

Opening checks everything but the rows' own bytes: kind of file, name, header, offsets, length, and
the digest of HDF5's structures. `row_crcs` is what the rows' bytes are checked with.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cache.atomic import is_hollow, opened, read_at, twice
from cache.errors import ShardError
from cache.header import BLOCK, KEY_BYTES, Header, check, parse
from cache.recipe import Recipe

UNREADABLE = "cannot be read"
"""How what is told of a file begins that may be another user's, or good again tomorrow."""

NAME = re.compile(r"(?P<recipe>[0-9a-f]{8})-(?P<rows>[1-9][0-9]*)-(?P<digest>[0-9a-f]{32})\.h5")


class Block(NamedTuple):
    """Rows with what identifies them.

    Attributes
    ----------
    keys : ndarray of uint8, shape (n, 32)
        SHA-256 of each image file.
    views : ndarray of uint32, shape (n,)
        Number of the augmented view, 0 for the plain image.
    features : ndarray of the store's dtype, shape (n, dims)
    """

    keys: NDArray[np.uint8]
    views: NDArray[np.uint32]
    features: NDArray[Any]


class State(NamedTuple):
    """What tells one state of a file from the next without reading it."""

    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, found: os.stat_result) -> State:
        """Take the state from a stat."""
        return cls(found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


@dataclass(frozen=True, slots=True, eq=False)
class Shard:
    """An open shard: what was checked when it was opened, and its rows' identities."""

    path: Path
    state: State
    header: Header
    keys: NDArray[np.uint8]
    views: NDArray[np.uint32]


def shard_name(recipe: Recipe, rows: int, digest: str) -> str:
    """Return the name of a shard with that content: ``<recipe8>-<rows>-<digest32>.h5``."""
    return f"{recipe.digest[:8]}-{rows}-{digest[:32]}.h5"


def row_crcs(
    keys: NDArray[np.uint8], views: NDArray[np.uint32], features: NDArray[Any], recipe: bytes
) -> NDArray[np.uint32]:
    """CRC-32 (zlib's) of each row: over key, view as little-endian u32, recipe digest, row bytes.

    Parameters
    ----------
    keys, views, features
        As in `Block`.
    recipe
        The recipe's digest, 32 bytes.

    Returns
    -------
    ndarray of uint32, shape (n,)
    """
    crc32 = zlib.crc32
    rows = as_bytes(features)
    width = rows.shape[1]
    head = np.empty((len(keys), KEY_BYTES + 4 + 32), np.uint8)
    head[:, :KEY_BYTES] = keys
    head[:, KEY_BYTES : KEY_BYTES + 4] = as_bytes(views.astype("<u4", copy=False)[:, None])
    head[:, KEY_BYTES + 4 :] = np.frombuffer(recipe, np.uint8)
    heads, data, step = head.reshape(-1).data, rows.reshape(-1).data, head.shape[1]
    crcs = (
        crc32(data[i * width : (i + 1) * width], crc32(heads[i * step : (i + 1) * step]))
        for i in range(len(keys))
    )
    return np.fromiter(crcs, np.uint32, len(keys))


def open_shard(path: Path, recipe: Recipe) -> Shard:
    """Open a shard and check all of it but its rows' bytes.

    Raises
    ------
    ShardError
        Not a shard of this recipe, damaged or unreadable; says what is wrong.
    CacheError
        The system is short of something (descriptors, memory); the file may be good.
    """
    try:
        return twice(path, lambda: _open_shard(path, recipe))
    except OSError as error:
        raise ShardError(f"{UNREADABLE}: {error.strerror}") from error


def _open_shard(path: Path, recipe: Recipe) -> Shard:
    name = NAME.fullmatch(path.name)
    if name is None:
        raise ShardError("its name is not that of a shard")
    with opened(path) as fd:
        found = os.fstat(fd)
        state = State.of(found)
        if is_hollow(found):
            raise ShardError("damaged: nearly all of it is a hole")
        header = read_header(fd)
        if (name["recipe"], int(name["rows"])) != (header.recipe.hex()[:8], header.rows):
            raise ShardError("renamed: name and header disagree")
        if header.recipe.hex() != recipe.digest or header.dtype != recipe.dtype:
            raise ShardError("belongs to another recipe")
        # A sparse file can claim rows without end; ours have their keys on disk.
        if not _keys_are_there(fd, header):
            raise ShardError("damaged: a hole in its keys")
        return Shard(path, state, header, read_keys(fd, header), read_views(fd, header))


def _keys_are_there(fd: int, header: Header) -> bool:
    needed = KEY_BYTES * header.rows
    try:
        return os.lseek(fd, header.key_at, os.SEEK_HOLE) >= header.key_at + needed
    except OSError:  # not every filesystem can tell where holes are
        return os.fstat(fd).st_blocks * 512 >= needed


def map_features(shard: Shard) -> NDArray[Any]:
    """Map the rows of an open shard: read-only, shape (rows, dims), nothing copied.

    Raises
    ------
    ShardError
        The file is no longer the one that was opened.
    OSError
        It cannot be opened.
    """
    header = shard.header
    with opened(shard.path) as fd:
        if State.of(os.fstat(fd)) != shard.state:
            raise ShardError("changed since it was opened")
        mapped = mmap.mmap(fd, header.length, access=mmap.ACCESS_READ)
    flat = np.frombuffer(
        mapped, _little(header.dtype), header.rows * header.dims, header.features_at
    )
    return flat.reshape(header.rows, header.dims)


def read_header(fd: int) -> Header:
    """Read the header of an open file and check it against the file.

    Raises
    ------
    ShardError
        Header, offsets, length or HDF5's own structures are not right.
    """
    header = parse(bytes(read_at(fd, 0, BLOCK)))
    check(header, os.fstat(fd).st_size)
    if rest_digest(fd, header) != header.rest:
        raise ShardError("damaged: HDF5's structures do not match their digest")
    return header


def read_keys(fd: int, header: Header) -> NDArray[np.uint8]:
    """Read the dataset ``key``: uint8, shape (rows, 32)."""
    return _read(fd, header.key_at, header.rows, np.dtype((np.uint8, KEY_BYTES)))


def read_views(fd: int, header: Header) -> NDArray[np.uint32]:
    """Read the dataset ``view``: uint32, shape (rows,)."""
    return _read(fd, header.view_at, header.rows, np.dtype("<u4"))


def read_crcs(fd: int, header: Header) -> NDArray[np.uint32]:
    """Read the dataset ``crc``: uint32, shape (rows,)."""
    return _read(fd, header.crc_at, header.rows, np.dtype("<u4"))


def read_features(fd: int, header: Header, at_once: int) -> Iterator[tuple[int, NDArray[Any]]]:
    """Read the rows without a map, about ``at_once`` bytes at a time: (first row, rows)."""
    step = max(1, at_once // header.row_bytes)
    row = np.dtype((_little(header.dtype), header.dims))
    for first in range(0, header.rows, step):
        rows = min(step, header.rows - first)
        yield first, _read(fd, header.features_at + first * header.row_bytes, rows, row)


def _read(fd: int, start: int, count: int, row: np.dtype[Any]) -> NDArray[Any]:
    size = count * row.itemsize
    data = read_at(fd, start, size)
    if len(data) != size:
        raise ShardError("cut off while it was read")
    return np.frombuffer(data, row.base, -1).reshape(count, *row.shape)


def _little(dtype: str) -> np.dtype[Any]:
    return np.dtype(dtype).newbyteorder("<")


def as_bytes(rows: NDArray[Any]) -> NDArray[np.uint8]:
    """See a matrix as its bytes, shape (n, bytes of a row); a copy only if not contiguous."""
    rows = np.ascontiguousarray(rows)
    return rows.view(np.uint8).reshape(len(rows), rows.shape[1] * rows.dtype.itemsize)


def rest_digest(fd: int, header: Header) -> bytes:
    """SHA-256 of what is neither header nor row data."""
    digest = hashlib.sha256()
    for start, stop in header.rest_extents:
        digest.update(read_at(fd, start, stop - start))
    return digest.digest()
