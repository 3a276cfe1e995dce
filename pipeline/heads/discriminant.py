"""Heads of class means: the nearest one, and linear discriminant analysis."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from pipeline.heads.base import UNSEEN, Fitted
from pipeline.heads.fitted import CosineHead, LinearHead, unit_rows
from pipeline.heads.linear import class_means, fit_together, linear_head, linear_size
from pipeline.heads.ranges import check_settings
from pipeline.heads.rows import FoldRows
from pipeline.heads.shifted import shifted_solutions
from pipeline.heads.shrinkage import ledoit_wolf_solution
from pipeline.heads.size import HeadSize


@dataclass(frozen=True)
class CentroidTrainer:
    """Nearest class mean: Euclidean on standardised rows, or by cosine on rows of length 1.

    The Euclidean logit is half the negative squared distance, less what all classes share; it is
    linear in the row.
    """

    metric: str
    probabilistic: bool = False

    def __post_init__(self) -> None:
        check_settings(self)

    def head_size(self, rows: int, dims: int, n_classes: int) -> HeadSize:
        """Count the directions, or weight and bias."""
        return HeadSize((dims + (self.metric != "cosine")) * n_classes)

    @classmethod
    def fit_all(
        cls, trainers: Sequence[Self], rows: FoldRows, seeds: Sequence[int]
    ) -> Iterator[Fitted]:
        """Fit; see :class:`pipeline.heads.base.Trainer`."""
        for one in trainers:
            yield _by_cosine(rows) if one.metric == "cosine" else _euclidean(rows)


def _by_cosine(rows: FoldRows) -> Fitted:
    means = class_means(rows.unit, rows.labels, rows.n_classes)
    return Fitted(CosineHead(unit_rows(means.astype(np.float32))))


def _euclidean(rows: FoldRows) -> Fitted:
    means = class_means(rows.standardised, rows.labels, rows.n_classes)
    bias = -0.5 * (means**2).sum(axis=1)
    bias[np.bincount(rows.labels, minlength=rows.n_classes) == 0] = UNSEEN
    return Fitted(LinearHead(*rows.scaling.fold(means.T, bias)))


@dataclass(frozen=True)
class LdaTrainer:
    """Linear discriminant analysis with a shrunk covariance, as scikit-learn's ``lsqr`` has it.

    The posteriors follow from a Gaussian model and are not fitted to be probabilities.

    Attributes
    ----------
    shrinkage
        Share of the identity in each class's covariance, above 0 and at most 1, or ``"auto"``:
        that of Ledoit and Wolf, each class on columns of deviation 1.
    """

    shrinkage: float | str = "auto"
    probabilistic: bool = False

    def __post_init__(self) -> None:
        check_settings(self)

    def head_size(self, rows: int, dims: int, n_classes: int) -> HeadSize:
        """Count weight and bias."""
        return linear_size(dims, n_classes)

    @classmethod
    def fit_all(
        cls, trainers: Sequence[Self], rows: FoldRows, seeds: Sequence[int]
    ) -> Iterator[Fitted]:
        """Fit all shrinkages from the same moments; see :class:`pipeline.heads.base.Trainer`."""
        return fit_together(
            trainers, rows, lambda one: one.shrinkage == "auto", lambda own: _fitted(rows, own)
        )


def _fitted(rows: FoldRows, trainers: Sequence[LdaTrainer]) -> list[Fitted]:
    means = class_means(rows.standardised, rows.labels, rows.n_classes)[rows.seen]
    return [_discriminant(rows, means, weight) for weight in _solved(rows, means, trainers)]


def _solved(
    rows: FoldRows, means: NDArray[np.float64], trainers: Sequence[LdaTrainer]
) -> list[NDArray[np.float64]]:
    """Inverse of the covariance within classes times the means, (d, k), for each shrinkage."""
    if trainers[0].shrinkage == "auto":
        return [ledoit_wolf_solution(rows, means)] * len(trainers)
    shares = [float(one.shrinkage) for one in trainers]
    solve = _by_rows if len(rows.labels) < rows.features.shape[1] else _by_columns
    return solve(rows, means, shares)


def _discriminant(
    rows: FoldRows, means: NDArray[np.float64], weight: NDArray[np.float64]
) -> Fitted:
    """Posterior of each class but for what all share, of Gaussians of one covariance."""
    priors = np.array([(rows.labels == label).mean() for label in rows.seen])
    bias = np.log(priors) - 0.5 * np.einsum("kd,dk->k", means, weight)
    return Fitted(linear_head(rows, weight.T, bias))


def _by_columns(
    rows: FoldRows, means: NDArray[np.float64], shares: Sequence[float]
) -> list[NDArray[np.float64]]:
    """Solve from the scatter of the columns within classes."""
    counts = np.array([(rows.labels == label).sum() for label in rows.seen])
    within = (rows.scatter - (means.T * counts) @ means) / counts.sum()
    spread = np.trace(within) / len(within)
    return [
        found / max(1 - share, _LEAST)
        for share, found in zip(
            shares, shifted_solutions(within, means.T, _shifts(shares, spread)), strict=True
        )
    ]


def _by_rows(
    rows: FoldRows, means: NDArray[np.float64], shares: Sequence[float]
) -> list[NDArray[np.float64]]:
    """Solve from the Gram matrix of the rows about their class means (Woodbury's identity)."""
    n, d = rows.standardised.shape
    own = (rows.labels[:, None] == rows.seen).astype(np.float64)
    average = own / own.sum(axis=0)
    to_means = rows.gram @ average
    between = average.T @ to_means
    gram = rows.gram - to_means @ own.T - own @ to_means.T + own @ between @ own.T
    spread = np.trace(gram) / n / d
    right = to_means - own @ between
    shifts = _shifts(shares, spread)
    found = []
    for share, shift, pulled in zip(
        shares, shifts, shifted_solutions(gram / n, right / n, shifts), strict=True
    ):
        pulled -= average @ (own.T @ pulled)
        combined = (means.T - rows.standardised.T @ pulled) / shift
        found.append(combined / max(1 - share, _LEAST))
    return found


_LEAST = 1e-12
"""In place of nothing: the part of the covariance that a shrinkage of 1 leaves, or its spread."""


def _shifts(shares: Sequence[float], spread: float) -> list[float]:
    """Multiples of the identity beside the whole covariance: shrinkages, but for a factor."""
    spread = max(spread, _LEAST)  # nil where each class is one row, or all columns are constant
    return [share * spread / max(1 - share, _LEAST) for share in shares]
