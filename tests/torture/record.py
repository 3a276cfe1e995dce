"""Record what a piece of work does to files and folders, call by call, while it really does it."""

from __future__ import annotations

import fcntl
import io
import json
import os
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Op:
    """One call that changes what is on the disk, or makes it durable, or a report to the user.

    Attributes
    ----------
    kind
        ``name`` (a name now means ``file``, or nothing), ``write``, ``size``, ``sync``, ``sync
        folder``, ``kept`` (rows reported as kept).
    path
        The name, or the folder that is synced; relative to the root.
    file
        Number of the file; None for a name that is gone; -1 for a folder.
    """

    kind: str
    path: str = ""
    file: int | None = None
    at: int = 0
    data: bytes = b""
    rows: frozenset[int] = frozenset()


class Blocked(BaseException):
    """A lock is held by work that waits for this one; in two processes this one would wait."""


class Recorder:
    """Records below one folder; what is there at the beginning is durable.

    Attributes
    ----------
    ops
        What was done, in order.
    files
        Content of each file at the beginning, by number.
    names
        Number of the file (-1: a folder) by name at the beginning.
    memories
        Contents of checked.json that were written: which file each of its entries is true of.
    before
        Called before each call with the calls so far; may do work of its own (another process).
    """

    def __init__(self, root: Path, *, hard_links: bool = True) -> None:
        self.root = root
        self.ops: list[Op] = []
        self.files: dict[int, bytes] = {}
        self.names: dict[str, int] = {}
        self.memories: dict[bytes, dict[str, int]] = {}
        self.before: Callable[[int], None] | None = None
        self.calls = 0
        self._uuids = 0
        self._hard_links = hard_links
        self._numbers: dict[int, int] = {}  # by real inode
        self._opened: dict[int, str] = {}
        self._opaque: set[str] = set()
        self._lock = threading.RLock()
        for path in sorted(root.rglob("*")):
            name = str(path.relative_to(root))
            self.names[name] = -1 if path.is_dir() else self._number(path)
            if path.is_file():
                self.files[self.names[name]] = path.read_bytes()
        for name in self.names:
            if name.endswith("checked.json"):
                self._remember(root / name)

    def kept(self, rows: set[int] | range) -> None:
        """Note that rows were reported as kept."""
        self.ops.append(Op("kept", rows=frozenset(rows)))

    @contextmanager
    def __call__(self) -> Iterator[Recorder]:
        wrappers = {
            (os, name): getattr(self, f"_{name}")
            for name in (
                *("open", "close", "pwrite", "ftruncate", "fsync", "link", "rename", "replace"),
                *("unlink", "mkdir", "rmdir"),
            )
        } | {
            (io, "open"): self._io_open,
            (fcntl, "flock"): self._flock,
            (uuid, "uuid4"): self._uuid4,
        }
        self.real = {(module, name): getattr(module, name) for module, name in wrappers}
        for (module, name), wrapper in wrappers.items():
            setattr(module, name, wrapper)
        try:
            yield self
        finally:
            for (module, name), function in self.real.items():
                setattr(module, name, function)

    def _do(self, name: str, *args: Any, **options: Any) -> Any:
        if name not in ("pwrite", "ftruncate"):  # from within HDF5, which has a lock of its own
            self.calls += 1
            if self.before is not None:
                self.before(self.calls)
        return self.real[os, name](*args, **options)

    def _number(self, path: Path) -> int:
        inode = path.lstat().st_ino
        return self._numbers.setdefault(inode, len(self._numbers))

    def _inside(self, path: Any) -> str | None:
        path = Path(os.path.abspath(path))  # noqa: PTH100 - links must not be resolved
        return str(path.relative_to(self.root)) if path.is_relative_to(self.root) else None

    def _file_of(self, fd: int) -> int:
        return self._number(self.root / self._opened[fd])

    def _open(self, path: Any, flags: int, *args: Any, **options: Any) -> int:
        fd = self._do("open", path, flags, *args, **options)
        name = self._inside(path)
        if name is not None:
            with self._lock:
                self._opened[fd] = name
                if flags & os.O_CREAT:
                    inode = os.fstat(fd).st_ino
                    self._numbers[inode] = number = len(self._numbers) + 1000
                    self.ops.append(Op("name", name, number))
        return fd

    def _close(self, fd: int) -> None:
        self._opened.pop(fd, None)
        self.real[os, "close"](fd)

    def _pwrite(self, fd: int, data: Any, at: int) -> int:
        count = self._do("pwrite", fd, data, at)
        written = bytes(memoryview(data).cast("B")[:count])
        self.ops.append(Op("write", file=self._file_of(fd), at=at, data=written))
        return count

    def _ftruncate(self, fd: int, size: int) -> None:
        self._do("ftruncate", fd, size)
        self.ops.append(Op("size", file=self._file_of(fd), at=size))

    def _fsync(self, fd: int) -> None:
        self._do("fsync", fd)
        name = self._opened.get(fd)
        if name is None:
            return
        if (self.root / name).is_dir():
            self.ops.append(Op("sync folder", "" if name == "." else name))
        else:
            self.ops.append(Op("sync", file=self._file_of(fd)))

    def _link(self, source: Any, target: Any, **options: Any) -> None:
        if not self._hard_links:
            raise PermissionError(1, "Operation not permitted")
        self._do("link", source, target, **options)
        self.ops.append(Op("name", self._inside(target), self._number(Path(target))))

    def _rename(self, source: Any, target: Any, **options: Any) -> None:
        self._moved("rename", source, target)

    def _replace(self, source: Any, target: Any, **options: Any) -> None:
        self._moved("replace", source, target)

    def _moved(self, call: str, source: Any, target: Any) -> None:
        number = self._number(Path(source)) if Path(source).exists() else None
        if str(source) in self._opaque:
            self._opaque.remove(str(source))
            content = Path(source).read_bytes()
            self.ops.append(Op("write", file=number, at=0, data=content))
        self._do(call, source, target)
        self.ops.append(Op("name", self._inside(target), number))
        self.ops.append(Op("name", self._inside(source), None))
        if Path(target).name == "checked.json":
            self._remember(Path(target))

    def _unlink(self, path: Any, **options: Any) -> None:
        self._do("unlink", path, **options)
        name = self._inside(path)
        if name is not None:
            self.ops.append(Op("name", name, None))

    def _mkdir(self, path: Any, *args: Any, **options: Any) -> None:
        self._do("mkdir", path, *args, **options)
        name = self._inside(path)
        if name is not None:
            self.ops.append(Op("name", name, -1))

    def _rmdir(self, path: Any, **options: Any) -> None:
        self._do("rmdir", path, **options)
        name = self._inside(path)
        if name is not None:
            self.ops.append(Op("name", name, None))

    def _uuid4(self) -> uuid.UUID:
        """Return one that is the same each time: names decide in which order states come."""
        self._uuids += 1
        return uuid.UUID(int=self._uuids << 64, version=4)

    def _io_open(self, path: Any, mode: str = "r", *args: Any, **options: Any) -> Any:
        file = self.real[io, "open"](path, mode, *args, **options)
        if "w" in mode and self._inside(path) is not None:
            inode = os.fstat(file.fileno()).st_ino
            self._numbers[inode] = number = len(self._numbers) + 1000
            self.ops.append(Op("name", self._inside(path), number))
            self._opaque.add(str(path))
        return file

    def _flock(self, fd: int, operation: int) -> None:
        try:
            self.real[fcntl, "flock"](fd, operation | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if operation & fcntl.LOCK_NB:
                raise
            raise Blocked from error

    def _remember(self, memory: Path) -> None:
        """Note which entries of checked.json are true now: a crash gives files other times."""
        content = memory.read_bytes()
        true = {}
        for name, state in json.loads(content).items():
            path = memory.parent / "shards" / name
            found = path.lstat() if path.exists() else None
            if (
                found
                and [found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns] == state
            ):
                true[name] = self._number(path)
        self.memories[content] = true
