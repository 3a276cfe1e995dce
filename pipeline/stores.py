"""The commands ``status`` and ``verify``: what the cache holds, and whether it holds it whole."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cache import CacheError, FeatureStore
from cache.integrity import Finding
from pipeline.errors import UsageError
from pipeline.images.rejects import read_rejects


@dataclass(frozen=True, slots=True)
class StoreStatus:
    """What one store holds.

    Attributes
    ----------
    folder
        Where it is.
    rows, dims, bytes, shards
        Its size; dims is None while it is empty.
    rejected
        Files on its list of rejects.
    views
        Augmented views of an image that it holds; 0 in a store of plain images.
    missing
        Distinct images of the data set asked about that have no row, or not one of each view, those
        aside that cannot be decoded; None where no data set was asked about.
    recipe, provenance
        What its rows are, and what made them.
    """

    folder: Path
    rows: int
    dims: int | None
    bytes: int
    shards: int
    rejected: int
    views: int
    missing: int | None
    recipe: dict[str, Any]
    provenance: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Verified:
    """What a check of every byte found.

    Attributes
    ----------
    shards, rows
        How many were checked.
    findings
        ``(store, finding)`` of each shard that is not good.
    """

    shards: int
    rows: int
    findings: tuple[tuple[Path, Finding], ...]


@dataclass(frozen=True, slots=True)
class Stores:
    """The stores below a folder.

    Attributes
    ----------
    good
        Those that could be opened.
    broken
        ``(folder, why)`` of those that could not.
    """

    good: tuple[FeatureStore, ...]
    broken: tuple[tuple[Path, str], ...]


def find_stores(out: Path) -> Stores:
    """Open every store below `out`.

    Raises
    ------
    UsageError
        `out` is no folder.
    """
    good: list[FeatureStore] = []
    broken: list[tuple[Path, str]] = []
    for folder in store_folders(out):
        try:
            good.append(FeatureStore.at(folder))
        except CacheError as error:
            broken.append((folder, str(error)))
    return Stores(tuple(good), tuple(broken))


def look(stores: Stores, out: Path, data: str | None = None) -> tuple[StoreStatus, ...]:
    """Tell what each store holds; reads headers and keys, no features.

    Parameters
    ----------
    out
        Where the stores are.
    data
        A data set, to count which of its images have no row; of these, files that changed since
        they were last hashed are read.

    Raises
    ------
    UsageError
        No such data.
    """
    keys = None if data is None else _distinct_keys(data, out)
    return tuple(_status(store, keys) for store in stores.good)


def check(stores: Stores, *, repair: bool = False) -> Verified:
    """Check every byte of every shard, whether it was checked before or not.

    Parameters
    ----------
    repair
        Move what is damaged to its store's quarantine. Else nothing is moved or changed: the next
        ``features`` or ``heads`` sets it aside. Either way they compute again what they need.
    """
    broken = [(folder, Finding("recipe.json", why, None)) for folder, why in stores.broken]
    shards, rows = sum(s.shards for s in stores.good), sum(s.rows for s in stores.good)
    damaged = [
        (store.folder, finding) for store in stores.good for finding in store.verify(repair=repair)
    ]
    return Verified(shards, rows, (*broken, *damaged))


def store_folders(out: Path) -> list[Path]:
    """List the folders of the stores below `out`, those of features first.

    Raises
    ------
    UsageError
        `out` is no folder.
    """
    if not out.is_dir():
        raise UsageError(f"{out} is no folder; name the one that --out named")
    folders = [*out.glob("features/*/"), *out.glob("images/*/")]
    # A first run that was killed before it wrote the recipe leaves empty folders, which are none.
    return sorted(f for f in folders if (f / "recipe.json").exists() or any(f.glob("shards/*")))


def _distinct_keys(data: str, out: Path) -> NDArray[np.uint8]:
    # Their imports would slow down whoever only asks what is there.
    from pipeline.config import FeaturesConfig
    from pipeline.dataset import load_dataset
    from pipeline.images.hashing import distinct
    from pipeline.keyed import image_keys

    config = FeaturesConfig(data=data, out=out)
    keys = image_keys(load_dataset(data, out), config)[1]
    return keys[distinct(keys)[0]]


def _status(store: FeatureStore, keys: NDArray[np.uint8] | None) -> StoreStatus:
    recorded = json.loads((store.folder / "recipe.json").read_text(encoding="utf-8"))
    made_by = recorded.get("provenance")
    rejects = read_rejects(store.folder)
    missing = None
    if keys is not None:
        hopeless = {reject.key for reject in rejects if reject.undecodable}
        missing = sum(keys[i].tobytes() not in hopeless for i in _lacking(store, keys))
    return StoreStatus(
        folder=store.folder,
        rows=store.rows,
        dims=store.dims,
        bytes=store.nbytes,
        shards=store.shards,
        rejected=len(rejects),
        views=store.last_view,
        missing=missing,
        recipe=recorded["recipe"],
        provenance=made_by if isinstance(made_by, dict) else {},
    )


def _lacking(store: FeatureStore, keys: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Positions of the images of which a store lacks a row: of the views that it has of others."""
    lacks = np.zeros(len(keys), bool)
    # A store of augmented views holds no plain image, which is view 0.
    for view in range(1, store.last_view + 1) or range(1):
        lacks[store.missing(keys, np.full(len(keys), view, np.uint32))] = True
    return np.flatnonzero(lacks)
