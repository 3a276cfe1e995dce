"""Check the bytes of shards, once per state of a file, and put aside what fails.

A file's state is (inode, size, mtime_ns, ctime_ns): damage that leaves all four as they were is not
looked for here.
"""

from __future__ import annotations

import contextlib
import json
import os
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cache.atomic import (
    alone,
    fsync_folder,
    fsync_found,
    opened,
    put_aside,
    read_at,
    sha256_of,
    twice,
)
from cache.errors import ShardError, told_as
from cache.shard import (
    NAME,
    UNREADABLE,
    Shard,
    State,
    read_crcs,
    read_features,
    read_header,
    read_keys,
    read_views,
    row_crcs,
)

CHANGED = "changed while it was in use"
"""What is told of a file that is not in the state it was opened in; it may be good."""

_AT_ONCE = 1 << 20
# Some hundred thousand shards. JSON takes some twenty times its length in memory.
_LARGEST_MEMORY = 16 << 20


@dataclass(frozen=True, slots=True)
class Finding:
    """One file among the shards that is not good.

    Attributes
    ----------
    shard
        Its name.
    problem
        What is wrong with it.
    moved_to
        Where it lies in the quarantine; None where it could not be moved (a read-only store).
    """

    shard: str
    problem: str
    moved_to: Path | None


def problem_of(shard: Shard) -> str | None:
    """Read a shard from its first byte to its last; return what is wrong with it, if anything.

    Every row's crc is computed again, and the whole file's SHA-256 compared with its name. It is
    read, not mapped: a bad sector is then an error here instead of the end of the process. What
    passes is durable on return, or a crash could change a file that is remembered as good.

    Raises
    ------
    CacheError
        The system is short of something, or the file could not be made durable; it may be good.
    """
    try:
        return twice(shard.path, lambda: _problem_of(shard))
    except ShardError as error:
        return str(error)
    except FileNotFoundError:  # taken away since it was opened: nothing that could be bad
        return None
    except OSError as error:
        return f"{UNREADABLE}: {error.strerror}"


def _problem_of(shard: Shard) -> str | None:
    with opened(shard.path) as fd:
        header = read_header(fd)
        keys, views, crcs = read_keys(fd, header), read_views(fd, header), read_crcs(fd, header)
        for first, rows in read_features(fd, header, _AT_ONCE):
            part = slice(first, first + len(rows))
            bad = row_crcs(keys[part], views[part], rows, header.recipe) != crcs[part]
            if bad.any():
                return f"damaged: row {first + int(np.argmax(bad))} does not match its crc"
        name = NAME.fullmatch(shard.path.name)
        if name is None or not sha256_of(fd).startswith(name["digest"]):
            return "damaged or renamed: the content does not match the name"
        if State.of(os.fstat(fd)) != shard.state or header != shard.header:
            return CHANGED
        with told_as(f"sync {shard.path}"):  # not tried again, see `cache.atomic`
            fsync_found(fd)
    return None


def quarantine(path: Path, folder: Path, judged: State | None) -> Path | None:
    """Move a file that failed into the quarantine; None where that is not possible or not right.

    Parameters
    ----------
    path, folder
        The file, and the folder for it.
    judged
        State the file was in when it was found bad; what has been put in its place since is left
        alone. None: whatever is there.
    """
    try:
        with alone(folder):
            if judged not in (None, State.of(path.lstat())):
                return None
            aside = put_aside(path, folder)
            # Where there are no locks, a good shard may have come in between the two calls. Its
            # name is free, so it goes back.
            if judged is not None and aside.lstat().st_ino != judged.inode:
                _put_back(aside, path)
                return None
    except OSError:
        return None
    return aside


def _put_back(aside: Path, path: Path) -> None:
    """Give a file its name back, unless another one has that meanwhile."""
    try:
        os.link(aside, path, follow_symlinks=False)
    except OSError:
        if not os.path.lexists(path):  # no hard links here
            aside.rename(path)
            fsync_folder(path.parent)
        return
    fsync_folder(path.parent)
    aside.unlink()


def load_checked(file: Path) -> dict[str, State]:
    """Read which shards passed, and in which state. Whatever is wrong with the file: none did."""
    # OverflowError: JSON as Python reads it has an Infinity.
    wrong = (ShardError, OSError, ValueError, TypeError, RecursionError, OverflowError)
    with contextlib.suppress(*wrong):
        with opened(file) as fd:
            found = json.loads(bytes(read_at(fd, 0, min(os.fstat(fd).st_size, _LARGEST_MEMORY))))
        return {str(name): State(*map(int, state)) for name, state in dict(found).items()}
    return {}


def save_checked(file: Path, checked: Mapping[str, State], tmp: Path) -> None:
    """Remember which shards passed. Disposable, so neither synced nor worth an error."""
    temporary = tmp / f"checked-{uuid.uuid4().hex}"
    with contextlib.suppress(OSError):
        try:
            temporary.write_text(json.dumps(checked))
            temporary.replace(file)
        finally:
            temporary.unlink(missing_ok=True)
