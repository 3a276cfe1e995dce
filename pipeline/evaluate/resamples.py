"""Resamples of rows, drawn by group."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluate.metrics import METRICS, Weights
from pipeline.evaluate.softmax import Labels

RESAMPLES = 1000
FEWEST_RESAMPLES = 200
WORK = 10**9
"""Rows times classes times resamples above which ROC AUC is resampled less often: some seconds."""
BLOCK = 2**20
"""Weights held at once, 8 MiB: more would leave the cache."""


def resamples_for(metric: str, cells: int) -> int:
    """How often to resample ``cells`` rows times classes: 1000 times, ROC AUC down to 200."""
    if not METRICS[metric].by_class:
        return RESAMPLES
    return max(FEWEST_RESAMPLES, min(RESAMPLES, WORK // max(cells, 1)))


def drawn_rows(count: int, n: int, groups: Labels | None, seed: int) -> Iterator[Weights]:
    """Draw groups with replacement, as many as there are, ``count`` times.

    Parameters
    ----------
    count
        Resamples in all.
    n
        Rows.
    groups
        ``(n,)`` integers: rows that are drawn together; None where every row is its own.
    seed
        Of the draws: the same one draws the same groups.

    Yields
    ------
    ndarray
        ``(n, b)``, how often each row is in each of the next ``b`` resamples.
    """
    of_row = None if groups is None else np.unique(groups, return_inverse=True)[1]
    units = n if of_row is None else int(of_row.max()) + 1
    rng = np.random.default_rng(seed)
    block = max(1, BLOCK // n)
    for first in range(0, count, block):
        drawn = _drawn(min(block, count - first), units, rng)
        yield np.ascontiguousarray(drawn.T if of_row is None else drawn.T[of_row], dtype=np.float64)


def _drawn(count: int, units: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """How often each unit is in each resample, (count, units)."""
    each = (rng.integers(units, size=units) for _ in range(count))
    return np.stack([np.bincount(drawn, minlength=units) for drawn in each])
