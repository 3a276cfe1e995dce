"""The whole regularisation path of a linear head with a smooth loss, in one batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.heads.base import Fitted
from pipeline.heads.design import Columns, Design, Span
from pipeline.heads.lbfgs import Solution, minimise
from pipeline.heads.linear import linear_head
from pipeline.heads.losses import Block, Loss
from pipeline.heads.rows import FoldRows

MAX_ITERATIONS = 10_000
SINGLE = 1e-5
"""Tolerance of a gradient that float32 still reaches."""
_GRAM = 40
"""Models (columns, settings) for each of which so many rows make the Gram matrix worth its time.

Some dozen steps take two products with n x d for a model, and the matrix half as many as n models.
"""


@dataclass(frozen=True)
class Problems:
    """``m`` problems that are one head together: one of several columns, or one a class.

    Attributes
    ----------
    derivative, curvature
        Of the loss; see :class:`pipeline.heads.losses.Loss`.
    targets
        ``(m, k, n)``.
    weights
        ``(m, n)``: of the rows.
    bias_penalty
        1 where biases are penalised as weights are.
    """

    derivative: Callable[[Block, Block], Block]
    curvature: float
    targets: NDArray[np.float64]
    weights: NDArray[np.float64]
    bias_penalty: float = 0.0


def path(rows: FoldRows, problems: Problems, Cs: Sequence[float], tol: float) -> list[Fitted]:
    """Minimise ``|w|^2 / 2 + C * (sum of weighted losses)`` for every C; one head each.

    Parameters
    ----------
    rows
        To fit on.
    problems
        What each head is made of.
    Cs
        Above 0.
    tol
        Largest entry of the gradient of the mean loss with its penalty.
    """
    m = len(problems.weights)
    dtype: type[np.floating[Any]] = np.float32 if tol >= SINGLE else np.float64
    totals = problems.weights.sum(axis=1)
    shares = (problems.weights / totals[:, None])[:, None].astype(dtype)
    targets = problems.targets.astype(dtype)
    each = (len(Cs), 1, 1)
    loss = Loss(
        problems.derivative, np.tile(targets, each), np.tile(shares, each), problems.curvature
    )
    found = minimise(
        _design(rows, len(Cs) * m * targets.shape[1], dtype),
        loss,
        1 / np.outer(Cs, totals).ravel(),
        tol=tol,
        limit=MAX_ITERATIONS,
        bias_penalty=problems.bias_penalty,
    )
    return [_fitted(rows, found, slice(i * m, (i + 1) * m)) for i in range(len(Cs))]


def _design(rows: FoldRows, models: int, dtype: type[np.floating[Any]]) -> Design:
    n, d = rows.standardised.shape
    columns = rows.standardised.astype(dtype, copy=False)
    if n < min(d, _GRAM * models):
        return Span(columns, rows.gram.astype(dtype, copy=False))
    return Columns(columns)


def _fitted(rows: FoldRows, found: Solution, part: slice) -> Fitted:
    weight = found.weights[part].reshape(-1, found.weights.shape[2])
    head = linear_head(rows, weight.astype(np.float64), found.bias[part].ravel())
    return Fitted(head, int(found.iterations[part].max()), bool(found.converged[part].all()))
