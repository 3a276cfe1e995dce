"""What heads score on numbers that say nothing about the images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from pipeline.evaluate import Fold, score
from pipeline.events import ignore
from pipeline.heads.base import HeadSpec
from pipeline.sweep.fits import fit_folds
from pipeline.sweep.kept import Forgetful
from pipeline.sweep.leaderboard import SweepConfig, SweepData

_NEAREST = HeadSpec("knn", {"k": 1})
_COLUMNS = 32


def random_score(data: SweepData, folds: Sequence[Fold], config: SweepConfig) -> float | None:
    """Score the nearest neighbour by random numbers, the same ones for images that are alike.

    It is at chance where no image has its like on the other side of a fold; how far above it is
    tells how much a head could win by knowing pictures again.

    Returns
    -------
    float or None
        Mean over folds; None where the metric is not defined on one.
    """
    alike = np.arange(len(data.labels)) if data.alike is None else data.alike
    _, number = np.unique(alike, return_inverse=True)
    draws = np.random.default_rng(config.seed).normal(size=(int(number.max()) + 1, _COLUMNS))
    noise = replace(
        data, features=draws[number.ravel()].astype(np.float32), rows_named=None, views=None
    )
    fits = fit_folds([_NEAREST], noise, folds, config, Forgetful(), ignore).whole(0, len(folds))
    assert fits is not None
    scores = [
        score(config.metric, data.labels[out], fit.logits)
        for fit, (_, out) in zip(fits, folds, strict=True)
    ]
    defined = [value for value in scores if value is not None]
    return float(np.mean(defined)) if len(defined) == len(scores) else None
