"""Numbers and names as people read them."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Sequence

_SPAN = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?", re.ASCII)


def human_bytes(count: int) -> str:
    """Return a count of bytes with a decimal unit, as ``ls -lh --si`` would."""
    size = float(count)
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def seconds_of(text: str) -> float:
    """Return the seconds that ``90s``, ``10m``, ``1h30m`` or a bare number of seconds stand for.

    Raises
    ------
    ValueError
        It is none of these, or no time at all.
    """
    span = _SPAN.fullmatch(text.strip())
    if span and span[0]:
        hours, minutes, seconds = (int(part or 0) for part in span.groups())
        total = float(hours * 3600 + minutes * 60 + seconds)
    else:
        total = float(text)
    if not (math.isfinite(total) and total > 0):
        raise ValueError(f"{text} is no time")
    return total


def plural(count: int, noun: str, several: str = "") -> str:
    """Return a count with its noun, in the plural unless there is one."""
    return f"{count} {noun if count == 1 else several or noun + 's'}"


def nearest(name: str, names: Sequence[str]) -> str:
    """Ask which of the names was meant, as the end of a sentence about a wrong one."""
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.4) or sorted(names)
    return f"; did you mean {' or '.join(close)}?"


def printable(text: str) -> str:
    """Escape what would steer a terminal or break a line: control characters but the newline.

    Newlines are left to whoever puts lines together; in a name they are escaped by `one_line`.
    """
    return "".join(c if c == "\n" or not _steers(c) else _escaped(c) for c in text)


def one_line(text: str) -> str:
    """Escape all control characters, newlines among them."""
    return "".join(_escaped(c) if _steers(c) else c for c in text)


def _steers(character: str) -> bool:
    code = ord(character)
    return code < 32 or 127 <= code < 160 or character in "\u2028\u2029"


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
