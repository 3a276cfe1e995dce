"""Does more data help? One head on parts of the training rows, scored on the same rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluate import Fold, Interval, OutOfFold, bootstrap, in_rows, intervals
from pipeline.events import ignore
from pipeline.heads.base import HeadSpec
from pipeline.heads.registry import trainer
from pipeline.heads.stopping import stopping_rows
from pipeline.sweep.fits import fit_folds
from pipeline.sweep.kept import Memory
from pipeline.sweep.leaderboard import SweepConfig, SweepData

SHARES = (0.125, 0.25, 0.5, 1.0)
"""Of the groups of each class in every training part; each share holds the smaller ones."""


@dataclass(frozen=True)
class CurvePoint:
    """Score of a head that was fitted on some of the rows.

    Attributes
    ----------
    rows
        Fitted on, the mean over folds.
    score, interval
        Of all rows scored, together, and its 90 % interval; None where they are not defined.
    """

    rows: int
    score: float | None
    interval: Interval | None


def learning_curve(
    spec: HeadSpec,
    data: SweepData,
    folds: Sequence[Fold],
    config: SweepConfig,
    memory: Memory,
    until: float | None,
) -> tuple[CurvePoint, ...]:
    """Fit a head on growing parts of each fold's training rows; as far as time allows.

    Groups are taken whole, and of each class its share.
    """
    points = []
    for share in SHARES:
        parts = [
            (_some(data, fit, share, config.seed + number), out)
            for number, (fit, out) in enumerate(folds)
        ]
        fits = fit_folds([spec], data, parts, config, memory, ignore, until).whole(0, len(parts))
        if fits is None or not all(fit.train_scores for fit in fits):
            break
        rows = int(np.mean([len(fit) for fit, _ in parts]))
        points.append(_point(spec, data, parts, [fit.logits for fit in fits], rows, config))
    return tuple(points)


def _some(
    data: SweepData, rows: NDArray[np.int64], share: float, seed: int
) -> NDArray[np.int64]:
    if share == 1.0:
        return rows
    rng = np.random.default_rng(seed)
    return rows[stopping_rows(data.labels[rows], data.groups_at(rows), share, rng)]


def _point(
    spec: HeadSpec,
    data: SweepData,
    parts: Sequence[Fold],
    logits: Sequence[NDArray[np.float32]],
    rows: int,
    config: SweepConfig,
) -> CurvePoint:
    from pipeline.evaluate import METRICS, cross_fitted

    own: Sequence[NDArray[np.floating]] = logits
    if METRICS[config.metric].needs_probabilities and not trainer(spec).probabilistic:
        own = cross_fitted(logits, [data.labels[out] for _, out in parts])
    scored = np.sort(np.concatenate([out for _, out in parts]))
    local = [(fit, np.searchsorted(scored, out)) for fit, out in parts]
    oof = OutOfFold(
        data.labels[scored], [in_rows([local], [own], len(scored))], data.groups_at(scored)
    )
    found = bootstrap(config.metric, oof, config.seed)
    score = float(found.scores[0])
    return CurvePoint(rows, None if np.isnan(score) else score, intervals(found)[0])
