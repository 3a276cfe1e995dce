"""What every head is: a specification, a trainer, and a fitted head made of plain tensors."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluate import Floats, Labels, log_softmax, softmax
from pipeline.heads.size import HeadSize

if TYPE_CHECKING:
    from pipeline.heads.rows import FoldRows

Features: TypeAlias = NDArray[np.floating[Any]]
Tensors: TypeAlias = dict[str, NDArray[Any]]

__all__ = [
    "UNSEEN",
    "Features",
    "Fitted",
    "FittedHead",
    "Floats",
    "HeadSpec",
    "Labels",
    "Tensors",
    "Trainer",
    "check_rows",
    "fit_one",
    "log_softmax",
    "softmax",
]

UNSEEN = -1e4
"""Logit of a class that had no training row: finite, and no probability is left for it."""


@dataclass(frozen=True)
class HeadSpec:
    """One head at one setting: a line of the leaderboard before it is trained.

    Attributes
    ----------
    head
        Name in the registry, such as ``"logistic"``.
    settings
        What is passed to the trainer; plain JSON values, sequences as tuples.
    """

    head: str
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Head and settings as one line, the same on every run: ``logistic C=0.1``."""
        told = (f"{key}={_short(value)}" for key, value in sorted(self.settings.items()))
        return " ".join((self.head, *told))

    def plain(self) -> dict[str, Any]:
        """Turn the settings into JSON values; a ValueError where a number is not finite."""
        plain: dict[str, Any] = json.loads(json.dumps(dict(self.settings), allow_nan=False))
        return plain


def _short(value: object) -> str:
    return "+".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


class FittedHead(Protocol):
    """A trained head: tensors and NumPy arithmetic, without scikit-learn or Keras."""

    @property
    def kind(self) -> str:
        """Which arithmetic the tensors are for, such as ``linear`` or ``kernel``."""

    @property
    def dims(self) -> int:
        """Length of a feature row."""

    @property
    def n_classes(self) -> int:
        """Columns of the logits."""

    def logits(self, features: Features) -> NDArray[np.float32]:
        """Score rows.

        Parameters
        ----------
        features
            ``(n, dims)``, any float dtype.

        Returns
        -------
        ndarray
            ``(n, n_classes)`` float32; the largest of a row is the predicted class.

        Raises
        ------
        ValueError
            Where the rows do not have ``dims`` columns.
        """

    def tensors(self) -> Tensors:
        """Everything the head is, by name; :func:`pipeline.heads.restore` is the way back."""


@dataclass(frozen=True)
class Fitted:
    """What a fit leaves.

    Attributes
    ----------
    head
        The trained head.
    iterations
        Solver iterations, or epochs trained; 0 where there is nothing iterative.
    converged
        False where the solver stopped at its limit before it met its tolerance. An MLP that early
        stopping ended has converged, one that used all of its epochs has not.
    """

    head: FittedHead
    iterations: int = 0
    converged: bool = True


class Trainer(Protocol):
    """One head at one setting. All settings of a head are fitted together, from shared work."""

    @property
    def probabilistic(self) -> bool:
        """Whether the softmax of the logits is a probability by training (temperature 1)."""

    def head_size(self, rows: int, dims: int, n_classes: int) -> HeadSize:
        """Size of a head fitted on so many rows, known before the fit (of ``svc``, at most)."""

    @classmethod
    def fit_all(
        cls, trainers: Sequence[Self], rows: FoldRows, seeds: Sequence[int]
    ) -> Iterator[Fitted]:
        """Fit every setting on all rows; scaling included, which is then part of the tensors.

        Parameters
        ----------
        trainers
            Settings of this head, in any order.
        rows
            To fit on; not changed, but for what it remembers of shared work.
        seeds
            One a trainer, of every random choice. The same seed gives the same tensors on one
            machine, within rounding whichever others are fitted beside it.

        Yields
        ------
        Fitted
            One a trainer, in their order, as they are finished.
        """


def fit_one(trainer: Trainer, rows: FoldRows, seed: int) -> Fitted:
    """Fit one head alone; see :meth:`Trainer.fit_all`."""
    return next(iter(type(trainer).fit_all([trainer], rows, [seed])))


def check_rows(features: Features, dims: int) -> NDArray[np.float32]:
    """Rows as float32, or a ValueError that says how long they should be."""
    if features.ndim != 2 or features.shape[1] != dims:
        raise ValueError(f"this head takes rows of {dims} features, got shape {features.shape}")
    return np.asarray(features, dtype=np.float32)
