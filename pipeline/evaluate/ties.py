"""Whether noise alone may explain that one head scores better than another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluate.metrics import METRICS, mean_defined
from pipeline.evaluate.resamples import drawn_rows, resamples_for
from pipeline.evaluate.softmax import Floats, Labels, log_softmax

LEVEL = 0.05


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
    count = resamples_for(metric, sum(part.best.size for part in parts))
    by_part = [_differences(metric, part, count, seed + i) for i, part in enumerate(parts)]
    return [_holds_zero(mean_defined(np.stack(head))) for head in zip(*by_part, strict=True)]


def _differences(metric: str, part: Part, count: int, seed: int) -> list[NDArray[np.float64]]:
    """Resampled differences of the best head to each of the others, (count,) each."""
    best, *others = (
        METRICS[metric].scorer(part.labels, log_softmax(logits))
        for logits in (part.best, *part.others)
    )
    blocks = []
    for drawn in drawn_rows(count, len(part.labels), part.groups, seed):
        first = best(drawn)
        blocks.append([first - other(drawn) for other in others])
    return [np.concatenate(of_head) for of_head in zip(*blocks, strict=True)]


def _holds_zero(differences: NDArray[np.float64]) -> bool:
    defined = differences[~np.isnan(differences)]
    if not len(defined):
        return True
    low, high = np.quantile(defined, (LEVEL / 2, 1 - LEVEL / 2))
    return bool(low <= 0.0 <= high)
