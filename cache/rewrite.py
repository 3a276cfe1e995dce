"""Copy the rows of some shards into new ones, and then remove the old ones.

The steps of `rewrite`, after each of which a crash leaves a store with the same rows:

1. the sources are checked, every byte of them; what is damaged is left as it is
2. their rows are copied, crc by crc, into new shards by the ordinary commit
3. when the last of these is durable, the sources are removed, and the folder is synced

A crash before the end of 3 leaves rows in two shards, which is harmless. Readers need not know: a
map outlives its file's name, and whoever finds a name gone looks again. Of rows that several
sources have, the one in the source with the lowest name is copied: it is the one that was read.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from cache.atomic import fsync_folder, opened
from cache.errors import CacheError, ShardError
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

_AT_ONCE = 1 << 20

Wanted: TypeAlias = Callable[[Shard], NDArray[np.bool_]]
"""Which rows of a shard are to be kept: bool (rows,)."""


def rewrite(
    store: FeatureStore, shards: Sequence[Shard], wanted: Wanted, target: int
) -> list[Finding]:
    """Copy the distinct wanted rows of some shards into new ones, then remove the old ones.

    Parameters
    ----------
    store, shards
        The store, and some of its shards.
    wanted
        Which rows of a shard are to be kept.
    target
        Bytes of features in a new shard, at most; that much is held in memory.

    Returns
    -------
    list of Finding
        Shards that are damaged and were left as they are.

    Raises
    ------
    CacheError
        The system failed, or a shard was damaged meanwhile; no wanted row is lost.
    """
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
        except FileNotFoundError:
            raise CacheError(
                f"{shard.path} was taken away meanwhile; nothing was removed. Run it again"
            ) from None
        except (ShardError, OSError) as error:
            raise CacheError(
                f"{shard.path}: {getattr(error, 'strerror', None) or error}; nothing was removed. "
                "Run headstart verify --repair"
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
