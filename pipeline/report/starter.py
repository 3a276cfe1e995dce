"""What ``init`` tells."""

from __future__ import annotations

import shlex
from pathlib import Path


def starter_json(path: Path) -> dict[str, str]:
    """Return the object that ``init --json`` prints."""
    return {"file": str(path)}


def starter_text(path: Path) -> str:
    """Say what was written, and what to do with it."""
    return (
        f"wrote {path}: the default sweep, each line explained\n"
        f"change it, then run: headstart heads DATA --config {shlex.quote(str(path))}"
    )
