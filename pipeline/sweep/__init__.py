"""Many heads over one matrix of features, compared honestly; reports read what it returns."""

from pipeline.sweep.leaderboard import ROLES, Entry, Holdout, SweepConfig, SweepData, SweepResult
from pipeline.sweep.run import sweep

__all__ = ["ROLES", "Entry", "Holdout", "SweepConfig", "SweepData", "SweepResult", "sweep"]
