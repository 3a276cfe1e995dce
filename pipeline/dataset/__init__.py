"""Datasets: lists of images with labels, groups and splits, and the rule of the holdout."""

from pipeline.dataset.base import SPLITS, Dataset, require_labels
from pipeline.dataset.holdout import Holdout, holdout
from pipeline.dataset.load import load_dataset

__all__ = ["SPLITS", "Dataset", "Holdout", "holdout", "load_dataset", "require_labels"]
