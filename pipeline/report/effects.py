"""What a board says about one setting: heads that differ in it alone, compared fold by fold."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from pipeline.evaluate import METRICS, corrected_error
from pipeline.heads import HeadSpec
from pipeline.heads.registry import settings_of
from pipeline.sweep import Entry

LEVEL = 0.95

NETWORK = "mlp"

WITHOUT: dict[str, Any] = {
    "pooling": "flatten",
    "dropout": 0.0,
    "patience": None,
    "l2": 0.0,
    "weight_decay": 0.0,
    "label_smoothing": 0.0,
}
"""What each piece of advice is measured against: a network that does without it."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """A head on a board, as the answer reads it.

    Attributes
    ----------
    spec
        Head and settings.
    score, train_score
        Mean over the folds, on the images scored and on those trained on.
    fold_scores
        In the order of the folds; of a head tried on the first alone, one. None where the metric
        is not defined on that fold.
    parameters
        Numbers the head keeps.
    pooling
        Of the features it was trained on.
    interval
        Of the score, where one is known.
    """

    spec: HeadSpec
    score: float
    train_score: float
    fold_scores: tuple[float | None, ...]
    parameters: int
    pooling: str = "avg"
    interval: tuple[float, float] | None = None

    @classmethod
    def of(cls, entry: Entry, pooling: str) -> Line:
        """Take what matters here from a leaderboard's entry."""
        return cls(
            spec=entry.spec,
            score=entry.score,
            train_score=entry.train_score,
            fold_scores=entry.fold_scores,
            parameters=entry.parameters,
            pooling=pooling,
        )

    @property
    def settings(self) -> dict[str, Any]:
        """Every setting with its value, defaults and the pooling included."""
        own = {**self.spec.settings, "pooling": self.pooling}
        return WITHOUT | settings_of(self.spec.head) | own


Pair: TypeAlias = tuple[Line, Line]
"""A head, and another that it is compared with."""


@dataclass(frozen=True, kw_only=True)
class Board:
    """A sweep that is done.

    Attributes
    ----------
    lines
        The heads, in any order.
    metric
        Name in :data:`pipeline.evaluate.METRICS`.
    rows
        Images in the folds, or trained on where val rows take their place.
    scored
        Images that a fold scores, about.
    batch
        Images at once in training, for which steps are counted.
    backbone, backbone_bytes
        Name of the network below the heads, and bytes of its weight file; None where it has none.
    """

    lines: tuple[Line, ...]
    metric: str
    rows: int
    scored: int
    batch: int
    backbone: str
    backbone_bytes: int | None


@dataclass(frozen=True)
class Gain:
    """By how much one head is better than another; below zero where it is worse.

    Attributes
    ----------
    mean
        Over folds, and over pairs of heads where there are several.
    low, high
        Its 95 % interval; None where it cannot be known.
    pairs, folds
        Pairs of heads, and folds of each, that it is the mean of.
    """

    mean: float
    low: float | None
    high: float | None
    pairs: int
    folds: int

    @property
    def told_apart(self) -> bool:
        """Whether chance alone is no likely reason for the difference."""
        return self.low is not None and self.high is not None and not self.low <= 0 <= self.high


@dataclass(frozen=True)
class Effect:
    """What one value of a setting does, instead of another, with all else equal."""

    setting: str
    value: Any
    instead_of: Any
    gain: Gain


def gain(pairs: Sequence[Pair], board: Board) -> Gain | None:
    """Compare the first heads of the pairs with the second ones on the folds that all share.

    With several folds, by the corrected resampled t-test, whose variance allows for what the
    training parts of folds have in common (:func:`pipeline.evaluate.corrected_error`). With one
    fold and accuracy as the metric, by the interval of Agresti and Caffo (The American Statistician
    54 (2000)) for two proportions, as if they were of different images: rather too wide. Pairs on
    fewer folds than the others are left out.

    Parameters
    ----------
    pairs
        At least one.
    board
        Where they are from.

    Returns
    -------
    Gain or None
        None where no fold is shared.
    """
    shared = [_shared(pair) for pair in pairs]
    most = max(len(folds) for folds in shared)
    if not most:
        return None
    # (pairs, 2, folds)
    scores = np.array([list(zip(*folds, strict=True)) for folds in shared if len(folds) == most])
    first, second = scores.mean(axis=0)
    sign = 1 if METRICS[board.metric].greater_is_better else -1
    each = sign * (first - second)
    mean = float(each.mean())
    if most > 1:
        half = _t_half_width(each, board)
        return Gain(mean, mean - half, mean + half, len(scores), most)
    if board.metric != "accuracy":
        return Gain(mean, None, None, len(scores), most)
    low, high = _proportions(float(first[0]), float(second[0]), board.scored)
    return Gain(mean, low, high, len(scores), most)


def _shared(pair: Pair) -> list[tuple[float, float]]:
    """List the scores of both on the folds where both have one."""
    both = zip(pair[0].fold_scores, pair[1].fold_scores, strict=False)
    return [(a, b) for a, b in both if a is not None and b is not None]


def _t_half_width(differences: Any, board: Board) -> float:
    from scipy.stats import t

    count = len(differences)
    error = corrected_error(differences, board.scored / max(1, board.rows - board.scored))
    return float(t.ppf((1 + LEVEL) / 2, count - 1)) * error


def _proportions(first: float, second: float, n: int) -> tuple[float, float]:
    """Interval of a difference: one right and one wrong are added to each of the two."""
    from scipy.stats import norm

    a, b = ((p * n + 1) / (n + 2) for p in (first, second))
    half = float(norm.ppf((1 + LEVEL) / 2)) * math.sqrt((a * (1 - a) + b * (1 - b)) / (n + 2))
    return a - b - half, a - b + half


def effects(board: Board) -> tuple[Effect, ...]:
    """Measure what each setting of the networks does, over all pairs that differ in it alone.

    Sizes are compared with the largest network, other settings with doing without them.
    """
    networks = [line for line in board.lines if line.spec.head == NETWORK]
    if not networks:
        return ()
    largest = max(networks, key=lambda line: line.parameters)
    references = {"hidden": tuple(largest.settings["hidden"])} | WITHOUT
    return tuple(
        effect
        for setting, reference in references.items()
        for effect in _effects(setting, reference, networks, board)
    )


def _effects(
    setting: str, reference: Any, networks: Sequence[Line], board: Board
) -> Iterator[Effect]:
    without = {
        _rest(line, setting): line for line in networks if line.settings[setting] == reference
    }
    pairs: dict[Any, list[Pair]] = {}
    for line in networks:
        value, other = line.settings[setting], without.get(_rest(line, setting))
        if other is not None and value != reference:
            pairs.setdefault(value, []).append((line, other))
    for value, compared in pairs.items():
        if found := gain(compared, board):
            yield Effect(setting, value, reference, found)


def _rest(line: Line, setting: str) -> str:
    """Name all of a head but one setting."""
    return repr(sorted((name, v) for name, v in line.settings.items() if name != setting))
