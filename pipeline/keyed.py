"""Which images a data set has: the key of each file, from a list of those that did not change."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cache import FileIndex
from pipeline.config import FeaturesConfig
from pipeline.dataset import Dataset
from pipeline.events import Observer, ignore
from pipeline.images.hashing import hash_files, with_keys
from pipeline.images.rejects import Reject


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
    dataset: Dataset, index: FileIndex, observe: Observer = ignore
) -> tuple[NDArray[np.int64], NDArray[np.uint8], tuple[Reject, ...]]:
    """Hash what changed since the last run: keys of what can be read, and the rest."""
    try:
        read = hash_files(dataset.paths, index, observe)
    finally:
        index.save()  # also on Ctrl-C: what was hashed need not be read again
    good = [(i, key) for i, key in enumerate(read) if isinstance(key, bytes)]
    positions = np.array([i for i, _ in good], np.int64)
    keys = np.frombuffer(b"".join(key for _, key in good), np.uint8).reshape(-1, 32)
    return positions, keys, tuple(r for r in read if isinstance(r, Reject))


def keys_and_rejects(
    dataset: Dataset, config: FeaturesConfig, observe: Observer
) -> tuple[NDArray[np.int64], NDArray[np.uint8], tuple[Reject, ...]]:
    """Do what `image_keys` does, and tell the data set's own rejects among the others.

    The index is let go with this: it takes more memory than all else that is known of an image.
    """
    index = FileIndex.load(index_file(config.out, config.data))
    positions, keys, unreadable = _keys(dataset, index, observe)
    strays = with_keys(dataset.rejects, index)
    index.save()
    return positions, keys, (*strays, *unreadable)


def forget(config: FeaturesConfig, paths: Sequence[Path]) -> None:
    """Forget the keys of files whose bytes turned out to be others, or could not be read."""
    if paths:
        index = FileIndex.load(index_file(config.out, config.data))
        for path in paths:
            index.discard(os.fsencode(path.absolute()))
        index.save()
