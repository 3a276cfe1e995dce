"""Predictions of many heads for rows that they had not seen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluate.folds import Fold
from pipeline.evaluate.metrics import METRICS, Metric, Values, Weights, mean_defined, mean_of_rows
from pipeline.evaluate.softmax import Floats, Labels, log_softmax


@dataclass(frozen=True)
class OutOfFold:
    """Rows that all heads were scored on, none of which they had seen.

    Attributes
    ----------
    labels
        ``(n,)`` integers.
    logits
        One array a head, ``(n, c)``, or ``(repeats, n, c)`` where the rows were divided into folds
        several times. A head's score is the mean over repeats of its score on all rows.
    groups
        ``(n,)`` integers, rows that no fold divides; None where every row is its own. A group
        counts as often in one repeat as in another, since it is the same images.
    """

    labels: Labels
    logits: Sequence[Floats]
    groups: Labels | None = None

    def __post_init__(self) -> None:
        n = len(self.labels)
        if not self.logits:
            raise ValueError("there are no predictions of any head")
        if any(logits.shape[-2] != n for logits in self.logits):
            raise ValueError(f"a head has not one row of logits for each of {n} labels")

    @property
    def units(self) -> float:
        """Number of groups of one size that would tell as much; of rows where there are none.

        It is n^2 over the sum of the groups' squared sizes (Kish, "Survey Sampling" (1965),
        for unequal weights): the number of groups where they are equally large.
        """
        if self.groups is None:
            return float(len(self.labels))
        sizes = np.unique(self.groups, return_counts=True)[1]
        return float(len(self.labels) ** 2 / np.sum(sizes.astype(float) ** 2))

    @property
    def cells(self) -> int:
        """Number of logits: heads times repeats times rows times classes."""
        return sum(logits.size for logits in self.logits)


def in_rows(plan: Sequence[Sequence[Fold]], parts: Sequence[Sequence[Floats]], n: int) -> Floats:
    """Put one head's logits of the test parts back into the order of the rows.

    Parameters
    ----------
    plan
        Repeats, each a list of folds: ``repeated_folds``, or ``[folds]``. Every row must be in one
        test part of each repeat.
    parts
        Logits of the test parts, ``(len(test), c)`` each, in the same order.
    n
        Rows.

    Returns
    -------
    ndarray
        ``(repeats, n, c)``, of the parts' dtype.
    """
    first = parts[0][0]
    rows = np.empty((len(plan), n, first.shape[1]), dtype=first.dtype)
    for own, folds, logits in zip(rows, plan, parts, strict=True):
        for (_, test), part in zip(folds, logits, strict=True):
            own[test] = part
    return rows


def gathered(
    labels: Labels,
    groups: Labels | None,
    plan: Sequence[Sequence[Fold]],
    heads: Sequence[Sequence[Floats]],
) -> tuple[NDArray[np.int64], OutOfFold]:
    """Bring together what heads said of the rows that a plan scores.

    Parameters
    ----------
    labels, groups
        ``(m,)`` integers of all rows; groups may be None.
    plan
        Repeats, each a list of folds over all rows that scores the same ones, each once.
    heads
        Of each head the logits of the test parts, one after the other through all repeats.

    Returns
    -------
    rows, predictions
        ``(n,)`` ascending positions of the rows scored, and the predictions for these.
    """
    rows = np.sort(np.concatenate([test for _, test in plan[0]]))
    local = [[(train, np.searchsorted(rows, test)) for train, test in folds] for folds in plan]
    ends = np.cumsum([len(folds) for folds in plan]).tolist()
    starts = [0, *ends[:-1]]
    logits = [
        in_rows(local, [parts[a:b] for a, b in zip(starts, ends, strict=True)], len(rows))
        for parts in heads
    ]
    return rows, OutOfFold(labels[rows], logits, None if groups is None else groups[rows])


def scorer_of_all(metric: str, oof: OutOfFold) -> Callable[[Weights], Values]:
    """Prepare a score for all heads: from ``(n, b)`` weights to ``(heads, b)``, NaN if undefined.

    A score that is a mean over rows is one matrix product for all heads together.
    """
    rule = METRICS[metric]
    if rule.rows is not None:
        values = np.stack([_row_means(rule, oof.labels, logits) for logits in oof.logits])
        return lambda weights: mean_of_rows(values, weights)
    scorers = [
        [rule.scorer(oof.labels, log_softmax(one)) for one in _repeats(logits)]
        for logits in oof.logits
    ]
    return lambda weights: np.stack(
        [mean_defined(np.stack([of_repeat(weights) for of_repeat in head])) for head in scorers]
    )


def _row_means(rule: Metric, labels: Labels, logits: Floats) -> Values:
    assert rule.rows is not None
    each = [rule.rows(labels, log_softmax(one)) for one in _repeats(logits)]
    return np.asarray(np.mean(each, axis=0))


def _repeats(logits: Floats) -> Floats:
    return logits.reshape(-1, *logits.shape[-2:])
