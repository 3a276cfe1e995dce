"""Rewrite shards: many small ones as few, and without the rows that nobody needs.

What a crash may leave at any step is a store with the same rows:

1. the sources are checked, every byte of them; what is damaged is left as it is
2. their rows are copied, crc by crc, into new shards by the ordinary commit
3. when the last of these is durable, the sources are removed, and the folder is synced

A crash before the end of 3 leaves rows in two shards, which is harmless; the next run goes on.
Readers need not know: a map outlives its file's name, and whoever finds a name gone looks again.
Of rows that several sources have, the one in the source with the lowest name is copied, as that is
the one that was read.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from cache.atomic import fsync_folder, opened
from cache.census import Census
from cache.errors import CacheError, ShardError
from cache.folder import Folder
from cache.index import Index
from cache.integrity import Finding, problem_of
from cache.shard import (
    Block,
    Shard,
    State,
    read_crcs,
    read_features,
    read_header,
    row_crcs,
)
from cache.store import FeatureStore

# What extraction commits at once: a full shard of its own needs no compaction, and one shard's
# rows are what is held in memory.
TARGET = 64 << 20
_AT_ONCE = 1 << 20

Wanted: TypeAlias = Callable[[Shard], NDArray[np.bool_]]
"""Which rows of a shard are to be kept: bool (rows,)."""


@dataclass(frozen=True, slots=True)
class Rewritten:
    """What became of a store's shards.

    Attributes
    ----------
    shards_before, shards_after, bytes_before, bytes_after
        Good shards and their size on disk.
    dropped
        Rows that were left out, doubles not counted.
    findings
        Shards that are damaged and were left as they are.
    """

    shards_before: int
    shards_after: int
    bytes_before: int
    bytes_after: int
    dropped: int
    findings: tuple[Finding, ...]


def compact(folder: Path, *, target_bytes: int = TARGET) -> Rewritten:
    """Merge the shards of a store that are smaller than half of a target.

    Merged shards have between half of the target and all of it, so that they are not small the
    next time; what is left over is one small shard at most. Holds one merged shard in memory.

    Parameters
    ----------
    folder
        The store.
    target_bytes
        Bytes of features in a shard, at most.

    Raises
    ------
    CacheError
        Another compaction is at work, or the system failed; no row is lost.
    """
    with exclusive(folder):
        store, shards = _open(folder)
        groups = _groups([s for s in shards if 2 * features_bytes(s) < target_bytes], target_bytes)
        several = [group for group in groups if len(group) > 1]
        findings = [f for group in several for f in _rewrite(store, group, _all, target_bytes)]
        return _told(store, shards, 0, findings)


def drop_rows(folder: Path, wanted: Wanted, *, target_bytes: int = TARGET) -> Rewritten:
    """Rewrite the shards of a store that hold rows which are not wanted, without these.

    Parameters
    ----------
    folder
        The store.
    wanted
        Which rows of a shard are kept.
    target_bytes
        As for `compact`.

    Raises
    ------
    CacheError
        As for `compact`; no wanted row is lost.
    """
    with exclusive(folder):
        store, shards = _open(folder)
        rows_before = store.rows
        touched = [shard for shard in shards if not wanted(shard).all()]
        findings: list[Finding] = []
        for group in _groups(touched, target_bytes):
            findings += _rewrite(store, group, wanted, target_bytes)
        store.refresh()
        return _told(store, shards, rows_before - store.rows, findings)


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Let nobody else rewrite a store's shards; writers and readers are not kept out.

    Raises
    ------
    CacheError
        Somebody else does, or the lock cannot be had.
    """
    lock = FileLock(folder / "compact.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise CacheError(
            f"another compact or gc is at work in {folder}; run again when it is through"
        ) from None
    except OSError as error:
        raise CacheError(f"cannot lock {folder}: {error.strerror or error}") from error
    try:
        yield
    finally:
        lock.release()


def features_bytes(shard: Shard) -> int:
    """Bytes of a shard's features."""
    return shard.header.rows * shard.header.row_bytes


def _all(shard: Shard) -> NDArray[np.bool_]:
    return np.ones(shard.header.rows, bool)


def _open(folder: Path) -> tuple[FeatureStore, list[Shard]]:
    """Open a store, and its good shards in the order they were written: it keeps runs together."""
    store = FeatureStore.at(folder)
    census = Census(Folder(folder), store.recipe)
    census.refresh()
    return store, sorted(census.good.values(), key=lambda s: (s.state.mtime_ns, s.path.name))


def _told(
    store: FeatureStore, before: Sequence[Shard], dropped: int, findings: Sequence[Finding]
) -> Rewritten:
    store.refresh()
    return Rewritten(
        shards_before=len(before),
        shards_after=store.shards,
        bytes_before=sum(shard.header.length for shard in before),
        bytes_after=store.nbytes,
        dropped=dropped,
        findings=tuple(findings),
    )


