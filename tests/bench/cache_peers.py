"""What people keep features in, the store among them, each behind the same few calls.

Every one takes batches of 64 rows and makes them durable 64 MB at a time, which is when the store's
`RowBuffer` commits: by then the bytes and the names of the files have been through fsync, whether
the library does that itself (Headstart, SQLite) or it has to be done for it (all others: none calls
fsync). None compresses, as features hardly shrink. The peers know a row by its number alone and
keep neither key nor checksum; Headstart finds rows by key and keeps both.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cache import FeatureRecipe, FeatureStore, RowBuffer

BATCH = 64
DURABLE = 64 << 20


class Peer(ABC):
    """A matrix that grows by batches, is opened and is read.

    Parameters
    ----------
    folder
        An empty or absent folder for `add` and `finish`; the one they filled for all else.
    keys : ndarray of uint8, shape (rows, 32)
        Of all rows that are to come, in their order.
    dims, dtype
        Of a row.
    """

    name: str

    def __init__(self, folder: Path, keys: NDArray[np.uint8], dims: int, dtype: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.keys = keys
        self.rows = len(keys)
        self.dims = dims
        self.dtype = np.dtype(dtype)
        self.numbers: dict[bytes, int] = {}  # of the rows by key, where `gather_keys` is asked
        self.at_once = max(1, DURABLE // (dims * self.dtype.itemsize) // BATCH) * BATCH

    @abstractmethod
    def add(self, first: int, batch: NDArray[Any]) -> None:
        """Take the batch whose first row has this number."""

    @abstractmethod
    def finish(self) -> None:
        """Make all rows durable and close."""

    @abstractmethod
    def open(self) -> None:
        """Open what is there for reading."""

    @abstractmethod
    def close(self) -> None:
        """Close what is open, and let go of all maps."""

    @abstractmethod
    def read_all(self) -> NDArray[Any]:
        """Return all rows in memory, as one new array."""

    @abstractmethod
    def gather(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Return rows in any order."""

    def gather_keys(self, keys: NDArray[np.uint8]) -> NDArray[Any]:
        """Return rows by key, shape (n, 32): with a dict of all keys, ready in memory."""
        wanted = np.ascontiguousarray(keys).view("V32").ravel().tolist()
        return self.gather(np.array([self.numbers[key] for key in wanted]))

    def check(self) -> None:
        """Check what was read against checksums; only Headstart has any."""
        return

    def forget_checks(self) -> None:
        """Let the next `check` be the first."""
        return

    def size(self) -> int:
        """Bytes of all files."""
        return sum(path.stat().st_size for path in files_below(self.folder))


def files_below(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())


def drop_cached(folder: Path) -> bool:
    """Ask the kernel to let go of the pages of all files of a folder; whether it can be asked."""
    with suppress(AttributeError):
        for path in files_below(folder):
            fd = os.open(path, os.O_RDONLY)
            try:
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(fd)
        return True
    return False


