"""What a failed fsync leaves behind: pages that are read as before, and are on no disk.

After an error from fsync (or close) Linux takes the pages for clean: the next fsync succeeds, and
the bytes are gone with the next crash. `Pages` follows which files have bytes that no fsync has
made durable, `later` builds what a crash then leaves: zeros in the place of those bytes, and none
of the names that a folder's failed fsync should have kept. A file that is synced again is not
saved by it; a folder is, as filesystems log what becomes of names.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable
from os import access, fstat, stat  # as they are now: those of `os` are made to fail
from pathlib import Path
from typing import Any

from cache.shard import State


class Pages:
    """Follows the calls that change files and folders below one folder.

    Parameters
    ----------
    root
        The folder; what lies in it is durable.
    volatile
        Files in it that are not: somebody copied them in, and synced nothing.
    """

    def __init__(self, root: Path, volatile: Iterable[Path] = ()) -> None:
        self._root = str(root)
        self._unsynced = {path.lstat().st_ino for path in volatile}
        self._lost: set[int] = set()
        self._names: dict[int, set[str]] = {}
        self._lost_names: dict[int, set[str]] = {}
        self._written: set[int] = set()  # descriptors
        self._over = False

    @property
    def harmed(self) -> bool:
        """Whether anything was lost."""
        return bool(self._lost or any(self._lost_names.values()))

    def before(self, name: str, args: tuple[Any, ...]) -> None:
        """Take in a call that is about to be made."""
        if name in ("pwrite", "ftruncate"):
            self._unsynced.add(fstat(args[0]).st_ino)
        elif name in ("rename", "replace"):  # over a name, it leaves the old file or the new one
            self._over = access(args[1], os.F_OK)

    def after(self, name: str, args: tuple[Any, ...], result: Any) -> None:
        """Take in a call that succeeded."""
        if name == "fsync":
            inode = fstat(args[0]).st_ino
            self._unsynced.discard(inode)
            self._names.pop(inode, None)
            self._lost_names.pop(inode, None)
        elif name == "open":
            self._written.discard(result)
            if args[1] & os.O_ACCMODE != os.O_RDONLY:
                self._written.add(result)
            if args[1] & os.O_CREAT:
                inode = fstat(result).st_ino
                self._lost.discard(inode)  # numbers are used again
                self._unsynced.add(inode)
                self._named(args[0])
        elif name == "link" or (name in ("rename", "replace") and not self._over):
            self._named(args[1])
        elif name == "mkdir":
            self._named(args[0])

    def failed(self, name: str, args: tuple[Any, ...]) -> None:
        """Take in an fsync or close that an error was injected into."""
        # To close what was only read tells nothing of what others wrote.
        if name != "fsync" and not (name == "close" and args[0] in self._written):
            return
        inode = fstat(args[0]).st_ino
        if inode in self._unsynced:
            self._unsynced.discard(inode)
            self._lost.add(inode)
        if inode in self._names and name == "fsync":
            self._lost_names.setdefault(inode, set()).update(self._names.pop(inode))

    def _named(self, path: Any) -> None:
        path = os.fspath(path)
        if path.startswith(self._root):
            folder = stat(os.path.dirname(path)).st_ino  # noqa: PTH116, PTH120
            self._names.setdefault(folder, set()).add(path)

    def later(self, folder: Path, target: Path) -> Path:
        """Copy a store to what a crash leaves of it now."""
        shutil.copytree(folder, target)
        memory = folder / "checked.json"
        said = json.loads(memory.read_text()) if memory.exists() else {}
        for names in self._lost_names.values():
            for name in names:
                gone = target / os.path.relpath(name, folder)
                shutil.rmtree(gone) if gone.is_dir() else gone.unlink(missing_ok=True)
        for path in sorted(folder.rglob("*")):
            copy, found = target / path.relative_to(folder), path.lstat()
            if found.st_ino in self._lost and copy.is_file():
                copy.write_bytes(bytes(found.st_size))
            # What was remembered as checked keeps inode, size and times, as it does in a crash.
            if copy.is_file() and said.get(path.name) == list(State.of(found)):
                said[path.name] = State.of(copy.lstat())
        if said and (target / memory.name).exists():
            (target / memory.name).write_text(json.dumps(said))
        return target
