"""Some images of a data set, decoded and kept in memory: for what looks at them several times."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

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
