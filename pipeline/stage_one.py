"""The command ``features``: images in, rows of the cache out."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cache import FeatureStore, FileIndex
from pipeline.assemble import Assembly, assemble, assemble_demo, go_on_with_complete
from pipeline.config import DEMO, FeaturesConfig
from pipeline.dataset import Dataset, load_dataset
from pipeline.errors import UsageError
from pipeline.events import Notice, Observer
from pipeline.extract import Job, extract
from pipeline.images.formats import Transient, Undecodable
from pipeline.images.hashing import hash_files, with_keys
from pipeline.images.rejects import Reject, read_rejects, write_rejects


@dataclass(frozen=True, slots=True)
class Features:
    """What stage one leaves: the data set's usable rows in a store, and how that went.

    Attributes
    ----------
    dataset
        The usable images, aligned with `keys`.
    assembly
        The backbone, its weights and the recipe.
    store
        The store that holds every row of `keys`.
    keys
        uint8 ``(n, 32)``, the keys of the images.
    rejects
        Everything that could not be used, with its reason.
    new, reused
        Distinct images computed now, and found in the cache.
    images_per_second
        Of the new ones, from the moment the network was ready; zero where nothing was new.
    startup, seconds
        Seconds until the network was ready, and of the whole stage.
    """

    dataset: Dataset
    assembly: Assembly
    store: FeatureStore
    keys: NDArray[np.uint8]
    rejects: tuple[Reject, ...]
    new: int
    reused: int
    images_per_second: float
    startup: float
    seconds: float


def find_dataset(config: FeaturesConfig) -> Dataset:
    """List the images that a configuration names; none is read.

    Raises
    ------
    UsageError
        No place to write, no such data, or no image in it.
    """
    _ensure_writable(config.out)
    return load_dataset(config.data, config.out)


def make_features(config: FeaturesConfig, dataset: Dataset, observe: Observer) -> Features:
    """Bring the cache up to date with a data set.

    Raises
    ------
    UsageError
        No usable image in it, no such backbone, no weights.
    CacheError
        Rows could not be kept; what was reported as kept still is.
    """
    began = time.monotonic()
    # Weights come before the first image is read: a run without them must stop at once.
    assembly = (
        assemble_demo(config.backbone, observe)
        if config.data == DEMO
        else assemble(config.backbone)
    )
    index = FileIndex.load(index_file(config.out, config.data))
    positions, keys, unreadable = _keys(dataset, index)
    strays = with_keys(dataset.rejects, index)
    if config.backbone.precision == "auto":
        assembly = go_on_with_complete(assembly, config.out, keys, observe)
    store, facts = assembly.stores(config.out)
    for finding in (*store.check(), *facts.check()):
        observe(Notice(f"set aside a shard: {finding.shard} is {finding.problem}"))
    # What could not be decoded by this recipe's rule cannot be today: it is not read again.
    hopeless = {r.key: r.reason for r in read_rejects(store.folder) if r.key is not None}
    hopeful = np.array([key.tobytes() not in hopeless for key in keys], bool)
    done = extract(
        Job(
            sources=[dataset.paths[i] for i in positions[hopeful]],
            keys=keys[hopeful],
            store=store,
            facts=facts,
            resize=assembly.resize,
            make_engine=lambda: assembly.engine(config.out),
            batch_size=assembly.batch_size,
            observe=observe,
            commit_seconds=config.commit_seconds,
        )
    )
    failed = {keys[hopeful][i].tobytes(): error for i, error in done.failures}
    for i, error in done.failures:
        if isinstance(error, Transient):
            index.discard(os.fsencode(dataset.paths[positions[hopeful][i]].absolute()))
    index.save()
    usable = hopeful & np.array([key.tobytes() not in failed for key in keys], bool)
    rejects = (
        *strays,
        *unreadable,
        *(
            _reject(dataset.paths[i], key.tobytes(), hopeless, failed)
            for i, key in zip(positions[~usable], keys[~usable], strict=True)
        ),
    )
    if rejects:
        write_rejects(store.folder, rejects)
    if not usable.any():
        raise UsageError(
            f"{config.data}: none of the {len(rejects)} images can be used; "
            f"the reasons are in {store.folder / 'rejects.jsonl'}"
        )
    return Features(
        dataset=dataset.take(positions[usable]),
        assembly=assembly,
        store=store,
        keys=keys[usable],
        rejects=rejects,
        new=done.new,
        reused=done.reused,
        images_per_second=done.new / done.seconds if done.new else 0.0,
        startup=done.startup,
        seconds=time.monotonic() - began,
    )


def index_file(out: Path, data: str) -> Path:
    """Where the file list of `data` is remembered: one file a data set."""
    place = os.fsencode(Path(data).absolute())
    return out / "files" / hashlib.sha256(place).hexdigest()[:16]


def image_keys(
    dataset: Dataset, config: FeaturesConfig
) -> tuple[NDArray[np.int64], NDArray[np.uint8], tuple[Reject, ...]]:
    """Hash what changed since the last run.

    Returns
    -------
    positions, keys
        int64 ``(n,)`` and uint8 ``(n, 32)``: which files can be read, and the SHA-256 of each.
    rejects
        The others.
    """
    return _keys(dataset, FileIndex.load(index_file(config.out, config.data)))


def _keys(
    dataset: Dataset, index: FileIndex
) -> tuple[NDArray[np.int64], NDArray[np.uint8], tuple[Reject, ...]]:
    """Hash what changed since the last run: keys of what can be read, and the rest."""
    try:
        hashed = hash_files(dataset.paths, index)
    finally:
        index.save()  # also on Ctrl-C: what was hashed need not be read again
    good = [(i, key) for i, key in enumerate(hashed) if isinstance(key, bytes)]
    positions = np.array([i for i, _ in good], np.int64)
    keys = np.frombuffer(b"".join(key for _, key in good), np.uint8).reshape(-1, 32)
    return positions, keys, tuple(r for r in hashed if isinstance(r, Reject))


def _reject(
    path: Path, key: bytes, hopeless: Mapping[bytes, str], failed: Mapping[bytes, Undecodable]
) -> Reject:
    """Say why an image is not used; a failure that may pass is not held against its bytes."""
    if key in hopeless:
        return Reject(path, key, hopeless[key])
    error = failed[key]
    return Reject(path, None if isinstance(error, Transient) else key, str(error))


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
