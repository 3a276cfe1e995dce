"""Rows scored by many heads at once, from shared products."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.heads.base import Features, FittedHead, check_rows
from pipeline.heads.fitted import CELLS, LinearHead, NeighboursHead, neighbour_logits
from pipeline.heads.kernel import KernelHead, kernel_logits


def logits_all(heads: Sequence[FittedHead], features: Features) -> Iterator[NDArray[np.float32]]:
    """Score rows by every head: within rounding what each alone gives.

    Heads of one fit that follow each other share the work: the weights of linear heads are one
    product, neighbours of all k one list, kernel heads one product of rows.

    Parameters
    ----------
    heads
        Fitted on rows of the same length.
    features
        ``(n, dims)``, any float dtype.

    Yields
    ------
    ndarray
        ``(n, n_classes)`` float32, one a head, in their order.
    """
    for _, own in groupby(heads, _shared):
        yield from _together(list(own), features)


def _shared(head: FittedHead) -> Hashable:
    """Equal for heads that have work in common."""
    if isinstance(head, NeighboursHead):
        return head.kind, id(head.rows)
    if isinstance(head, KernelHead):
        return head.kind, id(head.pool)
    return head.kind


def _together(heads: list[Any], features: Features) -> Iterable[NDArray[np.float32]]:
    if isinstance(heads[0], NeighboursHead):
        return neighbour_logits(heads, features)
    if isinstance(heads[0], KernelHead):
        return kernel_logits(heads, features)
    if isinstance(heads[0], LinearHead):
        return _linear(heads, features)
    return (head.logits(features) for head in heads)


def _linear(heads: list[LinearHead], features: Features) -> Iterator[NDArray[np.float32]]:
    """One product for as many heads as ``CELLS`` allows."""
    rows = check_rows(features, heads[0].dims)
    c = heads[0].n_classes
    step = max(1, CELLS // max(1, len(rows) * c))
    for start in range(0, len(heads), step):
        some = heads[start : start + step]
        logits = rows @ np.concatenate([head.weight for head in some], axis=1)
        for i, head in enumerate(some):
            yield logits[:, i * c : (i + 1) * c] + head.bias
