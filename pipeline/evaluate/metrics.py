"""Scores of logits against labels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluate.softmax import Floats, Labels, log_softmax

Weights: TypeAlias = NDArray[np.float64]
Values: TypeAlias = NDArray[np.float64]
Scorer: TypeAlias = Callable[[Weights], Values]

EPSILON = 1e-15
"""Smallest probability that log loss takes, so that one sure mistake is not infinite."""


@dataclass(frozen=True)
class Metric:
    """A score: a function of labels and log-probabilities.

    Attributes
    ----------
    scorer
        Does once what a set of ``n`` rows needs, and returns the score as a function of how often
        each row counts: ``(n, b)`` weights, one column a resample, to ``(b,)`` scores, NaN where
        the score is not defined. A resample of the rows costs no more than sums.
    rows
        For a score that is a mean over rows: what each row adds, ``(n,)``. None for others.
    greater_is_better
        False for a loss.
    needs_probabilities
        False where only the largest entry of a row matters, so that any logits do.
    by_class
        Whether a score takes time in proportion to rows times classes, not to rows alone.
    """

    name: str
    scorer: Callable[[Labels, Floats], Scorer]
    rows: Callable[[Labels, Floats], Values] | None = None
    greater_is_better: bool = True
    needs_probabilities: bool = False
    by_class: bool = False


def score(metric: str, labels: Labels, logits: Floats, temperature: float = 1.0) -> float | None:
    """Score logits against labels.

    Parameters
    ----------
    metric
        Name in :data:`METRICS`.
    labels
        ``(n,)`` integers.
    logits
        ``(n, c)``.
    temperature
        Divides the logits; matters to metrics that need probabilities.

    Returns
    -------
    float or None
        None where the score is not defined for these rows (ROC AUC where one class alone occurs).
    """
    scorer = METRICS[metric].scorer(labels, log_softmax(logits / temperature))
    value = float(scorer(np.ones((len(labels), 1)))[0])
    return None if np.isnan(value) else value


def ratio(above: Values, below: Values) -> Values:
    """Divide; NaN where the divisor is not positive."""
    quotient = np.full(np.broadcast_shapes(above.shape, below.shape), np.nan)
    np.divide(above, below, out=quotient, where=below > 0)
    return quotient


def mean_defined(values: Values) -> Values:
    """Mean along the first axis over what is not NaN; NaN where all are."""
    defined = ~np.isnan(values)
    return ratio(np.where(defined, values, 0.0).sum(axis=0), defined.sum(axis=0))


def mean_of_rows(values: Values, weights: Weights) -> Values:
    """Mean of ``(..., n)`` values under ``(n, b)`` weights, ``(..., b)``; NaN without weight."""
    return ratio(np.asarray(values @ weights), weights.sum(axis=0))


def _mean_over_rows(rows: Callable[[Labels, Floats], Values]) -> Callable[..., Scorer]:
    def scorer(labels: Labels, logp: Floats) -> Scorer:
        values = rows(labels, logp)
        return lambda weights: mean_of_rows(values, weights)

    return scorer


def _hits(labels: Labels, logp: Floats) -> Values:
    return np.asarray(logp.argmax(axis=1) == labels, dtype=np.float64)


def _balanced_accuracy(labels: Labels, logp: Floats) -> Scorer:
    """Mean recall over the classes that occur among the labels."""
    size = logp.shape[1]
    rows, found = _sums(labels, size), _sums(labels, size, _hits(labels, logp))
    return lambda weights: mean_defined(ratio(found @ weights, rows @ weights))


def _macro_f1(labels: Labels, logp: Floats) -> Scorer:
    """Mean F1 over the classes that occur among labels or predictions; F1 is 0 without a hit."""
    size = logp.shape[1]
    rows = _sums(labels, size) + _sums(logp.argmax(axis=1), size)
    found = _sums(labels, size, 2 * _hits(labels, logp))
    return lambda weights: mean_defined(ratio(found @ weights, rows @ weights))


def _sums(classes: Labels, size: int, values: Values | None = None) -> Any:
    """Sparse ``(size, n)`` matrix whose product with weights sums the rows of each class."""
    from scipy.sparse import csc_array

    n = len(classes)
    values = np.ones(n) if values is None else values
    return csc_array((values, classes, np.arange(n + 1)), shape=(size, n))


def _roc_auc(labels: Labels, logp: Floats) -> Scorer:
    """Area under the curve of the second class, or the mean of one-against-rest over classes.

    A class that no row or every row belongs to has no curve and is left out of the mean.
    """
    odds = _log_odds(logp)
    columns = [1] if logp.shape[1] == 2 else range(logp.shape[1])
    areas = [_area(labels == column, odds[:, column]) for column in columns]

    return lambda weights: mean_defined(np.stack([area(weights) for area in areas]))


def _log_odds(logp: Floats) -> Floats:
    """Order of the probabilities of each class, without their ties at 0 and 1.

    One minus a probability loses its digits where that is above a half, as at most one of a row
    is: there the others are summed.
    """
    rows, top = np.arange(len(logp)), logp.argmax(axis=1)
    others = logp.astype(np.float64)
    others[rows, top] = -np.inf
    rest = np.log1p(-np.exp(others))
    rest[rows, top] = np.logaddexp.reduce(others, axis=1)
    return np.asarray(logp - rest)


def _area(positive: NDArray[np.bool_], scores: Floats) -> Scorer:
    """Mann-Whitney U over the number of pairs; ties count half."""
    above, below = np.flatnonzero(positive), np.flatnonzero(~positive)
    below = below[np.argsort(scores[below], kind="stable")]
    first = np.searchsorted(scores[below], scores[above], "left")
    last = np.searchsorted(scores[below], scores[above], "right")
    untied = np.array_equal(first, last)

    def area(weights: Weights) -> Values:
        own = weights[above]
        passed = np.zeros((len(below) + 1, weights.shape[1]))
        np.cumsum(weights[below], axis=0, out=passed[1:])
        won = np.einsum("ib,ib->b", own, passed[first])
        equal = 0.0 if untied else np.einsum("ib,ib->b", own, passed[last]) - won
        return ratio(won + equal / 2, own.sum(axis=0) * passed[-1])

    return area


def log_loss(labels: Labels, logp: Floats) -> float:
    """Mean negative log-probability of the right class, bounded by that of ``EPSILON``."""
    return float(_losses(labels, logp).mean())


def _losses(labels: Labels, logp: Floats) -> Values:
    picked = logp[np.arange(len(labels)), labels].astype(np.float64)
    return np.asarray(-np.maximum(picked, np.log(EPSILON)))


METRICS: dict[str, Metric] = {
    m.name: m
    for m in (
        Metric("accuracy", _mean_over_rows(_hits), _hits),
        Metric("balanced_accuracy", _balanced_accuracy),
        Metric("macro_f1", _macro_f1),
        Metric("roc_auc", _roc_auc, needs_probabilities=True, by_class=True),
        Metric(
            "log_loss",
            _mean_over_rows(_losses),
            _losses,
            greater_is_better=False,
            needs_probabilities=True,
        ),
    )
}
"""What ``--metric`` takes."""
