"""k nearest neighbours by cosine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from pipeline.heads.base import Fitted
from pipeline.heads.fitted import NeighboursHead
from pipeline.heads.ranges import check_settings
from pipeline.heads.rows import FoldRows
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

    def __post_init__(self) -> None:
        check_settings(self)

    def head_size(self, rows: int, dims: int, n_classes: int) -> HeadSize:
        """Count the rows, their labels, and two numbers."""
        return HeadSize(rows * dims, (rows + 2) * INT32_BYTES)

    @classmethod
    def fit_all(
        cls, trainers: Sequence[Self], rows: FoldRows, seeds: Sequence[int]
    ) -> Iterator[Fitted]:
        """Let all share one copy of the rows; see :class:`pipeline.heads.base.Trainer`."""
        kept = rows.labels.astype(np.int32)
        for one in trainers:
            k = min(one.k, len(kept))
            yield Fitted(NeighboursHead(rows.unit, kept, k, rows.n_classes))
