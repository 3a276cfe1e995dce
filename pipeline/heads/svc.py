"""Support vector machines with a linear or a Gaussian kernel, from one Gram matrix."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from pipeline.heads.base import Fitted
from pipeline.heads.fitted import LinearHead
from pipeline.heads.kernel import KernelHead, VotesHead
from pipeline.heads.linear import constant, linear_head
from pipeline.heads.ranges import check_settings
from pipeline.heads.rows import FoldRows
from pipeline.heads.size import HeadSize
from pipeline.heads.threads import one_blas_thread

INT32_BYTES = 4


@dataclass(frozen=True)
class SvcTrainer:
    """Support vector machine, one class against one, fitted by scikit-learn's libsvm.

    libsvm spends its time on inner products of rows, so it gets all of them, made by one product of
    matrices for all settings. Logits are those of ``decision_function_shape="ovr"``; the class they
    predict is that of ``SVC(break_ties=True)``.

    Attributes
    ----------
    C
        Inverse strength of the penalty, above 0.
    kernel
        ``"linear"`` or ``"rbf"``.
    gamma
        Of the kernel ``exp(-gamma |x - z|^2)``: above 0, or ``"scale"``, one over the number of
        features times their variance, all of them together, after standardisation.
    class_weight
        None, or ``"balanced"``.
    """

    C: float
    kernel: str = "rbf"
    gamma: float | str = "scale"
    class_weight: str | None = None
    probabilistic: bool = False

    def __post_init__(self) -> None:
        check_settings(self)

    def head_size(self, rows: int, dims: int, n_classes: int) -> HeadSize:
        """Count what it keeps at most: every row a support vector, every class seen."""
        pairs = n_classes * (n_classes - 1) // 2
        if self.kernel == "rbf":
            kept = rows * (dims + pairs) + pairs + 2 * dims + 1
            return HeadSize(kept, (n_classes + 1) * INT32_BYTES)
        if n_classes == 2:
            return HeadSize(2 * (dims + 1))
        return HeadSize(pairs * (dims + 1), (n_classes + 1) * INT32_BYTES)

    @classmethod
    def fit_all(
        cls, trainers: Sequence[Self], rows: FoldRows, seeds: Sequence[int]
    ) -> Iterator[Fitted]:
        """Fit one after the other on the same Gram matrix; see :class:`.base.Trainer`."""
        if len(rows.seen) == 1:
            yield from (constant(rows) for _ in trainers)
            return
        made: tuple[float | None, Any] = None, None
        for one in trainers:
            gamma = None if one.kernel == "linear" else _gamma(one.gamma, rows)
            with one_blas_thread():
                if made[1] is None or made[0] != gamma:
                    made = gamma, rows.gram if gamma is None else _gaussian(rows.gram, gamma)
                fitted = _fit(one, rows, made[1], gamma)
            yield fitted


def _gamma(gamma: float | str, rows: FoldRows) -> float:
    if gamma != "scale":
        return float(gamma)
    variance = float(rows.standardised.var(dtype=np.float64))
    return 1 / (rows.standardised.shape[1] * variance) if variance > 0 else 1.0


def _gaussian(gram: NDArray[np.float64], gamma: float) -> NDArray[np.float64]:
    """Kernel of all pairs of rows, from their inner products."""
    lengths = np.diag(gram)
    kernel = gram * 2
    kernel -= lengths
    kernel -= lengths[:, None]
    np.minimum(kernel, 0, out=kernel)
    kernel *= gamma
    return np.exp(kernel, out=kernel)


def _fit(
    one: SvcTrainer, rows: FoldRows, kernel: NDArray[np.float64], gamma: float | None
) -> Fitted:
    from sklearn import config_context
    from sklearn.svm import SVC

    model = SVC(C=one.C, kernel="precomputed", class_weight=one.class_weight)
    with config_context(assume_finite=True):
        model.fit(kernel, rows.labels)
    coefficients, intercept = _pairs(model)
    steps, converged = int(np.max(model.n_iter_)), model.fit_status_ == 0
    support, seen = model.support_, rows.seen.astype(np.int32)
    if gamma is None:
        weight = coefficients.T @ rows.standardised[support]
        return Fitted(_linear(rows, weight, intercept), steps, converged)
    head = KernelHead(
        pool=rows.standardised,
        support=support,
        coefficients=coefficients.astype(np.float32),
        intercept=intercept.astype(np.float32),
        mean=rows.scaling.mean.astype(np.float32),
        inverse=rows.scaling.inverse.astype(np.float32),
        gamma=np.float32(gamma),
        seen=seen,
        n_classes=rows.n_classes,
    )
    return Fitted(head, steps, converged)


def _linear(
    rows: FoldRows, weight: NDArray[np.float64], intercept: NDArray[np.float64]
) -> LinearHead | VotesHead:
    """Decisions of pairs as weights on rows as they are; a single one is a linear head."""
    if len(weight) == 1:
        return linear_head(rows, weight, intercept)
    seen = rows.seen.astype(np.int32)
    return VotesHead(*rows.scaling.fold(weight.T, intercept), seen, rows.n_classes)


def _pairs(model: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Coefficients (m, p) of the support vectors and intercepts (p,), above 0 for the second class.

    libsvm keeps those of a vector of class i against class j in row j, or j - 1 where j comes
    after i, and decides above 0 for the first; scikit-learn turns that for two classes.
    """
    dual, starts = model.dual_coef_, np.cumsum([0, *model.n_support_])
    pairs = list(combinations(range(len(model.n_support_)), 2))
    coefficients = np.zeros((dual.shape[1], len(pairs)))
    for p, (i, j) in enumerate(pairs):
        first, second = slice(*starts[i : i + 2]), slice(*starts[j : j + 2])
        coefficients[first, p] = dual[j - 1, first]
        coefficients[second, p] = dual[i, second]
    sign = 1 if len(pairs) == 1 else -1
    return sign * coefficients, sign * np.asarray(model.intercept_)
