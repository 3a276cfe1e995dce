"""When to stop training, and on which rows to look."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from pipeline.heads.base import Labels
from pipeline.heads.fitted import MlpHead


class EarlyStopping:
    """Keeps the best weights, and ends after ``patience`` epochs without a better loss.

    Attributes
    ----------
    best
        Weights of the epoch with the lowest loss; None as long as there was no loss.
    epochs
        Epochs seen.
    ended
        Whether it ended the training.
    """

    def __init__(self, patience: int | None) -> None:
        self.patience = patience
        self.best: MlpHead | None = None
        self.epochs = 0
        self.ended = False
        self._lowest = math.inf
        self._waited = 0

    def ends(self, weights: Callable[[], MlpHead], loss: float | None) -> bool:
        """Take the loss of one more epoch; True where training shall end.

        A loss that is not finite ends it at once. Without a loss the training goes on.

        Parameters
        ----------
        weights
            Copies the weights as they are; called where they are the best so far.
        loss
            Of the rows kept for early stopping; None where there are none.
        """
        self.epochs += 1
        if loss is None:
            return False
        if self.best is None or loss < self._lowest:
            self.best, self._lowest, self._waited = weights(), loss, 0
        else:
            self._waited += 1
        patient = self.patience is None or self._waited < self.patience
        self.ended = not patient or not math.isfinite(loss)
        return self.ended


def stopping_rows(
    labels: Labels, groups: Labels | None, fraction: float, rng: np.random.Generator
) -> NDArray[np.bool_]:
    """Choose rows for early stopping: about ``fraction`` of the groups of each class.

    A group counts for the class of its first row and is chosen whole. A class with one group gives
    none, one with more gives at least one.

    Parameters
    ----------
    labels, groups
        ``(n,)`` integers; without groups every row is its own.
    fraction
        Between 0 and 1.
    rng
        Source of the choice.

    Returns
    -------
    ndarray
        ``(n,)`` bool, True for the rows to be kept from training.
    """
    ids = np.arange(len(labels)) if groups is None else groups
    _, first, group_of_row = np.unique(ids, return_index=True, return_inverse=True)
    chosen = np.zeros(len(first), dtype=bool)
    for label in np.unique(labels):
        own = np.flatnonzero(labels[first] == label)
        count = max(1, round(fraction * len(own))) if len(own) > 1 else 0
        chosen[rng.permutation(own)[:count]] = True
    return np.asarray(chosen[group_of_row])
