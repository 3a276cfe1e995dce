"""Vectors that L-BFGS remembers, and directions as combinations of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.heads.losses import Block

MEMORY = 8
"""Steps remembered, and the changes of the gradient that they made."""
GRADIENT = 2 * MEMORY
SLOTS = 2 * MEMORY + 1


@dataclass(frozen=True)
class Vectors:
    """Some vectors, ``s``, for each of ``j`` models of ``k`` columns.

    The first ``MEMORY`` of a basis are steps, the next as many changes of the gradient, the last is
    the gradient.

    Attributes
    ----------
    at
        ``(j, s, k * p)``: the numbers of a point.
    image
        ``(j, s, k * n)``: the values that the point gives the rows.
    bias
        ``(j, s, k)``.
    """

    at: Block
    image: Block
    bias: Block

    @classmethod
    def zeros(cls, j: int, s: int, widths: tuple[int, int, int], dtype: np.dtype[Any]) -> Vectors:
        """Vectors of nothing, of the widths given."""
        at, image, bias = (np.zeros((j, s, width), dtype) for width in widths)
        return cls(at, image, bias)

    def only(self, models: NDArray[np.bool_]) -> Vectors:
        """Keep some of the models."""
        return Vectors(self.at[models], self.image[models], self.bias[models])

    def slot(self, s: int) -> Vectors:
        """Look at one vector a model."""
        part = slice(s, s + 1)
        return Vectors(self.at[:, part], self.image[:, part], self.bias[:, part])

    def put(self, s: int, one: Vectors) -> None:
        """Write one vector a model into a slot."""
        place = self.slot(s)
        place.at[:], place.image[:], place.bias[:] = one.at, one.image, one.bias

    def plus(self, other: Vectors) -> Vectors:
        """Sum of vectors."""
        return Vectors(self.at + other.at, self.image + other.image, self.bias + other.bias)

    def minus(self, other: Vectors) -> Vectors:
        """Difference of vectors."""
        return Vectors(self.at - other.at, self.image - other.image, self.bias - other.bias)

    def times(self, lengths: Block) -> Vectors:
        """Each model's vectors by its length (j,)."""
        t = lengths[:, None, None]
        return Vectors(t * self.at, t * self.image, t * self.bias)

    def combined(self, shares: NDArray[np.float64]) -> Vectors:
        """One vector a model, the sum by shares (j, s)."""
        mix = shares[:, None].astype(self.at.dtype)
        return Vectors(mix @ self.at, mix @ self.image, mix @ self.bias)


def direction(
    products: NDArray[np.float64], steps: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Direction of L-BFGS after so many steps, from inner products of the basis alone.

    Parameters
    ----------
    products
        ``(j, s, s)``.
    steps
        Taken so far; the last ``MEMORY`` of them are in the basis, each at its number modulo that.

    Returns
    -------
    shares, slopes
        ``(j, s)`` of the basis, and ``(j,)`` inner products with the gradient, below 0.
    """
    downhill = np.zeros(products.shape[:2])
    downhill[:, GRADIENT] = -1
    slots = [i % MEMORY for i in range(max(0, steps - MEMORY), steps)]
    shares = _two_loops(products, slots, downhill) if slots else downhill.copy()
    slopes = np.einsum("js,js->j", shares, products[:, GRADIENT])
    lost = ~(slopes < 0)  # by rounding, where hardly a gradient is left
    shares[lost] = downhill[lost]
    length = np.sqrt(np.maximum(products[:, GRADIENT, GRADIENT], 1e-300))
    if not slots:
        shares /= np.maximum(1, length)[:, None]
    return shares, np.einsum("js,js->j", shares, products[:, GRADIENT])


def _two_loops(
    products: NDArray[np.float64], slots: list[int], downhill: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Apply the inverse Hessian of steps and changes; pairs of no curvature are void."""
    shares, passed = downhill.copy(), {}
    bends = {s: _inverse(products[:, s, MEMORY + s]) for s in slots}
    for s in reversed(slots):
        passed[s] = np.einsum("js,js->j", shares, products[:, s]) * bends[s]
        shares[:, MEMORY + s] -= passed[s]
    last = slots[-1]
    scale = products[:, last, MEMORY + last] * _inverse(products[:, MEMORY + last, MEMORY + last])
    shares *= np.where(scale > 0, scale, 1)[:, None]
    for s in slots:
        back = np.einsum("js,js->j", shares, products[:, MEMORY + s]) * bends[s]
        shares[:, s] += passed[s] - back
    return shares


def _inverse(curvature: NDArray[np.float64]) -> NDArray[np.float64]:
    """One over it where it is above nil, else 0."""
    return np.where(curvature > 1e-300, 1 / np.maximum(curvature, 1e-300), 0)
