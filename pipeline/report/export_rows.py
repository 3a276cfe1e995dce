"""What ``export-h5`` says."""

from __future__ import annotations

from typing import Any

from pipeline.export_rows import Exported
from pipeline.text import human_bytes, plural


def exported_json(done: Exported) -> dict[str, Any]:
    """Return the object that ``export-h5 --json`` prints."""
    return {
        "file": str(done.file),
        "rows": done.rows,
        "dims": done.dims,
        "bytes": done.nbytes,
        "columns": list(done.names),
        "new": done.features.new,
        "reused": done.features.reused,
        "rejected": len(done.features.rejects),
        "store": str(done.features.store.folder),
    }


def exported_text(done: Exported) -> str:
    """Return one line: what, how large, which columns."""
    return (
        f"{done.file} ({plural(done.rows, 'row')} x {done.dims}, {human_bytes(done.nbytes)}): "
        f"{', '.join(done.names)}"
    )
