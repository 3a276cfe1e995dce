"""Compare a shard as HDF5 shows it with the same shard as our reader does, bit for bit.

Our reader believes the header; anybody else believes HDF5's structures. Where a file tells the two
different things, it is not what we wrote, whatever its digests say. As such a file may be hostile,
libhdf5 sees it only after every digest was found right, reads it through a descriptor of ours and
may open no other file: links are looked at before they are followed, and a dataset's layout,
filters and external files before its shape is asked for or a byte of it is read. What is not a
plain, contiguous dataset where the header says is refused there.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cache.atomic import opened, read_at
from cache.errors import ShardError
from cache.header import Header
from cache.integrity import CHANGED
from cache.shard import UNREADABLE, Shard, State, as_bytes, read_header

_AT_ONCE = 1 << 20
# What h5py raises where libhdf5 refuses a file. MemoryError: a structure that claims to be huge.
_REFUSED = (OSError, RuntimeError, ValueError, KeyError, TypeError, MemoryError)


def disagreement_of(shard: Shard) -> str | None:
    """Open a shard with h5py and compare; return where the two readings differ, if anywhere.

    Parameters
    ----------
    shard
        One that `cache.integrity.problem_of` found nothing wrong with.
    """
    try:
        with opened(shard.path) as fd:
            if State.of(os.fstat(fd)) != shard.state or read_header(fd) != shard.header:
                return CHANGED
            return _compare(fd, shard.header)
    except ShardError as error:
        return str(error)
    except FileNotFoundError:  # taken away since it was opened
        return None
    except OSError as error:
        return f"{UNREADABLE}: {error.strerror}"


class _Source(io.RawIOBase):
    """The file as libhdf5 sees it: it can be read, and that is all."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._size = os.fstat(fd).st_size
        self._position = 0

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position}
        self._position = offset + base.get(whence, self._size)
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: Any) -> int:
        data = read_at(self._fd, self._position, len(buffer))
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)


def _expected(header: Header) -> dict[str, tuple[int, np.dtype[Any], tuple[int, ...]]]:
    """Offset, dtype and shape of each dataset, as the header has them."""
    features = np.dtype(header.dtype).newbyteorder("<")
    return {
        "features": (header.features_at, features, (header.rows, header.dims)),
        "key": (header.key_at, np.dtype("u1"), (header.rows, 32)),
        "view": (header.view_at, np.dtype("<u4"), (header.rows,)),
        "crc": (header.crc_at, np.dtype("<u4"), (header.rows,)),
    }


def _compare(fd: int, header: Header) -> str | None:
    try:
        with _hdf5(fd) as root:
            for name, expected in _expected(header).items():
                problem = _compare_one(fd, root, name, *expected)
                if problem is not None:
                    return f"HDF5 shows another {name} than its header: {problem}"
    except _REFUSED as error:
        return f"HDF5 does not read it: {' '.join(str(error).split()):.200}"
    return None


@contextmanager
def _hdf5(fd: int) -> Iterator[Any]:
    """Open the file for reading through our descriptor, and close it whatever happens."""
    import h5py

    # No parts of datasets are cached: the rows are read once.
    with h5py.File(_Source(fd), "r", rdcc_nbytes=0) as file:
        yield file.id


def _compare_one(
    fd: int, root: Any, name: str, at: int, dtype: np.dtype[Any], shape: tuple[int, ...]
) -> str | None:
    from h5py import h5d, h5l, h5o, h5t

    link = name.encode("ascii")
    if not root.links.exists(link):
        return "there is none"
    # An external or soft link would be followed by opening it.
    if root.links.get_info(link).type != h5l.TYPE_HARD:
        return "it is a link"
    if h5o.get_info(root, link).type != h5o.TYPE_DATASET:
        return "it is no dataset"
    dataset = h5d.open(root, link)
    plan = dataset.get_create_plist()
    # Asking a virtual dataset for its shape opens its sources; reading through filters loads code.
    if plan.get_layout() != h5d.CONTIGUOUS:
        return "it is not contiguous"
    if plan.get_nfilters() or plan.get_external_count():
        return "it has filters or external files"
    if not dataset.get_type().equal(h5t.py_create(dtype)):
        return f"its numbers are not {dtype.name}"
    if (found := dataset.shape) != shape:
        return f"its shape is {found}, not {shape}"
    if dataset.get_offset() != at:
        return f"it begins at {dataset.get_offset()}, not at {at}"
    return _compare_bytes(fd, dataset, at, dtype, shape)


def _compare_bytes(
    fd: int, dataset: Any, at: int, dtype: np.dtype[Any], shape: tuple[int, ...]
) -> str | None:
    """Read both ways, about a mebibyte at a time."""
    width = dtype.itemsize * int(np.prod(shape[1:], dtype=np.int64))
    step = max(1, _AT_ONCE // width)
    for first in range(0, shape[0], step):
        rows = min(step, shape[0] - first)
        theirs = _read(dataset, first, np.empty((rows, *shape[1:]), dtype))
        ours = read_at(fd, at + first * width, rows * width)
        if as_bytes(theirs.reshape(rows, -1)).tobytes() != ours:
            return f"rows {first} to {first + rows - 1} differ"
    return None


def _read(dataset: Any, first: int, out: NDArray[Any]) -> NDArray[Any]:
    from h5py import h5s

    there = dataset.get_space()
    there.select_hyperslab((first, *(0 for _ in out.shape[1:])), out.shape)
    dataset.read(h5s.create_simple(out.shape), there, out)
    return out
