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
