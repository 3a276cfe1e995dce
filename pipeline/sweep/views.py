"""Augmented views of a sweep's images: fitted on beside the plain rows, averaged where asked for.

Folds, holdout and learning curves divide images. Only then are the rows that are fitted on
continued by the views of the same images, so no view can come to another side than its image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluate import mean_logits
from pipeline.heads.base import Features, FittedHead
from pipeline.heads.rows import FoldRows

if TYPE_CHECKING:
    from pipeline.sweep.leaderboard import SweepData

Read: TypeAlias = Callable[[NDArray[np.int64], int], Features]


@dataclass(frozen=True)
class Views:
    """The augmented views of the rows of a sweep.

    Attributes
    ----------
    name
        What names their features for good, such as the digest of their recipe.
    count
        How many each image has beside its plain row; numbered from 1.
    read
        Given positions of rows, ``(m,)``, and a view's number, returns ``(m, d)``. From a cache,
        so that no more of them is in memory than a fold needs.
    averaged
        Whether images are scored by the mean of the probabilities that all their rows are given
        (test-time augmentation, as Krizhevsky, Sutskever and Hinton, NeurIPS 2012, section 4.1,
        average ten views), and not by the plain row.
    """

    name: str
    count: int
    read: Read
    averaged: bool = False

    @property
    def told(self) -> str:
        """What a fit with these views depends on besides its images."""
        return f"{self.name} {self.count} {'averaged' if self.averaged else 'plain'}"


def fold_rows(data: SweepData, at: NDArray[np.int64]) -> FoldRows:
    """Take the rows to fit on that lie at these positions, with their views.

    An image's views are of its group, and of a group of their own with it where there are none. The
    rows that a fit keeps for early stopping are plain ones.
    """
    classes, groups = len(data.classes), data.groups_at(at)
    if data.views is None:
        rows = np.asarray(data.features[at], dtype=np.float32)
        return FoldRows(rows, data.labels[at], classes, groups)
    times = data.views.count + 1
    alone = np.arange(len(at)) if groups is None else groups
    return FoldRows(
        _stacked(data, at, times),
        np.tile(data.labels[at], times),
        classes,
        np.tile(alone, times),
        plain=np.arange(len(at) * times) < len(at),
    )


def scored_rows(data: SweepData, at: NDArray[np.int64]) -> NDArray[np.float32]:
    """Take the rows by which images are scored; `of_images` turns their logits into the images'."""
    if data.views is None or not data.views.averaged:
        return np.asarray(data.features[at], np.float32)
    return _stacked(data, at, data.views.count + 1)


def of_images(
    logits: Iterator[NDArray[np.float32]], data: SweepData
) -> Iterator[NDArray[np.float32]]:
    """Bring the logits of `scored_rows` together, an image's: ``(n, c)`` each."""
    if data.views is None or not data.views.averaged:
        yield from logits
        return
    for each in logits:
        parts = each.reshape(data.views.count + 1, -1, each.shape[1])
        yield mean_logits(parts).astype(np.float32)


def image_logits(head: FittedHead, data: SweepData, at: NDArray[np.int64]) -> NDArray[np.float32]:
    """Score the images at these positions by one head: float32 ``(n, c)``."""
    return next(of_images(iter((head.logits(scored_rows(data, at)),)), data))


def _stacked(data: SweepData, at: NDArray[np.int64], times: int) -> NDArray[np.float32]:
    """Put the plain rows, then those of each view, into one array."""
    assert data.views is not None
    out = np.empty((times * len(at), data.features.shape[1]), np.float32)
    out[: len(at)] = data.features[at]
    for view in range(1, times):
        out[view * len(at) : (view + 1) * len(at)] = data.views.read(at, view)
    return out
