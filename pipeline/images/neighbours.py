"""All pairs of codes that differ in few bits, found without comparing all pairs.

A code has four words (`pipeline.images.spectrum.codes`). Where two codes differ in 9 bits at most,
they are equal in the first word, or differ in two bits at most in one of the others: else they
would differ in 1 + 3 + 3 + 3 = 10. So codes are sorted by each word in turn, and each code looks up
its own word and all words so near it, 412 of them (multi-index hashing: M. Norouzi, A. Punjani,
D. Fleet, "Fast search in Hamming space with multi-index hashing", 2012). The first word gets the
least as pictures differ least in it: most have their subject in the middle.

A word and its complement are one, as a mirrored picture has the one or the other, and what is
turned looks up with the code of the transposed picture: so the eight ways to lay a picture down
cost two searches and not eight.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import combinations
from threading import Event
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from pipeline.config import usable_cores
from pipeline.images.spectrum import distance
from pipeline.workers import in_order

RADIUS = 9
"""Bits that the codes of near-duplicates differ in, at most."""

Pairs: TypeAlias = tuple[NDArray[np.int32], NDArray[np.int32]]

_REACH = (0, 2, 2, 2)  # by word; one more each makes 10, which is more than `RADIUS`
_AT_ONCE = 1 << 21  # candidates, of some 50 bytes each


def near_codes(codes: NDArray[np.uint64], turned: NDArray[np.uint64]) -> Iterator[Pairs]:
    """Yield the positions ``(i, j)``, i < j, of codes within `RADIUS` of one another.

    Memory is in proportion to the codes. Time is too, but for codes that crowd: where m of them are
    near one another, it grows with m².

    Parameters
    ----------
    codes, turned
        uint64 ``(n,)``: of pictures, and of the same pictures transposed.

    Yields
    ------
    i, j
        int32 ``(m,)``: every such pair at least once, eight times at most.
    """
    cores = usable_cores()
    yield from in_order(_look_ups(codes, turned), cores, cores)


def _look_ups(
    codes: NDArray[np.uint64], turned: NDArray[np.uint64]
) -> Iterator[Callable[[Event], Pairs]]:
    """Make the parts of the search, each for a thread: NumPy lets others run meanwhile."""
    for word, reach in enumerate(_REACH):
        shelved = _Shelves(_words(codes, word))
        for asked in (codes, turned):
            for mask in _masks(reach):
                for look_up in shelved.look_ups(_words(asked, word) ^ mask):
                    yield partial(_near, codes, asked, look_up)


def _near(
    codes: NDArray[np.uint64], asked: NDArray[np.uint64], look_up: Callable[[], Pairs], _: Event
) -> Pairs:
    """Keep the pairs of a look-up whose whole codes are near one another."""
    i, j = look_up()
    near = distance(asked[i], codes[j]) <= RADIUS
    return i[near], j[near]


def joined_pairs(pairs: Sequence[Pairs]) -> Pairs:
    """Put pairs one after the other."""
    return np.concatenate([i for i, _ in pairs]), np.concatenate([j for _, j in pairs])


class _Shelves:
    """Positions by word, each word standing for its complement too."""

    def __init__(self, words: NDArray[np.uint16]) -> None:
        keys = _folded(words)
        self._order = np.argsort(keys, kind="stable").astype(np.int32)
        self._count = np.bincount(keys, minlength=1 << 15).astype(np.int32)
        self._start = (np.cumsum(self._count) - self._count).astype(np.int32)

    def look_ups(self, words: NDArray[np.uint16]) -> Iterator[Callable[[], Pairs]]:
        """Divide a look-up into parts of some candidates each; `_pairs` tells what they return."""
        keys = _folded(words)
        count = self._count[keys]
        ends = np.cumsum(count, dtype=np.int64)
        first = 0
        while first < len(keys):
            before = int(ends[first - 1]) if first else 0
            last = max(first + 1, int(np.searchsorted(ends, before + _AT_ONCE, "right")))
            some = slice(first, last)
            yield partial(self._pairs, first, keys[some], count[some], ends[some] - before)
            first = last

    def _pairs(
        self,
        first: int,
        keys: NDArray[np.uint16],
        count: NDArray[np.int32],
        ends: NDArray[np.int64],
    ) -> Pairs:
        """Return pairs (position among the words, position on its shelf), the first being less."""
        i = np.repeat(np.arange(first, first + len(keys), dtype=np.int32), count)
        shift = self._start[keys] - (ends - count)
        j = self._order[np.arange(len(i)) + np.repeat(shift, count)]
        ordered = i < j
        return i[ordered], j[ordered]


def shelves(codes: NDArray[np.uint64]) -> NDArray[np.uint16]:
    """Return the words of codes, uint16 ``(4, n)``: each, or its complement, below 2^15."""
    return np.stack([_folded(_words(codes, word)) for word in range(len(_REACH))])


def _words(codes: NDArray[np.uint64], word: int) -> NDArray[np.uint16]:
    return (codes >> np.uint64(48 - 16 * word)).astype(np.uint16)


def _folded(words: NDArray[np.uint16]) -> NDArray[np.uint16]:
    """Return the one of each word and its complement that is below 2^15."""
    return np.minimum(words, ~words)


def _masks(reach: int) -> Iterator[np.uint16]:
    for ones in range(reach + 1):
        for chosen in combinations(range(16), ones):
            yield np.uint16(sum(1 << bit for bit in chosen))
