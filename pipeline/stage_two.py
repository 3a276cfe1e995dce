"""The command ``heads``: cached features in, a leaderboard and the best head out."""

from __future__ import annotations

import secrets
import time
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.adaptation import copy_beside
from pipeline.assemble import provenance
from pipeline.config import FeaturesConfig, HeadEntry, HeadsConfig
from pipeline.dataset import require_labels
from pipeline.dataset.duplicates import Duplicates, find_duplicates
from pipeline.errors import UsageError
from pipeline.events import Observer
from pipeline.export import HeadFile, HeadWeights, save_head
from pipeline.heads import HeadSpec, default_specs
from pipeline.headviews import HeadViews
from pipeline.looks import looked
from pipeline.roles import Roles, assign_roles
from pipeline.stage_one import Features, Made, find_dataset, make_features, require_one
from pipeline.sweep import SweepConfig, SweepData, SweepResult, sweep
from pipeline.sweep.aside import Aside, set_aside
from pipeline.sweep.kept import KeptFits, Memory, Rows
from pipeline.sweep.views import Views


@dataclass(frozen=True, slots=True)
class Heads:
    """What stage two leaves.

    Attributes
    ----------
    config
        The configuration used.
    features
        What stage one made or found.
    classes
        Names of the classes, in the order of a head's outputs.
    duplicates
        Which images are one picture.
    roles
        What each image was used for.
    result
        The leaderboard and the best head.
    asides
        Heads beside the board, on features or folds of their own.
    looks
        How often this holdout was looked at, by this run too; 0 where there is none.
    folder
        Where the run is written.
    created
        When, ISO 8601 in UTC.
    environment
        Versions of libraries, and the machine.
    """

    config: HeadsConfig
    features: Features
    classes: tuple[str, ...]
    duplicates: Duplicates
    roles: Roles
    result: SweepResult
    asides: tuple[Aside, ...]
    looks: int
    folder: Path
    created: str
    environment: dict[str, str]

    @property
    def head_file(self) -> Path:
        """The best head, as a file that labels new images."""
        return self.folder / "best.head"


def train_heads(config: HeadsConfig, observe: Observer) -> Heads:
    """Make the features that are missing, compare heads on them, fit the best one for use.

    Raises
    ------
    UsageError
        As for stage one; or the data set has no labels, one class, or too few images in a class.
    """
    require_one(config.features, "heads")
    seed = config.features.backbone.seed
    specs = _specs(config)
    found = find_dataset(config.features)
    require_labels(found, config.folds)
    features = make_features(_with_poolings(config), found, observe)
    lost = sorted(set(found.labels or ()) - set(features.dataset.labels or ()))
    if lost:
        raise UsageError(
            f"class {lost[0]!r} of {found.name} has no image that can be used; the reasons are in "
            f"{features.store.folder / 'rejects.jsonl'}"
        )
    duplicates = find_duplicates(features.keys, features.facts)
    roles = assign_roles(
        features.dataset,
        features.keys,
        duplicates,
        folds=config.folds,
        set_aside=config.holdout,
        grouped=config.groups,
        seed=seed,
        observe=observe,
    )
    classes, labels = np.unique(np.array(features.dataset.labels), return_inverse=True)
    used = roles.used
    rows = SweepData(
        features=features.store.read(features.keys[used]),
        labels=labels[used],
        classes=tuple(map(str, classes)),
        groups=roles.groups[used],
        roles=roles.role[used],
        alike=roles.found[used],
        rows_named=Rows(features.assembly.recipe.digest, features.keys[used]),
        views=_views(features.made[0], features.keys[used], config.tta),
    )
    sweeping = SweepConfig(
        metric=config.metric,
        folds=config.folds,
        seed=seed,
        specs=specs,
        repeats=config.repeats,
        nested=config.nested,
        calibrate=config.calibrate,
    )
    with KeptFits(config.features.out / "heads" / "fits.sqlite") as memory:
        until = None if config.budget is None else time.monotonic() + config.budget
        result = sweep(rows, sweeping, observe, memory, until)
        asides = _asides(config, features, rows, used, sweeping, memory, observe, until)
    looks = 0
    if (tested := features.keys[roles.role == "test"]).size:
        looks = looked(config.features.out / "heads" / "looks.json", tested)
    folder, created = _new_folder(config.features.out / "heads")
    return Heads(
        config=config,
        features=features,
        classes=tuple(map(str, classes)),
        duplicates=duplicates,
        roles=roles,
        result=result,
        asides=asides,
        looks=looks,
        folder=folder,
        created=created,
        environment=provenance()
        | {"scikit-learn": version("scikit-learn"), "engine": features.assembly.choice.engine},
    )


