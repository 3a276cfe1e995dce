"""``verify --recompute``: whether the cache says the truth about these images, here and now."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cache import FeatureStore
from pipeline.assemble import Assembly, assemble_for
from pipeline.config import FeaturesConfig, usable_cores
from pipeline.engines.agreement import TOLERANCE, deviations_of
from pipeline.engines.base import rows_of
from pipeline.errors import UsageError
from pipeline.events import BatchDone, ExtractionPlanned, Observer
from pipeline.images.augment import Policy
from pipeline.images.batches import ViewPlan, decoded_batches
from pipeline.keyed import image_keys
from pipeline.stage_one import find_dataset, require_one

STORAGE = {"float32": 0.0, "float16": 1e-3}
"""What storing in a dtype adds to that: float16 rounds by 2**-11 = 5e-4."""


@dataclass(frozen=True, slots=True)
class Deviation:
    """An image whose stored row is not what the network gives now.

    Attributes
    ----------
    path
        Where the image is.
    deviation
        Largest difference of a number, as a part of the largest number of the row; infinite where
        a number is not finite.
    problem
        Why it could not be computed again; empty where it could.
    view
        Which view of it; 0 for the plain image.
    """

    path: Path
    deviation: float
    problem: str
    view: int = 0


@dataclass(frozen=True, slots=True)
class Recomputed:
    """What a spot check found.

    Attributes
    ----------
    store
        Where the rows are.
    rows
        How many were chosen.
    tolerance
        What a deviation may be.
    largest
        The largest deviation of all rows that could be computed.
    deviations
        The rows that do not agree.
    """

    store: Path
    rows: int
    tolerance: float
    largest: float
    deviations: tuple[Deviation, ...]


def recompute(config: FeaturesConfig, count: int, observe: Observer) -> Recomputed:
    """Decode images again, run the reference engine again, and compare with the rows stored.

    Parameters
    ----------
    config
        As for stage one; its seed also chooses the rows.
    count
        How many of the data set's rows, those of its augmented views among them where the
        configuration has such; all of them if they are fewer.

    Raises
    ------
    UsageError
        As for stage one; or the cache has no row of the data set under this recipe.
    """
    require_one(config, "verify --recompute")
    dataset = find_dataset(config)
    assembly = assemble_for(config.data, config.backbone, observe)
    if config.backbone.precision == "auto":
        assembly = _kept(assembly, config.out)
    folder = config.out / "features" / assembly.recipe.name
    policy = Policy.parse(config.augment, config.augment_seed)
    stores = [_open(folder)]
    if config.views > 1:
        augmented = _open(folder.parent / assembly.augmented_recipe(policy).name)
        stores += [augmented] * (config.views - 1)
    positions, keys, _ = image_keys(dataset, config)
    at, views = _choose(stores, keys, count, config.backbone.seed)
    if not len(at):
        raise UsageError(f"{folder} has no row of {config.data}; run headstart features first")
    distinct, first = np.unique(at, return_index=True)
    looks = _Looks(
        paths=[dataset.paths[i] for i in positions[distinct]],
        keys=keys[distinct],
        plan=ViewPlan(policy, np.append(first, len(at)), views),
        stores=stores,
    )
    deviations = _deviations(assembly, looks, observe)
    recipe = assembly.recipe
    tolerance = TOLERANCE[recipe.precision] + STORAGE[recipe.dtype]
    return Recomputed(
        store=folder,
        rows=len(at),
        tolerance=tolerance,
        largest=max((d.deviation for d in deviations if not d.problem), default=0.0),
        deviations=tuple(d for d in deviations if d.problem or not d.deviation <= tolerance),
    )


def _open(folder: Path) -> FeatureStore:
    if not (folder / "recipe.json").exists():
        raise UsageError(f"there is no store {folder}; run headstart features with these flags")
    return FeatureStore.at(folder)


def _kept(assembly: Assembly, out: Path) -> Assembly:
    """Return it in a precision that has a store, its own if that has one."""
    kept = {path.name for path in (out / "features").glob("*")}
    both = (assembly, *map(assembly.computing_in, TOLERANCE))
    return next((one for one in both if one.recipe.name in kept), assembly)


def _choose(
    stores: Sequence[FeatureStore], keys: NDArray[np.uint8], count: int, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.uint32]]:
    """Positions and views of rows that are there, by image; drawn without repetition.

    Parameters
    ----------
    stores
        Where the rows of each view are kept.
    """
    _, first = np.unique(keys, axis=0, return_index=True)
    pairs = []
    for view, store in enumerate(stores):
        missing = store.missing(keys, np.full(len(keys), view, np.uint32))
        there = np.setdiff1d(first, missing)
        pairs.append(np.stack([there, np.full_like(there, view)], axis=1))
    drawn = np.random.default_rng(seed).permutation(np.concatenate(pairs))[:count]
    at, views = drawn[np.lexsort((drawn[:, 1], drawn[:, 0]))].T
    return at.astype(np.int64), views.astype(np.uint32)


@dataclass(frozen=True, slots=True)
class _Looks:
    """Views of images that are computed again, and where their rows are kept."""

    paths: list[Path]
    keys: NDArray[np.uint8]
    plan: ViewPlan
    stores: Sequence[FeatureStore]  # by view

    def image_of(self, look: int) -> int:
        return int(np.searchsorted(self.plan.first, look, "right")) - 1

    def told(self, look: int, deviation: float, problem: str = "") -> Deviation:
        path = self.paths[self.image_of(look)]
        return Deviation(path, deviation, problem, int(self.plan.views[look]))

    def stored(self, looks: Sequence[int]) -> NDArray[np.floating]:
        """Read the rows of some looks: ``(n, dims)``."""
        rows = []
        for look in looks:
            key, view = self.keys[self.image_of(look)], self.plan.views[look]
            rows.append(self.stores[view].read(key[None], view[None]))
        return np.concatenate(rows)


def _deviations(assembly: Assembly, looks: _Looks, observe: Observer) -> list[Deviation]:
    observe(ExtractionPlanned(new=len(looks.plan.views), reused=0, unit="rows"))
    engine = assembly.reference()
    found: list[Deviation] = []
    batches = decoded_batches(
        looks.paths,
        looks.keys,
        (assembly.resize,),
        batch_size=max(1, assembly.batch_size // len(looks.stores)),
        workers=usable_cores(),
        views=looks.plan,
    )
    with contextlib.closing(batches):
        for batch in batches:
            found += [looks.told(i, np.inf, str(error)) for i, error in batch.failures]
            if batch.positions:
                now = rows_of(engine, batch.pixels())
                parts = deviations_of(looks.stored(batch.positions), now).tolist()
                found += map(looks.told, batch.positions, parts)
            observe(BatchDone(images=len(batch.positions), rejected=len(batch.failures)))
    return found
