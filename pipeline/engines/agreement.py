"""How far two engines' features may lie apart, and how far they do."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

TOLERANCE: Mapping[str, float] = MappingProxyType(
    {"float32": 1e-3, "bfloat16": 0.4, "float16": 0.05}
)
"""How far a number may lie from the one that Keras gives in float32, as a part of the largest in
its row, by the precision that it was computed in.

Summing in another order (other engine, processor or version of a library) moves float32 features of
the networks here by some 1e-5 of that. The others round each factor, to 8 and to 11 bits: by 0.12
at most in a thousand real images with trained weights, by 0.34 with random ones (bfloat16)."""


def deviations_of(stored: NDArray[np.floating], now: NDArray[np.floating]) -> NDArray[np.float64]:
    """Largest difference of a number in each row, as a part of the largest number of either row.

    Parameters
    ----------
    stored, now
        Shape (n, dims).

    Returns
    -------
    ndarray of float64, shape (n,)
        Infinite where a number of either row is not finite.
    """
    a, b = stored.astype(np.float64), now.astype(np.float64)
    with np.errstate(invalid="ignore"):
        scale = np.maximum(np.abs(a).max(axis=1), np.abs(b).max(axis=1))
        difference = np.abs(a - b).max(axis=1)
    sound = np.isfinite(a).all(axis=1) & np.isfinite(b).all(axis=1)
    part = np.divide(difference, scale, out=np.zeros(len(a)), where=sound & (scale > 0))
    return np.where(sound, part, np.inf)
