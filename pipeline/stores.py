"""The commands ``status`` and ``verify``: what the cache holds, and whether it holds it whole."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
    recipe, provenance
        What its rows are, and what made them.
    """

    folder: Path
    rows: int
    dims: int | None
    bytes: int
    shards: int
    rejected: int
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
    if not out.is_dir():
        raise UsageError(f"{out} is no folder; name the one that --out named")
    good: list[FeatureStore] = []
    broken: list[tuple[Path, str]] = []
    for folder in sorted([*out.glob("features/*/"), *out.glob("images/*/")]):
        try:
            good.append(FeatureStore.at(folder))
        except CacheError as error:
            broken.append((folder, str(error)))
    return Stores(tuple(good), tuple(broken))


def look(stores: Stores) -> tuple[StoreStatus, ...]:
    """Tell what each store holds; reads headers and keys, no features."""
    return tuple(_status(store) for store in stores.good)


def check(stores: Stores) -> Verified:
    """Check every byte of every shard, whether it was checked before or not.

    Nothing is moved or changed: the next ``features`` or ``heads`` sets aside what is damaged, and
    computes again what its data need.
    """
    broken = [(folder, Finding("recipe.json", why, None)) for folder, why in stores.broken]
    damaged = [(store.folder, finding) for store in stores.good for finding in store.verify()]
    return Verified(
        shards=sum(store.shards for store in stores.good),
        rows=sum(store.rows for store in stores.good),
        findings=(*broken, *damaged),
    )


def _status(store: FeatureStore) -> StoreStatus:
    recorded = json.loads((store.folder / "recipe.json").read_text(encoding="utf-8"))
    return StoreStatus(
        folder=store.folder,
        rows=store.rows,
        dims=store.dims,
        bytes=store.nbytes,
        shards=store.shards,
        rejected=len(read_rejects(store.folder)),
        recipe=recorded["recipe"],
        provenance=recorded.get("provenance", {}),
    )
