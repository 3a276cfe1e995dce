"""Scores of logits against labels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluate.softmax import Floats, Labels, log_softmax

EPSILON = 1e-15
"""Smallest probability that log loss takes, so that one sure mistake is not infinite."""


@dataclass(frozen=True)
class Metric:
    """A score: a function of labels and log-probabilities.

    Attributes
    ----------
    greater_is_better
        False for a loss.
    needs_probabilities
        False where only the largest entry of a row matters, so that any logits do.
    """

    name: str
    function: Callable[[Labels, Floats], float | None]
    greater_is_better: bool = True
    needs_probabilities: bool = False

    def better(self, a: float, b: float) -> bool:
        """Whether ``a`` is a better score than ``b``."""
        return a > b if self.greater_is_better else a < b


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
    return METRICS[metric].function(labels, log_softmax(logits / temperature))


def _accuracy(labels: Labels, logp: Floats) -> float:
    return float((logp.argmax(axis=1) == labels).mean())


def _balanced_accuracy(labels: Labels, logp: Floats) -> float:
    """Mean recall over the classes that occur among the labels."""
    hits = logp.argmax(axis=1) == labels
    return float(np.mean([hits[labels == label].mean() for label in np.unique(labels)]))


def _macro_f1(labels: Labels, logp: Floats) -> float:
    """Mean F1 over the classes that occur among labels or predictions; F1 is 0 without a hit."""
    predicted = logp.argmax(axis=1)
    size = logp.shape[1]
    hits = np.bincount(labels[predicted == labels], minlength=size)
    total = np.bincount(labels, minlength=size) + np.bincount(predicted, minlength=size)
    occurs = total > 0
    return float(np.mean(2 * hits[occurs] / total[occurs]))


def _roc_auc(labels: Labels, logp: Floats) -> float | None:
    """Area under the curve of the second class, or the mean of one-against-rest over classes.

    A class that no row or every row belongs to has no curve and is left out of the mean.
    """
    columns = [1] if logp.shape[1] == 2 else range(logp.shape[1])
    areas = [_area(labels == column, _log_odds(logp, column)) for column in columns]
    defined = [area for area in areas if area is not None]
    return float(np.mean(defined)) if defined else None


def _log_odds(logp: Floats, column: int) -> Floats:
    """Order of the probabilities of one class, without their ties at 0 and 1."""
    return np.asarray(logp[:, column] - np.logaddexp.reduce(np.delete(logp, column, 1), axis=1))


def _area(positive: NDArray[np.bool_], scores: Floats) -> float | None:
    """Mann-Whitney U over the number of pairs; ties count half."""
    from scipy.stats import rankdata

    n = int(positive.sum())
    pairs = n * (len(positive) - n)
    if not pairs:
        return None
    return float((rankdata(scores)[positive].sum() - n * (n + 1) / 2) / pairs)


def log_loss(labels: Labels, logp: Floats) -> float:
    """Mean negative log-probability of the right class, bounded by that of ``EPSILON``."""
    picked = logp[np.arange(len(labels)), labels]
    return float(-np.maximum(picked, np.log(EPSILON)).mean())


METRICS: dict[str, Metric] = {
    m.name: m
    for m in (
        Metric("accuracy", _accuracy),
        Metric("balanced_accuracy", _balanced_accuracy),
        Metric("macro_f1", _macro_f1),
        Metric("roc_auc", _roc_auc, needs_probabilities=True),
        Metric("log_loss", log_loss, greater_is_better=False, needs_probabilities=True),
    )
}
"""What ``--metric`` takes."""
