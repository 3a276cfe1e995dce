"""Which files below a folder are images: by what their names claim or their first bytes are.

A regular file whose name claims to be an image is neither opened nor asked for its size, so a scan
costs little more than reading the folders (that it is empty comes out when it is hashed, which
asks for the size anyway). What is no regular file is never opened at all: a FIFO would block.
"""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.images.formats import MAGIC_BYTES, claims_image, sniff
from pipeline.images.rejects import Reject

_SYSTEM = frozenset({"__MACOSX", "$RECYCLE.BIN", "System Volume Information"})
_OF_NOTHING = hashlib.sha256().digest()
_SPECIAL = {
    stat.S_IFIFO: "is a FIFO, not a file",
    stat.S_IFSOCK: "is a socket, not a file",
    stat.S_IFCHR: "is a device, not a file",
    stat.S_IFBLK: "is a device, not a file",
}


@dataclass(frozen=True, slots=True)
class Found:
    """What a folder holds.

    Attributes
    ----------
    files
        Candidates, sorted by the bytes of their paths.
    ignored
        How many files and hidden folders are no images and do not claim to be.
    rejects
        What claims to be an image and cannot be one.
    """

    files: tuple[Path, ...]
    ignored: int
    rejects: tuple[Reject, ...]


@dataclass(slots=True)
class _Walk:
    skip: frozenset[tuple[int, int]]
    files: list[str] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)
    linked: list[str] = field(default_factory=list)
    seen: set[tuple[int, int]] = field(default_factory=set)
    ignored: int = 0


def find_images(root: Path, skip: tuple[Path, ...] = ()) -> Found:
    """Find the images below a folder.

    Linked folders are followed after all others, and each real folder is read once, so loops of
    links end and an image is found under its own name rather than under a link's.

    Parameters
    ----------
    root
        The folder.
    skip
        Folders that are left out, such as the output of earlier runs; they need not exist.

    Raises
    ------
    OSError
        The folder itself cannot be read.
    """
    with os.scandir(root):  # a root that cannot be read is the caller's affair, not a reject
        pass
    walk = _Walk(frozenset(i for path in skip if (i := _identity(path)) is not None))
    _descend(walk, os.fspath(root))
    # Sorted: which of two links to one folder is followed shall not hang on the disk's order.
    while walk.linked:
        links, walk.linked = sorted(walk.linked, key=os.fsencode), []
        for link in links:
            _descend(walk, link)
    files = tuple(map(Path, sorted(walk.files, key=os.fsencode)))
    rejects = tuple(sorted(walk.rejects, key=lambda reject: os.fsencode(reject.path)))
    return Found(files, walk.ignored, rejects)


def _identity(path: str | Path) -> tuple[int, int] | None:
    try:
        status = os.stat(path)  # noqa: PTH116 - called for plain strings, 100 000 times
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _descend(walk: _Walk, top: str) -> None:
    folders = [top]
    while folders:
        folder = folders.pop()
        identity = _identity(folder)
        if identity in walk.seen or identity in walk.skip:
            continue
        if identity is not None:
            walk.seen.add(identity)
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    _visit(walk, entry, folders)
        except OSError as error:
            reason = f"the folder cannot be read: {error.strerror}"
            walk.rejects.append(Reject(Path(folder), None, reason))


def _visit(walk: _Walk, entry: os.DirEntry[str], folders: list[str]) -> None:
    name = entry.name
    if name.startswith(".") or name in _SYSTEM:
        walk.ignored += 1
    elif entry.is_dir(follow_symlinks=False):
        folders.append(entry.path)
    elif entry.is_symlink() and os.path.isdir(entry.path):  # noqa: PTH112 - False where it loops
        walk.linked.append(entry.path)
    elif not claims_image(name):
        if os.path.isfile(entry.path) and _is_image(entry.path):  # noqa: PTH113
            walk.files.append(entry.path)
        else:
            walk.ignored += 1
    elif entry.is_file(follow_symlinks=False) or (reject := unusable(entry.path)) is None:
        walk.files.append(entry.path)
    else:
        walk.rejects.append(reject)


def unusable(path: str) -> Reject | None:
    """Reject a path that is no regular file with something in it. Opens nothing."""
    try:
        status = os.stat(path)  # noqa: PTH116 - called for plain strings, 100 000 times
    except OSError as error:
        if os.path.islink(path):  # noqa: PTH114
            return Reject(Path(path), None, "is a link that leads nowhere")
        if isinstance(error, FileNotFoundError):
            return Reject(Path(path), None, "is not there")
        return Reject(Path(path), None, f"cannot be read: {error.strerror}")
    kind = stat.S_IFMT(status.st_mode)
    if kind == stat.S_IFDIR:
        return Reject(Path(path), None, "is a folder, not a file")
    if kind != stat.S_IFREG:
        return Reject(Path(path), None, _SPECIAL.get(kind, "is not a regular file"))
    return None if status.st_size else Reject(Path(path), _OF_NOTHING, "is empty")


def _is_image(path: str) -> bool:
    try:
        # Not blocking, in case the file became a FIFO since it was looked at.
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    except OSError:
        return False
    try:
        return sniff(os.read(handle, MAGIC_BYTES)) is not None
    except OSError:
        return False
    finally:
        os.close(handle)