def _specs(config: HeadsConfig) -> tuple[HeadSpec, ...]:
    """List the heads to compare: the default ones, or those of the sweep file; by name, if named.

    Heads on features or folds of their own are not among them; see `_asides`.
    """
    default = default_specs(config.heads)
    if not config.entries:
        return default
    alike = [e for e in _named(config) if not _on_its_own(e, config)]
    if not alike:
        which = " or ".join(config.heads) or "on the features and folds that all share"
        raise UsageError(f"the sweep file has no head {which}")
    return tuple(HeadSpec(entry.head, entry.settings) for entry in alike)


def _named(config: HeadsConfig) -> list[HeadEntry]:
    return [e for e in config.entries if not config.heads or e.head in config.heads]


def _on_its_own(entry: HeadEntry, config: HeadsConfig) -> bool:
    return entry.only_first_fold or entry.pooling not in (None, config.features.backbone.pooling)


def _with_poolings(config: HeadsConfig) -> FeaturesConfig:
    """Have stage one make the features of all heads, in one pass."""
    usual = config.features.backbone
    others = dict.fromkeys(
        e.pooling for e in _named(config) if e.pooling not in (None, usual.pooling)
    )
    also = tuple(replace(usual, pooling=pooling) for pooling in others if pooling)
    return replace(config.features, also=also)


def _asides(
    config: HeadsConfig,
    features: Features,
    rows: SweepData,
    used: NDArray[np.int64],
    sweeping: SweepConfig,
    memory: Memory,
    observe: Observer,
    until: float | None,
) -> tuple[Aside, ...]:
    """Fit the heads that have features or folds of their own, each kind of them together."""
    kinds: dict[tuple[str, bool], list[HeadSpec]] = {}
    for entry in _named(config):
        if _on_its_own(entry, config):
            pooling = entry.pooling or config.features.backbone.pooling
            own = kinds.setdefault((pooling, entry.only_first_fold), [])
            own.append(HeadSpec(entry.head, entry.settings))
    found: list[Aside] = []
    for (pooling, first), specs in kinds.items():
        made = next(m for m in features.made if m.assembly.recipe.pooling == pooling)
        theirs = replace(
            rows,
            features=made.store.read(features.keys[used]),
            rows_named=Rows(made.assembly.recipe.digest, features.keys[used]),
            views=_views(made, features.keys[used], config.tta),
        )
        found += set_aside(
            specs, pooling, theirs, sweeping, memory, observe, first_fold_only=first, until=until
        )
    return tuple(found)


def _views(made: Made, keys: NDArray[np.uint8], averaged: bool) -> Views | None:
    """Give the sweep the augmented views of its images, read from the cache as they are needed."""
    if made.augmented is None:
        return None
    store = made.augmented.store

    def read(at: NDArray[np.int64], view: int) -> NDArray[np.floating[Any]]:
        return store.read(keys[at], np.full(len(at), view, np.uint32))

    return Views(store.digest, made.augmented.views, read, averaged)


def save_best(heads: Heads) -> None:
    """Write the best head into the run's folder, where the leaderboard lies already.

    Raises
    ------
    HeadError
        It is larger than a head file can be.
    """
    copy_beside(heads.features.assembly, heads.folder)
    save_head(heads.head_file, _head_of(heads))


def _head_of(heads: Heads) -> HeadFile:
    """Pack the best head with all it takes to use it rightly."""
    result, assembly = heads.result, heads.features.assembly
    best, weights = result.leaderboard[0], assembly.weights
    scores = {
        "metric": result.metric,
        "score": best.score,
        "std": best.std,
        "train_score": best.train_score,
        "holdout": asdict(result.holdout) if result.holdout else None,
        "trained_on": result.trained_on,
    }
    name = weights.path.name if weights.path and weights.source == "file" else ""
    return HeadFile(
        head=result.best,
        spec=best.spec,
        classes=heads.classes,
        recipe=assembly.recipe,
        weights=HeadWeights(weights.source, name, weights.seed),
        temperature=result.temperature,
        seed=result.seed,
        scores=scores,
        created=heads.created,
        versions=heads.environment,
        views=_head_views(heads),
    )


def _head_views(heads: Heads) -> HeadViews | None:
    augmented = heads.features.made[0].augmented
    if augmented is None:
        return None
    return HeadViews(augmented.policy, augmented.views + 1, heads.config.tta)


def _new_folder(parent: Path) -> tuple[Path, str]:
    """Make the folder of this run, whose name sorts by time; two runs at once never share one."""
    now = datetime.now(UTC)
    folder = parent / f"{now:%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
    folder.mkdir(parents=True)
    return folder, now.isoformat(timespec="seconds")
