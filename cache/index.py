"""Which row of which shard holds a key and view: derived from the shards, held in memory.

Each row's key and view are mixed to one 64-bit number, whose low bits give way to the row's place.
The numbers are sorted once; a look-up is a binary search for the high bits, then a comparison of
the whole key and view. Everything is done on whole arrays.
"""

from __future__ import annotations

import os
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

# Drawn anew in each process, so that no file can be made to collide on purpose. A sum of products
# would not do: words that differ in their top bits alone give few sums, whatever the factors.
_SECRETS = np.frombuffer(os.urandom(5 * 8), np.uint64)
_MULTIPLIERS = np.frombuffer(os.urandom(5 * 8), np.uint64) | np.uint64(1)
_HALF, _END = np.uint64(32), np.uint64(29)


class Index:
    """Rows of several shards as one numbered sequence.

    Parameters
    ----------
    keys : ndarray of uint8, shape (n, 32)
    views : ndarray of uint32, shape (n,)
        Identities of all rows, one shard after the other. Of rows with the same identity the first
        is the one that is found.
    """

    def __init__(self, keys: NDArray[np.uint8], views: NDArray[np.uint32]) -> None:
        self.keys = np.ascontiguousarray(keys)
        self.views = views
        # Sorting numbers that hold their places takes half the time and memory of sorting places by
        # numbers. A million rows leave 44 bits, and hardly two of them have those in common.
        self._low = np.uint64((1 << len(views).bit_length()) - 1)
        self._sorted = _mix(self.keys, views) & ~self._low
        self._sorted |= np.arange(len(views), dtype=np.uint64)
        self._sorted.sort()

    def find(self, keys: NDArray[np.uint8], views: NDArray[np.uint32]) -> NDArray[np.int64]:
        """Return the number of each row that is asked for, -1 where there is none.

        Parameters
        ----------
        keys : ndarray of uint8, shape (m, 32)
        views : ndarray of uint32, shape (m,)

        Returns
        -------
        ndarray of int64, shape (m,)
        """
        keys = np.ascontiguousarray(keys)
        wanted, have = keys.view(np.uint64), self.keys.view(np.uint64)
        high = _mix(keys, views) & ~self._low
        # In ascending order a search finds most of what it needs in the processor's cache.
        order = np.argsort(high)
        at = np.empty(len(keys), np.int64)
        at[order] = np.searchsorted(self._sorted, high[order])
        found = np.full(len(keys), -1, np.int64)
        left = np.arange(len(keys))
        while left.size:
            left = left[at[left] < len(self._sorted)]
            entry = self._sorted[at[left]]
            alike = (entry ^ high[left]) <= self._low
            left, row = left[alike], (entry[alike] & self._low).astype(np.int64)
            same = (have[row] == wanted[left]).all(axis=1) & (self.views[row] == views[left])
            found[left[same]] = row[same]
            left = left[~same]
            at[left] += 1
        return found

    @cached_property
    def hidden(self) -> NDArray[np.int64]:
        """Numbers of the rows that an earlier row with the same identity hides, ascending."""
        pairs = np.flatnonzero((self._sorted[1:] ^ self._sorted[:-1]) <= self._low)
        alike = self._sorted[np.union1d(pairs, pairs + 1)]
        suspects = np.sort((alike & self._low).astype(np.int64))
        first = self.find(self.keys[suspects], self.views[suspects])
        hidden: NDArray[np.int64] = suspects[first != suspects]
        return hidden


def _mix(keys: NDArray[np.uint8], views: NDArray[np.uint32]) -> NDArray[np.uint64]:
    words = keys.view(np.uint64)
    mixed: NDArray[np.uint64] = (views ^ _SECRETS[4]) * _MULTIPLIERS[4]
    for column in range(4):
        mixed ^= mixed >> _HALF
        mixed ^= words[:, column] ^ _SECRETS[column]
        mixed *= _MULTIPLIERS[column]
    mixed ^= mixed >> _END
    return mixed
