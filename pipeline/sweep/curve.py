"""Does more data help? One head on parts of the training rows, scored on the same rows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluate import Fold, bootstrap, gathered, intervals
from pipeline.events import ignore
from pipeline.heads.base import HeadSpec
from pipeline.heads.stopping import stopping_rows
from pipeline.sweep.board import by_parts
from pipeline.sweep.fits import fit_folds
from pipeline.sweep.kept import Memory
from pipeline.sweep.leaderboard import CurvePoint, SweepConfig, SweepData

SHARES = (0.125, 0.25, 0.5)
"""Of the groups of each class in every training part; each share holds the smaller ones, and the
board has the whole."""


def learning_curve(
    spec: HeadSpec,
    data: SweepData,
    folds: Sequence[Fold],
    config: SweepConfig,
    memory: Memory,
    until: float | None,
) -> tuple[CurvePoint, ...]:
    """Fit a head on growing parts of each fold's training rows; as far as time allows.

    Groups are taken whole, and of each class its share. Shares that leave a class without a row
    are left out.
    """
    points = []
    for share in SHARES:
        parts = [
            (_some(data, fit, share, config.seed + number), out)
            for number, (fit, out) in enumerate(folds)
        ]
        if any(len(np.unique(data.labels[fit])) < len(data.classes) for fit, _ in parts):
            continue
        fits = fit_folds([spec], data, parts, config, memory, ignore, until).whole(0, len(parts))
        if fits is None or not all(fit.train_scores for fit in fits):
            break
        points.append(_point(spec, data, parts, [fit.logits for fit in fits], config))
    return tuple(points)


def _some(data: SweepData, rows: NDArray[np.int64], share: float, seed: int) -> NDArray[np.int64]:
    rng = np.random.default_rng(seed)
    return rows[stopping_rows(data.labels[rows], data.groups_at(rows), share, rng)]


def _point(
    spec: HeadSpec,
    data: SweepData,
    parts: Sequence[Fold],
    logits: Sequence[NDArray[np.float32]],
    config: SweepConfig,
) -> CurvePoint:
    own = by_parts(spec, logits, [data.labels[out] for _, out in parts], config)
    _, oof = gathered(data.labels, data.groups, [parts], [own])
    found = bootstrap(config.metric, oof, config.seed)
    rows = int(np.mean([len(fit) for fit, _ in parts]))
    return CurvePoint(rows, float(found.scores[0]), intervals(found)[0])
