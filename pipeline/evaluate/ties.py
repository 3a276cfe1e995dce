"""Whether noise alone may explain that one head scores better than another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluate.metrics import METRICS
from pipeline.evaluate.softmax import Floats, Labels, log_softmax

LEVEL = 0.05
RESAMPLES = 1000
FEWEST_RESAMPLES = 200
WORK = 10**9
"""Rows times classes times resamples above which ROC AUC is resampled less often: some seconds."""


@dataclass(frozen=True, slots=True)
class Part:
    """Rows that all heads were scored on, none of which they had seen: a fold, or the val rows.

    Attributes
    ----------
    labels, groups
        ``(n,)`` integers; without groups every row is its own.
    best, others
        ``(n, c)`` logits of the best head, and of each of the others.
    """

    labels: Labels
    best: Floats
    others: Sequence[Floats]
    groups: Labels | None = None


def tied(metric: str, parts: Sequence[Part], seed: int) -> list[bool]:
    """Compare heads with the best one on the same rows by a paired bootstrap of the difference.

    Within each part groups are drawn with replacement, 1000 times (ROC AUC beyond a million rows
    times classes less often, down to 200 times), the same for all heads; a head is tied where the
    central 95 % of the differences, averaged over parts as the scores are, hold zero (Efron and
    Tibshirani, "An Introduction to the Bootstrap" (1993), chapter 13, percentile interval). What
    another training set would change is not in it.

    Parameters
    ----------
    metric
        Name in :data:`pipeline.evaluate.METRICS`.
    parts
        The rows scored, with the same other heads in each.
    seed
        Of the draws.

    Returns
    -------
    list of bool
        One for each of the other heads.
    """
    count = _resamples(metric, sum(part.best.size for part in parts))
    by_part = [_differences(metric, part, count, seed + i) for i, part in enumerate(parts)]
    return [_holds_zero(_mean_over_parts(of_head)) for of_head in zip(*by_part, strict=True)]


def _differences(metric: str, part: Part, count: int, seed: int) -> list[NDArray[np.float64]]:
    """Resampled differences of the best head to each of the others, (count,) each."""
    group_of_row = None
    if part.groups is not None:
        group_of_row = np.unique(part.groups, return_inverse=True)[1]
    groups = len(part.labels) if group_of_row is None else int(group_of_row.max()) + 1
    drawn = _drawn(count, groups, seed)
    first = _resampled(metric, part.labels, part.best, drawn, group_of_row)
    return [
        first - _resampled(metric, part.labels, other, drawn, group_of_row) for other in part.others
    ]


def _mean_over_parts(differences: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Mean over the parts in which a resample has a score; NaN where none has."""
    stacked = np.stack(differences)
    defined = ~np.isnan(stacked)
    counts = defined.sum(axis=0)
    means = np.full(stacked.shape[1], np.nan)
    np.divide(np.where(defined, stacked, 0.0).sum(axis=0), counts, out=means, where=counts > 0)
    return means


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
