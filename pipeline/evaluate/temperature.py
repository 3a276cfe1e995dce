"""One temperature that turns decision values into probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluate.metrics import log_loss
from pipeline.evaluate.softmax import Floats, Labels, log_softmax


def fit_temperature(logits: Floats, labels: Labels) -> float:
    """Find the temperature T that makes ``softmax(logits / T)`` a probability.

    It minimises the mean log loss, as Guo et al., "On Calibration of Modern Neural Networks"
    (2017), section 4.2. The logits must be of rows that the head was not trained on. The loss is
    the metric's, bounded, so that a row whose class training lacked does not decide alone; that
    one is not convex in 1 / T, hence the coarse look first.

    Parameters
    ----------
    logits
        ``(n, c)``.
    labels
        ``(n,)`` integers.

    Returns
    -------
    float
        Between 1e-4 and 1e4: perfect separation would otherwise drive it to 0, and no relation
        at all to infinity.
    """
    from scipy.optimize import minimize_scalar

    def loss(log_t: float) -> float:
        return log_loss(labels, log_softmax(logits / np.exp(log_t)))

    bound = np.log(1e4)
    coarse = np.linspace(-bound, bound, 33)
    best = int(np.argmin([loss(t) for t in coarse]))
    bracket = (coarse[max(best - 1, 0)], coarse[min(best + 1, len(coarse) - 1)])
    return float(np.exp(minimize_scalar(loss, bounds=bracket, method="bounded").x))


def cross_fitted(logits: Sequence[Floats], labels: Sequence[Labels]) -> list[Floats]:
    """Divide each part's logits by a temperature fitted on the other parts.

    So a score that needs probabilities is never taken on rows that their temperature was fitted
    on. A single part is halved for it, class by class.

    Parameters
    ----------
    logits, labels
        One array each a part.

    Returns
    -------
    list of ndarray
        Scaled logits, part by part.
    """
    if len(logits) == 1:
        return [_halved(logits[0], labels[0])]
    return [
        part / fit_temperature(_without(logits, i), _without(labels, i))
        for i, part in enumerate(logits)
    ]


def _without(parts: Sequence[NDArray[Any]], i: int) -> NDArray[Any]:
    return np.concatenate([part for j, part in enumerate(parts) if j != i])


def _halved(logits: Floats, labels: Labels) -> Floats:
    by_class = np.argsort(labels, kind="stable")
    halves = [h for h in (by_class[0::2], by_class[1::2]) if len(h)]
    if len(halves) < 2:
        return logits
    scaled = np.empty(logits.shape)
    for half, other in (halves, halves[::-1]):
        scaled[half] = logits[half] / fit_temperature(logits[other], labels[other])
    return scaled
