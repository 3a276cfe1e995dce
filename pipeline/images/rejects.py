"""Files that could not be used: what is known of each, and the list that is kept of them."""

from __future__ import annotations

import base64
import json
import os
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cache import ShardError
from cache.atomic import is_hollow, opened, read_at

REJECTS_NAME = "rejects.jsonl"
"""Name of the list inside its folder."""


@dataclass(frozen=True, slots=True)
class Reject:
    """One file that cannot be used.

    Attributes
    ----------
    path
        Where it is.
    key
        SHA-256 of its bytes, 32 bytes; None where they could not be read.
    reason
        Why it cannot be used, in a few words.
    undecodable
        Whether that is because of its bytes, so that no file with the same key can be used; else
        it is because of this file: where it lies, or that it could not be read.
    """

    path: Path
    key: bytes | None
    reason: str
    undecodable: bool = False


def write_rejects(folder: Path, rejects: Iterable[Reject]) -> Path:
    """Add rejects to ``rejects.jsonl``; one that stands there already is not added again.

    One JSON object a line: ``path``, ``hash`` (hex or null), ``reason``, ``when`` (ISO 8601, UTC:
    when it was first seen), and ``undecodable`` where that is true. A path that is not UTF-8 is
    shown with its odd bytes escaped, and is there exactly as ``path_bytes`` (base64). The file is
    replaced as a whole, never torn.

    Returns
    -------
    Path
        The file; it exists afterwards only if there is a reject, old or new.

    Raises
    ------
    OSError
        The folder cannot be written.
    """
    file = folder / REJECTS_NAME
    known = set(read_rejects(folder))
    new = [r for r in dict.fromkeys(rejects) if r not in known]
    if new:
        when = datetime.now(UTC).isoformat(timespec="seconds")
        old = _content(file)
        if old and not old.endswith(b"\n"):
            old += b"\n"
        folder.mkdir(parents=True, exist_ok=True)
        _replace(file, old + b"".join(_line(reject, when) for reject in new))
    return file


def read_rejects(folder: Path) -> tuple[Reject, ...]:
    """Read ``rejects.jsonl``; empty where there is none, lines that make no sense left out.

    What is no regular file (a link, a FIFO) is none.
    """
    lines = _content(folder / REJECTS_NAME).splitlines()
    return tuple(reject for line in lines if (reject := _parsed(line)) is not None)


def _content(file: Path) -> bytes:
    try:
        with opened(file) as handle:
            found = os.fstat(handle)
            return b"" if is_hollow(found) else bytes(read_at(handle, 0, found.st_size))
    except (FileNotFoundError, ShardError):
        return b""


def _line(reject: Reject, when: str) -> bytes:
    raw = os.fsencode(reject.path)
    entry: dict[str, str | bool | None] = {
        "path": raw.decode("utf-8", "backslashreplace"),
        "hash": reject.key.hex() if reject.key is not None else None,
        "reason": reject.reason,
        "when": when,
    }
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError:
        entry["path_bytes"] = base64.b64encode(raw).decode("ascii")
    if reject.undecodable:
        entry["undecodable"] = True
    return json.dumps(entry).encode("ascii") + b"\n"


def _parsed(line: bytes) -> Reject | None:
    try:
        entry = json.loads(line)
        exact = entry.get("path_bytes")
        path = os.fsdecode(base64.b64decode(exact)) if exact else entry["path"]
        key = bytes.fromhex(entry["hash"]) if entry["hash"] is not None else None
        return Reject(Path(path), key, str(entry["reason"]), entry.get("undecodable") is True)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _replace(file: Path, content: bytes) -> None:
    # Not by tempfile, whose files are the owner's alone: this one has whatever the umask leaves.
    beside = file.with_name(f".rejects-{uuid.uuid4().hex}")
    try:
        with beside.open("xb") as new:
            new.write(content)
        beside.replace(file)
    finally:
        beside.unlink(missing_ok=True)
