"""What ``status`` and ``verify`` say."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from pipeline.stores import StoreStatus, Verified
from pipeline.text import human_bytes, plural

if TYPE_CHECKING:  # its imports would slow `status` down
    from pipeline.recompute import Recomputed

# What a recipe says where nothing special was asked for; left out of the table.
_USUAL: Mapping[str, tuple[object, ...]] = MappingProxyType(
    {
        "kind": ("FeatureRecipe", "FactsRecipe"),
        "layer": ("top",),
        "bn": ("stored",),
        "augment": ("none",),
        "augment_seed": (0,),
        "version": (1,),
    }
)


Broken = Sequence[tuple[Path, str]]


def status_json(stores: Sequence[StoreStatus], broken: Broken) -> dict[str, Any]:
    """Return the object that ``status --json`` prints."""
    return {
        "stores": [dataclasses.asdict(store) | {"folder": str(store.folder)} for store in stores],
        "broken": [{"folder": str(folder), "problem": problem} for folder, problem in broken],
    }


def status_text(stores: Sequence[StoreStatus], broken: Broken) -> str:
    """Return a table of stores, and what cannot be opened."""
    if not stores and not broken:
        return "no stores yet: headstart features DATA makes one"
    header = (
        f"{'rows':>10} {'missing':>7} {'dims':>7} {'size':>9} {'shards':>6} {'rejects':>7}  store"
    )
    broken_lines = [f"cannot be opened: {problem}" for _, problem in broken]
    return "\n".join([header, *(line for store in stores for line in _lines(store)), *broken_lines])


def _lines(store: StoreStatus) -> list[str]:
    missing = "-" if store.missing is None else store.missing
    made_by = (f"{name} {value}" for name, value in store.provenance.items())
    recipe = (
        f"{name} {_shortened(value)}"
        for name, value in store.recipe.items()
        if value not in _USUAL.get(name, ("",))
    )
    views = f", views 1 to {store.views} of each image" if store.views else ""
    return [
        f"{store.rows:>10} {missing:>7} {store.dims or '-':>7} {human_bytes(store.bytes):>9}"
        f" {store.shards:>6} {store.rejected:>7}  {store.folder}",
        f"{'recipe':>10}  {', '.join(recipe)}{views}",
        f"{'made by':>10}  {', '.join(made_by)}",
    ]


def _shortened(value: object) -> str:
    """Return a value of a recipe; of a digest its first digits."""
    text = str(value)
    return f"{text[:12]}..." if len(text) == 64 else text


def verify_json(found: Verified, again: Recomputed | None = None) -> dict[str, Any]:
    """Return the object that ``verify --json`` prints."""
    told: dict[str, Any] = {
        "shards": found.shards,
        "rows": found.rows,
        "findings": [
            {"store": str(store), "shard": finding.shard, "problem": finding.problem}
            | ({"moved_to": str(finding.moved_to)} if finding.moved_to else {})
            for store, finding in found.findings
        ],
    }
    if again is not None:
        told["recomputed"] = {
            "store": str(again.store),
            "rows": again.rows,
            "tolerance": again.tolerance,
            "largest_deviation": _finite(again.largest),
            "deviations": [
                {
                    "path": str(d.path),
                    "view": d.view,
                    "deviation": _finite(d.deviation),
                    "problem": d.problem,
                }
                for d in again.deviations
            ],
        }
    return told


def _finite(number: float) -> float | None:
    """Return a number that JSON has, which has no infinity."""
    return number if math.isfinite(number) else None


def verify_text(found: Verified, again: Recomputed | None = None) -> str:
    """Return one line a finding, and the verdict."""
    if not found.shards and not found.findings and again is None:
        return "nothing to check: there is no shard here"
    lines = [
        f"{store}: {f.shard}: {f.problem}" + (f"; moved to {f.moved_to}" if f.moved_to else "")
        for store, f in found.findings
    ]
    checked = f"{plural(found.shards, 'shard')} with {plural(found.rows, 'row')} checked"
    verdict = (
        f"{plural(len(lines), 'finding')}; the next features or heads makes again what it needs"
        if lines
        else "every byte is as it was written"
    )
    return "\n".join(
        [*lines, f"{checked}: {verdict}", *(_recomputed_lines(again) if again else ())]
    )


def _recomputed_lines(again: Recomputed) -> list[str]:
    lines = [
        f"{d.path}{f' (view {d.view})' if d.view else ''}: "
        + (d.problem or f"its row is off by {d.deviation:.1e} of its largest number")
        for d in again.deviations
    ]
    return [
        *lines,
        f"{plural(again.rows, 'row')} of {again.store} computed again: {len(lines)} not as stored, "
        f"largest deviation {again.largest:.1e} (tolerance {again.tolerance:.0e})",
    ]
