"""Many heads over one matrix of features: the leaderboard, and the best head."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import UsageError
from pipeline.evaluate import (
    METRICS,
    Fold,
    Part,
    cross_fitted,
    fit_temperature,
    folds,
    score,
    tied,
)
from pipeline.events import HeadTrained, Notice, Observer, SweepPlanned, ignore
from pipeline.heads.base import FittedHead, HeadSpec, Trainer, fit_one
from pipeline.heads.registry import trainer
from pipeline.heads.size import HeadSize
from pipeline.sweep.fits import fit_folds, fit_seed, fold_rows
from pipeline.sweep.kept import Fit, Forgetful, Memory
from pipeline.sweep.leaderboard import ROLES, Entry, Holdout, SweepConfig, SweepData, SweepResult

_MOST_NAMED = 5
REFIT = 2**31
"""In place of a fold's number in the seed of the last fit."""


@dataclass(frozen=True)
class _Trial:
    """An entry before it is compared, and its logits of the rows scored, part by part.

    The fitted heads are not kept: those of neighbours are copies of the features.
    """

    entry: Entry
    logits: Sequence[NDArray[np.floating[Any]]]


def sweep(
    data: SweepData,
    config: SweepConfig | None = None,
    observe: Observer = ignore,
    memory: Memory | None = None,
) -> SweepResult:
    """Compare heads by cross-validation, or on the val rows, and fit the best one for use.

    Parameters
    ----------
    data
        Features, labels, groups and roles.
    config
        Metric, folds, seed and heads.
    observe
        Gets :class:`SweepPlanned`, one :class:`FitDone` a fit and one :class:`HeadTrained` a head,
        and notices.
    memory
        Where finished fits are kept, and found again; None keeps none.

    Raises
    ------
    UsageError
        Where the data do not allow the comparison: one class, a class with fewer images than
        folds, a metric that is defined on no fold, an unknown metric, head or setting, and where
        every head had to be left out.
    """
    config = config or SweepConfig()
    parts = _parts(data, config)
    specs = _that_fit_a_file(data, config, observe)
    observe(SweepPlanned(len(specs), len(specs) * len(parts)))
    _notice_lacking(data, parts, observe)
    trials = []
    until = None if config.budget is None else time.monotonic() + config.budget
    done = fit_folds(specs, data, parts, config, memory or Forgetful(), observe, until)
    late = []
    for number, spec in enumerate(specs):
        fits = done.whole(number, len(parts))
        if fits is None:
            late.append(spec)
            continue
        trial = _judged(spec, fits, data, parts, config)
        if trial is None:
            observe(Notice(f"left out {spec.name}: its outputs are not finite numbers"))
        else:
            trials.append(trial)
        reached = math.nan if trial is None else trial.entry.score
        observe(HeadTrained(spec.head, spec.plain(), reached))
    if late:
        observe(
            Notice(f"time was up: left out {_listed(late)}; the same command goes on from here")
        )
    if not trials:
        raise UsageError(
            "the budget was too short for a single head: give more time with --budget"
            if late
            else "no head gave finite numbers on these features"
        )
    board = _leaderboard(trials, data, parts, config)
    best, holdout = _finish(board[0], data, config)
    return SweepResult(
        metric=config.metric,
        seed=config.seed,
        leaderboard=board,
        best=best,
        holdout=holdout,
        trained_on=len(data.labels) - len(data.rows("test")),
        folds=len(parts),
        scheme="val" if len(data.rows("val")) else "folds",
        fits=len(done.of),
        fits_reused=done.reused,
    )


def _parts(data: SweepData, config: SweepConfig) -> list[Fold]:
    """Pairs of rows to train on and rows to score, after all that could be wrong was looked at."""
    if config.metric not in METRICS:
        raise UsageError(f"no metric {config.metric!r}; there are {', '.join(METRICS)}")
    if not config.specs:
        raise UsageError("there is no head to train")
    if data.roles is not None and (odd := set(np.unique(data.roles).tolist()) - {*ROLES}):
        raise UsageError(f"a split is named {min(odd)!r}; it can be {', '.join(ROLES)}")
    train, val = data.rows("train"), data.rows("val")
    if len(val):
        _check_counts(data, train, 1, "to train on")
        return [(train, val)]
    _check_counts(data, train, config.folds, f"for {config.folds} folds")
    inner = folds(data.labels[train], data.groups_at(train), config.folds, config.seed)
    return [(train[fit], train[out]) for fit, out in inner]


def _that_fit_a_file(
    data: SweepData, config: SweepConfig, observe: Observer
) -> tuple[HeadSpec, ...]:
    """Heads that a head file can hold after the last fit; the others are told of, not tried.

    One that cannot be saved must not win. A wrong setting is told here too, before the first fit.
    """
    sizes = [_size(trainer(spec), data).bytes for spec in config.specs]
    large = [i for i, size in enumerate(sizes) if size > config.largest]
    if large:
        names = ", ".join(config.specs[i].name for i in large)
        told = f"{names}: would keep {max(sizes) / 1e9:.1f} GB, and a head file holds at most "
        told += f"{config.largest / 1e9:.1f} GB"
        if len(large) == len(config.specs):
            raise UsageError(f"no head can be saved: {told}")
        observe(Notice(f"left out {told}"))
    return tuple(spec for i, spec in enumerate(config.specs) if i not in large)


