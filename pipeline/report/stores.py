"""What ``status`` and ``verify`` say."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from pipeline.report.units import human_bytes, plural
from pipeline.stores import StoreStatus, Verified


def status_json(stores: Sequence[StoreStatus]) -> dict[str, Any]:
    """Return the object that ``status --json`` prints."""
    return {
        "stores": [
            dataclasses.asdict(store) | {"folder": str(store.folder), "bytes": store.nbytes}
            for store in stores
        ]
    }


def status_text(stores: Sequence[StoreStatus]) -> str:
    """Return a table of stores."""
    if not stores:
        return "no stores yet: headstart features DATA makes one"
    lines = [f"{'rows':>10} {'dims':>7} {'size':>9} {'shards':>6} {'rejects':>7}  store"]
    return "\n".join([*lines, *map(_line, stores)])


def _line(store: StoreStatus) -> str:
    return (
        f"{store.rows:>10} {store.dims or '-':>7} {human_bytes(store.nbytes):>9}"
        f" {store.shards:>6} {store.rejected:>7}  {store.folder}"
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
    lines = [f"{store / 'shards' / f.shard}: {f.problem}" for store, f in found.findings]
    checked = f"{plural(found.shards, 'shard')} with {plural(found.rows, 'row')} checked"
    verdict = (
        f"{plural(len(lines), 'finding')}; the next features or heads computes those rows again"
        if lines
        else "every byte is as it was written"
    )
    return "\n".join([*lines, f"{checked}: {verdict}"])
