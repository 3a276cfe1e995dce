"""Rewrite shards: many small ones as few, and without the rows that nobody needs.

`cache.rewrite` says how that survives a crash at any step, while readers read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from cache.census import Census
from cache.errors import CacheError, told_as
from cache.folder import Folder
from cache.integrity import Finding
from cache.rewrite import Wanted, rewrite
from cache.shard import Shard
from cache.store import FeatureStore

# What extraction commits at once: a full shard of its own needs no compaction, and one shard's
# rows are what is held in memory.
TARGET = 64 << 20


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
        findings = [f for group in several for f in rewrite(store, group, _all, target_bytes)]
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
            findings += rewrite(store, group, wanted, target_bytes)
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
    with told_as(f"lock {folder}"):
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise CacheError(
                f"another compact or gc is at work in {folder}; run again when it is through"
            ) from None
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
