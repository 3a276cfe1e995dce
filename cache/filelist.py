"""Remember the digest of files, so that an unchanged file need not be read again.

As in git's index, a file is unchanged if its path, size, modification time and inode are. A file
that was modified so shortly before it was hashed that a later change could bear the same time (git
calls it racy) is not remembered.

On disk: 8 bytes magic, u64 number of entries, the entries of 64 bytes (u64 size, i64 mtime_ns, u64
inode, 32 bytes digest, u64 length of the path), the paths one after the other, SHA-256 of all that.
Little-endian. The file is disposable: a damaged one is an empty one.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import struct
from itertools import pairwise
from pathlib import Path

import numpy as np

from cache.atomic import is_hollow, opened, read_at, unique_name
from cache.errors import ShardError, told_as

_MAGIC = b"\x89HSFILE\n"
_START = struct.Struct("<8sQ")
_ENTRY = np.dtype(
    [("size", "<u8"), ("mtime", "<i8"), ("inode", "<u8"), ("digest", "V32"), ("path", "<u8")]
)
_SECOND = 1_000_000_000
# Kernels stamp files with the time of their last tick, 1 to 10 ms ago; twice that is safe.
_TICK = 20_000_000


class FileIndex:
    """Digests of files by path, valid while size, mtime_ns and inode are the same.

    Build one with `FileIndex.load`.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._entries: dict[bytes, tuple[int, int, int, bytes]] = {}
        self._changed = False

    @classmethod
    def load(cls, file: Path) -> FileIndex:
        """Read the index from a file; an absent or damaged one is empty."""
        index = cls(Path(file))
        with contextlib.suppress(OSError, ShardError), opened(index._file) as fd:
            found = os.fstat(fd)
            if not is_hollow(found):
                index._entries = _parse(bytes(read_at(fd, 0, found.st_size)))
        return index

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, path: bytes, stat: os.stat_result) -> bytes | None:
        """Return the digest of a file that has not changed since `put`, else None.

        Parameters
        ----------
        path
            Any name of the file that is the same each time, as bytes.
        stat
            The file as it is now.
        """
        entry = self._entries.get(path)
        if entry is None or entry[:3] != (stat.st_size, stat.st_mtime_ns, stat.st_ino):
            return None
        return entry[3]

    def put(self, path: bytes, stat: os.stat_result, digest: bytes, scanned_ns: int) -> None:
        """Remember a digest, unless the file is racy.

        Parameters
        ----------
        path
            As for `get`.
        stat
            The file as it was before its bytes were read.
        digest
            32 bytes.
        scanned_ns
            `time.time_ns()` before ``stat`` was taken.
        """
        if len(digest) != 32:
            raise ValueError(f"a digest of {len(digest)} bytes: expected 32")
        # Whole seconds are what filesystems with coarse times give (FAT: every other second).
        coarse = stat.st_mtime_ns % _SECOND == 0
        if stat.st_mtime_ns + (2 * _SECOND if coarse else _TICK) >= scanned_ns:
            self._changed |= self._entries.pop(path, None) is not None
            return
        entry = stat.st_size, stat.st_mtime_ns, stat.st_ino, digest
        if self._entries.get(path) != entry:
            self._entries[path] = entry
            self._changed = True

    def discard(self, path: bytes) -> None:
        """Forget a file, whose bytes turned out not to be those remembered."""
        self._changed |= self._entries.pop(path, None) is not None

    def save(self) -> None:
        """Write the index if it changed: whole or not at all. What is there is replaced.

        Raises
        ------
        CacheError
            It cannot be written.
        """
        if not self._changed:
            return
        temporary = self._file.with_name(unique_name())
        with told_as(f"write {self._file}"):
            self._file.parent.mkdir(parents=True, exist_ok=True)
            try:
                # Not synced: after a crash it is the old one, the new one, or damaged and so empty.
                temporary.write_bytes(_pack(self._entries))
                temporary.replace(self._file)
            finally:
                temporary.unlink(missing_ok=True)
        self._changed = False


def _pack(entries: dict[bytes, tuple[int, int, int, bytes]]) -> bytes:
    rows = np.array([(*entry, len(path)) for path, entry in entries.items()], _ENTRY)
    body = _START.pack(_MAGIC, len(rows)) + rows.tobytes() + b"".join(entries)
    return body + hashlib.sha256(body).digest()


def _parse(data: bytes) -> dict[bytes, tuple[int, int, int, bytes]]:
    """Read the entries; none where the file is not what `_pack` wrote."""
    body = memoryview(data)[:-32]
    if len(body) < _START.size or hashlib.sha256(body).digest() != data[-32:]:
        return {}
    magic, count = _START.unpack_from(body)
    start = _START.size + count * _ENTRY.itemsize
    if magic != _MAGIC or start > len(body):
        return {}
    rows = np.frombuffer(body, _ENTRY, count, _START.size)
    edges = np.cumsum(np.concatenate([[start], rows["path"].astype(np.int64)]))
    if edges[-1] != len(body):
        return {}
    paths = [data[a:b] for a, b in pairwise(edges.tolist())]
    # Copied out of the records: items of a view would each keep the whole file in memory.
    columns = (rows[name].tolist() for name in ("size", "mtime", "inode", "digest"))
    return dict(zip(paths, zip(*columns, strict=True), strict=True))
