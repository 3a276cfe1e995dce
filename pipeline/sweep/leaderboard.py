"""What a sweep takes and what it leaves: dataclasses that reports read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluate import Interval, NestedScore
from pipeline.heads.base import Features, FittedHead, HeadSpec, Labels
from pipeline.heads.container import MAX_HEAD
from pipeline.heads.registry import default_specs
from pipeline.sweep.judgement import Judgement
from pipeline.sweep.kept import Rows
from pipeline.sweep.views import Views

ROLES = ("train", "val", "test")


@dataclass(frozen=True)
class SweepData:
    """Rows to sweep over.

    Attributes
    ----------
    features
        ``(n, d)``, any float dtype; may be a read-only map.
    labels
        ``(n,)`` integers, positions in ``classes``.
    classes
        Names, in the order of the logits' columns.
    groups
        ``(n,)`` integers or None: rows that no fold divides.
    roles
        ``(n,)`` of ``"train"``, ``"val"``, ``"test"``; None: all train. Rows for test are scored
        once, by the best head; rows for val replace the folds.
    alike
        ``(n,)`` integers or None: equal for pictures that are alike, divided by folds or not.
    rows_named
        What names the rows for good, so that finished fits can be found again; None keeps none.
    views
        Augmented views of the rows, to fit on besides; None where there are none.
    """

    features: Features
    labels: Labels
    classes: tuple[str, ...]
    groups: Labels | None = None
    roles: Sequence[str] | NDArray[np.str_] | None = None
    alike: Labels | None = None
    rows_named: Rows | None = None
    views: Views | None = None

    def __post_init__(self) -> None:
        n = len(self.features)
        parts = {
            "labels": self.labels,
            "groups": self.groups,
            "roles": self.roles,
            "alike": self.alike,
        }
        for name, part in parts.items():
            if part is not None and len(part) != n:
                raise ValueError(f"{name} has {len(part)} entries for {n} rows of features")

    def rows(self, role: str) -> NDArray[np.int64]:
        """Ascending positions of the rows that have this role."""
        if self.roles is None:
            return np.arange(len(self.labels) if role == "train" else 0)
        return np.flatnonzero(np.asarray(self.roles) == role)

    def groups_at(self, rows: NDArray[np.int64]) -> Labels | None:
        """Select the groups of some rows; None without groups."""
        return None if self.groups is None else self.groups[rows]


@dataclass(frozen=True)
class SweepConfig:
    """What to sweep, and by which score.

    Attributes
    ----------
    metric
        Name in :data:`pipeline.evaluate.METRICS`.
    folds
        Number of folds; unused where there are val rows.
    seed
        Of folds, starts, orders and dropout.
    specs
        The heads.
    repeats
        How often the folds are drawn.
    nested
        Whether the choice of the best head is scored by cross-validation around it.
    calibrate
        Whether every head gets a temperature, and not those alone that are not trained to give
        probabilities. Their scores in training stay without.
    largest
        Bytes of tensors above which a head is left out, since no head file could hold it.
    """

    metric: str = "accuracy"
    folds: int = 5
    seed: int = 0
    specs: tuple[HeadSpec, ...] = field(default_factory=default_specs)
    repeats: int = 1
    nested: bool = False
    calibrate: bool = False
    largest: int = MAX_HEAD


@dataclass(frozen=True)
class Entry:
    """One line of the leaderboard.

    Attributes
    ----------
    score, std
        Mean over folds and sample deviation; with val rows their score, and None.
    train_score
        Mean over folds of the score on the rows trained on.
    parameters, bytes
        Floating-point numbers the head keeps once it is fitted for use, and bytes of its tensors;
        at most those, for kernel heads, whose support is known after the fit.
    seconds
        Spent in fitting, all folds together; heads fitted together have equal shares.
    fold_scores
        One a fold; None where the metric is not defined on that fold.
    iterations
        Largest number of solver iterations or epochs over the folds.
    converged
        Whether every fit met its tolerance, or was ended by early stopping, before its limit.
    temperature
        What divides the logits to make probabilities; 1 for heads that are trained to give them,
        unless all are calibrated.
    tied
        Whether noise alone may explain the difference to the best; True for the best.
    """

    spec: HeadSpec
    score: float
    std: float | None
    train_score: float
    parameters: int
    bytes: int
    seconds: float
    fold_scores: tuple[float | None, ...]
    iterations: int
    converged: bool
    temperature: float
    tied: bool

    def plain(self) -> dict[str, Any]:
        """Turn the entry into JSON values, as ``leaderboard.json`` has it."""
        return {
            "head": self.spec.head,
            "settings": self.spec.plain(),
            "score": self.score,
            "std": self.std,
            "train_score": self.train_score,
            "parameters": self.parameters,
            "bytes": self.bytes,
            "seconds": self.seconds,
            "tied": self.tied,
            "fold_scores": list(self.fold_scores),
            "iterations": self.iterations,
            "converged": self.converged,
            "temperature": self.temperature,
        }


@dataclass(frozen=True)
class Holdout:
    """The one look at the test rows, by the best head."""

    score: float | None
    n: int
    metric: str


@dataclass(frozen=True)
class CurvePoint:
    """Score of a head that was fitted on some of the rows.

    Attributes
    ----------
    rows
        Fitted on, the mean over folds.
    score, interval
        Of all rows scored, together, and its 90 % interval; NaN and None where there is none.
    """

    rows: int
    score: float
    interval: Interval | None


@dataclass(frozen=True)
class SweepResult:
    """What a sweep leaves.

    Attributes
    ----------
    metric, seed
        As configured.
    leaderboard
        Best first; equal scores by fewer parameters, then by name.
    judgement
        How far the board can be trusted, and what its best head does wrong.
    curve
        The recommended head, fitted on more and more rows.
    nested
        Score of the whole procedure, choice included; None where it was not asked for.
    random
        Score of random numbers in place of features.
    best
        The first entry's head, fitted again on every row that is not for test.
    holdout
        Its score on the test rows; None where there are none.
    trained_on
        Rows the best head was fitted on.
    folds
        Folds scored; 1 where val rows took their place.
    scheme
        ``"folds"`` or ``"val"``.
    fits, fits_reused
        Fits of heads on folds, and how many of them an earlier sweep had kept.
    """

    metric: str
    seed: int
    leaderboard: tuple[Entry, ...]
    judgement: Judgement
    curve: tuple[CurvePoint, ...]
    nested: NestedScore | None
    random: float | None
    best: FittedHead
    holdout: Holdout | None
    trained_on: int
    folds: int
    scheme: str
    fits: int
    fits_reused: int

    @property
    def temperature(self) -> float:
        """What divides the best head's logits to make probabilities."""
        return self.leaderboard[0].temperature
