"""What one step of an MLP's training does beside its products of matrices, compiled by numba.

The one module of heads that imports numba, so nothing but `mlp_compiled` may import it. Importing
it compiles, or reads what an earlier process compiled from numba's cache. Each kernel passes once
over its arrays, changes them in place, and lets other threads run meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable

import numba
import numpy as np
from numpy.typing import NDArray

Block = NDArray[np.float32]

BETA_1, BETA_2, EPSILON = np.float32(0.9), np.float32(0.999), np.float32(1e-7)
"""Of Adam, as in Keras."""

_REST_1, _REST_2 = np.float32(1 - 0.9), np.float32(1 - 0.999)


Decorator = Callable[[Callable[..., None]], Callable[..., None]]


def _compiled(signature: str) -> Decorator:
    # Python's rule that a division by zero raises would keep the loops from becoming vectors.
    compiled: Decorator = numba.njit(
        signature, nogil=True, cache=True, error_model="numpy", fastmath={"contract"}
    )
    return compiled


@_compiled("void(float32[:, ::1], float32[::1], float32[:, ::1], float32, float32)")
def activate(block: Block, bias: Block, noise: Block, rate: np.float32, scale: np.float32) -> None:
    """Add the bias, cut off below zero, and drop out.

    Parameters
    ----------
    block
        float32 ``(n, units)``: products, and then outputs.
    bias
        float32 ``(units,)``.
    noise
        float32 ``(n, units)`` in [0, 1): what is below the rate is dropped.
    rate, scale
        Of dropout, and what is left is multiplied by.
    """
    for i in range(block.shape[0]):
        for j in range(block.shape[1]):
            value = block[i, j] + bias[j]
            kept = value > 0 and noise[i, j] >= rate
            block[i, j] = value * scale if kept else np.float32(0)


@_compiled("void(float32[:, ::1], float32[:, ::1], float32)")
def pass_back(slopes: Block, outputs: Block, scale: np.float32) -> None:
    """Turn slopes in the outputs of `activate` into those in its products; both (n, units)."""
    for i in range(slopes.shape[0]):
        for j in range(slopes.shape[1]):
            slopes[i, j] = slopes[i, j] * scale if outputs[i, j] > 0 else np.float32(0)


@_compiled("void(float32[:, ::1], float32[::1], int64[::1], float32[::1], float32, float32)")
def cross_entropy_slopes(
    logits: Block,
    bias: Block,
    labels: NDArray[np.int64],
    weights: Block,
    on: np.float32,
    off: np.float32,
) -> None:
    """Replace logits by the slopes of the batch's mean cross-entropy in them.

    Parameters
    ----------
    logits
        float32 ``(n, classes)``, without the bias.
    bias
        float32 ``(classes,)``.
    labels
        int64 ``(n,)``.
    weights
        float32 ``(classes,)``: what a row of each class counts.
    on, off
        Target of a row's own class, and of each other.
    """
    n = np.float32(logits.shape[0])
    for i in range(logits.shape[0]):
        row = logits[i]
        top = np.float32(-np.inf)
        for j in range(row.size):
            row[j] += bias[j]
            top = max(top, row[j])
        total = np.float32(0)
        for j in range(row.size):
            row[j] = np.exp(row[j] - top)
            total += row[j]
        importance = weights[labels[i]] / n
        for j in range(row.size):
            target = on if j == labels[i] else off
            row[j] = (row[j] / total - target) * importance


@_compiled(
    "void(float32[::1], float32[::1], float32[::1], float32[::1], float32, float32, float32)"
)
def adam(
    values: Block,
    first: Block,
    second: Block,
    gradients: Block,
    rate: np.float32,
    decay: np.float32,
    penalty: np.float32,
) -> None:
    """Update by Kingma and Ba (2015), with decay by Loshchilov and Hutter (2019).

    Parameters
    ----------
    values, first, second, gradients
        float32 ``(n,)``: weights, their moments, and the slopes of the loss in them.
    rate
        Learning rate of this step, corrected for the moments' start at zero.
    decay
        Share of the weights that is taken off before the step.
    penalty
        What multiplies the weights before they are added to the gradients: twice that of L2.
    """
    for i in range(values.size):
        slope = gradients[i] + penalty * values[i]
        mean = first[i] + (slope - first[i]) * _REST_1
        square = second[i] + (slope * slope - second[i]) * _REST_2
        first[i] = mean
        second[i] = square
        values[i] -= decay * values[i] + rate * mean / (np.sqrt(square) + EPSILON)
