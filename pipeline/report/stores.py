"""What ``status`` and ``verify`` say."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.report.units import human_bytes, plural
from pipeline.stores import StoreStatus, Verified

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
    header = f"{'rows':>10} {'dims':>7} {'size':>9} {'shards':>6} {'rejects':>7}  store"
    broken_lines = [f"cannot be opened: {problem}" for _, problem in broken]
    return "\n".join([header, *map(_line, stores), *broken_lines])


def _line(store: StoreStatus) -> str:
    return (
        f"{store.rows:>10} {store.dims or '-':>7} {human_bytes(store.bytes):>9}"
        f" {store.shards:>6} {store.rejected:>7}  {store.folder}"
        + ("  (RANDOM weights)" if store.provenance.get("weights") == "random" else "")
    )


def verify_json(found: Verified) -> dict[str, Any]:
    """Return the object that ``verify --json`` prints."""
    return {
        "shards": found.shards,
        "rows": found.rows,
        "findings": [
            {"store": str(store), "shard": finding.shard, "problem": finding.problem}
            for store, finding in found.findings
        ],
    }


def verify_text(found: Verified) -> str:
    """Return one line a finding, and the verdict."""
    if not found.shards and not found.findings:
        return "nothing to check: there is no shard here"
    lines = [f"{store}: {finding.shard}: {finding.problem}" for store, finding in found.findings]
    checked = f"{plural(found.shards, 'shard')} with {plural(found.rows, 'row')} checked"
    verdict = (
        f"{plural(len(lines), 'finding')}; the next features or heads makes again what it needs"
        if lines
        else "every byte is as it was written"
    )
    return "\n".join([*lines, f"{checked}: {verdict}"])
