"""From fits to a leaderboard: scores, ties, order."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import UsageError
from pipeline.evaluate import METRICS, Fold, Part, cross_fitted, fit_temperature, score, tied
from pipeline.events import HeadTrained, Notice, Observer
from pipeline.heads.base import HeadSpec, Labels
from pipeline.heads.registry import trainer
from pipeline.sweep.fits import FoldFits
from pipeline.sweep.kept import Fit
from pipeline.sweep.leaderboard import Entry, SweepConfig, SweepData
from pipeline.sweep.plan import size_of_last

_MOST_NAMED = 5


@dataclass(frozen=True)
class Trial:
    """An entry of the board, and its logits of the rows scored, part by part.

    Attributes
    ----------
    logits, raw
        As they were scored, at temperatures of other parts where the metric needs probabilities;
        and as the head gave them.
    """

    entry: Entry
    logits: Sequence[NDArray[np.floating[Any]]]
    raw: Sequence[NDArray[np.float32]]


def compared(
    specs: Sequence[HeadSpec],
    done: FoldFits,
    data: SweepData,
    repeats: Sequence[Sequence[Fold]],
    config: SweepConfig,
    observe: Observer,
) -> list[Trial]:
    """Order the heads that were fitted on every part: by score, then fewer parameters, then name.

    Heads that time did not suffice for, and those whose outputs are not finite numbers, are left
    out and told of.

    Raises
    ------
    UsageError
        None is left, or the metric is defined on no part.
    """
    count = sum(map(len, repeats))
    trials, late = [], []
    for number, spec in enumerate(specs):
        fits = done.whole(number, count)
        if fits is None:
            late.append(spec.name)
            continue
        trial = scored(spec, fits, data, repeats, config)
        if trial is None:
            observe(Notice(f"left out {spec.name}: its outputs are not finite numbers"))
        else:
            trials.append(trial)
        reached = math.nan if trial is None else trial.entry.score
        observe(HeadTrained(spec.head, spec.plain(), reached))
    if late:
        told = f"time was up: left out {_listed(late)}; the same command goes on from here"
        observe(Notice(told))
    if not trials:
        raise UsageError(
            "the budget was too short for a single head: give more time with --budget"
            if late
            else "no head gave finite numbers on these features"
        )
    return _ordered(trials, data, repeats[0], config)


def by_parts(
    spec: HeadSpec,
    logits: Sequence[NDArray[np.float32]],
    labels: Sequence[Labels],
    config: SweepConfig,
) -> Sequence[NDArray[np.floating[Any]]]:
    """Logits to score: where the metric needs probabilities, at temperatures of other parts."""
    if METRICS[config.metric].needs_probabilities and _is_scaled(spec, config):
        return cross_fitted(logits, labels)
    return logits


def _is_scaled(spec: HeadSpec, config: SweepConfig) -> bool:
    return config.calibrate or not trainer(spec).probabilistic


def _listed(names: Sequence[str]) -> str:
    rest = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(names[:_MOST_NAMED]) + rest


def scored(
    spec: HeadSpec,
    fits: Sequence[Fit],
    data: SweepData,
    repeats: Sequence[Sequence[Fold]],
    config: SweepConfig,
) -> Trial | None:
    """Score a head on every part; None where it gave anything but finite numbers."""
    if not all(fit.train_scores for fit in fits):
        return None
    labels = [data.labels[out] for folds in repeats for _, out in folds]
    logits: list[NDArray[np.floating[Any]]] = []
    for folds in repeats:
        part = slice(len(logits), len(logits) + len(folds))
        own = [fit.logits for fit in fits[part]]
        logits += by_parts(spec, own, labels[part], config)
    scores = [score(config.metric, y, out) for y, out in zip(labels, logits, strict=True)]
    temperature = 1.0
    if _is_scaled(spec, config):
        raw = np.concatenate([fit.logits for fit in fits])
        temperature = fit_temperature(raw, np.concatenate(labels))
    size = size_of_last(trainer(spec), data)
    entry = Entry(
        spec=spec,
        score=_mean(scores, config.metric),
        std=_deviation(scores),
        train_score=_mean([fit.train_scores[config.metric] for fit in fits], config.metric),
        parameters=size.parameters,
        bytes=size.bytes,
        seconds=sum(fit.seconds for fit in fits),
        fold_scores=tuple(scores),
        iterations=max(fit.iterations for fit in fits),
        converged=all(fit.converged for fit in fits),
        temperature=temperature,
        tied=True,
    )
    return Trial(entry, logits, [fit.logits for fit in fits])


def _mean(scores: Sequence[float | None], metric: str) -> float:
    defined = [value for value in scores if value is not None]
    if not defined:
        raise UsageError(f"{metric} is not defined on these rows: each fold has one class only")
    return float(np.mean(defined))


def _deviation(scores: Sequence[float | None]) -> float | None:
    """Sample deviation over folds; None of a single score."""
    defined = [value for value in scores if value is not None]
    return float(np.std(defined, ddof=1)) if len(defined) > 1 else None


def _ordered(
    trials: Sequence[Trial], data: SweepData, folds: Sequence[Fold], config: SweepConfig
) -> list[Trial]:
    """Put the best first, and mark those that noise alone may put behind it."""
    sign = -1 if METRICS[config.metric].greater_is_better else 1
    ordered = sorted(
        trials, key=lambda t: (sign * t.entry.score, t.entry.parameters, t.entry.spec.name)
    )
    parts = [
        Part(
            labels=data.labels[out],
            best=ordered[0].logits[number],
            others=[other.logits[number] for other in ordered[1:]],
            groups=data.groups_at(out),
        )
        for number, (_, out) in enumerate(folds)
    ]
    found = (True, *tied(config.metric, parts, config.seed))
    return [
        replace(trial, entry=replace(trial.entry, tied=own))
        for trial, own in zip(ordered, found, strict=True)
    ]
