"""Two heads compared on repeated folds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.evaluate.bootstrap import LEVEL, Interval
from pipeline.evaluate.folds import Fold
from pipeline.evaluate.softmax import Floats


@dataclass(frozen=True)
class TTest:
    """How far two heads differ, and whether noise alone may explain it.

    Attributes
    ----------
    difference
        Mean of the first head's scores less the second's.
    p
        Two-sided probability of a difference at least as large where there is none.
    interval
        90 % interval of the difference; infinite where fewer than two folds have both scores.
    """

    difference: float
    p: float
    interval: Interval


def corrected_t(
    first: Sequence[float | None], second: Sequence[float | None], plan: Sequence[Sequence[Fold]]
) -> TTest:
    """Compare two heads by the corrected resampled t-test.

    For repeated folds by Bouckaert and Frank, "Evaluating the Replicability of Significance Tests
    for Comparing Learning Algorithms", 2004; see `corrected_error`. It is made for repeats; a
    single division into few folds has little power, and :func:`tied` looks at rows.

    Parameters
    ----------
    first, second
        Scores, one a fold and repeat in the order of the plan; None where not defined.
    plan
        Repeats, each a list of folds, as ``repeated_folds`` gives it.

    Returns
    -------
    TTest
        With p = 1 where fewer than two folds have both scores.
    """
    pairs = zip(first, second, (fold for folds in plan for fold in folds), strict=True)
    both = [(a - b, fold) for a, b, fold in pairs if a is not None and b is not None]
    differences = np.array([difference for difference, _ in both])
    mean = float(differences.mean()) if both else 0.0
    if len(both) < 2:
        return TTest(mean, 1.0, Interval(-np.inf, np.inf))
    ratio = float(np.mean([len(test) / len(train) for _, (train, test) in both]))
    return _student(mean, corrected_error(differences, ratio), len(both) - 1)


def corrected_error(differences: Floats, ratio: float) -> float:
    """Estimate the standard error of the mean of J differences, one a fold, J at least 2.

    The variance is multiplied by 1 / J + n_test / n_train rather than 1 / J, since training sets
    overlap (Nadeau and Bengio, "Inference for the Generalization Error", Machine Learning 52
    (2003)).

    Parameters
    ----------
    differences
        ``(J,)``.
    ratio
        n_test / n_train, of rows.
    """
    return float(np.sqrt((1 / len(differences) + ratio) * np.var(differences, ddof=1)))


def _student(mean: float, error: float, freedom: int) -> TTest:
    """Test a mean against zero; an error of rounding alone counts as none."""
    from scipy.special import stdtr, stdtrit

    if error <= 1e-12 * abs(mean):
        return TTest(mean, float(mean == 0.0), Interval(mean, mean))
    half = float(error * stdtrit(freedom, (1 + LEVEL) / 2))
    p = float(2 * stdtr(freedom, -abs(mean) / error))
    return TTest(mean, p, Interval(mean - half, mean + half))
