"""The choices a user can make, as frozen dataclasses with their defaults."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from pipeline.workshard import WorkShard

Metric: TypeAlias = Literal["accuracy", "balanced_accuracy", "macro_f1", "roc_auc", "log_loss"]

DEFAULT_BACKBONE = "resnet50"
DEMO = "digits"
DEMO_BACKBONE = "efficientnet-lite0"


@dataclass(frozen=True, kw_only=True)
class BackboneConfig:
    """Which network turns an image into a row, and how.

    Attributes
    ----------
    backbone
        Name in the registry; None takes the default.
    weights
        ``"imagenet"``, ``"random"`` or the path of a weight file; None takes ImageNet's.
    seed
        Seed of random weights; without them it changes no feature.
    size
        Side of the square input in pixels; None takes the backbone's own.
    resize, layer, pooling
        How an image becomes a square, of which layer the feature map is (``"top"``: of the last),
        and how it becomes a row.
    batch_size
        Images that go through the network at once; changes no feature beyond rounding. None takes
        what is fast and fits into memory.
    """

    backbone: str | None = None
    weights: str | None = None
    seed: int = 0
    size: int | None = None
    resize: str = "stretch"
    layer: str = "top"
    pooling: str = "avg"
    batch_size: int | None = None


@dataclass(frozen=True, kw_only=True)
class FeaturesConfig:
    """Stage one: which images, which network, where the cache lies.

    Attributes
    ----------
    backbone, also
        The network, and more of them (or other sizes, layers, poolings) whose features are made in
        the same pass over the images.
    strict
        Whether an image that cannot be used is an error.
    commit_seconds
        Rows are made durable at the latest after so many seconds: what a kill may cost.
    shard
        The part of the images to work on; None for all.
    """

    data: str = DEMO
    out: Path = Path("runs")
    backbone: BackboneConfig = BackboneConfig()
    also: tuple[BackboneConfig, ...] = ()
    strict: bool = False
    commit_seconds: float = 30.0
    shard: WorkShard | None = None


@dataclass(frozen=True, kw_only=True)
class HeadsConfig:
    """Stage two: how heads are compared.

    Attributes
    ----------
    features
        The configuration of stage one, which makes what is missing.
    metric
        What heads are ranked by.
    folds
        Number of stratified folds; not used where the data set has a ``val`` split.
    holdout
        Whether 20 % are set aside for one last look where the data set has no ``test`` split.
    heads
        Names of the heads to train; empty for all.
    """

    features: FeaturesConfig = FeaturesConfig()
    metric: Metric = "accuracy"
    folds: int = 5
    holdout: bool = True
    heads: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class PredictConfig:
    """Which head labels which images.

    Attributes
    ----------
    head
        The head file.
    images
        Image files, or folders that are searched for them.
    weights
        Where the backbone's weights are, as for stage one; None takes what the head names.
    """

    head: Path
    images: tuple[Path, ...]
    weights: str | None = None
    batch_size: int | None = None


def usable_cores() -> int:
    """Cores this process may run on: its affinity, which containers and batch systems set."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
