"""Which images of a data set are one picture: the same file, the same pixels, or nearly the same.

Near-duplicates have spectra (`pipeline.images.spectrum`) that correlate at `SIMILAR` at least and
codes within `pipeline.images.neighbours.RADIUS`, as they are, mirrored or turned by quarters; or so
have the two pictures without their uniform borders. Flat pictures have no spectrum, and are
duplicates where their pixels are the same.

What is near to what is near is in one group, but not without end: all of a group correlate at
`BOUND` at least with its reference, the image of the smallest key. What is farther off makes
groups of its own, in the same way. So a long chain of pictures, each like the next, becomes several
groups, at whose borders two pictures that are alike can be in different ones. And where pictures
crowd, hundreds with a word of the code in common, the first of them stands for all that are near to
it, and what is near to those alone is not looked for.

Measured by ``tests/bench/check_duplicates.py`` on 523 scans and photographs: 0.95 is the highest
correlation (in steps of 0.01) that misses no copy stored again, scaled, mirrored or turned, and
no false pair was seen down to 0.85. Features play no part: those of a copy turned by a quarter
correlate at 0.7 only, and a holdout must not depend on the backbone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from threading import Event
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cache import FeatureStore
from pipeline.config import usable_cores
from pipeline.dataset.groups import joined, sizes, united
from pipeline.images.facts import FACTS_BYTES, FACTS_DTYPE
from pipeline.images.hashing import in_key_order
from pipeline.images.neighbours import Pairs, joined_pairs, near_codes, shelves
from pipeline.images.spectrum import codes, similarity, transposed, unit
from pipeline.workers import in_order

SIMILAR = 0.95
"""Correlation of two near-duplicates, at least."""

BOUND = 0.85
"""Correlation of each image of a group with its reference, at least."""

_AT_ONCE = 1 << 14  # pairs, of 1.2 KB each
_TOGETHER = 1 << 17  # pairs, before they are joined
_CROWD = 200  # pictures of which one word of the codes is the same


@dataclass(frozen=True, slots=True)
class Duplicates:
    """Which of n images are one picture; equal numbers stand for it.

    Attributes
    ----------
    file, pixels, near
        int64 ``(n,)``: equal for the same bytes, the same decoded pixels, and near-duplicates.
        Images of which no facts are known are like none but those of the same bytes.
    distance
        float32 ``(n,)``: 1 minus the correlation with the near-duplicates' reference.
    """

    file: NDArray[np.int64]
    pixels: NDArray[np.int64]
    near: NDArray[np.int64]
    distance: NDArray[np.float32]

    def pictures(self) -> NDArray[np.int64]:
        """Return numbers, int64 ``(n,)``, that all duplicates of a picture share, however found."""
        return united(self.file, self.pixels, self.near)

    def relations(self, groups: NDArray[np.int64]) -> NDArray[np.str_]:
        """Tell what ties each image to others of its group most closely.

        Parameters
        ----------
        groups
            int64 ``(n,)``, numbers of groups that divide no picture.

        Returns
        -------
        ndarray
            ``(n,)`` of ``"exact"``, ``"pixels"``, ``"near"``; ``"user"`` where the user's group
            alone does, empty for an image that is alone.
        """
        parts = {"user": groups, "near": self.near, "pixels": self.pixels, "exact": self.file}
        found = np.full(len(groups), "", dtype="<U6")
        for name, part in parts.items():
            found[sizes(part) > 1] = name
        return found


def find_duplicates(keys: NDArray[np.uint8], facts: FeatureStore) -> Duplicates:
    """Find the duplicates among images.

    Parameters
    ----------
    keys
        uint8 ``(n, 32)``.
    facts
        The store of what decoding them told; images that it lacks are like none.
    """
    # In the order of the keys, so that the order of the images changes no group.
    first, file = in_key_order(keys)
    rows = _rows(facts, keys[first])
    _, pixels = in_key_order(rows["pixels"])
    near, correlation = near_groups((rows["spectrum"], rows["trimmed"]))
    # Rounding takes a correlation beyond 1.
    distance = np.maximum(0, 1 - correlation[file])
    return Duplicates(file, pixels[file], near[file], distance)


def near_groups(
    spectra: Sequence[NDArray[np.int8]],
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Group the near-duplicates among pictures.

    Parameters
    ----------
    spectra
        One or more int8 ``(n, 144)``: of the pictures, of the pictures without borders. To be alike
        in one of them is enough.

    Returns
    -------
    group, correlation
        int64 ``(n,)``: the position of the group's reference, its first picture; and float32
        ``(n,)``: the correlation with it.
    """
    count = len(spectra[0])
    group, correlation = np.arange(count), np.ones(count, np.float32)
    left = np.arange(count)
    while len(left) > 1:
        _, first, number = np.unique(
            _components([each[left] for each in spectra]), return_index=True, return_inverse=True
        )
        reference = left[first[number]]
        others = left != reference
        left, reference = left[others], reference[others]
        involved, at = np.unique((left, reference), return_inverse=True)
        i, j = at.reshape(2, -1)
        alike = np.max([_Pictures(each[involved]).alike(i, j) for each in spectra], axis=0)
        stays = alike >= BOUND
        group[left[stays]], correlation[left[stays]] = reference[stays], alike[stays]
        left = left[~stays]
    return group, correlation


