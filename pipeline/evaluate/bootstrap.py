"""Scores of many heads on resamples of the rows: what intervals and corrections start from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.evaluate.metrics import METRICS, Values
from pipeline.evaluate.outoffold import OutOfFold, scorer_of_all
from pipeline.evaluate.resamples import drawn_rows, resamples_for

LEVEL = 0.90
"""What every interval of a score should hold the truth with."""


@dataclass(frozen=True)
class Interval:
    """Bounds that hold a score with probability :data:`LEVEL`."""

    low: float
    high: float


@dataclass(frozen=True)
class Bootstrap:
    """Scores of ``s`` heads on ``b`` resamples of groups, the same ones for all heads.

    Attributes
    ----------
    scores
        ``(s,)`` on all rows; NaN where the score is not defined.
    inside
        ``(s, b)`` on the rows drawn, each as often as drawn.
    outside
        ``(s, b)`` on the rows that were not drawn, about 37 %; NaN where there are none.
    units
        Number of groups, of rows where there are none; see :attr:`OutOfFold.units`.
    greater_is_better
        False for a loss.
    """

    scores: Values
    inside: Values
    outside: Values
    units: float
    greater_is_better: bool = True

    @property
    def best(self) -> int:
        """Position of the head with the best score, the first of equals."""
        sign = 1.0 if self.greater_is_better else -1.0
        return int(np.argmax(np.where(np.isnan(self.scores), -np.inf, sign * self.scores)))


def bootstrap(metric: str, oof: OutOfFold, seed: int, count: int | None = None) -> Bootstrap:
    """Score all heads on resamples of the groups (Efron and Tibshirani 1993, chapter 6).

    Scores are of all rows together, not means over folds: a fold of a resample may lack a class.

    Parameters
    ----------
    metric
        Name in :data:`pipeline.evaluate.METRICS`.
    oof
        Out-of-fold predictions.
    seed
        Of the draws.
    count
        Resamples; by default 1000, for ROC AUC over more than half a million rows times classes
        times heads fewer, down to 200.
    """
    score = scorer_of_all(metric, oof)
    count = count or resamples_for(metric, 2 * oof.cells)
    inside, outside = [], []
    for drawn in drawn_rows(count, len(oof.labels), oof.groups, seed):
        inside.append(score(drawn))
        outside.append(score((drawn == 0).astype(np.float64)))
    return Bootstrap(
        scores=score(np.ones((len(oof.labels), 1)))[:, 0],
        inside=np.concatenate(inside, axis=1),
        outside=np.concatenate(outside, axis=1),
        units=oof.units,
        greater_is_better=METRICS[metric].greater_is_better,
    )


def intervals(scored: Bootstrap) -> list[Interval | None]:
    """Give every head's score its 90 % interval, by expanded percentiles of its resamples.

    Percentiles alone are too narrow where groups are few, as a normal interval with the plug-in
    deviation is; levels further out make up for it as Student's t does (Hesterberg, "What Teachers
    Should Know About the Bootstrap", The American Statistician 69 (2015)).

    It is what other images of the same kind would change, not what another training set would:
    folds share training rows, and no interval from one cross-validation sees all of that (Bates,
    Hastie and Tibshirani, "Cross-validation: What Does It Estimate and How Well Does It Do It?",
    2021; measured in ``tests/bench/bench_bias.py``). Where no row is wrong, no resample has a wrong
    row, and the interval is a point.

    Returns
    -------
    list of Interval or None
        One a head; None with a single group, or where no resample has a score.
    """
    return [interval(of_head, scored.units) for of_head in scored.inside]


def interval(resampled: Values, units: float) -> Interval | None:
    """Interval of a score from its ``(b,)`` resamples of ``units`` groups; NaN does not count."""
    defined = resampled[~np.isnan(resampled)]
    if units <= 1 or not len(defined):
        return None
    low, high = np.quantile(defined, _expanded(units))
    return Interval(float(low), float(high))


def _expanded(units: float) -> tuple[float, float]:
    """Levels whose normal quantiles are those of Student's t, times the root of n / (n - 1)."""
    from scipy.special import ndtr, stdtrit

    far = np.sqrt(units / (units - 1)) * stdtrit(units - 1, (1 + LEVEL) / 2)
    return float(ndtr(-far)), float(ndtr(far))


def standard_errors(scored: Bootstrap) -> Values:
    """Estimate the standard error of every head's score, ``(s,)``: the deviation of its resamples.

    Multiplied by the root of n / (n - 1) for n groups, which the bootstrap's plug-in deviation
    lacks. NaN with a single group, or where fewer than two resamples have a score.
    """
    units = scored.units
    wider = np.sqrt(units / (units - 1)) if units > 1 else np.nan
    return np.array([_deviation(head[~np.isnan(head)]) for head in scored.inside]) * wider


def _deviation(values: Values) -> float:
    return float(np.std(values, ddof=1)) if len(values) > 1 else np.nan
