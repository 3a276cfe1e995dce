"""From logits to probabilities."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.floating[Any]]
Labels: TypeAlias = NDArray[np.integer[Any]]


def log_softmax(logits: Floats) -> NDArray[np.float64]:
    """Logarithm of the softmax along the last axis, in float64."""
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)))


def mean_logits(logits: Floats) -> NDArray[np.float64]:
    """Logits whose softmax is the mean of several softmaxes: ``(c)`` per row of ``(views, n, c)``.

    Logarithms of the mean probabilities, in float64 ``(n, c)``.
    """
    logs = log_softmax(logits)
    most = logs.max(axis=0)
    return np.asarray(most + np.log(np.exp(logs - most).mean(axis=0)))


def softmax(logits: Floats, temperature: float = 1.0) -> NDArray[np.float64]:
    """Softmax of ``logits / temperature`` along the last axis, in float64."""
    return np.exp(log_softmax(logits.astype(np.float64) / temperature))
