"""Two forms of one linear model: weights on columns, or coefficients of rows where those are fewer.

A model is a point of a space in which lengths and angles are those of its weights. The weights that
a gradient method finds are combinations of rows, so where there are fewer rows than columns the
coefficients of the rows stand for them exactly, and one product with the rows' Gram matrix takes
the place of two with the rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from pipeline.heads.base import Floats
from pipeline.heads.losses import Block


class Design(Protocol):
    """Rows that linear models are fitted on.

    Points are ``(j, k, p)`` blocks: ``j`` models of ``k`` columns, ``p`` numbers a column; their
    images, the values that they give the rows, are ``(j, k, n)``.
    """

    @property
    def shape(self) -> tuple[int, int]:
        """``(n, p)``."""

    @property
    def near(self) -> float:
        """Length of a gradient, in tolerances, at which its entries are worth their product."""

    def pull(self, residuals: Block) -> Block:
        """Turn residuals (j, k, n) of the rows into the data's part of a gradient, a point."""

    def image(self, points: Block) -> Block:
        """Values (j, k, n) that the points give the rows."""

    def dual(self, points: Block, images: Block) -> Block:
        """Turn points into what a plain sum of products with is the inner product."""

    def weights(self, points: Block) -> Block:
        """Weights (j, k, d) on the columns of the rows."""


@dataclass(frozen=True)
class Columns:
    """Points are weights. ``rows`` is (n, d)."""

    rows: Floats

    @property
    def shape(self) -> tuple[int, int]:
        """``(n, d)``."""
        n, d = self.rows.shape
        return n, d

    @property
    def near(self) -> float:
        """No product is needed."""
        return np.inf

    def pull(self, residuals: Block) -> Block:
        """Rows weighted by residuals, summed."""
        return _times(residuals, self.rows)

    def image(self, points: Block) -> Block:
        """Rows times weights."""
        return _times(points, self.rows.T)

    def dual(self, points: Block, images: Block) -> Block:
        """Return the points themselves."""
        return points

    def weights(self, points: Block) -> Block:
        """Return the points themselves."""
        return points


@dataclass(frozen=True)
class Span:
    """Points are coefficients of rows. ``rows`` is (n, d), ``gram`` (n, n) their inner products."""

    rows: Floats
    gram: Floats

    @property
    def shape(self) -> tuple[int, int]:
        """``(n, n)``."""
        n = len(self.gram)
        return n, n

    @property
    def near(self) -> float:
        """Looked at earlier, products would cost more than the steps that are saved."""
        return 4.0

    def pull(self, residuals: Block) -> Block:
        """Return the residuals themselves, which are coefficients."""
        return residuals

    def image(self, points: Block) -> Block:
        """Coefficients times the Gram matrix."""
        return _times(points, self.gram)

    def dual(self, points: Block, images: Block) -> Block:
        """Return the images: the inner product of coefficients is over the Gram matrix."""
        return images

    def weights(self, points: Block) -> Block:
        """Rows weighted by their coefficients, summed."""
        return _times(points, self.rows)


def _times(block: Block, matrix: Floats) -> Block:
    """One matrix product for all models of a block."""
    j, k, inner = block.shape
    return np.asarray(block.reshape(j * k, inner) @ matrix).reshape(j, k, -1)