def _groups(shards: Sequence[Shard], target: int) -> list[list[Shard]]:
    """Divide shards, in their order, into groups of no more bytes than the target."""
    groups: list[list[Shard]] = []
    filled = 0
    for shard in shards:
        if not groups or filled + features_bytes(shard) > target:
            groups.append([])
            filled = 0
        groups[-1].append(shard)
        filled += features_bytes(shard)
    return groups


def _rewrite(
    store: FeatureStore, shards: Sequence[Shard], wanted: Wanted, target: int
) -> list[Finding]:
    """Copy the wanted rows of some shards into new ones, then remove the old ones."""
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        problems = list(pool.map(problem_of, shards))
    good = [shard for shard, problem in zip(shards, problems, strict=True) if problem is None]
    written = _copy(store, good, wanted, target) if good else set()
    _remove([shard for shard in good if shard.path not in written])
    return [
        Finding(shard.path.name, problem, None)
        for shard, problem in zip(shards, problems, strict=True)
        if problem is not None
    ]


def _copy(store: FeatureStore, shards: Sequence[Shard], wanted: Wanted, target: int) -> set[Path]:
    """Commit the distinct wanted rows of good shards as new ones; return these."""
    masks = _distinct(shards, wanted)
    header = shards[0].header
    total = sum(int(mask.sum()) for mask in masks)
    room = min(total, max(1, target // header.row_bytes))
    buffer = Block(
        np.empty((room, 32), np.uint8),
        np.empty(room, np.uint32),
        np.empty((room, header.dims), header.dtype),
    )
    written: set[Path] = set()
    filled = 0
    for block in _pieces(shards, masks):
        done = 0
        while done < len(block.keys):
            count = min(room - filled, len(block.keys) - done)
            into, part = slice(filled, filled + count), slice(done, done + count)
            buffer.keys[into], buffer.views[into] = block.keys[part], block.views[part]
            buffer.features[into] = block.features[part]
            filled, done = filled + count, done + count
            if filled == room:
                written.add(_append(store, buffer, filled))
                filled = 0
    if filled:
        written.add(_append(store, buffer, filled))
    return written


def _append(store: FeatureStore, block: Block, rows: int) -> Path:
    return store.append(block.keys[:rows], block.features[:rows], block.views[:rows])


def _distinct(shards: Sequence[Shard], wanted: Wanted) -> list[NDArray[np.bool_]]:
    """Which rows of each shard to copy: the wanted ones that no shard of a lower name has."""
    by_name = sorted(range(len(shards)), key=lambda i: shards[i].path.name)
    masks = {i: wanted(shards[i]).copy() for i in by_name}
    index = Index(
        np.concatenate([shards[i].keys for i in by_name]),
        np.concatenate([shards[i].views for i in by_name]),
    )
    first = np.ones(len(index.keys), bool)
    first[index.hidden] = False
    edges = np.cumsum([shards[i].header.rows for i in by_name])[:-1]
    for i, mask in zip(by_name, np.split(first, edges), strict=True):
        masks[i] &= mask
    return [masks[i] for i in range(len(shards))]


def _pieces(shards: Sequence[Shard], masks: Sequence[NDArray[np.bool_]]) -> Iterator[Block]:
    """Read the rows to copy, about a mebibyte at a time, and check the crc of each.

    Raises
    ------
    CacheError
        A row is not what it was when its shard was checked a moment ago.
    """
    for shard, mask in zip(shards, masks, strict=True):
        try:
            with opened(shard.path) as fd:
                if State.of(os.fstat(fd)) != shard.state or read_header(fd) != shard.header:
                    raise ShardError("changed while it was in use")
                crcs = read_crcs(fd, shard.header)
                for first, features in read_features(fd, shard.header, _AT_ONCE):
                    part = slice(first, first + len(features))
                    yield _piece(shard, part, features, crcs[part], mask[part])
        except (ShardError, OSError) as error:
            raise CacheError(
                f"{shard.path}: {error}; nothing was removed. Run headstart verify --repair"
            ) from error


def _piece(
    shard: Shard,
    part: slice,
    features: NDArray[Any],
    crcs: NDArray[np.uint32],
    mask: NDArray[np.bool_],
) -> Block:
    keys, views = shard.keys[part], shard.views[part]
    if not np.array_equal(row_crcs(keys, views, features, shard.header.recipe), crcs):
        raise ShardError("damaged: a row does not match its crc")
    return Block(keys[mask], views[mask], features[mask])


def _remove(shards: Sequence[Shard]) -> None:
    """Remove the names of shards whose rows are durable elsewhere, and sync the folder."""
    try:
        for shard in shards:
            with contextlib.suppress(FileNotFoundError):
                if State.of(shard.path.lstat()) == shard.state:
                    shard.path.unlink()
        for folder in {shard.path.parent for shard in shards}:
            fsync_folder(folder)
    except OSError as error:
        raise CacheError(
            f"cannot remove {error.filename}: {error.strerror}; its rows are kept twice, "
            "which is harmless"
        ) from error
