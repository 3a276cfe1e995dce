"""What becomes of each class, and what knowing the classes' sizes alone would score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluate.folds import Fold
from pipeline.evaluate.metrics import EPSILON, mean_defined, ratio, score
from pipeline.evaluate.softmax import Floats, Labels


@dataclass(frozen=True)
class PerClass:
    """How each of ``c`` classes fares.

    Attributes
    ----------
    confusion
        ``(c, c)``, rows of the class in front given the label behind; a mean over repeats.
    precision
        ``(c,)``, share of right ones among those given the label; NaN where none was.
    recall
        ``(c,)``, share of the class that was found; NaN where the class does not occur.
    f1
        ``(c,)``, harmonic mean of both; NaN where the class neither occurs nor was given.
    support
        ``(c,)``, rows of the class.
    """

    confusion: NDArray[np.float64]
    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    f1: NDArray[np.float64]
    support: NDArray[np.int64]


def per_class(labels: Labels, logits: Floats) -> PerClass:
    """Count what became of each class.

    Parameters
    ----------
    labels
        ``(n,)`` integers.
    logits
        ``(n, c)`` of rows that the head had not seen, or ``(repeats, n, c)``. Repeats are counted
        one by one: a vote among them would be a better head than any.
    """
    size = logits.shape[-1]
    given = logits.argmax(axis=-1).reshape(-1, len(labels))
    pairs = np.bincount((labels * size + given).ravel(), minlength=size**2)
    confusion = pairs.reshape(size, size) / len(given)
    found, occurs, named = np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
    return PerClass(
        confusion=confusion,
        precision=ratio(found, named),
        recall=ratio(found, occurs),
        f1=ratio(2 * found, occurs + named),
        support=np.bincount(labels, minlength=size),
    )


def majority_logits(labels: Labels, size: int, n: int) -> NDArray[np.float64]:
    """Predict the frequencies of the classes for every row, ``(n, size)``.

    Parameters
    ----------
    labels
        Of the rows trained on. A class that is not among them gets a probability of 1e-15.
    size
        Number of classes.
    n
        Rows to predict.
    """
    shares = np.bincount(labels, minlength=size) / len(labels)
    return np.tile(np.log(np.maximum(shares, EPSILON)), (n, 1))


def majority_score(metric: str, labels: Labels, plan: Sequence[Fold], size: int) -> float | None:
    """Score of the classes' frequencies: what a head must beat to have learnt anything.

    Parameters
    ----------
    metric
        Name in :data:`pipeline.evaluate.METRICS`.
    labels
        ``(n,)`` integers.
    plan
        Pairs of rows to train on and to score.
    size
        Number of classes.

    Returns
    -------
    float or None
        Mean over the folds on which the metric is defined; None where it is on none.
    """
    values = [
        score(metric, labels[test], majority_logits(labels[train], size, len(test)))
        for train, test in plan
    ]
    mean = float(mean_defined(np.array([np.nan if v is None else v for v in values])))
    return None if np.isnan(mean) else mean
