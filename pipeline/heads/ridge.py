"""Ridge classification: all penalties from one factorisation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from pipeline.heads.base import Fitted
from pipeline.heads.linear import class_weights, fit_together, indicators, linear_head, linear_size
from pipeline.heads.ranges import check_settings
from pipeline.heads.rows import FoldRows, outer_sum
from pipeline.heads.shifted import shifted_solutions
from pipeline.heads.size import HeadSize


@dataclass(frozen=True)
class RidgeTrainer:
    """Least squares on targets of -1 and 1 with an L2 penalty of strength ``alpha``.

    In float64, since the condition number of pooled features over a small alpha eats a float32.

    Attributes
    ----------
    alpha
        Above 0.
    class_weight
        None, or ``"balanced"``.
    """

    alpha: float
    class_weight: str | None = None
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
        """Fit all alphas at once; see :class:`pipeline.heads.base.Trainer`."""
        return fit_together(
            trainers,
            rows,
            lambda one: one.class_weight,
            lambda own: _path(rows, own[0].class_weight, [one.alpha for one in own]),
        )


def _path(rows: FoldRows, class_weight: str | None, alphas: Sequence[float]) -> list[Fitted]:
    indicated = indicators(rows)
    weights = class_weights(indicated, class_weight) @ indicated
    targets = 2 * indicated.T - 1
    targets = targets[:, 1:] if targets.shape[1] == 2 else targets
    centre = weights @ targets / weights.sum()
    n, d = rows.features.shape
    solve = _by_rows if n < d else _by_columns
    mean = weights @ rows.standardised / weights.sum()
    found = solve(rows, weights, mean, targets - centre, alphas)
    return [Fitted(linear_head(rows, weight.T, centre - mean @ weight)) for weight in found]


def _by_rows(
    rows: FoldRows,
    weights: NDArray[np.float64],
    mean: NDArray[np.float64],
    targets: NDArray[np.float64],
    alphas: Sequence[float],
) -> list[NDArray[np.float64]]:
    """Weights (d, k) for each alpha, as combinations of the rows, about their weighted mean."""
    roots = np.sqrt(weights)[:, None]
    to_mean = rows.gram @ weights[:, None] / weights.sum()
    gram = rows.gram - to_mean - to_mean.T + weights @ to_mean / weights.sum()
    gram *= roots * roots.T
    shares = roots * shifted_solutions(gram, roots * targets, alphas)
    columns = np.concatenate(list(shares), axis=1)
    weight = rows.standardised.T @ columns - np.outer(mean, columns.sum(axis=0))
    return np.split(weight, len(alphas), axis=1)


def _by_columns(
    rows: FoldRows,
    weights: NDArray[np.float64],
    mean: NDArray[np.float64],
    targets: NDArray[np.float64],
    alphas: Sequence[float],
) -> list[NDArray[np.float64]]:
    """Weights (d, k) for each alpha, by the scatter of the columns about their weighted mean."""
    pull = rows.standardised.T @ (weights[:, None] * targets)
    scatter = rows.scatter if (weights == 1).all() else outer_sum(rows.standardised, weights)
    scatter = scatter - weights.sum() * np.outer(mean, mean)
    return list(shifted_solutions(scatter, pull, alphas))
