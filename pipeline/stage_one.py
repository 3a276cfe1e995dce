"""The command ``features``: images in, rows of the cache out."""

from __future__ import annotations

import time
from collections.abc import Sequence
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
from pipeline.extract import Filled, Job, extract
from pipeline.images.augment import Policy
from pipeline.images.formats import Transient
from pipeline.images.rejects import Reject, read_rejects
from pipeline.keyed import forget, keys_and_rejects
from pipeline.networks import grouped, networks_of
from pipeline.refused import among, note_rejects, rejected


@dataclass(frozen=True, slots=True)
class Augmented:
    """The rows of augmented views beside those of one store.

    Attributes
    ----------
    policy
        How views are drawn.
    views
        How many of each image; they are numbered from 1.
    store
        The store.
    new, reused
        Rows computed now, and rows that were there.
    """

    policy: Policy
    views: int
    store: FeatureStore
    new: int
    reused: int


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
    augmented
        The rows of augmented views; None where none were asked for.
    """

    assembly: Assembly
    store: FeatureStore
    new: int
    reused: int
    augmented: Augmented | None = None


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
    extracting, startup, seconds
        Seconds in which rows were computed, in which networks were built, and of the whole stage.
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
    extracting: float
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

    @property
    def rows_new(self) -> int:
        """Rows computed now, of all stores and views."""
        return sum(each.new for made in self.made for each in (made, made.augmented) if each)

    @property
    def rows_reused(self) -> int:
        """Rows that were there, of all stores and views."""
        return sum(each.reused for made in self.made for each in (made, made.augmented) if each)


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
        No usable image in it (a shard may be empty), no such backbone, no weights, no such policy
        of views, or too small a disk.
    CacheError
        Rows could not be kept; what was reported as kept still is.
    """
    began = time.monotonic()
    policy = Policy.parse(config.augment, config.augment_seed) if config.views > 1 else None
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
    augmented = [each.augmented_store(config.out, policy) for each in assemblies if policy]
    _check(augmented, observe)
    # What could not be decoded by this recipe's rule cannot be today: it is not read again.
    hopeless = {
        r.key: r.reason
        for store in (*stores, *augmented)
        for r in read_rejects(store.folder)
        if r.key and r.undecodable
    }
    hopeful = ~among(keys, hopeless)
    done = extract(
        Job(
            sources=[dataset.paths[i] for i in positions[hopeful]],
            keys=keys[hopeful],
            networks=networks_of(assemblies, stores, config.out, observe, augmented),
            facts=facts,
            observe=observe,
            commit_seconds=config.commit_seconds,
            shard=config.shard,
            policy=policy,
            views=config.views,
        )
    )
    failed = {keys[hopeful][i].tobytes(): error for i, error in done.failures}
    passing = [i for i, error in done.failures if isinstance(error, Transient)]
    forget(config, [dataset.paths[i] for i in positions[hopeful][passing]])
    usable = hopeful & ~among(keys, failed)
    rejects = (
        *unreadable,
        *(
            rejected(dataset.paths[i], key.tobytes(), hopeless, failed)
            for i, key in zip(positions[~usable], keys[~usable], strict=True)
        ),
    )
    for store, filled in zip((*stores, *augmented), done.stores, strict=True):
        note_rejects(store.folder, rejects, {keys[hopeful][i].tobytes() for i in filled.unfit})
    if not usable.any() and config.shard is None:
        raise UsageError(
            f"{config.data}: none of the {len(rejects)} images can be used; "
            f"the reasons are in {stores[0].folder / 'rejects.jsonl'}"
        )
    return Features(
        dataset=dataset.take(positions[usable]),
        made=_made(assemblies, (*stores, *augmented), done.stores, policy, config.views - 1),
        keys=keys[usable],
        facts=facts,
        rejects=rejects,
        new=done.new,
        reused=done.reused,
        images_per_second=done.new / done.seconds if done.new else 0.0,
        extracting=done.seconds,
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
    _check((*stores, facts), observe)
    return stores, facts


def _check(stores: Sequence[FeatureStore], observe: Observer) -> None:
    for store in stores:
        for finding in store.check():
            observe(Notice(f"set aside a shard: {finding.shard} is {finding.problem}"))


def _made(
    assemblies: Sequence[Assembly],
    stores: Sequence[FeatureStore],
    filled: Sequence[Filled],
    policy: Policy | None,
    views: int,
) -> tuple[Made, ...]:
    """Tell what became of each assembly's store, and of the one of its views behind all those."""
    made, count = [], len(assemblies)
    for number, assembly in enumerate(assemblies):
        plain, augmented = filled[number], None
        if policy:
            own = filled[count + number]
            augmented = Augmented(policy, views, stores[count + number], own.new, own.reused)
        made.append(Made(assembly, stores[number], plain.new, plain.reused, augmented))
    return tuple(made)


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
