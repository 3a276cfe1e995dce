"""What an extraction has to do: which looks at which images lack rows, or facts.

A *look* is an image as a network sees it: the plain picture is one, each augmented view another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cache import FeatureStore
from pipeline.images.hashing import distinct


@dataclass(frozen=True, slots=True)
class Plan:
    """Which n sources to decode, and which rows of their looks to make.

    Attributes
    ----------
    positions
        int64 ``(n,)``: of the sources among all.
    first
        int64 ``(n + 1,)``: the looks at source i are those from ``first[i]`` to ``first[i + 1]``.
    views
        uint32 ``(looks,)``: 0 for the plain picture.
    features
        bool ``(looks, stores)``: which rows lack; the stores of augmented views come last.
    facts
        bool ``(looks,)``: at the first look at a source, whether its facts lack.
    reused
        By store, how many of the rows asked for are there.
    whole
        Distinct images that lack no row of any store.
    """

    positions: NDArray[np.int64]
    first: NDArray[np.int64]
    views: NDArray[np.uint32]
    features: NDArray[np.bool_]
    facts: NDArray[np.bool_]
    reused: tuple[int, ...]
    whole: int

    @property
    def source_of(self) -> NDArray[np.int64]:
        """Position of the source of each look: int64 ``(looks,)``."""
        return np.repeat(self.positions, np.diff(self.first))


def planned(
    keys: NDArray[np.uint8],
    plain: Sequence[FeatureStore],
    augmented: Sequence[FeatureStore],
    facts: FeatureStore,
    views: int,
) -> Plan:
    """Find out what lacks; each distinct image counts once.

    Parameters
    ----------
    keys
        uint8 ``(n, 32)`` of all sources.
    plain, augmented
        Stores of plain pictures, which have view 0, and those of the views from 1 to below `views`.
    facts
        Where the facts that decoding tells are kept.
    views
        Views of each image that are asked for, the plain picture among them.
    """
    chosen, _ = distinct(keys)
    keys, stores = keys[chosen], (*plain, *augmented)
    lacking = np.zeros((len(keys), views, len(stores)), bool)
    there = []
    for number, store in enumerate(stores):
        own = range(1) if number < len(plain) else range(1, views)
        lacking[:, own, number] = _lacks(store, keys, own)
        there.append(len(keys) * len(own) - int(lacking[:, :, number].sum()))
    looks: NDArray[np.bool_] = np.logical_or.reduce(lacking, axis=2)
    complete = ~np.logical_or.reduce(looks, axis=1)
    untold = _lacks(facts, keys, range(1))[:, 0]
    # Where facts alone lack, the plain picture is looked at, and kept in no store.
    looks[:, 0] |= untold & complete
    counts = looks.sum(axis=1)
    todo = counts > 0
    first = np.concatenate([[0], np.cumsum(counts[todo])]).astype(np.int64)
    telling = np.zeros(int(first[-1]), bool)
    telling[first[:-1]] = untold[todo]
    return Plan(
        positions=chosen[todo],
        first=first,
        views=np.nonzero(looks)[1].astype(np.uint32),
        features=lacking[looks],
        facts=telling,
        reused=tuple(there),
        whole=int(complete.sum()),
    )


def _lacks(store: FeatureStore, keys: NDArray[np.uint8], views: range) -> NDArray[np.bool_]:
    """Tell which views of each image a store lacks: bool ``(n, views)``."""
    mask = np.zeros(len(keys) * len(views), bool)
    numbers = np.tile(np.array(views, np.uint32), len(keys))
    mask[store.missing(np.repeat(keys, len(views), axis=0), numbers)] = True
    return mask.reshape(len(keys), len(views))
