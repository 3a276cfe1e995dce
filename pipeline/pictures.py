"""Some images of a data set, decoded and kept in memory: for what looks at them several times."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cache import FeatureStore
from pipeline.config import FeaturesConfig, usable_cores
from pipeline.dataset import Dataset
from pipeline.dataset.duplicates import near_groups
from pipeline.dataset.groups import numbered, united
from pipeline.errors import UsageError
from pipeline.events import BatchDone, ExtractionPlanned, Observer
from pipeline.images.batches import decoded_batches
from pipeline.images.facts import FACTS_DTYPE
from pipeline.images.hashing import in_key_order
from pipeline.images.resize import Resize
from pipeline.keyed import image_keys

_BATCH = 32


@dataclass(frozen=True, slots=True)
class Pictures:
    """Distinct images, in the order of their keys.

    Attributes
    ----------
    pixels
        uint8 ``(n, height, width, 3)``.
    labels
        Class of each, or None.
    groups
        int64 ``(n,)``: equal for near-duplicates and for what the user grouped.
    rejected
        How many of those chosen could not be used.
    """

    pixels: NDArray[np.uint8]
    labels: tuple[str, ...] | None
    groups: NDArray[np.int64]
    rejected: int


def decoded(paths: Sequence[Path], keys: NDArray[np.uint8], resize: Resize) -> NDArray[np.uint8]:
    """Decode images into one array, uint8 ``(n, height, width, 3)``; those that fail are left out.

    Parameters
    ----------
    keys
        uint8 ``(n, 32)``; a file whose bytes are others now has failed.
    """
    batches = decoded_batches(paths, keys, (resize,), batch_size=_BATCH, workers=usable_cores())
    with contextlib.closing(batches):
        pixels = [image.pixels for batch in batches for image, *_ in batch.images]
    return np.array(pixels, np.uint8).reshape(-1, resize.height, resize.width, 3)


def keep_facts(
    dataset: Dataset, keys: NDArray[np.uint8], facts: FeatureStore, observe: Observer
) -> None:
    """Decode the images of which no facts are kept, and keep them; what fails has none.

    Parameters
    ----------
    dataset, keys
        The images, and uint8 ``(n, 32)``.
    """
    lacking = facts.missing(keys)
    if not len(lacking):
        return
    observe(ExtractionPlanned(new=len(lacking), reused=len(keys) - len(lacking)))
    paths = [dataset.paths[i] for i in lacking]
    least = Resize(1, 1)
    batches = decoded_batches(
        paths, keys[lacking], (least,), batch_size=_BATCH, workers=usable_cores()
    )
    rows: dict[bytes, NDArray[np.uint8]] = {}
    with contextlib.closing(batches):
        for batch in batches:
            for position, (image, *_) in zip(batch.positions, batch.images, strict=True):
                rows[keys[lacking[position]].tobytes()] = image.facts.pack()
            observe(BatchDone(images=len(batch.positions), rejected=len(batch.failures)))
    if rows:
        named = np.frombuffer(b"".join(rows), np.uint8).reshape(-1, 32)
        facts.append(named, np.stack(list(rows.values())))


def load_pictures(
    dataset: Dataset, config: FeaturesConfig, resize: Resize, count: int, observe: Observer
) -> Pictures:
    """Decode the images of the smallest keys.

    A key is a digest of the file, so this is a random choice that is the same in every run, and
    whatever the files are called.

    Parameters
    ----------
    count
        How many at most.

    Raises
    ------
    UsageError
        Fewer than two of them can be used.
    """
    positions, keys, _ = image_keys(dataset, config)
    first, _ = in_key_order(keys)
    chosen = first[:count]
    paths = [dataset.paths[i] for i in positions[chosen]]
    observe(ExtractionPlanned(new=len(paths), reused=0))
    batches = decoded_batches(
        paths, keys[chosen], (resize,), batch_size=_BATCH, workers=usable_cores()
    )
    pixels: list[NDArray[np.uint8]] = []
    facts: list[NDArray[np.uint8]] = []
    used: list[int] = []
    with contextlib.closing(batches):
        for batch in batches:
            used += batch.positions
            pixels += [image.pixels for image, *_ in batch.images]
            facts += [image.facts.pack() for image, *_ in batch.images]
            observe(BatchDone(images=len(batch.positions), rejected=len(batch.failures)))
    if len(used) < 2:
        raise UsageError(
            f"{config.data}: {len(used)} of the {len(paths)} images looked at can be used, and at "
            "least 2 are needed"
        )
    kept = dataset.take(positions[chosen][used])
    rows = np.stack(facts).view(FACTS_DTYPE).ravel()
    groups, _ = near_groups((rows["spectrum"], rows["trimmed"]))
    if kept.groups is not None:
        groups = united(groups, numbered(kept.groups))
    return Pictures(np.stack(pixels), kept.labels, groups, len(paths) - len(used))
