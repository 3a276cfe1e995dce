"""What linear heads share: columns for all classes, class weights, class means."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from pipeline.heads.base import UNSEEN, Fitted, Floats, Labels
from pipeline.heads.fitted import LinearHead
from pipeline.heads.grouping import by_key
from pipeline.heads.rows import FoldRows
from pipeline.heads.size import HeadSize
from pipeline.heads.threads import one_blas_thread

T = TypeVar("T")


def linear_size(dims: int, n_classes: int) -> HeadSize:
    """Weight and bias of each class."""
    return HeadSize((dims + 1) * n_classes)


def linear_head(rows: FoldRows, weight: Floats, bias: Floats) -> LinearHead:
    """Make the head on rows as they are of decisions on standardised ones.

    Parameters
    ----------
    rows
        Fitted on.
    weight, bias
        ``(k, d)`` and ``(k,)``: one decision for each class that has rows; or a single one of two
        classes, above 0 for the second.

    Notes
    -----
    A single decision f of two classes becomes -f/2 and f/2. The softmax of those is the logistic
    function of f.
    """
    if len(weight) == 1:
        weight, bias = (np.concatenate((-part, part)) / 2 for part in (weight, bias))
    columns = np.zeros((weight.shape[1], rows.n_classes))
    offsets = np.full(rows.n_classes, UNSEEN)
    columns[:, rows.seen], offsets[rows.seen] = weight.T, bias
    return LinearHead(*rows.scaling.fold(columns, offsets))


def constant(rows: FoldRows) -> Fitted:
    """Where training rows have one class only, it is the answer."""
    bias = np.full(rows.n_classes, UNSEEN, dtype=np.float32)
    bias[rows.seen[0]] = 0
    weight = np.zeros((rows.features.shape[1], rows.n_classes), dtype=np.float32)
    return Fitted(LinearHead(weight, bias))


def fit_together(
    trainers: Sequence[T],
    rows: FoldRows,
    key: Callable[[T], Hashable],
    fit: Callable[[list[T]], list[Fitted]],
) -> Iterator[Fitted]:
    """Fit settings of one key at once, in one BLAS thread; of a single class, that is the answer.

    Yields
    ------
    Fitted
        One a trainer, in their order.
    """
    if len(rows.seen) == 1:
        yield from (constant(rows) for _ in trainers)
        return
    with one_blas_thread():
        fitted = by_key(trainers, key, fit)
    yield from fitted


def indicators(rows: FoldRows) -> NDArray[np.float64]:
    """One row for each class that has some, 1 at its own, (k, n)."""
    return np.asarray(rows.labels == rows.seen[:, None], np.float64)


def class_weights(indicated: Floats, class_weight: str | None) -> NDArray[np.float64]:
    """Weight of each class (k,), from its rows (k, n): 1, or balanced as scikit-learn has it."""
    k, n = indicated.shape
    if class_weight is None:
        return np.ones(k)
    return np.asarray(n / (k * indicated.sum(axis=1)), np.float64)


def class_means(rows: Floats, labels: Labels, n_classes: int) -> NDArray[np.float64]:
    """Mean row of each class, (n_classes, d) float64; zeros for a class without rows."""
    means = np.zeros((n_classes, rows.shape[1]))
    for label in np.unique(labels):
        means[label] = rows[labels == label].mean(axis=0, dtype=np.float64)
    return means
