"""k nearest neighbours by cosine."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.heads.base import Features, Fitted, Labels
from pipeline.heads.fitted import NeighboursHead, unit_rows
from pipeline.heads.size import HeadSize

INT32_BYTES = 4


@dataclass(frozen=True)
class NeighboursTrainer:
    """Keep the rows. Where there are fewer than ``k``, all of them vote.

    A training row is its own nearest neighbour, so the training score of ``k=1`` is 1 by
    construction and says nothing.
    """

    k: int
    probabilistic: bool = False

    def head_size(self, rows: int, dims: int, n_classes: int) -> HeadSize:
        """Count the rows, their labels, and two numbers."""
        return HeadSize(rows * dims, (rows + 2) * INT32_BYTES)

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
        rows = unit_rows(np.array(features, dtype=np.float32))
        kept = labels.astype(np.int32)
        return Fitted(NeighboursHead(rows, kept, min(self.k, len(rows)), n_classes))
