"""Folds, scores, temperatures and ties: what makes the comparison of heads honest."""

from pipeline.evaluate.folds import Fold, folds
from pipeline.evaluate.metrics import METRICS, Metric, score
from pipeline.evaluate.softmax import Floats, Labels, log_softmax, softmax
from pipeline.evaluate.temperature import cross_fitted, fit_temperature
from pipeline.evaluate.ties import Part, tied

__all__ = [
    "METRICS",
    "Floats",
    "Fold",
    "Labels",
    "Metric",
    "Part",
    "cross_fitted",
    "fit_temperature",
    "folds",
    "log_softmax",
    "score",
    "softmax",
    "tied",
]
