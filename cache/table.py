"""The rows of several shards at one moment as one matrix: find, gather, iterate."""

from __future__ import annotations

import resource
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cache.header import KEY_BYTES
from cache.index import Index
from cache.rows import copy_rows, is_run, ranges
from cache.shard import Block, Shard, State, map_features

# Each map holds a file descriptor, and a process may have as few as 256 of these.
_LIMIT = max(64, min(4096, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 4))


class Maps:
    """The maps of the shards used last. May be used by several threads."""

    def __init__(self) -> None:
        self._maps: OrderedDict[tuple[Path, State], NDArray[Any]] = OrderedDict()
        self._lock = threading.Lock()

    def __call__(self, shard: Shard) -> NDArray[Any]:
        """Return the mapped rows of a shard; see `cache.shard.map_features`."""
        with self._lock:
            name = shard.path, shard.state
            features = self._maps.pop(name, None)
            if features is None:
                features = self._mapped(shard)
            self._maps[name] = features
            if len(self._maps) > _LIMIT:
                self._maps.popitem(last=False)
            return features

    def drop_all_but(self, shards: Iterable[Shard]) -> None:
        """Let go of maps of other shards: the disk keeps the space of a removed one until then."""
        left = {(shard.path, shard.state) for shard in shards}
        with self._lock:
            self._maps = OrderedDict((name, m) for name, m in self._maps.items() if name in left)

    def _mapped(self, shard: Shard) -> NDArray[Any]:
        try:
            return map_features(shard)
        except OSError:
            if not self._maps:
                raise
            self._maps.clear()  # the process may be out of descriptors, which others use too
            return map_features(shard)


class Table:
    """Rows numbered through shard by shard in the order of names; never changes.

    Parameters
    ----------
    shards
        All with rows of the same dtype and dims.

    Attributes
    ----------
    by_name : dict of str to Shard
        In the order of names; their keys and views are parts of one array each.
    """

    def __init__(self, shards: Iterable[Shard]) -> None:
        ordered = sorted(shards, key=lambda shard: shard.path.name)
        counts = [shard.header.rows for shard in ordered]
        edges = np.cumsum([0, *counts], dtype=np.int64)
        no_keys, no_views = np.empty((0, KEY_BYTES), np.uint8), np.empty(0, np.uint32)
        keys = np.concatenate([no_keys, *(shard.keys for shard in ordered)])
        views = np.concatenate([no_views, *(shard.views for shard in ordered)], dtype=np.uint32)
        self.index = Index(keys, views)
        self._starts = edges[:-1]
        self._shards = tuple(
            replace(shard, keys=keys[low : low + rows], views=views[low : low + rows])
            for shard, low, rows in zip(ordered, edges.tolist(), counts, strict=False)
        )

        self.by_name = {shard.path.name: shard for shard in self._shards}

    @property
    def rows(self) -> int:
        """Number of distinct rows."""
        return len(self.index.keys) - len(self.index.hidden)

    def distinct(self, start: int) -> tuple[NDArray[np.uint8], NDArray[np.uint32]]:
        """Keys and views of the distinct rows in their order, from a number of them on."""
        rows = np.delete(np.arange(len(self.index.keys)), self.index.hidden)[start:]
        return self.index.keys[rows], self.index.views[rows]

    def gather(self, rows: NDArray[np.int64], maps: Maps) -> NDArray[Any]:
        """Return rows (at least one) by their numbers: a part of a map, or a new array."""
        owner = np.searchsorted(self._starts, rows, "right") - 1
        first = int(owner[0])
        if owner[-1] == first and is_run(rows):
            low = int(rows[0] - self._starts[first])
            return maps(self._shards[first])[low : low + len(rows)]
        order = np.argsort(owner, kind="stable")
        header = self._shards[first].header
        out = np.empty((len(rows), header.dims), header.dtype)
        for group in np.split(order, np.flatnonzero(np.diff(owner[order])) + 1):
            number = int(owner[group[0]])
            features = maps(self._shards[number])
            copy_rows(features, rows[group] - self._starts[number], out, group)
        return out

    def blocks(self, rows: int, maps: Maps) -> Iterator[Block]:
        """Iterate over the distinct rows, mapped, at most ``rows`` at a time."""
        hidden = self.index.hidden
        for start, shard in zip(self._starts.tolist(), self._shards, strict=True):
            features = maps(shard)
            low, high = np.searchsorted(hidden, [start, start + shard.header.rows])
            holes = (hidden[low:high] - start).tolist()
            for part in ranges(holes, shard.header.rows, rows):
                yield Block(shard.keys[part], shard.views[part], features[part])
