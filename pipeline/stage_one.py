"""The command ``features``: images in, rows of the cache out."""

from __future__ import annotations

import time
from collections.abc import Collection, Container, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cache import FeatureStore
from pipeline.adaptation import adapted
from pipeline.assemble import Assembly, assemble_for, go_on_with_complete, open_facts
from pipeline.config import DEMO, FeaturesConfig
from pipeline.dataset import Dataset, load_dataset
from pipeline.errors import UsageError
from pipeline.events import Notice, Observer
from pipeline.extract import Job, extract
from pipeline.images.formats import Transient, Undecodable
from pipeline.images.rejects import Reject, read_rejects, write_rejects
from pipeline.keyed import forget, keys_and_rejects
from pipeline.networks import grouped, networks_of
from pipeline.sink import NOT_FINITE


@dataclass(frozen=True, slots=True)
class Made:
    """One store that stage one brought up to date.

    Attributes
    ----------
    assembly
        The backbone, its weights and the recipe.
    store
        The store.
    new, reused
        Rows computed now, and rows that were there; one a distinct image.
    """

    assembly: Assembly
    store: FeatureStore
    new: int
    reused: int


@dataclass(frozen=True, slots=True)
class Features:
    """What stage one leaves: the data set's usable rows in stores, and how that went.

    Attributes
    ----------
    dataset
        The usable images, aligned with `keys`; of a shard its own ones.
    made
        The stores, each of which holds every row of `keys`; the one asked for first is the first.
    keys
        uint8 ``(n, 32)``, the keys of the images.
    facts
        The store of what decoding them told.
    rejects
        Everything that could not be used, with its reason.
    new, reused
        Distinct images of which a row was computed now, and those that lacked none.
    images_per_second
        Of the new ones, without the time to build networks; zero where nothing was new.
    startup, seconds
        Seconds that it took to build the networks, and of the whole stage.
    busy
        Share of the time of extraction in which images were in a network.
    """

    dataset: Dataset
    made: tuple[Made, ...]
    keys: NDArray[np.uint8]
    facts: FeatureStore
    rejects: tuple[Reject, ...]
    new: int
    reused: int
    images_per_second: float
    startup: float
    seconds: float
    busy: float

    @property
    def assembly(self) -> Assembly:
        """The backbone of the first store."""
        return self.made[0].assembly

    @property
    def store(self) -> FeatureStore:
        """The first store."""
        return self.made[0].store


def require_one(config: FeaturesConfig, command: str) -> None:
    """Refuse several backbones, sizes, layers or poolings where a command is about one store.

    Raises
    ------
    UsageError
        The configuration names several.
    """
    if config.also:
        raise UsageError(
            f"{command} takes one backbone, size, layer and pooling at a time; "
            "only features makes several in one pass"
        )


def find_dataset(config: FeaturesConfig) -> Dataset:
    """List the images that a configuration names; none is read.

    Raises
    ------
    UsageError
        No place to write, no such data, or no image in it.
    """
    if config.data == DEMO:
        _ensure_writable(config.out)
    dataset = load_dataset(config.data, config.out)
    _ensure_writable(config.out)
    return dataset


