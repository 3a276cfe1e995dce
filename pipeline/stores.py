"""The commands ``status`` and ``verify``: what the cache holds, and whether it holds it whole."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cache import FeatureStore
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
    rows, dims, nbytes, shards
        Its size; dims is None while it is empty.
    rejected
        Files on its list of rejects.
    missing
        Distinct images of the data set asked about that have no row; None where none was.
    recipe, provenance
        What its rows are, and what made them.
    """

    folder: Path
    rows: int
    dims: int | None
    nbytes: int
    shards: int
    rejected: int
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


def look(out: Path, data: str | None = None) -> tuple[StoreStatus, ...]:
    """Tell what each store below `out` holds; reads headers and keys, no features.

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
        `out` is not there, or no such data.
    """
    stores = _stores(out)
    keys = None if data is None else _distinct_keys(data, out)
    return tuple(_status(store, keys) for store in stores)


def check(out: Path, *, repair: bool = False) -> Verified:
    """Check every byte of every shard below `out`, whether it was checked before or not.

    Parameters
    ----------
    repair
        Move what is damaged to its store's quarantine. Else nothing is moved or changed: the next
        ``features`` or ``heads`` sets it aside. Either way they compute its rows again.

    Raises
    ------
    UsageError
        `out` is not there.
    """
    stores = _stores(out)
    shards, rows = sum(s.shards for s in stores), sum(s.rows for s in stores)
    findings = tuple(
        (store.folder, finding) for store in stores for finding in store.verify(repair=repair)
    )
    return Verified(shards, rows, findings)


def store_folders(out: Path) -> list[Path]:
    """List the folders of the stores below `out`, those of features first.

    Raises
    ------
    UsageError
        `out` is not there.
    """
    if not out.is_dir():
        raise UsageError(f"there is no folder {out}; name the one that --out named")
    recipes = [*out.glob("features/*/recipe.json"), *out.glob("images/*/recipe.json")]
    return [recipe.parent for recipe in sorted(recipes)]


def _stores(out: Path) -> list[FeatureStore]:
    return [FeatureStore.at(folder) for folder in store_folders(out)]


def _distinct_keys(data: str, out: Path) -> NDArray[np.uint8]:
    # Their imports would slow down whoever only asks what is there.
    from pipeline.config import FeaturesConfig
    from pipeline.stage_one import find_dataset, image_keys

    config = FeaturesConfig(data=data, out=out)
    return np.unique(image_keys(find_dataset(config), config)[1], axis=0)


def _status(store: FeatureStore, keys: NDArray[np.uint8] | None) -> StoreStatus:
    recorded = json.loads((store.folder / "recipe.json").read_text(encoding="utf-8"))
    return StoreStatus(
        folder=store.folder,
        rows=store.rows,
        dims=store.dims,
        nbytes=store.nbytes,
        shards=store.shards,
        rejected=len(read_rejects(store.folder)),
        missing=None if keys is None else len(store.missing(keys)),
        recipe=recorded["recipe"],
        provenance=recorded.get("provenance", {}),
    )
