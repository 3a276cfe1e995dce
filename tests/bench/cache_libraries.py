"""The peers of the feature store that other libraries make; see `cache_peers`."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import zarr
from numpy.typing import NDArray

from tests.bench.cache_peers import BATCH, DURABLE, Peer, Pieces, fsync


class Arrow(Pieces):
    """An Arrow IPC (Feather 2) file and fsync for each 64 MB, one record batch in it: a column of
    fixed-size lists, read through a map without a copy.
    """

    name = "arrow ipc"
    suffix = ".arrow"

    def write(self, path: Path, rows: NDArray[Any]) -> None:
        lists = pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), self.dims)
        table = pa.table({"features": lists})
        with pa.OSFile(os.fspath(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as file:
            file.write_table(table)

    def load(self, path: Path) -> NDArray[Any]:
        with pa.memory_map(os.fspath(path)) as source:
            batch = pa.ipc.open_file(source).get_batch(0)
        return batch.column(0).values.to_numpy(zero_copy_only=True).reshape(-1, self.dims)


class Parquet(Pieces):
    """A Parquet file and fsync for each 64 MB: a column of fixed-size binaries (lists of numbers
    are slower by far), plain encoding, no statistics, row groups of one batch (the least that a
    reader can ask for), all files open at once.
    """

    name = "parquet"
    suffix = ".parquet"

    def write(self, path: Path, rows: NDArray[Any]) -> None:
        kind = pa.binary(rows[0].nbytes)
        column = pa.Array.from_buffers(kind, len(rows), [None, pa.py_buffer(rows)])
        pq.write_table(
            pa.table({"features": column}),
            path,
            row_group_size=BATCH,
            compression="none",
            use_dictionary=False,
            write_statistics=False,
        )

    def load(self, path: Path) -> pq.ParquetFile:
        return pq.ParquetFile(path, memory_map=True)

    def count(self, part: pq.ParquetFile) -> int:
        return part.metadata.num_rows

    def close(self) -> None:
        for file in self.parts:
            file.close()
        super().close()

    def read_all(self) -> NDArray[Any]:
        out = np.empty((self.rows, self.dims), self.dtype)
        for file, start in zip(self.parts, self.edges, strict=False):
            self._copy(file.read(), out[start:])
        return out

    def take(self, part: pq.ParquetFile, rows: NDArray[np.int64]) -> NDArray[Any]:
        groups, group = np.unique(rows // BATCH, return_inverse=True)
        read = np.empty((len(groups) * BATCH, self.dims), self.dtype)
        self._copy(part.read_row_groups(groups.tolist()), read)
        return read[group * BATCH + rows % BATCH]

    def _copy(self, table: pa.Table, out: NDArray[Any]) -> None:
        at = 0
        for chunk in table.column(0).chunks:
            count = len(chunk) * self.dims
            flat = np.frombuffer(chunk.buffers()[1], self.dtype)[chunk.offset * self.dims :][:count]
            out[at : at + len(chunk)] = flat.reshape(-1, self.dims)
            at += len(chunk)


class H5py(Peer):
    """One growing HDF5 file: a dataset resized by each batch, chunks of one batch (tutorials have
    them so or leave them to h5py, whose guess cuts rows to pieces and is slower), a chunk cache of
    64 MB instead of 1; flush and fsync every 64 MB. What a crash in between does to such a file is
    another matter: no fsync helps against a torn one.
    """

    name = "h5py"

    def add(self, first: int, batch: NDArray[Any]) -> None:
        if first == 0:
            self.file = h5py.File(self.folder / "rows.h5", "w", rdcc_nbytes=DURABLE)
            self.data = self.file.create_dataset(
                "features",
                (0, self.dims),
                self.dtype,
                maxshape=(None, self.dims),
                chunks=(BATCH, self.dims),
            )
            self.durable = 0
        self.data.resize(first + len(batch), axis=0)
        self.data[first:] = batch
        if first + len(batch) - self.durable >= self.at_once:
            self.file.flush()
            fsync(self.folder / "rows.h5")
            self.durable = first + len(batch)

    def finish(self) -> None:
        self.close()
        fsync(self.folder / "rows.h5")
        fsync(self.folder)

    def open(self) -> None:
        self.file = h5py.File(self.folder / "rows.h5", "r", rdcc_nbytes=DURABLE)
        self.data = self.file["features"]

    def close(self) -> None:
        self.file.close()

    def read_all(self) -> NDArray[Any]:
        out = np.empty(self.data.shape, self.dtype)
        self.data.read_direct(out)
        return out

    def gather(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        ascending, number = np.unique(rows, return_inverse=True)  # h5py takes no other order
        return self.data[ascending][number]


class Zarr(Peer):
    """A zarr 3 array in a folder, without compressors, grown by `append` of 64 MB at a time: one
    file (a shard of zarr's) for each of these, divided into chunks of one batch, then fsync of
    that file, its folders and zarr.json.
    """

    name = "zarr"

    def add(self, first: int, batch: NDArray[Any]) -> None:
        if first == 0:
            self.array = zarr.create_array(
                self.folder / "rows.zarr",
                shape=(0, self.dims),
                dtype=self.dtype,
                chunks=(BATCH, self.dims),
                shards=(self.at_once, self.dims),
                compressors=None,
            )
            self.waiting = np.empty((self.at_once, self.dims), self.dtype)
            self.filled = 0
        self.waiting[self.filled : self.filled + len(batch)] = batch
        self.filled += len(batch)
        if self.filled == self.at_once:
            self._keep()

    def _keep(self) -> None:
        number = self.array.shape[0] // self.at_once
        self.array.append(self.waiting[: self.filled])
        place = self.folder / "rows.zarr"
        shard = place / "c" / str(number) / "0"
        for path in (shard, shard.parent, place / "c", place / "zarr.json", place, self.folder):
            fsync(path)
        self.filled = 0

    def finish(self) -> None:
        if self.filled:
            self._keep()
        del self.waiting, self.array

    def open(self) -> None:
        self.array = zarr.open_array(self.folder / "rows.zarr", mode="r")

    def close(self) -> None:
        del self.array

    def read_all(self) -> NDArray[Any]:
        return np.asarray(self.array[:])

    def gather(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        return np.asarray(self.array.oindex[rows])


class Sqlite(Peer):
    """A table of blobs by row number: synchronous=FULL and a commit every 64 MB, with a rollback
    journal (a write-ahead log would write every row twice), pages of 64 KB (a row fits into one),
    read through a map.
    """

    name = "sqlite"

    def add(self, first: int, batch: NDArray[Any]) -> None:
        if first == 0:
            self._connect()
            self.base.execute("CREATE TABLE rows (number INTEGER PRIMARY KEY, features BLOB)")
            self.durable = 0
        rows = ((first + i, row.data) for i, row in enumerate(np.ascontiguousarray(batch)))
        self.base.executemany("INSERT INTO rows VALUES (?, ?)", rows)
        if first + len(batch) - self.durable >= self.at_once:
            self.base.commit()
            self.durable = first + len(batch)

    def _connect(self) -> None:
        self.base = sqlite3.connect(self.folder / "rows.sqlite")
        for setting in ("page_size = 65536", "journal_mode = TRUNCATE", "synchronous = FULL"):
            self.base.execute(f"PRAGMA {setting}")
        self.base.execute(f"PRAGMA mmap_size = {1 << 40}")

    def finish(self) -> None:
        self.base.commit()
        self.base.close()

    def open(self) -> None:
        self._connect()

    def close(self) -> None:
        self.base.close()

    def read_all(self) -> NDArray[Any]:
        out = np.empty((self.rows, self.dims), self.dtype)
        for i, (blob,) in enumerate(self.base.execute("SELECT features FROM rows ORDER BY number")):
            out[i] = np.frombuffer(blob, self.dtype)
        return out

    def gather(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        out = np.empty((len(rows), self.dims), self.dtype)
        one: Callable[..., Any] = self.base.execute
        for i, number in enumerate(rows.tolist()):
            (blob,) = one("SELECT features FROM rows WHERE number = ?", (number,)).fetchone()
            out[i] = np.frombuffer(blob, self.dtype)
        return out
