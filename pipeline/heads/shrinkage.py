"""Covariance within classes, shrunk by Ledoit and Wolf's share for each class."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.heads.rows import FoldRows, outer_sum
from pipeline.heads.scaling import Scaling

LEAST = 1e-10
"""In place of nothing, the variance of a standardised column that is shrunk by nothing."""


def ledoit_wolf_solution(rows: FoldRows, means: NDArray[np.float64]) -> NDArray[np.float64]:
    """Inverse of the shrunk covariance within classes, times the means.

    As scikit-learn's ``LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")`` has it: each
    class's covariance is shrunk on columns of deviation 1, and classes count by their rows.

    Parameters
    ----------
    rows
        To fit on.
    means
        ``(k, d)``: of the standardised rows of each class.

    Returns
    -------
    ndarray
        ``(d, k)``.
    """
    n, d = rows.standardised.shape
    centred, diagonal = np.empty((n, d)), np.zeros(d)
    for label, mean in zip(rows.seen, means, strict=True):
        own = rows.labels == label
        scaling = Scaling.of(rows.standardised[own])
        scale = 1 / np.where(scaling.inverse > 0, scaling.inverse, 1)
        centred[own] = rows.standardised[own] - mean
        share, spread = ledoit_wolf(centred[own] / scale)
        centred[own] *= np.sqrt((1 - share) / n)
        diagonal += own.mean() * share * spread * scale**2
    return _solve(centred, np.maximum(diagonal, LEAST), means.T)


def ledoit_wolf(rows: NDArray[np.float64]) -> tuple[float, float]:
    """Share of the identity, and its scale, that shrink the covariance of centred rows best.

    Ledoit and Wolf, A well-conditioned estimator for large-dimensional covariance matrices, Journal
    of Multivariate Analysis 88, 2004.

    Parameters
    ----------
    rows
        ``(n, d)``, columns of mean 0.
    """
    n, d = rows.shape
    squares = rows**2
    spread = squares.sum() / n / d
    product = rows @ rows.T if n < d else rows.T @ rows
    entries = float((product**2).sum()) / n**2
    fourth = float((squares.sum(axis=1) ** 2).sum()) / n
    beta = (fourth - entries) / d / n
    delta = (entries - d * spread**2) / d
    beta = min(beta, delta)
    return (0.0 if beta <= 0 else beta / delta), float(spread)


def _solve(
    rows: NDArray[np.float64], diagonal: NDArray[np.float64], right: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Solve ``(rows' rows + diagonal) x = right`` by whichever of the two sides is shorter."""
    from scipy.linalg import solve

    n, d = rows.shape
    if n >= d:
        return np.asarray(solve(outer_sum(rows) + np.diag(diagonal), right, assume_a="pos"))
    scaled = right / diagonal[:, None]
    roots = rows / np.sqrt(diagonal)
    gram = roots @ roots.T
    gram[np.diag_indices(n)] += 1
    pulled = solve(gram, rows @ scaled, assume_a="pos")
    return np.asarray(scaled - (rows.T @ pulled) / diagonal[:, None])
