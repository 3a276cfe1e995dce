"""Whether noise alone may explain that one head scores better than another."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluate.metrics import METRICS
from pipeline.evaluate.softmax import Floats, Labels, log_softmax

LEVEL = 0.05
RESAMPLES = 1000
FEWEST_RESAMPLES = 200
WORK = 10**9
"""Rows times classes times resamples above which ROC AUC is resampled less often: some seconds."""


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
    best: Floats,
    others: Sequence[Floats],
    groups: Labels | None,
    seed: int,
) -> list[bool]:
    """Compare heads with the best one on the same rows by a paired bootstrap of the difference.

    Groups are drawn with replacement, 1000 times (ROC AUC beyond a million rows times classes
    less often, down to 200 times), the same for all heads; a head is tied where the
    central 95 % of the differences hold zero (Efron and Tibshirani, "An Introduction to the
    Bootstrap" (1993), chapter 13, percentile interval).

    Parameters
    ----------
    metric
        Name in :data:`pipeline.evaluate.METRICS`.
    labels, groups
        ``(n,)`` integers; without groups every row is its own.
    best, others
        ``(n, c)`` logits of each head.
    seed
        Of the draws.

    Returns
    -------
    list of bool
        One for each of ``others``.
    """
    if not others:
        return []
    group_of_row = None if groups is None else np.unique(groups, return_inverse=True)[1]
    groups_drawn = len(labels) if group_of_row is None else int(group_of_row.max()) + 1
    drawn = _drawn(_resamples(metric, best.size), groups_drawn, seed)
    first = _resampled(metric, labels, best, drawn, group_of_row)
    return [
        _holds_zero(first - _resampled(metric, labels, other, drawn, group_of_row))
        for other in others
    ]


def _resamples(metric: str, cells: int) -> int:
    if not METRICS[metric].by_class:
        return RESAMPLES
    return max(FEWEST_RESAMPLES, min(RESAMPLES, WORK // cells))


def _drawn(resamples: int, n: int, seed: int) -> NDArray[np.uint8]:
    """How often each of ``n`` groups is in each resample, (resamples, n).

    A byte holds it: of n draws from n, a group gets one on average, and never hundreds.
    """
    rng = np.random.default_rng(seed)
    drawn = np.empty((resamples, n), dtype=np.uint8)
    for counts in drawn:
        counts[:] = np.bincount(rng.integers(n, size=n), minlength=n)
    return drawn


def _resampled(
    metric: str,
    labels: Labels,
    logits: Floats,
    drawn: NDArray[np.uint8],
    group_of_row: NDArray[np.int64] | None,
) -> NDArray[np.float64]:
    """Score of each resample, NaN where it is not defined."""
    scorer = METRICS[metric].scorer(labels, log_softmax(logits))
    scores = np.full(len(drawn), np.nan)
    for i, counts in enumerate(drawn):
        of_rows = counts if group_of_row is None else counts[group_of_row]
        value = scorer(of_rows.astype(np.float64))
        scores[i] = np.nan if value is None else value
    return scores


def _holds_zero(differences: NDArray[np.float64]) -> bool:
    defined = differences[~np.isnan(differences)]
    if not len(defined):
        return True
    low, high = np.quantile(defined, (LEVEL / 2, 1 - LEVEL / 2))
    return bool(low <= 0.0 <= high)
