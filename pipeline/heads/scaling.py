"""Standardisation that ends up inside the weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.heads.base import Features, Floats

_ROWS = 64
"""Rows centred at once: few enough to stay in the cache."""


@dataclass(frozen=True)
class Scaling:
    """Columns to mean 0 and deviation 1.

    Attributes
    ----------
    mean, inverse
        ``(d,)`` float64. ``inverse`` is one over the deviation, and 0 for a column that is constant
        in training: such a column says nothing, and must not begin to at prediction.
    """

    mean: NDArray[np.float64]
    inverse: NDArray[np.float64]

    @classmethod
    def of(cls, features: Features) -> Scaling:
        """Measure ``(n, d)`` rows.

        What differs by no more than rounding can make of equal numbers is constant, by the bound
        of Chan, Golub and LeVeque, The American Statistician 37, 1983, on variances in two passes.
        """
        n, d = features.shape
        mean = features.mean(axis=0, dtype=np.float64)
        squares = np.zeros(d)
        for start in range(0, n, _ROWS):
            centred = features[start : start + _ROWS] - mean
            squares += np.einsum("nd,nd->d", centred, centred)
        variance = squares / n
        eps = np.finfo(np.float64).eps
        constant = variance <= n * eps * variance + (n * eps * mean) ** 2
        return cls(mean, np.where(constant, 0.0, 1 / np.sqrt(np.where(constant, 1, variance))))

    def apply(self, features: Features, dtype: type[np.floating[Any]] = np.float32) -> Floats:
        """Standardised copy of ``(n, d)`` rows."""
        scaled = np.asarray(features, dtype=np.float32) - self.mean.astype(np.float32)
        scaled *= self.inverse.astype(np.float32)
        return scaled.astype(dtype, copy=False)

    def fold(self, weight: Floats, bias: Floats) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Turn weights (d, h) and bias (h,) on standardised rows into those on rows as they are."""
        scaled = weight.astype(np.float64) * self.inverse[:, None]
        shifted = bias.astype(np.float64) - self.mean @ scaled
        return scaled.astype(np.float32), shifted.astype(np.float32)
