"""Write one shard: an ordinary HDF5 file with our header in front of it."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cache.atomic import read_at, write_at
from cache.errors import ShardError
from cache.header import BLOCK, Header, pack
from cache.recipe import Recipe
from cache.shard import (
    Block,
    as_bytes,
    read_crcs,
    read_features,
    read_header,
    read_keys,
    read_views,
    rest_digest,
    row_crcs,
)

_COMPARE = 1 << 20


def write_shard(fd: int, block: Block, recipe: Recipe) -> None:
    """Write rows as an HDF5 file with its header, and prove that the reader sees the same rows.

    Parameters
    ----------
    fd
        An empty regular file, open for reading and writing.
    block
        At least one row; features in the recipe's dtype.
    recipe
        What the rows belong to; its canonical JSON goes in as the attribute ``recipe``.

    Raises
    ------
    OSError
        Writing or reading back failed.
    ShardError
        What was read back is not what was written.
    """
    digest = bytes.fromhex(recipe.digest)
    with ThreadPoolExecutor(1) as pool:
        crcs = pool.submit(row_crcs, *block, digest)
        datasets: dict[str, Callable[[], NDArray[Any]]] = {
            "key": lambda: block.keys,
            "view": lambda: block.views,
            "features": lambda: block.features,
            "crc": crcs.result,  # made while the features are written
        }
        offsets = _write_hdf5(fd, datasets, recipe.canonical())
    header = Header(
        dtype=recipe.dtype,
        rows=len(block.keys),
        dims=block.features.shape[1],
        features_at=offsets["features"],
        key_at=offsets["key"],
        view_at=offsets["view"],
        crc_at=offsets["crc"],
        length=os.fstat(fd).st_size,
        recipe=digest,
        rest=b"\0" * 32,
    )
    header = replace(header, rest=rest_digest(fd, header))
    write_at(fd, pack(header), 0)
    _prove(fd, header, block, crcs.result())


def _write_hdf5(
    fd: int, datasets: Mapping[str, Callable[[], NDArray[Any]]], recipe: bytes
) -> dict[str, int]:
    """Write the HDF5 file behind an empty user block; return where each dataset begins."""
    aligned = {"alignment_threshold": 1, "alignment_interval": BLOCK}
    with hdf5_on(fd, userblock_size=BLOCK, **aligned) as file:
        file.attrs["recipe"] = np.bytes_(recipe)
        offsets = {}
        for name, make in datasets.items():
            data = make()
            dataset = file.create_dataset(name, data=data, dtype=data.dtype.newbyteorder("<"))
            offsets[name] = dataset.id.get_offset()
        return offsets


@contextmanager
def hdf5_on(fd: int, **settings: Any) -> Iterator[Any]:
    """Open an empty file as an HDF5 file to be written, of `h5py.File`, with its settings.

    Raises
    ------
    OSError
        A write failed; raised at the end, and the file is to be dropped.
    """
    import h5py

    sink = _Sink(fd)
    try:
        with h5py.File(sink, "w", libver="earliest", **settings) as file:
            yield file
    finally:
        if sink.failure is not None:
            raise sink.failure


class _Sink(io.RawIOBase):
    """The file that HDF5 writes to, so that every call to the system is ours to see.

    HDF5 cannot close a file whose last calls failed, and would keep it open until the process ends.
    So the first failure is kept for later and HDF5 is told that all is well: the file is dropped.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._position = 0
        self._end = 0
        self.failure: Exception | None = None

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._end}
        self._position = offset + base[whence]
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: Any) -> int:
        data = self._unless_failed(lambda: read_at(self._fd, self._position, len(buffer)))
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

    def write(self, data: Any) -> int:
        self._unless_failed(lambda: write_at(self._fd, data, self._position))
        self._position += len(data)
        self._end = max(self._end, self._position)
        return len(data)

    def truncate(self, size: int | None = None) -> int:
        self._end = self._position if size is None else size
        self._unless_failed(lambda: os.ftruncate(self._fd, self._end))
        return self._end

    def _unless_failed(self, call: Callable[[], bytearray | None]) -> bytearray:
        try:
            if self.failure is None:
                return call() or bytearray()
        except Exception as error:
            self.failure = error
        return bytearray()


def _prove(fd: int, header: Header, block: Block, crcs: NDArray[np.uint32]) -> None:
    """Read the file back as a reader would and compare every row with the one in memory."""
    found = read_header(fd)
    same = (
        found == header
        and np.array_equal(read_keys(fd, found), block.keys)
        and np.array_equal(read_views(fd, found), block.views)
        and np.array_equal(read_crcs(fd, found), crcs)
        and all(
            np.array_equal(as_bytes(rows), as_bytes(block.features[i : i + len(rows)]))
            for i, rows in read_features(fd, found, _COMPARE)
        )
    )
    if not same:
        raise ShardError("what was written does not read back: memory or disk is failing")
