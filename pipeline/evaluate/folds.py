"""Stratified folds that no group is divided by."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import UsageError
from pipeline.evaluate.softmax import Labels
from pipeline.text import plural

Fold: TypeAlias = tuple[NDArray[np.int64], NDArray[np.int64]]


def folds(labels: Labels, groups: Labels | None, k: int, seed: int) -> list[Fold]:
    """Divide rows into ``k`` folds, stratified by class, with no group in two of them.

    Parameters
    ----------
    labels
        ``(n,)`` integers.
    groups
        ``(n,)`` integers, rows that must stay together (exact duplicates, one patient's images);
        None where every row stands alone.
    k
        Number of folds, at least 2.
    seed
        Of the shuffling.

    Returns
    -------
    list of (train, test)
        Ascending row positions. Every row is in exactly one test part.

    Raises
    ------
    UsageError
        Where ``k`` is below 2, or there are fewer groups than folds, or a class has fewer rows.
    """
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    if k < 2:
        raise UsageError(f"{k} folds: at least 2 are needed")
    counts = np.unique(labels, return_counts=True)[1]
    if counts.min() < k:
        raise UsageError(f"a class has {counts.min()} images, fewer than the {k} folds")
    if groups is None or len(np.unique(groups)) == len(groups):
        split = StratifiedKFold(k, shuffle=True, random_state=seed).split(labels, labels)
    elif len(np.unique(groups)) < k:
        raise UsageError(
            f"there is {plural(len(np.unique(groups)), 'group')} to train on, fewer than the "
            f"{k} folds: name more groups, or use fewer folds (--folds)"
        )
    else:
        grouped = StratifiedGroupKFold(k, shuffle=True, random_state=seed)
        split = grouped.split(labels, labels, groups)
    return [(np.sort(train), np.sort(test)) for train, test in split]


def repeated_folds(
    labels: Labels, groups: Labels | None, k: int, repeats: int, seed: int
) -> list[list[Fold]]:
    """Divide rows into folds several times, each time shuffled anew.

    Parameters
    ----------
    labels, groups, k
        As for :func:`folds`.
    repeats
        How often, at least once.
    seed
        Of the shuffling. The first repeat is ``folds(labels, groups, k, seed)``, so that more
        repeats add to what was fitted before.

    Returns
    -------
    list of list of (train, test)
        Every row is in exactly one test part of each repeat.

    Raises
    ------
    UsageError
        Where there is no repeat, and as :func:`folds` does.
    """
    if repeats < 1:
        raise UsageError(f"{repeats} repeats of the folds: at least 1 is needed")
    others = np.random.default_rng(seed).integers(2**31, size=repeats - 1).tolist()
    return [folds(labels, groups, k, own) for own in (seed, *others)]
