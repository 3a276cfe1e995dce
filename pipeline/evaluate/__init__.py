"""Folds, scores, intervals and comparisons: what makes the comparison of heads honest."""

from pipeline.evaluate.bbc import Corrected, bbc
from pipeline.evaluate.bootstrap import (
    LEVEL,
    Bootstrap,
    Interval,
    bootstrap,
    intervals,
    standard_errors,
)
from pipeline.evaluate.calibration import (
    BINS,
    Bin,
    Calibrated,
    Calibration,
    calibrated,
    calibration,
)
from pipeline.evaluate.classes import PerClass, majority_logits, majority_score, per_class
from pipeline.evaluate.folds import Fold, folds, repeated_folds
from pipeline.evaluate.hardrows import HardRow, hard_rows
from pipeline.evaluate.metrics import METRICS, Metric, score
from pipeline.evaluate.nested import NestedScore, OuterFold, nested_folds, nested_score
from pipeline.evaluate.outoffold import OutOfFold, gathered, in_rows, scorer_of_all
from pipeline.evaluate.smallest import Cost, recommended
from pipeline.evaluate.softmax import Floats, Labels, log_softmax, mean_logits, softmax
from pipeline.evaluate.temperature import cross_fitted, fit_temperature
from pipeline.evaluate.ties import Part, tied
from pipeline.evaluate.ttest import TTest, corrected_error, corrected_t

__all__ = [
    "BINS",
    "LEVEL",
    "METRICS",
    "Bin",
    "Bootstrap",
    "Calibrated",
    "Calibration",
    "Corrected",
    "Cost",
    "Floats",
    "Fold",
    "HardRow",
    "Interval",
    "Labels",
    "Metric",
    "NestedScore",
    "OutOfFold",
    "OuterFold",
    "Part",
    "PerClass",
    "TTest",
    "bbc",
    "bootstrap",
    "calibrated",
    "calibration",
    "corrected_error",
    "corrected_t",
    "cross_fitted",
    "fit_temperature",
    "folds",
    "gathered",
    "hard_rows",
    "in_rows",
    "intervals",
    "log_softmax",
    "majority_logits",
    "majority_score",
    "mean_logits",
    "nested_folds",
    "nested_score",
    "per_class",
    "recommended",
    "repeated_folds",
    "score",
    "scorer_of_all",
    "softmax",
    "standard_errors",
    "tied",
]