def make_features(config: FeaturesConfig, dataset: Dataset, observe: Observer) -> Features:
    """Bring the cache up to date with a data set.

    Raises
    ------
    UsageError
        No usable image in it (a shard may be empty), no such backbone, no weights.
    CacheError
        Rows could not be kept; what was reported as kept still is.
    """
    began = time.monotonic()
    # Weights come before the first image is read: a run without them must stop at once.
    assemblies = grouped(_assemble(config, observe))
    positions, keys, unreadable = keys_and_rejects(dataset, config, observe)
    if config.bn is not None:
        here = dataset.take(positions)
        facts_store = open_facts(config.out)
        assemblies = tuple(
            adapted(each, config, here, keys, facts_store, observe) for each in assemblies
        )
    if config.shard is not None:
        mine = config.shard.mask(keys)
        positions, keys = positions[mine], keys[mine]
    if config.backbone.precision == "auto":
        assemblies = grouped(
            [go_on_with_complete(each, config.out, keys, observe) for each in assemblies]
        )
    stores, facts = _open(assemblies, config.out, observe)
    # What could not be decoded by this recipe's rule cannot be today: it is not read again.
    hopeless = {
        r.key: r.reason
        for store in stores
        for r in read_rejects(store.folder)
        if r.key and r.undecodable
    }
    hopeful = ~_among(keys, hopeless)
    done = extract(
        Job(
            sources=[dataset.paths[i] for i in positions[hopeful]],
            keys=keys[hopeful],
            networks=networks_of(assemblies, stores, config.out, observe),
            facts=facts,
            observe=observe,
            commit_seconds=config.commit_seconds,
            shard=config.shard,
        )
    )
    failed = {keys[hopeful][i].tobytes(): error for i, error in done.failures}
    passing = [i for i, error in done.failures if isinstance(error, Transient)]
    forget(config, [dataset.paths[i] for i in positions[hopeful][passing]])
    usable = hopeful & ~_among(keys, failed)
    rejects = (
        *unreadable,
        *(
            _reject(dataset.paths[i], key.tobytes(), hopeless, failed)
            for i, key in zip(positions[~usable], keys[~usable], strict=True)
        ),
    )
    for store, filled in zip(stores, done.stores, strict=True):
        _write_rejects(store.folder, rejects, {keys[hopeful][i].tobytes() for i in filled.unfit})
    if not usable.any() and config.shard is None:
        raise UsageError(
            f"{config.data}: none of the {len(rejects)} images can be used; "
            f"the reasons are in {stores[0].folder / 'rejects.jsonl'}"
        )
    return Features(
        dataset=dataset.take(positions[usable]),
        made=tuple(
            Made(assembly, store, filled.new, filled.reused)
            for assembly, store, filled in zip(assemblies, stores, done.stores, strict=True)
        ),
        keys=keys[usable],
        facts=facts,
        rejects=rejects,
        new=done.new,
        reused=done.reused,
        images_per_second=done.new / done.seconds if done.new else 0.0,
        startup=done.startup,
        seconds=time.monotonic() - began,
        busy=done.busy,
    )


def _assemble(config: FeaturesConfig, observe: Observer) -> list[Assembly]:
    chosen = (config.backbone, *config.also)
    return [assemble_for(config.data, each, observe) for each in chosen]


def _open(
    assemblies: Sequence[Assembly], out: Path, observe: Observer
) -> tuple[list[FeatureStore], FeatureStore]:
    """Open the stores of features and that of facts; tell of what is damaged in them."""
    opened = [assembly.stores(out) for assembly in assemblies]
    stores, facts = [store for store, _ in opened], opened[0][1]
    for store in (*stores, facts):
        for finding in store.check():
            observe(Notice(f"set aside a shard: {finding.shard} is {finding.problem}"))
    return stores, facts


def _among(keys: NDArray[np.uint8], few: Collection[bytes]) -> NDArray[np.bool_]:
    """Tell which keys are in a collection, which mostly is empty."""
    if not few:
        return np.zeros(len(keys), bool)
    return np.array([key.tobytes() in few for key in keys], bool)


def _write_rejects(folder: Path, rejects: Sequence[Reject], unfit: Container[bytes | None]) -> None:
    """List what cannot be used; that features are not finite is one store's affair alone."""
    ours = [r for r in rejects if r.reason != NOT_FINITE or r.key in unfit]
    if ours:
        write_rejects(folder, ours)


def _reject(
    path: Path, key: bytes, hopeless: Mapping[bytes, str], failed: Mapping[bytes, Undecodable]
) -> Reject:
    """Say why an image is not used; a failure that may pass is not held against its bytes."""
    if key in hopeless:
        return Reject(path, key, hopeless[key], undecodable=True)
    error = failed[key]
    lasting = not isinstance(error, Transient)
    return Reject(path, key if lasting else None, str(error), undecodable=lasting)


def _ensure_writable(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
        probe = out / f".writable-{datetime.now(UTC).timestamp()}"
        probe.touch(exist_ok=False)
        probe.unlink()
    except OSError as error:
        raise UsageError(
            f"the output folder {out} cannot be written ({error.strerror}); name another with --out"
        ) from error
