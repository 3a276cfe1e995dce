"""The training rows of one fold, and what the fits on them share."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from pipeline.heads.base import Labels
from pipeline.heads.fitted import unit_rows
from pipeline.heads.scaling import Scaling


@dataclass(frozen=True)
class FoldRows:
    """Rows to fit heads on; what several heads need of them is made once, when first asked.

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
    """

    features: NDArray[np.float32]
    labels: Labels
    n_classes: int
    groups: Labels | None = None

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
