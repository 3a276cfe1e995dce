"""Losses of linear models, many models at once: how hard each value of each row is pulled."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Block: TypeAlias = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Loss:
    """Weighted mean over ``n`` rows of a convex loss, for ``j`` models of ``k`` columns.

    Attributes
    ----------
    derivative
        Of the loss of a row by its values, from values and targets, all (j, k, n).
    targets
        ``(j, k, n)``.
    weights
        ``(j, 1, n)``: of the rows; those of a model sum to 1.
    curvature
        About how much the derivative changes with a value.
    """

    derivative: Callable[[Block, Block], Block]
    targets: Block
    weights: Block
    curvature: float

    def residuals(self, values: Block) -> Block:
        """Take the derivative of the weighted mean by the values, (j, k, n)."""
        pulled = self.derivative(values, self.targets)
        pulled *= self.weights
        return pulled

    def only(self, models: NDArray[np.bool_]) -> Loss:
        """Keep some of the models."""
        return Loss(self.derivative, self.targets[models], self.weights[models], self.curvature)


def multinomial(values: Block, targets: Block) -> Block:
    """Cross-entropy of the softmax over the columns; targets are 0 and 1."""
    odds: Block = np.exp(values - values.max(axis=1, keepdims=True))
    odds /= odds.sum(axis=1, keepdims=True)
    odds -= targets
    return odds


def binomial(values: Block, targets: Block) -> Block:
    """Cross-entropy of the logistic function of a single column; targets are 0 and 1."""
    # By the tangent, since the exponential could overflow.
    probabilities: Block = np.tanh(0.5 * values)
    probabilities *= 0.5
    probabilities += 0.5 - targets
    return probabilities


def squared_hinge(values: Block, targets: Block) -> Block:
    """Square of what a single column lacks to a margin of 1; targets are -1 and 1."""
    lack: Block = np.maximum(0, 1 - targets * values)
    lack *= -2 * targets
    return lack
