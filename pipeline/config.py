"""The choices a user can make, as frozen dataclasses with their defaults."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from pipeline.workshard import WorkShard

Metric: TypeAlias = Literal["accuracy", "balanced_accuracy", "macro_f1", "roc_auc", "log_loss"]

DEFAULT_BACKBONE = "resnet50"
DEMO = "digits"
DEMO_BACKBONE = "efficientnet-lite0"

DEFAULT_AUGMENT = "flip,scale,crop,color"
"""What augmented views are made by, where a user asks for views and does not say how."""

MOST_VIEWS = 64
"""More views of an image are taken for a mistake."""


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
    engine
        ``"keras"``, ``"openvino"``, or ``"auto"`` for the fastest that can; changes no feature
        beyond rounding.
    precision
        ``"float32"``, ``"bfloat16"``, ``"float16"``, or ``"auto"`` for the fastest of them that
        this backbone's heads do not notice.
    """

    backbone: str | None = None
    weights: str | None = None
    seed: int = 0
    size: int | None = None
    resize: str = "stretch"
    layer: str = "top"
    pooling: str = "avg"
    batch_size: int | None = None
    engine: str = "auto"
    precision: str = "auto"


@dataclass(frozen=True, kw_only=True)
class BatchNormConfig:
    """How BatchNorm statistics are re-estimated.

    Attributes
    ----------
    images
        On how many images, at most.
    mix
        Share of what they have in the statistics used: 0 as stored, 1 theirs alone.
    refresh
        Whether the images are chosen anew.
    """

    images: int = 512
    mix: float = 1.0
    refresh: bool = False


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
    views
        Rows of each image: its own, and those of ``views - 1`` augmented views of it.
    augment, augment_seed
        How the augmented ones are drawn, as :class:`pipeline.images.augment.Policy` reads it.
    bn
        How BatchNorm is adapted to the images; None for statistics as stored.
    """

    data: str = DEMO
    out: Path = Path("runs")
    backbone: BackboneConfig = BackboneConfig()
    also: tuple[BackboneConfig, ...] = ()
    strict: bool = False
    commit_seconds: float = 30.0
    shard: WorkShard | None = None
    views: int = 1
    augment: str = DEFAULT_AUGMENT
    augment_seed: int = 0
    bn: BatchNormConfig | None = None


@dataclass(frozen=True)
class HeadEntry:
    """One head of a sweep file, at one setting, with what is its own among the sweep's choices.

    Attributes
    ----------
    head, settings
        As in :class:`pipeline.heads.HeadSpec`.
    pooling
        Of the features that it is trained on; None for those of all others. Folds and holdout are
        the same for all: images are divided, not features.
    only_first_fold
        Whether it is fitted and scored on the first fold alone, for a head that costs hours. It
        then has no deviation, is compared with others on that fold, and is never the best: no
        head is chosen by one fold.
    """

    head: str
    settings: Mapping[str, Any]
    pooling: str | None = None
    only_first_fold: bool = False


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
    groups
        Whether duplicates, near-duplicates and the data set's own groups are kept on one side of
        every fold and of the holdout. Else only equal files are, and scores flatter.
    repeats
        How often the folds are drawn.
    nested
        Whether the choice of the best head is scored by cross-validation around it.
    calibrate
        Whether every head gets a temperature, fitted on out-of-fold predictions, and not those
        alone that are not trained to give probabilities.
    budget
        Seconds after which no further fit begins; None for no limit.
    heads
        Names of the heads to train; empty for all.
    entries
        The heads of a sweep file; empty for the default sweep.
    tta
        Whether images that are scored or labelled are so by the mean of their views.
    """

    features: FeaturesConfig = FeaturesConfig()
    metric: Metric = "accuracy"
    folds: int = 5
    holdout: bool = True
    groups: bool = True
    repeats: int = 1
    nested: bool = False
    calibrate: bool = False
    budget: float | None = None
    heads: tuple[str, ...] = ()
    entries: tuple[HeadEntry, ...] = ()
    tta: bool = False


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
    engine
        As for stage one; the precision is the head's.
    out
        Folder of the cache, where converted networks are kept.
    """

    head: Path
    images: tuple[Path, ...]
    weights: str | None = None
    batch_size: int | None = None
    engine: str = "auto"
    out: Path = Path("runs")


@dataclass(frozen=True, kw_only=True)
class DoctorConfig:
    """What the doctor examines.

    Attributes
    ----------
    features
        The backbone and the images, as for stage one.
    images
        How many of them are looked at, at most; they are kept in memory.
    model
        A Keras model file to be examined in place of the backbone.
    preprocessing
        Rule from pixels to that model's input.
    """

    features: FeaturesConfig = FeaturesConfig()
    images: int = 256
    model: Path | None = None
    preprocessing: str = "none"


def usable_cores(system: Path = Path("/")) -> int:
    """Cores this process may use: by its affinity, and by the CPU quota of its control groups.

    A quota of one and a half cores counts as two. Containers set the quota alone, mostly: the
    affinity then still names every core of the host.

    Parameters
    ----------
    system
        Root of the file system, where ``proc`` and ``sys`` are.
    """
    free = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, min([free or 1, *(math.ceil(quota) for quota in _quotas(system))]))


def _quotas(system: Path) -> Iterator[float]:
    """Cores that each control group of this process, and each group above it, may use."""
    try:
        groups = (system / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):  # not Linux
        return
    mounts = system / "sys/fs/cgroup"
    for line in groups:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            roots, read = (mounts, mounts / "unified"), _quota_v2
        elif "cpu" in controllers.split(","):
            roots, read = (mounts / controllers, mounts / "cpu"), _quota_v1
        else:
            continue
        # In a container the path may be the host's, which is not there: its root is, and counts.
        above = [Path(path.lstrip("/")), *Path(path.lstrip("/")).parents]
        for folder in (root / group for root in roots for group in above):
            with contextlib.suppress(OSError, ValueError, ZeroDivisionError):
                yield read(folder)


def _quota_v2(folder: Path) -> float:
    quota, period = (folder / "cpu.max").read_text(encoding="ascii").split()
    return int(quota) / int(period)  # "max", for no limit, is no integer


def _quota_v1(folder: Path) -> float:
    quota = int((folder / "cpu.cfs_quota_us").read_text(encoding="ascii"))
    if quota < 0:
        raise ValueError("no limit")
    return quota / int((folder / "cpu.cfs_period_us").read_text(encoding="ascii"))
