"""The commands ``status`` and ``verify``: what the cache holds, and whether it holds it whole."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
    recipe, provenance
        What its rows are, and what made them.
    """

    folder: Path
    rows: int
    dims: int | None
    nbytes: int
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


def look(out: Path) -> tuple[StoreStatus, ...]:
    """Tell what each store below `out` holds; reads headers and keys, no features.

    Raises
    ------
    UsageError
        `out` is not there.
    """
    return tuple(_status(store) for store in _stores(out))


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


def _status(store: FeatureStore) -> StoreStatus:
    recorded = json.loads((store.folder / "recipe.json").read_text(encoding="utf-8"))
    return StoreStatus(
        folder=store.folder,
        rows=store.rows,
        dims=store.dims,
        nbytes=store.nbytes,
        shards=store.shards,
        rejected=len(read_rejects(store.folder)),
        recipe=recorded["recipe"],
        provenance=recorded.get("provenance", {}),
    )
