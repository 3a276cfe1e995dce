"""What ``compact`` and ``gc`` say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cache.garbage import QUARANTINE_DAYS, Garbage
from cache.integrity import Finding
from pipeline.text import human_bytes, plural
from pipeline.tidy import Compacted, GarbagePlan


def compact_json(done: Compacted) -> dict[str, Any]:
    """Return the object that ``compact --json`` prints."""
    return {
        "stores": [
            {
                "folder": str(folder),
                "shards_before": store.shards_before,
                "shards_after": store.shards_after,
                "bytes_before": store.bytes_before,
                "bytes_after": store.bytes_after,
                "findings": [{"shard": f.shard, "problem": f.problem} for f in store.findings],
            }
            for folder, store in done.stores.items()
        ],
        "broken": [{"folder": str(folder), "problem": problem} for folder, problem in done.broken],
    }


def compact_text(done: Compacted) -> str:
    """Return one line a store, and the damaged shards that were left."""
    lines = []
    for folder, store in done.stores.items():
        lines.append(
            f"{folder}: {plural(store.shards_before, 'shard')}"
            f" ({human_bytes(store.bytes_before)}) -> {store.shards_after}"
            f" ({human_bytes(store.bytes_after)})"
        )
        lines += _left(folder, store.findings)
    lines += _broken(done.broken)
    return "\n".join(lines) or "no stores yet: headstart features DATA makes one"


def _broken(broken: tuple[tuple[Path, str], ...]) -> list[str]:
    return [f"left alone, cannot be opened: {problem}" for _, problem in broken]


def gc_json(
    plan: GarbagePlan, removed: bool, findings: tuple[tuple[Path, Finding], ...]
) -> dict[str, Any]:
    """Return the object that ``gc --json`` prints."""
    return {
        "images": len(plan.needed),
        "rows": sum(store.rows for store in plan.stores),
        "bytes": sum(store.row_bytes + store.file_bytes for store in plan.stores),
        "removed": removed,
        "stores": [
            {
                "folder": str(store.folder),
                "whole": store.whole,
                "rows": store.rows,
                "bytes": store.row_bytes + store.file_bytes,
                "leftovers": [str(path) for path in store.leftovers],
                "quarantined": [str(path) for path in store.quarantined],
            }
            for store in plan.stores
            if not store.nothing
        ],
        "leftovers": [str(path) for path in plan.leftovers],
        "broken": [{"folder": str(folder), "problem": problem} for folder, problem in plan.broken],
        "findings": [
            {"store": str(store), "shard": f.shard, "problem": f.problem} for store, f in findings
        ],
    }


def plan_text(plan: GarbagePlan) -> str:
    """Return what would go, one line a thing, and the sum."""
    if plan.nothing:
        nothing = f"nothing to remove: every row belongs to one of {len(plan.needed)} images"
        return "\n".join([*_broken(plan.broken), nothing])
    lines = _broken(plan.broken)
    lines += [line for store in plan.stores for line in _garbage(store)]
    if plan.leftovers:
        lines.append(f"{plural(len(plan.leftovers), 'leftover')} of dead processes in files/")
    rows = sum(store.rows for store in plan.stores)
    nbytes = sum(store.row_bytes + store.file_bytes for store in plan.stores)
    return "\n".join([*lines, f"to be removed: {plural(rows, 'row')}, {human_bytes(nbytes)}"])


def gc_text(removed: bool, findings: tuple[tuple[Path, Finding], ...]) -> str:
    """Return the outcome, and the damaged shards that were left."""
    lines = [line for store, finding in findings for line in _left(store, (finding,))]
    return "\n".join([*lines, "removed" if removed else "nothing was removed"])


def _garbage(store: Garbage) -> list[str]:
    lines = []
    if store.whole:
        lines.append(f"{store.folder}: the whole store, {plural(store.rows, 'row')}")
    elif store.rows:
        lines.append(f"{store.folder}: {plural(store.rows, 'row')} of images in none of the data")
    if store.leftovers:
        lines.append(
            f"{store.folder}: {plural(len(store.leftovers), 'leftover')} of dead processes"
        )
    lines += [
        f"{path}: put aside as damaged more than {QUARANTINE_DAYS} days ago"
        for path in store.quarantined
    ]
    return lines


def _left(folder: Path, findings: tuple[Finding, ...]) -> list[str]:
    return [
        f"{folder / 'shards' / f.shard}: {f.problem}; left as it is, "
        "headstart verify --repair moves it"
        for f in findings
    ]
