"""Scores of logits against labels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluate.softmax import Floats, Labels, log_softmax

Weights: TypeAlias = NDArray[np.float64]
Scorer: TypeAlias = Callable[[Weights], float | None]

EPSILON = 1e-15
"""Smallest probability that log loss takes, so that one sure mistake is not infinite."""


@dataclass(frozen=True)
class Metric:
    """A score: a function of labels and log-probabilities.

    Attributes
    ----------
    scorer
        Does once what a set of rows needs, and returns the score as a function of how often each
        row counts: a resample of the rows costs no more than sums.
    greater_is_better
        False for a loss.
    needs_probabilities
        False where only the largest entry of a row matters, so that any logits do.
    by_class
        Whether a score takes time in proportion to rows times classes, not to rows alone.
    """

    name: str
    scorer: Callable[[Labels, Floats], Scorer]
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
    return scorer(np.ones(len(labels)))


def _accuracy(labels: Labels, logp: Floats) -> Scorer:
    hits = (logp.argmax(axis=1) == labels).astype(np.float64)
    return lambda weights: float(weights @ hits / weights.sum())


def _balanced_accuracy(labels: Labels, logp: Floats) -> Scorer:
    """Mean recall over the classes that occur among the labels."""
    hits, size = logp.argmax(axis=1) == labels, logp.shape[1]

    def mean_recall(weights: Weights) -> float:
        total = np.bincount(labels, weights, size)
        found = np.bincount(labels, weights * hits, size)
        occurs = total > 0
        return float(np.mean(found[occurs] / total[occurs]))

    return mean_recall


def _macro_f1(labels: Labels, logp: Floats) -> Scorer:
    """Mean F1 over the classes that occur among labels or predictions; F1 is 0 without a hit."""
    predicted, size = logp.argmax(axis=1), logp.shape[1]
    hits = predicted == labels

    def mean_f1(weights: Weights) -> float:
        total = np.bincount(labels, weights, size) + np.bincount(predicted, weights, size)
        found = np.bincount(labels, weights * hits, size)
        occurs = total > 0
        return float(np.mean(2 * found[occurs] / total[occurs]))

    return mean_f1


def _roc_auc(labels: Labels, logp: Floats) -> Scorer:
    """Area under the curve of the second class, or the mean of one-against-rest over classes.

    A class that no row or every row belongs to has no curve and is left out of the mean.
    """
    odds = _log_odds(logp)
    columns = [1] if logp.shape[1] == 2 else range(logp.shape[1])
    areas = [_area(labels == column, odds[:, column]) for column in columns]

    def mean_area(weights: Weights) -> float | None:
        defined = [value for area in areas if (value := area(weights)) is not None]
        return float(np.mean(defined)) if defined else None

    return mean_area


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

    def area(weights: Weights) -> float | None:
        own, passed = weights[above], np.concatenate(([0.0], np.cumsum(weights[below])))
        pairs = own.sum() * passed[-1]
        return float(own @ (passed[first] + passed[last]) / (2 * pairs)) if pairs else None

    return area


def log_loss(labels: Labels, logp: Floats) -> float:
    """Mean negative log-probability of the right class, bounded by that of ``EPSILON``."""
    return float(_losses(labels, logp).mean())


def _log_loss(labels: Labels, logp: Floats) -> Scorer:
    losses = _losses(labels, logp)
    return lambda weights: float(weights @ losses / weights.sum())


def _losses(labels: Labels, logp: Floats) -> NDArray[np.float64]:
    picked = logp[np.arange(len(labels)), labels].astype(np.float64)
    return np.asarray(-np.maximum(picked, np.log(EPSILON)))


METRICS: dict[str, Metric] = {
    m.name: m
    for m in (
        Metric("accuracy", _accuracy),
        Metric("balanced_accuracy", _balanced_accuracy),
        Metric("macro_f1", _macro_f1),
        Metric("roc_auc", _roc_auc, needs_probabilities=True, by_class=True),
        Metric("log_loss", _log_loss, greater_is_better=False, needs_probabilities=True),
    )
}
"""What ``--metric`` takes."""
