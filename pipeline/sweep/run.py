"""Many heads over one matrix of features: the leaderboard, and the best head."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipeline.errors import UsageError
from pipeline.evaluate import Cost, NestedScore, nested_folds, nested_score, score
from pipeline.events import Notice, Observer, SweepPlanned, ignore
from pipeline.heads.base import FittedHead, HeadSpec, fit_one
from pipeline.heads.registry import trainer
from pipeline.sweep.baseline import random_score
from pipeline.sweep.board import Trial, compared
from pipeline.sweep.curve import learning_curve
from pipeline.sweep.fits import fit_folds, fit_seed
from pipeline.sweep.judgement import Candidate, judge
from pipeline.sweep.kept import Forgetful, Memory
from pipeline.sweep.leaderboard import (
    CurvePoint,
    Entry,
    Holdout,
    SweepConfig,
    SweepData,
    SweepResult,
)
from pipeline.sweep.plan import notice_lacking, parts_of, that_fit_a_file
from pipeline.sweep.views import fold_rows, image_logits

REFIT = 2**31
"""In place of a fold's number in the seed of the last fit."""


def sweep(
    data: SweepData,
    config: SweepConfig | None = None,
    observe: Observer = ignore,
    memory: Memory | None = None,
    until: float | None = None,
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
    until
        Reading of ``time.monotonic`` after which no further fit is begun; None for no limit.

    Raises
    ------
    UsageError
        Where the data do not allow the comparison: one class, a class with fewer images than
        folds, a metric that is defined on no fold, an unknown metric, head or setting, and where
        every head had to be left out.
    """
    config, memory = config or SweepConfig(), memory or Forgetful()
    repeats = parts_of(data, config)
    specs = that_fit_a_file(data, config, observe)
    parts = [part for folds in repeats for part in folds]
    observe(SweepPlanned(len(specs), len(specs) * len(parts)))
    notice_lacking(data, parts, observe)
    done = fit_folds(specs, data, parts, config, memory, observe, until)
    trials = compared(specs, done, data, repeats, config, observe)
    board = tuple(trial.entry for trial in trials)
    judgement = judge(
        config.metric,
        [_candidate(trial) for trial in trials],
        data.labels,
        data.groups,
        repeats,
        len(data.classes),
        config.seed,
    )
    advised = judgement.recommended
    curve = learning_curve(board[advised].spec, data, repeats[0], config, memory, until)
    rows = int(np.mean([len(fit) for fit, _ in repeats[0]]))
    whole = CurvePoint(rows, judgement.scores[advised], judgement.intervals[advised])
    best, holdout = _finish(board[0], data, config)
    return SweepResult(
        metric=config.metric,
        seed=config.seed,
        leaderboard=board,
        judgement=judgement,
        curve=(*curve, whole),
        nested=_nested(specs, data, config, memory, observe, until) if config.nested else None,
        random=random_score(data, repeats[0], config),
        best=best,
        holdout=holdout,
        trained_on=len(data.labels) - len(data.rows("test")),
        folds=len(repeats[0]),
        scheme="val" if len(data.rows("val")) else "folds",
        fits=len(done.of),
        fits_reused=done.reused,
    )


def _candidate(trial: Trial) -> Candidate:
    entry = trial.entry
    cost = Cost(entry.spec.name, entry.parameters, entry.bytes)
    return Candidate(cost, trial.logits, trial.raw, entry.temperature)


def _nested(
    specs: Sequence[HeadSpec],
    data: SweepData,
    config: SweepConfig,
    memory: Memory,
    observe: Observer,
    until: float | None,
) -> NestedScore | None:
    """Choose the head anew inside each fold, by that fold's training rows, and score the choices.

    None where time was up, or the rows to score are the user's val rows: then there is no fold.
    """
    train = data.rows("train")
    if len(data.rows("val")):
        observe(Notice("nothing is nested where the data have a val split of their own"))
        return None
    labels, groups = data.labels[train], data.groups_at(train)
    plan = nested_folds(labels, groups, config.folds, config.folds, config.seed)
    logits = []
    for outer in plan:
        inner = [(train[fit], train[out]) for fit, out in outer.inner]
        done = fit_folds(specs, data, inner, config, memory, ignore, until)
        if any(done.whole(number, len(inner)) is None for number in range(len(specs))):
            observe(Notice("time was up before the nested folds were through; run again to go on"))
            return None
        chosen = compared(specs, done, data, [inner], config, ignore)[0].entry
        whole = [(train[outer.train], train[outer.test])]
        (fit,) = fit_folds([chosen.spec], data, whole, config, memory, ignore).of.values()
        logits.append(fit.logits / chosen.temperature)
    return nested_score(config.metric, labels, groups, plan, logits, config.seed)


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
    logits = image_logits(head, data, test)
    value = score(config.metric, data.labels[test], logits, entry.temperature)
    return head, Holdout(value, len(test), config.metric)
