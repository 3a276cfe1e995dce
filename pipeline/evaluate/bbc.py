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
        90 % interval of the corrected score.
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
    cross-validation", Machine Learning 107 (2018), algorithm 4). Heads that are equally good on the
    rows drawn count equally, so that their order changes nothing. It is a little pessimistic where
    one head is clearly the best, since a resample holds fewer different rows to tell it by.

    Parameters
    ----------
    scored
        All heads that the winner was chosen from, none left out for its low score.

    Returns
    -------
    Corrected or None
        None where no resample has rows both drawn and not drawn that a score is defined on.
    """
    resampled = _chosen(scored)
    resampled = resampled[~np.isnan(resampled)]
    if not len(resampled):
        return None
    corrected, winner = float(resampled.mean()), scored.best
    return Corrected(
        winner=winner,
        score=corrected,
        optimism=float(scored.scores[winner]) - corrected,
        interval=interval(resampled, scored.units),
    )


def _chosen(scored: Bootstrap) -> Values:
    """Out-of-bag score of the head that is best in-bag, (b,); NaN where that is not defined."""
    sign = 1.0 if scored.greater_is_better else -1.0
    inside = np.where(np.isnan(scored.inside), -np.inf, sign * scored.inside)
    best = inside == inside.max(axis=0)
    return mean_defined(np.where(best & np.isfinite(inside), scored.outside, np.nan))
