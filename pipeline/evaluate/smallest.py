"""The smallest head that is as good as the best, as far as the data can tell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.evaluate.bootstrap import Bootstrap, standard_errors


@dataclass(frozen=True)
class Cost:
    """What a head costs: its name, floating-point numbers and bytes of its tensors."""

    name: str
    parameters: int
    bytes: int


def recommended(scored: Bootstrap, costs: Sequence[Cost]) -> int:
    """Choose a head by the one-standard-error rule.

    Among the heads whose score lies within one standard error of the best head's, the error being
    the best one's, the smallest: fewest bytes, then fewest parameters, then the shortest name and
    the first by alphabet (Breiman, Friedman, Olshen and Stone, "Classification and Regression
    Trees" (1984), section 3.4.3; Hastie, Tibshirani and Friedman, "The Elements of Statistical
    Learning" (2009), section 7.10.1). The error is by bootstrap over groups, not over folds.

    Parameters
    ----------
    scored
        Scores of the heads, and their resamples.
    costs
        One a head.

    Returns
    -------
    int
        Position of the head. The best where its error is not known.
    """
    if len(costs) != len(scored.scores):
        raise ValueError(f"{len(costs)} costs for {len(scored.scores)} heads")
    best = scored.best
    lag = np.abs(scored.scores - scored.scores[best])
    near = [i for i, own in enumerate(lag) if own <= standard_errors(scored)[best] or i == best]
    return min(near, key=lambda i: _size(costs[i]))


def _size(cost: Cost) -> tuple[int, int, int, str]:
    return cost.bytes, cost.parameters, len(cost.name), cost.name