def _check_counts(data: SweepData, rows: NDArray[np.int64], least: int, why: str) -> None:
    counts = np.bincount(data.labels[rows], minlength=len(data.classes))
    if len(data.classes) < 2 or (counts > 0).sum() < 2:
        raise UsageError("there is one class only: heads need at least two to tell apart")
    if counts.min() < least:
        name = data.classes[int(counts.argmin())]
        raise UsageError(
            f"the class {name!r} has {counts.min()} images {why}; at least {least} are needed"
        )


def _notice_lacking(data: SweepData, parts: list[Fold], observe: Observer) -> None:
    """Tell of classes that groups leave without a training row in some fold: surely missed."""
    lacking = {
        data.classes[label]
        for fit, _ in parts
        for label in set(range(len(data.classes))) - set(data.labels[fit].tolist())
    }
    if lacking:
        names = ", ".join(sorted(lacking))
        observe(Notice(f"in some folds no training image is left of {names}: too few groups"))


def _judged(
    spec: HeadSpec, fits: Sequence[Fit], data: SweepData, parts: list[Fold], config: SweepConfig
) -> _Trial | None:
    """Score a head on every part; None where it gave anything but finite numbers."""
    fitter = trainer(spec)
    if not all(fit.train_scores for fit in fits):
        return None
    logits = [fit.logits for fit in fits]
    labels = [data.labels[out] for _, out in parts]
    temperature = 1.0
    if not fitter.probabilistic:
        temperature = fit_temperature(np.concatenate(logits), np.concatenate(labels))
        if METRICS[config.metric].needs_probabilities:
            logits = cross_fitted(logits, labels)
    scores = [score(config.metric, y, out) for y, out in zip(labels, logits, strict=True)]
    train_scores = [fit.train_scores[config.metric] for fit in fits]
    size = _size(fitter, data)
    entry = Entry(
        spec=spec,
        score=_mean(scores, config.metric),
        std=_deviation(scores),
        train_score=_mean(train_scores, config.metric),
        parameters=size.parameters,
        bytes=size.bytes,
        seconds=sum(fit.seconds for fit in fits),
        fold_scores=tuple(scores),
        iterations=max(fit.iterations for fit in fits),
        converged=all(fit.converged for fit in fits),
        temperature=temperature,
        tied=True,
    )
    return _Trial(entry, logits)


def _listed(specs: Sequence[HeadSpec]) -> str:
    names = [spec.name for spec in specs]
    rest = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(names[:_MOST_NAMED]) + rest


def _size(fitter: Trainer, data: SweepData) -> HeadSize:
    """Size of a head after the last fit, on all rows that are not for test."""
    rows, dims = len(data.labels) - len(data.rows("test")), data.features.shape[1]
    return fitter.head_size(rows, dims, len(data.classes))


def _mean(scores: Sequence[float | None], metric: str) -> float:
    defined = [value for value in scores if value is not None]
    if not defined:
        raise UsageError(f"{metric} is not defined on these rows: each fold has one class only")
    return float(np.mean(defined))


def _deviation(scores: Sequence[float | None]) -> float | None:
    """Sample deviation over folds; None of a single score."""
    defined = [value for value in scores if value is not None]
    return float(np.std(defined, ddof=1)) if len(defined) > 1 else None


def _leaderboard(
    trials: Sequence[_Trial], data: SweepData, parts: list[Fold], config: SweepConfig
) -> tuple[Entry, ...]:
    """Entries, best first: by score, then fewer parameters, then name."""
    sign = -1 if METRICS[config.metric].greater_is_better else 1
    ordered = sorted(
        trials, key=lambda t: (sign * t.entry.score, t.entry.parameters, t.entry.spec.name)
    )
    found = tied(
        config.metric,
        [
            Part(
                labels=data.labels[out],
                best=ordered[0].logits[number],
                others=[other.logits[number] for other in ordered[1:]],
                groups=data.groups_at(out),
            )
            for number, (_, out) in enumerate(parts)
        ],
        config.seed,
    )
    return tuple(
        replace(trial.entry, tied=own) for trial, own in zip(ordered, (True, *found), strict=True)
    )


def _finish(
    entry: Entry, data: SweepData, config: SweepConfig
) -> tuple[FittedHead, Holdout | None]:
    """Fit the best head on all rows that are not for test, and score it once on those that are."""
    test = data.rows("test")
    rest = np.setdiff1d(np.arange(len(data.labels)), test)
    seed = fit_seed(config.seed, entry.spec, REFIT)
    head = fit_one(trainer(entry.spec), fold_rows(data, rest), seed).head
    if not all(np.isfinite(tensor).all() for tensor in head.tensors().values()):
        raise UsageError(
            f"the best head, {entry.spec.name}, fitted on all rows has numbers that are not finite"
        )
    if not len(test):
        return head, None
    logits = head.logits(data.features[test])
    value = score(config.metric, data.labels[test], logits, entry.temperature)
    return head, Holdout(value, len(test), config.metric)