class _Pictures:
    """Spectra made ready to be compared in pairs."""

    def __init__(self, spectra: NDArray[np.int8]) -> None:
        self._spectra, turned = spectra, transposed(spectra)
        self.codes, self._turned_codes = codes(spectra), codes(turned)
        self._unit, self._turned_unit = unit(spectra), unit(turned)

    def take(self, positions: NDArray[np.integer]) -> _Pictures:
        """Return some of the pictures."""
        return self if len(positions) == len(self.codes) else _Pictures(self._spectra[positions])

    def near(self) -> Iterator[Pairs]:
        """Yield the pairs whose codes are near one another, in batches."""
        return _batched(near_codes(self.codes, self._turned_codes))

    def alike(self, i: NDArray[np.integer], j: NDArray[np.integer]) -> NDArray[np.float32]:
        """Return the correlation of pairs, of the best of the eight ways to lay them down."""
        cores = usable_cores()
        some = [slice(k, k + _AT_ONCE) for k in range(0, len(i), _AT_ONCE)]
        tasks = [partial(self._alike, i[part], j[part]) for part in some]
        return np.concatenate([np.empty(0, np.float32), *in_order(tasks, cores, cores)])

    def _alike(
        self, i: NDArray[np.integer], j: NDArray[np.integer], _: Event
    ) -> NDArray[np.float32]:
        other = self._unit[j]
        return np.maximum(*(similarity(way[i], other) for way in (self._unit, self._turned_unit)))


def _components(spectra: Sequence[NDArray[np.int8]]) -> NDArray[np.int64]:
    """Give numbers to pictures so that near-duplicates, and theirs, have one number."""
    number = np.arange(len(spectra[0]))
    for k, each in enumerate(spectra):
        # Where no picture has a border, there is nothing new without borders.
        if not any(np.array_equal(each, before) for before in spectra[:k]):
            telling = np.flatnonzero(each.any(axis=1))
            number = _joined(number, telling, _Pictures(each[telling]))
    return number


def _joined(
    number: NDArray[np.int64], at: NDArray[np.int64], pictures: _Pictures
) -> NDArray[np.int64]:
    """Make numbers one that pictures have which are near-duplicates; `at` is where they stand."""
    searched, out, standing = _thinned(pictures)
    number = joined(number, number[at[out]], number[at[standing]])
    at, pictures = at[searched], pictures.take(searched)
    for near in pictures.near():
        # What is joined already need not be compared: crowds of like pictures have many pairs.
        i, j = at[near[0]], at[near[1]]
        apart = np.flatnonzero(number[i] != number[j])
        same = apart[pictures.alike(near[0][apart], near[1][apart]) >= SIMILAR]
        if len(same):
            number = joined(number, number[i[same]], number[j[same]])
    return number


def _thinned(pictures: _Pictures) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Let one picture stand for the like of it where they crowd, as their pairs would be too many.

    Returns
    -------
    searched, out, standing
        int64: the pictures that are left to be compared; those left out, and what stands for each,
        which is near to it.
    """
    left = np.arange(len(pictures.codes))
    out, standing = [left[:0]], [left[:0]]
    for words in shelves(pictures.codes):
        _, first, shelf, count = np.unique(
            words[left], return_index=True, return_inverse=True, return_counts=True
        )
        reference = left[first[shelf]]
        crowding = np.flatnonzero((count[shelf] > _CROWD) & (reference != left))
        same = pictures.alike(left[crowding], reference[crowding]) >= SIMILAR
        out.append(left[crowding[same]])
        standing.append(reference[crowding[same]])
        left = np.delete(left, crowding[same])
    return left, np.concatenate(out), np.concatenate(standing)


def _batched(pairs: Iterable[Pairs]) -> Iterator[Pairs]:
    """Put small batches together, and drop empty ones."""
    waiting: list[Pairs] = []
    count = 0
    for i, j in pairs:
        if len(i):
            waiting.append((i, j))
            count += len(i)
        if count >= _TOGETHER:
            yield joined_pairs(waiting)
            waiting, count = [], 0
    if waiting:
        yield joined_pairs(waiting)


def _rows(facts: FeatureStore, keys: NDArray[np.uint8]) -> NDArray[Any]:
    """Read the facts of distinct keys; where there are none, the key stands for the pixels."""
    rows = np.zeros((len(keys), FACTS_BYTES), np.uint8)
    known = np.ones(len(keys), bool)
    known[facts.missing(keys)] = False
    if known.any():
        rows[known] = facts.read(keys[known])
    found = rows.view(FACTS_DTYPE).ravel()
    found["pixels"][~known] = keys[~known]
    return found
