"""Whether a head that says 80 % is right in 80 % of cases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.evaluate.softmax import Floats, Labels, softmax
from pipeline.evaluate.temperature import cross_fitted

BINS = 15
"""Bins of equal width between 0 and 1, each without its lower end and with its upper."""


@dataclass(frozen=True)
class Bin:
    """One line of a reliability table.

    Attributes
    ----------
    low, high
        Bounds of the confidence: low < confidence <= high.
    rows
        Number of rows in it.
    confidence, accuracy
        Mean probability of the label given, and the share of right ones; None without rows.
    """

    low: float
    high: float
    rows: int
    confidence: float | None
    accuracy: float | None


@dataclass(frozen=True)
class Calibration:
    """Expected calibration error, between 0 and 1, and the table that it comes from."""

    error: float
    table: tuple[Bin, ...]


@dataclass(frozen=True)
class Calibrated:
    """Calibration of a head as it is, and with temperatures fitted on other rows."""

    before: Calibration
    after: Calibration


def calibration(logits: Floats, labels: Labels, bins: int = BINS) -> Calibration:
    """Compare confidence with accuracy, by bins of confidence.

    The error is the mean of their distances, weighted by rows (Guo, Pleiss, Sun and Weinberger,
    "On Calibration of Modern Neural Networks" (2017), equation 3). It depends on the bins and is
    not zero for a perfect head, since the share of right ones in a bin of few rows is noisy.

    Parameters
    ----------
    logits
        ``(n, c)``, of rows that the head had not seen.
    labels
        ``(n,)`` integers.
    bins
        Number of bins of equal width.
    """
    probabilities = softmax(logits)
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == labels
    edges = np.linspace(0.0, 1.0, bins + 1)
    of_row = np.searchsorted(edges[1:-1], confidence, side="left")
    table = tuple(
        _bin(edges[i], edges[i + 1], confidence[of_row == i], right[of_row == i])
        for i in range(bins)
    )
    return Calibration(sum(_distance(line) for line in table) / len(labels), table)


def calibrated(logits: Sequence[Floats], labels: Sequence[Labels]) -> Calibrated:
    """Measure calibration before and after temperature scaling.

    Parameters
    ----------
    logits, labels
        One array each a fold (or one of the val rows): each is scaled by a temperature that was
        fitted on the others, so that the second figure is not flattered.
    """
    scaled = np.concatenate(cross_fitted(logits, labels))
    known = np.concatenate(labels)
    return Calibrated(calibration(np.concatenate(logits), known), calibration(scaled, known))


def _bin(low: float, high: float, confidence: Floats, right: Floats) -> Bin:
    rows = len(right)
    means = (float(confidence.mean()), float(right.mean())) if rows else (None, None)
    return Bin(float(low), float(high), rows, *means)


def _distance(line: Bin) -> float:
    if line.confidence is None or line.accuracy is None:
        return 0.0
    return line.rows * abs(line.confidence - line.accuracy)
