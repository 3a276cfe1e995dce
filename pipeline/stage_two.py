"""The command ``heads``: cached features in, a leaderboard and the best head out."""

from __future__ import annotations

import secrets
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import numpy as np

from pipeline.assemble import provenance
from pipeline.config import HeadsConfig
from pipeline.dataset import require_labels
from pipeline.dataset.duplicates import Duplicates, find_duplicates
from pipeline.errors import UsageError
from pipeline.events import Notice, Observer
from pipeline.export import HeadFile, HeadWeights, save_head
from pipeline.heads import HeadSpec, default_specs
from pipeline.roles import Roles, assign_roles
from pipeline.stage_one import Features, find_dataset, make_features, require_one
from pipeline.sweep import SweepConfig, SweepData, SweepResult, sweep
from pipeline.sweep.kept import KeptFits, Rows
from pipeline.text import plural


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
    specs = _specs(config, observe)
    found = find_dataset(config.features)
    require_labels(found, config.folds)
    features = make_features(config.features, found, observe)
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
    used = np.flatnonzero(roles.role != "")
    rows = SweepData(
        features=features.store.read(features.keys[used]),
        labels=labels[used],
        classes=tuple(map(str, classes)),
        groups=roles.groups[used],
        roles=roles.role[used],
        rows_named=Rows(features.assembly.recipe.digest, features.keys[used]),
    )
    sweeping = SweepConfig(
        metric=config.metric,
        folds=config.folds,
        seed=seed,
        specs=specs,
        repeats=config.repeats,
        nested=config.nested,
        budget=config.budget,
    )
    with KeptFits(config.features.out / "heads" / "fits.sqlite") as memory:
        result = sweep(rows, sweeping, observe, memory)
    folder, created = _new_folder(config.features.out / "heads")
    return Heads(
        config=config,
        features=features,
        classes=tuple(map(str, classes)),
        duplicates=duplicates,
        roles=roles,
        result=result,
        folder=folder,
        created=created,
        environment=provenance()
        | {"scikit-learn": version("scikit-learn"), "engine": features.assembly.choice.engine},
    )


def _specs(config: HeadsConfig, observe: Observer) -> tuple[HeadSpec, ...]:
    """List the heads to compare: the default ones, or those of the sweep file; by name, if named.

    Heads on features or folds of their own are told of, and left out.
    """
    default = default_specs(config.heads)
    if not config.entries:
        return default
    named = [e for e in config.entries if not config.heads or e.head in config.heads]
    usual = (None, config.features.backbone.pooling)
    alike = [e for e in named if e.pooling in usual and not e.only_first_fold]
    if not alike:
        which = " or ".join(config.heads) or "on the features and folds that all share"
        raise UsageError(f"the sweep file has no head {which}")
    if other := len(named) - len(alike):
        heads = plural(other, "head")
        observe(Notice(f"left out {heads} on a pooling of their own or on the first fold alone"))
    return tuple(HeadSpec(entry.head, entry.settings) for entry in alike)


def save_best(heads: Heads) -> None:
    """Write the best head into the run's folder, where the leaderboard lies already.

    Raises
    ------
    HeadError
        It is larger than a head file can be.
    """
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
    )


def _new_folder(parent: Path) -> tuple[Path, str]:
    """Make the folder of this run, whose name sorts by time; two runs at once never share one."""
    now = datetime.now(UTC)
    folder = parent / f"{now:%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
    folder.mkdir(parents=True)
    return folder, now.isoformat(timespec="seconds")
