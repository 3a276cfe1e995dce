"""What is fitted on what, after all that could be wrong was looked at."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import UsageError
from pipeline.evaluate import METRICS, Fold, repeated_folds
from pipeline.events import Notice, Observer
from pipeline.heads.base import HeadSpec, Trainer
from pipeline.heads.registry import trainer
from pipeline.heads.size import HeadSize
from pipeline.sweep.leaderboard import ROLES, SweepConfig, SweepData


def parts_of(data: SweepData, config: SweepConfig) -> list[list[Fold]]:
    """Pairs of rows to train on and rows to score, as often as the folds are drawn.

    Raises
    ------
    UsageError
        An unknown metric or split, no head, one class, or a class with too few images.
    """
    if config.metric not in METRICS:
        raise UsageError(f"no metric {config.metric!r}; there are {', '.join(METRICS)}")
    if not config.specs:
        raise UsageError("there is no head to train")
    if data.roles is not None and (odd := set(np.unique(data.roles).tolist()) - {*ROLES}):
        raise UsageError(f"a split is named {min(odd)!r}; it can be {', '.join(ROLES)}")
    train, val = data.rows("train"), data.rows("val")
    if len(val):
        _check_counts(data, train, 1, "to train on")
        return [[(train, val)]]
    _check_counts(data, train, config.folds, f"for {config.folds} folds")
    labels, groups = data.labels[train], data.groups_at(train)
    drawn = repeated_folds(labels, groups, config.folds, config.repeats, config.seed)
    return [[(train[fit], train[out]) for fit, out in repeat] for repeat in drawn]


def that_fit_a_file(
    data: SweepData, config: SweepConfig, observe: Observer
) -> tuple[HeadSpec, ...]:
    """Heads that a head file can hold after the last fit; the others are told of, not tried.

    One that cannot be saved must not win. A wrong setting is told here too, before the first fit.

    Raises
    ------
    UsageError
        None is left, or a head has no such setting.
    """
    sizes = [size_of_last(trainer(spec), data).bytes for spec in config.specs]
    large = [i for i, size in enumerate(sizes) if size > config.largest]
    if large:
        names = ", ".join(config.specs[i].name for i in large)
        told = f"{names}: would keep {max(sizes) / 1e9:.1f} GB, and a head file holds at most "
        told += f"{config.largest / 1e9:.1f} GB"
        if len(large) == len(config.specs):
            raise UsageError(f"no head can be saved: {told}")
        observe(Notice(f"left out {told}"))
    return tuple(spec for i, spec in enumerate(config.specs) if i not in large)


def notice_lacking(data: SweepData, parts: Sequence[Fold], observe: Observer) -> None:
    """Tell of classes that groups leave without a training row in some fold: surely missed."""
    lacking = {
        data.classes[label]
        for fit, _ in parts
        for label in set(range(len(data.classes))) - set(data.labels[fit].tolist())
    }
    if lacking:
        names = ", ".join(sorted(lacking))
        observe(Notice(f"in some folds no training image is left of {names}: too few groups"))


def size_of_last(fitter: Trainer, data: SweepData) -> HeadSize:
    """Size of a head after the last fit, on all rows that are not for test."""
    rows, dims = len(data.labels) - len(data.rows("test")), data.features.shape[1]
    rows *= 1 if data.views is None else data.views.count + 1
    return fitter.head_size(rows, dims, len(data.classes))


def _check_counts(data: SweepData, rows: NDArray[np.int64], least: int, why: str) -> None:
    counts = np.bincount(data.labels[rows], minlength=len(data.classes))
    if len(data.classes) < 2 or (counts > 0).sum() < 2:
        raise UsageError("there is one class only: heads need at least two to tell apart")
    if counts.min() < least:
        name = data.classes[int(counts.argmin())]
        raise UsageError(
            f"the class {name!r} has {counts.min()} images {why}; at least {least} are needed"
        )
