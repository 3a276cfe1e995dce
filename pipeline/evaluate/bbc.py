"""The winner's score without the luck of having been chosen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.evaluate.bootstrap import Bootstrap, Interval, interval
from pipeline.evaluate.metrics import Values, mean_defined


@dataclass(frozen=True)
class Corrected:
    """What the best of several heads can be expected to score on other images.

    Attributes
    ----------
    winner
        Its position among the heads: the best score on all rows, the first of equals.
    score
        Corrected score.
    optimism
        The winner's own score less the corrected one; negative for a loss.
    interval
        90 % interval of what the winner scores on other images.
    """

    winner: int
    score: float
    optimism: float
    interval: Interval | None


def bbc(scored: Bootstrap) -> Corrected | None:
    """Correct the best score for the choice: bootstrap bias-corrected cross-validation (BBC-CV).

    In each resample of the groups the best head on the rows drawn is scored on the rows that were
    not drawn; the mean over resamples is the corrected score (Tsamardinos, Greasidou and
    Borboudakis, "Bootstrapping the out-of-sample predictions for efficient and accurate
    cross-validation", Machine Learning 107 (2018)). Heads that are equally good on the
    rows drawn count equally, so that their order changes nothing. It is a little pessimistic where
    one head is better than the others, since a resample holds fewer different rows to tell it by.

    The interval is the winner's own, with the worse end moved by the optimism: the luck is between
    none, of a clear winner, and all that was found, of equal heads. The percentiles of the scores
    on rows not drawn, which the paper takes, are those of a third of the rows and too wide.
    ``tests/bench/bench_bias.py`` measures both.

    Parameters
    ----------
    scored
        All heads that the winner was chosen from, none left out for its low score.

    Returns
    -------
    Corrected or None
        None where no resample has rows both drawn and not drawn that a score is defined on.
    """
    resampled = out_of_bag(scored)
    resampled = resampled[~np.isnan(resampled)]
    if not len(resampled):
        return None
    winner = scored.best
    optimism = float(scored.scores[winner] - resampled.mean())
    own = interval(scored.inside[winner], scored.units)
    return Corrected(
        winner=winner,
        score=float(resampled.mean()),
        optimism=optimism,
        interval=None if own is None else _worse(own, optimism),
    )


def _worse(own: Interval, optimism: float) -> Interval:
    return Interval(own.low - max(optimism, 0.0), own.high - min(optimism, 0.0))


def out_of_bag(scored: Bootstrap) -> Values:
    """Score the head that is best on the rows drawn on the others, ``(b,)``; NaN if undefined."""
    sign = 1.0 if scored.greater_is_better else -1.0
    inside = np.where(np.isnan(scored.inside), -np.inf, sign * scored.inside)
    best = inside == inside.max(axis=0)
    return mean_defined(np.where(best & np.isfinite(inside), scored.outside, np.nan))