def fsync(path: Path) -> None:
    """Make a file durable, or the names in a folder."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


class Headstart(Peer):
    """`FeatureStore`, filled through `RowBuffer` and asked by key, as stage one and two do."""

    name = "headstart"

    def add(self, first: int, batch: NDArray[Any]) -> None:
        if first == 0:
            self.store = FeatureStore.open(self.folder, recipe(self.dtype.name))
            self.buffer = RowBuffer(self.store)
        self.buffer.add(self.keys[first : first + len(batch)], batch)

    def finish(self) -> None:
        self.buffer.flush()
        del self.buffer, self.store

    def open(self) -> None:
        self.store = FeatureStore.at(self.folder / recipe(self.dtype.name).name)

    def close(self) -> None:
        del self.store

    def read_all(self) -> NDArray[Any]:
        rows = self.store.read(self.keys)
        return rows if rows.flags.owndata else rows.copy()  # of a single shard it is a map

    def gather(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        return self.store.read(self.keys[rows])

    def gather_keys(self, keys: NDArray[np.uint8]) -> NDArray[Any]:
        return self.store.read(keys)

    def check(self) -> None:
        assert not self.store.check()

    def forget_checks(self) -> None:
        for path in self.folder.glob("*/checked.json"):
            path.unlink()


def recipe(dtype: str) -> FeatureRecipe:
    return FeatureRecipe(
        backbone="resnet50",
        weights="0" * 64,
        pooling="avg",
        size=224,
        resize="stretch",
        decode="pillow",
        preprocessing="caffe",
        precision="float32",
        dtype=dtype,  # type: ignore[arg-type]
    )


class NumpyMap(Peer):
    """One .npy file made at its full size (so the count is known beforehand), written and read
    through a map; flush (msync) every 64 MB. The floor for reading.
    """

    name = "numpy map"

    def add(self, first: int, batch: NDArray[Any]) -> None:
        path = self.folder / "rows.npy"
        if first == 0:
            self.map = np.lib.format.open_memmap(path, "w+", self.dtype, (self.rows, self.dims))
            self.durable = 0
        self.map[first : first + len(batch)] = batch
        if first + len(batch) - self.durable >= self.at_once:
            self.map.flush()
            self.durable = first + len(batch)

    def finish(self) -> None:
        self.map.flush()
        fsync(self.folder / "rows.npy")
        fsync(self.folder)
        self.close()

    def open(self) -> None:
        self.map = np.load(self.folder / "rows.npy", mmap_mode="r")

    def close(self) -> None:
        del self.map

    def read_all(self) -> NDArray[Any]:
        return np.array(self.map)

    def gather(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        return np.array(self.map[rows])


class Pieces(Peer):
    """Files of 64 MB each that are written once; each kind says how."""

    suffix: str
    parts: list[Any]

    @abstractmethod
    def write(self, path: Path, rows: NDArray[Any]) -> None:
        """Write one file, without fsync."""

    @abstractmethod
    def load(self, path: Path) -> Any:
        """Open one file, as an array if that can be."""

    def count(self, part: Any) -> int:
        """Return how many rows an open file has."""
        return len(part)

    def take(self, part: Any, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Return rows of an open file."""
        taken: NDArray[Any] = part[rows]
        return taken

    def add(self, first: int, batch: NDArray[Any]) -> None:
        if first == 0:
            self.waiting = np.empty((self.at_once, self.dims), self.dtype)
            self.filled = 0
        self.waiting[self.filled : self.filled + len(batch)] = batch
        self.filled += len(batch)
        if self.filled == self.at_once:
            self._keep(first)

    def _keep(self, first: int) -> None:
        path = self.folder / f"{first:012}{self.suffix}"
        self.write(path, self.waiting[: self.filled])
        fsync(path)
        fsync(self.folder)
        self.filled = 0

    def finish(self) -> None:
        if self.filled:
            self._keep(self.rows)
        del self.waiting

    def open(self) -> None:
        self.parts = [self.load(path) for path in sorted(self.folder.glob(f"*{self.suffix}"))]
        self.edges = np.cumsum([0, *map(self.count, self.parts)])

    def close(self) -> None:
        self.parts = []

    def read_all(self) -> NDArray[Any]:
        return np.concatenate(self.parts)

    def gather(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        out = np.empty((len(rows), self.dims), self.dtype)
        order = np.argsort(rows, kind="stable")
        cuts = np.searchsorted(rows[order], self.edges)
        for part, start, (low, high) in zip(self.parts, self.edges, pairwise(cuts), strict=False):
            if low < high:
                out[order[low:high]] = self.take(part, rows[order[low:high]] - start)
        return out


class NumpySave(Pieces):
    """`numpy.save` and fsync of a new file for each 64 MB, read through a map of each."""

    name = "numpy.save"
    suffix = ".npy"

    def write(self, path: Path, rows: NDArray[Any]) -> None:
        np.save(path, rows)

    def load(self, path: Path) -> NDArray[Any]:
        return np.load(path, mmap_mode="r")
