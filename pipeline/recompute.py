"""``verify --recompute``: whether the cache says the truth about these images, here and now."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cache import FeatureStore
from pipeline.assemble import Assembly, assemble_for
from pipeline.config import FeaturesConfig, usable_cores
from pipeline.engines.agreement import TOLERANCE, deviations_of
from pipeline.errors import UsageError
from pipeline.events import BatchDone, ExtractionPlanned, Observer
from pipeline.images.batches import decoded_batches
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
    """

    path: Path
    deviation: float
    problem: str


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
        As for stage one; its seed also chooses the images.
    count
        How many of the data set's images that have a row; all of them if they are fewer.

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
    if not (folder / "recipe.json").exists():
        raise UsageError(f"there is no store {folder}; run headstart features with these flags")
    store = FeatureStore.at(folder)
    positions, keys, _ = image_keys(dataset, config)
    chosen = _choose(store, keys, count, config.backbone.seed)
    if not len(chosen):
        raise UsageError(f"{folder} has no row of {config.data}; run headstart features first")
    paths = [dataset.paths[i] for i in positions[chosen]]
    deviations = _deviations(assembly, store, paths, keys[chosen], observe)
    recipe = assembly.recipe
    tolerance = TOLERANCE[recipe.precision] + STORAGE[recipe.dtype]
    return Recomputed(
        store=folder,
        rows=len(chosen),
        tolerance=tolerance,
        largest=max((d.deviation for d in deviations if not d.problem), default=0.0),
        deviations=tuple(d for d in deviations if d.problem or not d.deviation <= tolerance),
    )


def _kept(assembly: Assembly, out: Path) -> Assembly:
    """Return it in a precision that has a store, its own if that has one."""
    kept = {path.name for path in (out / "features").glob("*")}
    both = (assembly, *map(assembly.computing_in, TOLERANCE))
    return next((one for one in both if one.recipe.name in kept), assembly)


def _choose(
    store: FeatureStore, keys: NDArray[np.uint8], count: int, seed: int
) -> NDArray[np.int64]:
    """Positions, ascending, of distinct images that have a row, drawn without repetition."""
    _, first = np.unique(keys, axis=0, return_index=True)
    stored = np.setdiff1d(first, store.missing(keys))
    drawn = np.random.default_rng(seed).permutation(stored)[:count]
    return np.sort(drawn).astype(np.int64)


def _deviations(
    assembly: Assembly,
    store: FeatureStore,
    paths: list[Path],
    keys: NDArray[np.uint8],
    observe: Observer,
) -> list[Deviation]:
    observe(ExtractionPlanned(new=len(paths), reused=0))
    engine = assembly.reference()
    found: list[Deviation] = []
    batches = decoded_batches(
        paths,
        keys,
        (assembly.resize,),
        batch_size=assembly.batch_size,
        workers=usable_cores(),
    )
    with contextlib.closing(batches):
        for batch in batches:
            found += [Deviation(paths[i], np.inf, str(error)) for i, error in batch.failures]
            if batch.positions:
                here = list(batch.positions)
                (now,) = engine(batch.pixels())
                parts = deviations_of(store.read(keys[here]), now)
                found += [
                    Deviation(paths[i], float(p), "") for i, p in zip(here, parts, strict=True)
                ]
            observe(BatchDone(images=len(batch.positions), rejected=len(batch.failures)))
    return found
