"""The training rows of one fold, and what the fits on them share."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.heads.base import Labels
from pipeline.heads.fitted import unit_rows
from pipeline.heads.scaling import Scaling

_BLOCK = 1 << 22
"""Numbers turned into float64 at once."""


@dataclass(frozen=True)
class FoldRows:
    """Rows to fit heads on; what several heads need of them is made once, when first asked.

    For one thread: two would make the same things twice.

    Attributes
    ----------
    features
        ``(n, d)`` float32.
    labels
        ``(n,)`` integers below ``n_classes``; a class may have no row.
    n_classes
        Columns that logits shall have.
    groups
        ``(n,)`` integers: rows of one group are not divided by a split made inside a fit. None
        where every row stands alone.
    plain
        ``(n,)`` bool: rows that a fit may keep to look at for early stopping; others of their
        groups are then left out. None: all may be.
    """

    features: NDArray[np.float32]
    labels: Labels
    n_classes: int
    groups: Labels | None = None
    plain: NDArray[np.bool_] | None = None

    @cached_property
    def seen(self) -> Labels:
        """Classes that have a row, ascending."""
        return np.unique(self.labels)

    @cached_property
    def scaling(self) -> Scaling:
        """Means and deviations of the columns."""
        return Scaling.of(self.features)

    @cached_property
    def standardised(self) -> NDArray[np.float32]:
        """The rows with columns of mean 0 and deviation 1, float32 (n, d)."""
        return np.ascontiguousarray(self.scaling.apply(self.features), np.float32)

    @cached_property
    def unit(self) -> NDArray[np.float32]:
        """The rows divided by their length, float32 (n, d)."""
        return unit_rows(self.features)

    @cached_property
    def gram(self) -> NDArray[np.float64]:
        """Inner products of the standardised rows, float64 (n, n)."""
        return outer_sum(self.standardised.T)

    @cached_property
    def scatter(self) -> NDArray[np.float64]:
        """Inner products of the standardised columns, float64 (d, d)."""
        return outer_sum(self.standardised)


def outer_sum(
    rows: NDArray[np.floating[Any]], weights: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """Weighted sum of the rows' outer products with themselves, float64, (d, d) of (n, d).

    Without a copy of all rows in float64.
    """
    n, d = rows.shape
    total = np.zeros((d, d))
    step = max(1, _BLOCK // d)
    for start in range(0, n, step):
        block = rows[start : start + step].astype(np.float64)
        if weights is not None:
            block *= np.sqrt(weights[start : start + step, None])
        total += block.T @ block
    return total
