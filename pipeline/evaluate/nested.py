"""Nested cross-validation: the choice among heads made anew inside every outer fold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import UsageError
from pipeline.evaluate.bootstrap import Interval, bootstrap, intervals
from pipeline.evaluate.folds import Fold, folds
from pipeline.evaluate.outoffold import OutOfFold, in_rows
from pipeline.evaluate.softmax import Floats, Labels


@dataclass(frozen=True)
class OuterFold:
    """Rows that a choice is made on, and rows that it is scored on.

    Attributes
    ----------
    train, test
        Ascending row positions.
    inner
        Folds of ``train``, as positions among all rows: choose the head by these alone, fit it on
        ``train``, and predict ``test``.
    """

    train: NDArray[np.int64]
    test: NDArray[np.int64]
    inner: tuple[Fold, ...]


@dataclass(frozen=True)
class NestedScore:
    """Score of the whole procedure, choice included, and its 90 % interval."""

    score: float
    interval: Interval | None


def nested_folds(
    labels: Labels, groups: Labels | None, outer: int, inner: int, seed: int
) -> list[OuterFold]:
    """Plan nested cross-validation (Varma and Simon, BMC Bioinformatics 7:91, 2006).

    Parameters
    ----------
    labels
        ``(n,)`` integers.
    groups
        ``(n,)`` integers, which neither outer nor inner folds divide; or None.
    outer, inner
        Number of folds, at least 2 each.
    seed
        Of the shuffling. The outer folds are those of ``folds(labels, groups, outer, seed)``.

    Raises
    ------
    UsageError
        Where the rows do not allow the outer folds, or those of some outer fold the inner ones.
    """
    plan = folds(labels, groups, outer, seed)
    return [
        OuterFold(train, test, _inner(labels, groups, train, inner, seed)) for train, test in plan
    ]


def _inner(
    labels: Labels, groups: Labels | None, train: NDArray[np.int64], k: int, seed: int
) -> tuple[Fold, ...]:
    try:
        own = folds(labels[train], None if groups is None else groups[train], k, seed)
    except UsageError as error:
        raise UsageError(f"inside an outer fold of nested cross-validation, {error}") from error
    return tuple((train[fit], train[out]) for fit, out in own)


def nested_score(
    metric: str,
    labels: Labels,
    groups: Labels | None,
    plan: Sequence[OuterFold],
    logits: Sequence[Floats],
    seed: int,
) -> NestedScore | None:
    """Combine the outer predictions into one score.

    Parameters
    ----------
    metric
        Name in :data:`pipeline.evaluate.METRICS`.
    labels, groups
        As planned with.
    plan
        From :func:`nested_folds`.
    logits
        ``(len(test), c)`` each outer fold, of the head that its inner folds chose.
    seed
        Of the interval's draws.

    Returns
    -------
    NestedScore or None
        None where the score is not defined.
    """
    outer = [(part.train, part.test) for part in plan]
    rows = in_rows([outer], [logits], len(labels))
    scored = bootstrap(metric, OutOfFold(labels, [rows], groups), seed)
    if np.isnan(scored.scores[0]):
        return None
    return NestedScore(float(scored.scores[0]), intervals(scored)[0])
