"""Linear heads: logistic regression, ridge, linear SVM, nearest class mean.

scikit-learn fits them on standardised rows; what stays is one affine map on the rows as they are.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.heads.base import UNSEEN, Features, Fitted, Floats, Labels
from pipeline.heads.fitted import CosineHead, LinearHead, unit_rows
from pipeline.heads.scaling import Scaling
from pipeline.heads.size import HeadSize

MAX_ITERATIONS = 10_000
DUAL_ITERATIONS = 2_000


@dataclass(frozen=True)
class LogisticTrainer:
    """Multinomial logistic regression with an L2 penalty of strength ``1 / C``."""

    C: float
    tol: float = 1e-4
    probabilistic: bool = True

    def head_size(self, rows: int, dims: int, n_classes: int) -> HeadSize:
        """Count weight and bias."""
        return HeadSize((dims + 1) * n_classes)

    def fit(
        self,
        features: Features,
        labels: Labels,
        n_classes: int,
        *,
        seed: int,
        groups: Labels | None = None,
    ) -> Fitted:
        """Fit; see :class:`pipeline.heads.base.Trainer`."""
        from sklearn.linear_model import LogisticRegression

        model = LogisticRegression(C=self.C, tol=self.tol, max_iter=MAX_ITERATIONS)
        return _fit(model, features, labels, n_classes)


@dataclass(frozen=True)
class RidgeTrainer:
    """Least squares on targets of -1 and 1 with an L2 penalty of strength ``alpha``."""

    alpha: float
    probabilistic: bool = False

    def head_size(self, rows: int, dims: int, n_classes: int) -> HeadSize:
        """Count weight and bias."""
        return HeadSize((dims + 1) * n_classes)

    def fit(
        self,
        features: Features,
        labels: Labels,
        n_classes: int,
        *,
        seed: int,
        groups: Labels | None = None,
    ) -> Fitted:
        """Fit; see :class:`pipeline.heads.base.Trainer`."""
        from sklearn.linear_model import RidgeClassifier

        # float64, since the condition number of pooled features over a small alpha eats a float32.
        model = RidgeClassifier(alpha=self.alpha)
        return _fit(model, features, labels, n_classes, dtype=np.float64)


@dataclass(frozen=True)
class SvmTrainer:
    """Linear support vector machine, squared hinge, one against the rest, of penalty ``C``.

    The dual solver is the faster one at the small C that features want, and may not converge at
    a large one; then the primal solver, which does, takes over.
    """

    C: float
    probabilistic: bool = False

    def head_size(self, rows: int, dims: int, n_classes: int) -> HeadSize:
        """Count weight and bias."""
        return HeadSize((dims + 1) * n_classes)

    def fit(
        self,
        features: Features,
        labels: Labels,
        n_classes: int,
        *,
        seed: int,
        groups: Labels | None = None,
    ) -> Fitted:
        """Fit; see :class:`pipeline.heads.base.Trainer`."""
        from sklearn.svm import LinearSVC

        dual = LinearSVC(C=self.C, dual=True, max_iter=DUAL_ITERATIONS, random_state=seed)
        fitted = _fit(dual, features, labels, n_classes)
        if fitted.converged:
            return fitted
        primal = LinearSVC(C=self.C, dual=False, max_iter=MAX_ITERATIONS)
        return _fit(primal, features, labels, n_classes)


@dataclass(frozen=True)
class CentroidTrainer:
    """Nearest class mean: Euclidean on standardised rows, or by cosine on rows of length 1.

    The Euclidean logit is half the negative squared distance, less what all classes share; it is
    linear in the row.
    """

    metric: str
    probabilistic: bool = False

    def head_size(self, rows: int, dims: int, n_classes: int) -> HeadSize:
        """Count the directions, or weight and bias."""
        return HeadSize((dims + (self.metric != "cosine")) * n_classes)

    def fit(
        self,
        features: Features,
        labels: Labels,
        n_classes: int,
        *,
        seed: int,
        groups: Labels | None = None,
    ) -> Fitted:
        """Fit; see :class:`pipeline.heads.base.Trainer`."""
        if self.metric == "cosine":
            means = class_means(unit_rows(np.asarray(features, np.float32)), labels, n_classes)
            return Fitted(CosineHead(unit_rows(means.astype(np.float32))))
        scaling = Scaling.of(features)
        means = class_means(scaling.apply(features), labels, n_classes)
        seen = np.bincount(labels, minlength=n_classes) > 0
        bias = np.where(seen, -0.5 * (means**2).sum(axis=1), UNSEEN)
        return Fitted(LinearHead(*scaling.fold(means.T, bias)))


def class_means(rows: Floats, labels: Labels, n_classes: int) -> NDArray[np.float64]:
    """Mean row of each class, (n_classes, d) float64; zeros for a class without rows."""
    means = np.zeros((n_classes, rows.shape[1]))
    for label in np.unique(labels):
        means[label] = rows[labels == label].mean(axis=0, dtype=np.float64)
    return means


def _fit(
    model: Any,
    features: Features,
    labels: Labels,
    n_classes: int,
    dtype: type[np.floating[Any]] = np.float32,
) -> Fitted:
    """Fit a scikit-learn classifier on standardised rows and fold the scaling into its weights."""
    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits

    seen = np.unique(labels)
    if len(seen) == 1:
        return Fitted(_constant(features.shape[1], int(seen[0]), n_classes))
    scaling = Scaling.of(features)
    # One thread: the products of these solvers are small, and threads that wait for each other
    # made them up to twenty times slower on a busy machine. It also fixes the order of the sums.
    with warnings.catch_warnings(record=True) as caught, threadpool_limits(1):
        warnings.simplefilter("always")
        model.fit(scaling.apply(features, dtype), labels)
    converged = not any(issubclass(w.category, ConvergenceWarning) for w in caught)
    for other in (w for w in caught if not issubclass(w.category, ConvergenceWarning)):
        warnings.warn_explicit(other.message, other.category, other.filename, other.lineno)
    iterations = getattr(model, "n_iter_", None)
    # RidgeClassifier drops the axis of a single column.
    coef, intercept = np.atleast_2d(model.coef_), np.atleast_1d(model.intercept_)
    weight, bias = _columns(coef, intercept, seen, n_classes)
    head = LinearHead(*scaling.fold(weight, bias))
    return Fitted(head, 0 if iterations is None else int(np.max(iterations)), converged)


def _columns(
    coef: Floats, intercept: Floats, seen: Labels, n_classes: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """One column a class. A single decision value f of two classes becomes -f/2 and f/2.

    The softmax of those is the logistic function of f, so probabilities stay scikit-learn's.
    """
    if len(coef) == 1:
        coef, intercept = (np.concatenate((-part, part)) / 2 for part in (coef, intercept))
    weight = np.zeros((coef.shape[1], n_classes))
    bias = np.full(n_classes, UNSEEN)
    weight[:, seen], bias[seen] = coef.T, intercept
    return weight, bias


def _constant(dims: int, label: int, n_classes: int) -> LinearHead:
    """Where training rows have one class only, it is the answer."""
    bias = np.full(n_classes, UNSEEN, dtype=np.float32)
    bias[label] = 0
    return LinearHead(np.zeros((dims, n_classes), dtype=np.float32), bias)
