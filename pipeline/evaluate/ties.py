"""Whether noise alone may explain that one head scores better than another."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluate.metrics import score
from pipeline.evaluate.softmax import Floats, Labels

LEVEL = 0.05
RESAMPLES = 1000


def tied_over_folds(a: Sequence[float | None], b: Sequence[float | None]) -> bool:
    """Compare two heads scored on the same folds by the corrected resampled t-test.

    The variance of the fold differences is widened by the share of test to training rows, since
    training parts overlap: Nadeau and Bengio, "Inference for the Generalization Error" (2003),
    with ``1 / (k - 1)`` for k-fold cross-validation. Two-sided, at 5 %.

    Parameters
    ----------
    a, b
        Scores fold by fold; a fold where either is None is left out.

    Returns
    -------
    bool
        True where the difference cannot be told from noise, also when fewer than two folds count.
    """
    from scipy.special import stdtr

    differences = np.array(
        [x - y for x, y in zip(a, b, strict=True) if x is not None and y is not None]
    )
    k = len(differences)
    if k < 2:
        return True
    mean, variance = float(differences.mean()), float(differences.var(ddof=1))
    if variance == 0.0:
        return mean == 0.0
    t = mean / np.sqrt((1 / k + 1 / (k - 1)) * variance)
    return bool(2 * stdtr(k - 1, -abs(t)) > LEVEL)


def tied_on_rows(
    metric: str,
    labels: Labels,
    logits: tuple[Floats, Floats],
    groups: Labels | None,
    seed: int,
) -> bool:
    """Compare two heads scored on the same rows by a paired bootstrap of their difference.

    Groups are drawn with replacement, 1000 times; the heads are tied where the central 95 % of
    the differences hold zero (Efron and Tibshirani, "An Introduction to the Bootstrap" (1993),
    chapter 13, percentile interval).

    Parameters
    ----------
    metric
        Name in :data:`pipeline.evaluate.METRICS`.
    labels, groups
        ``(n,)`` integers; without groups every row is its own.
    logits
        ``(n, c)`` of either head.
    seed
        Of the draws.
    """
    rng = np.random.default_rng(seed)
    members = _members(len(labels), groups)
    differences = []
    for _ in range(RESAMPLES):
        drawn = rng.integers(len(members), size=len(members))
        rows = np.concatenate([members[i] for i in drawn])
        a, b = (score(metric, labels[rows], part[rows]) for part in logits)
        if a is not None and b is not None:
            differences.append(a - b)
    if not differences:
        return True
    low, high = np.quantile(differences, (LEVEL / 2, 1 - LEVEL / 2))
    return bool(low <= 0.0 <= high)


def _members(n: int, groups: Labels | None) -> list[NDArray[np.int64]]:
    if groups is None:
        return list(np.arange(n)[:, None])
    order = np.argsort(groups, kind="stable")
    starts = np.flatnonzero(np.diff(groups[order])) + 1
    return np.split(order, starts)
