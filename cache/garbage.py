"""What a store holds that nobody needs: rows, leftovers of dead processes, old damaged files.

First decide, then act: `find_garbage` changes nothing, and `remove_garbage` looks again at what it
removes. Rows go as compaction does it, so a crash leaves more rows than needed and never fewer.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import stat
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cache.atomic import fsync_folder, unique_name
from cache.census import Census
from cache.compaction import drop_rows
from cache.errors import CacheError, told_as
from cache.folder import Folder, save_recipe
from cache.index import Index
from cache.integrity import Finding
from cache.recipe import Recipe
from cache.rewrite import Wanted
from cache.shard import Shard
from cache.store import FeatureStore

DAY = 86_400.0
# A damaged shard is kept for a look; whoever has not looked for so long will not.
QUARANTINE_DAYS = 30
_TEMPORARY = re.compile(r"(?P<host>[A-Za-z0-9._]{1,64})-(?P<pid>[1-9][0-9]{0,9})-[0-9a-f]{32}")
# What a row takes besides its features: key, view and crc.
_BESIDES = 40
# Names in a store's folder besides those of its parts.
_OURS = re.compile(r"recipe\.json|checked\.json|rejects\.jsonl|\.rejects-[0-9a-f]{32}|[\w-]+\.lock")


@dataclass(frozen=True, slots=True)
class Garbage:
    """What can go from one store.

    Attributes
    ----------
    folder
        The store.
    whole
        Whether no row of it is needed, so that all of the store goes.
    rows, row_bytes
        Rows that are not needed, and their bytes on disk.
    leftovers
        Temporary files of processes that are dead.
    quarantined
        What was put aside as damaged more than `QUARANTINE_DAYS` days ago.
    file_bytes
        Bytes of leftovers and quarantined files.
    shards
        Names of the shards that were looked at; rows that come later are not touched.
    """

    folder: Path
    whole: bool
    rows: int
    row_bytes: int
    leftovers: tuple[Path, ...]
    quarantined: tuple[Path, ...]
    file_bytes: int
    shards: frozenset[str]

    @property
    def nothing(self) -> bool:
        """Whether there is nothing to remove."""
        return not (self.rows or self.leftovers or self.quarantined)


def keys_wanted(needed: NDArray[np.uint8]) -> Wanted:
    """Make the rule that wants the rows, of whatever view, of some keys: uint8 (n, 32)."""
    index = Index(needed, np.zeros(len(needed), np.uint32))

    def wanted(shard: Shard) -> NDArray[np.bool_]:
        found = index.find(shard.keys, np.zeros(len(shard.keys), np.uint32))
        return np.asarray(found >= 0)

    return wanted


def find_garbage(folder: Path, wanted: Wanted, *, now: float | None = None) -> Garbage:
    """Look what can go from a store; changes nothing.

    A store goes as a whole if it has rows and none is wanted, and no file among its shards is
    unreadable or damaged in its header: what rows such a file had is not known.

    Raises
    ------
    CacheError
        It is no store, or cannot be read.
    """
    now = time.time() if now is None else now
    parts = Folder(folder)
    census = Census(parts, FeatureStore.at(folder).recipe)
    census.refresh()
    shards = list(census.good.values())
    dropped = [(shard, int((~wanted(shard)).sum())) for shard in shards]
    rows = sum(count for _, count in dropped)
    everything = bool(shards) and rows == sum(shard.header.rows for shard in shards)
    left = tuple(_leftovers(parts.tmp, now))
    aside = tuple(
        path
        for path, found in _entries(parts.quarantine)
        if now - found.st_ctime > QUARANTINE_DAYS * DAY
    )
    return Garbage(
        folder=folder,
        whole=everything and len(parts.entries()) == len(shards),
        rows=rows,
        row_bytes=sum(n * (shard.header.row_bytes + _BESIDES) for shard, n in dropped),
        leftovers=left,
        quarantined=aside,
        file_bytes=sum(path.lstat().st_size for path in (*left, *aside) if os.path.lexists(path)),
        shards=frozenset(shard.path.name for shard in shards),
    )


def leftovers_in(folder: Path, *, now: float | None = None) -> tuple[Path, ...]:
    """Temporary files of dead processes in a folder of files that are written beside."""
    return tuple(_leftovers(folder, time.time() if now is None else now))


def remove_garbage(garbage: Garbage, wanted: Wanted) -> tuple[Finding, ...]:
    """Remove what was found, and nothing that came later.

    Returns
    -------
    tuple of Finding
        Damaged shards that were left as they are.

    Raises
    ------
    CacheError
        A compaction is at work, or the system failed; no wanted row is lost.
    """

    def still_wanted(shard: Shard) -> NDArray[np.bool_]:
        seen = shard.path.name in garbage.shards
        return wanted(shard) if seen else np.ones(shard.header.rows, bool)

    findings: tuple[Finding, ...] = ()
    recipe = FeatureStore.at(garbage.folder).recipe
    if garbage.rows:
        findings = drop_rows(garbage.folder, still_wanted).findings
    remove_files((*garbage.leftovers, *garbage.quarantined))
    if garbage.whole:
        _remove_empty(Folder(garbage.folder), recipe)
    return findings


def remove_files(paths: Iterable[Path]) -> None:
    """Remove files, and folders that were put aside; follows no link.

    Raises
    ------
    CacheError
        One cannot be removed.
    """
    try:
        for path in paths:
            with contextlib.suppress(FileNotFoundError):
                if stat.S_ISDIR(path.lstat().st_mode):
                    shutil.rmtree(path)
                else:
                    path.unlink()
    except OSError as error:
        raise CacheError(f"cannot remove {error.filename}: {error.strerror}") from error


def _remove_empty(parts: Folder, recipe: Recipe) -> None:
    """Remove a store without shards; one in which something lies that is not ours stays whole.

    The recipe goes first: whoever commits a shard meanwhile looks for it afterwards, and so writes
    it anew. What is written there at this moment keeps its folder, and gets its recipe back.
    """
    with told_as(f"list {parts.path}"):
        within = {path.name for path in parts.path.iterdir()}
    files = {name for name in within if _OURS.fullmatch(name)}
    folders = (parts.tmp, parts.quarantine, parts.shards)
    if parts.entries() or within - files - {folder.name for folder in folders}:
        return
    with told_as(f"remove {parts.path}"):
        parts.recipe.unlink()
        fsync_folder(parts.path)
    files.discard(parts.recipe.name)
    remove_files(path for path, _ in _entries(parts.quarantine))
    remove_files(parts.path / name for name in files)
    try:
        for folder in folders:
            folder.rmdir()
        parts.path.rmdir()
        fsync_folder(parts.path.parent)
    except OSError:  # not empty: somebody writes there
        parts.create()
        save_recipe(parts, recipe, {})


def _leftovers(folder: Path, now: float) -> Iterator[Path]:
    """Temporary files whose process is dead, or that nobody has touched for a day."""
    here = unique_name().rsplit("-", 2)[0]
    for path, found in _entries(folder):
        name = _TEMPORARY.fullmatch(path.name)
        if not stat.S_ISREG(found.st_mode):
            continue
        old = now - found.st_mtime > DAY and (name or path.name.startswith("checked-"))
        dead = name is not None and name["host"] == here and not _alive(int(name["pid"]))
        if old or dead:
            yield path


def _entries(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """List what lies in a folder that is not a link, by name; nothing where there is none."""
    with told_as(f"list {folder}"):
        if folder.is_symlink() or not folder.is_dir():
            return
        paths = sorted(folder.iterdir())
    for path in paths:
        with told_as(f"look at {path}"), contextlib.suppress(FileNotFoundError):
            yield path, path.lstat()


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
