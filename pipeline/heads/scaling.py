"""Standardisation that ends up inside the weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.heads.base import Features, Floats


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
        """Measure ``(n, d)`` rows with scikit-learn's StandardScaler."""
        from sklearn.preprocessing import StandardScaler

        scaler = StandardScaler(copy=True).fit(np.asarray(features, dtype=np.float32))
        # It knows constant columns in spite of rounding: their scale is 1, their variance nil.
        constant = (scaler.scale_ == 1.0) & (scaler.var_ < 0.5)
        return cls(scaler.mean_, np.where(constant, 0.0, 1.0 / scaler.scale_))

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
