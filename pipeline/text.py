"""Numbers and names as people read them."""

from __future__ import annotations


def human_bytes(count: int) -> str:
    """Return a count of bytes with a decimal unit, as ``ls -lh --si`` would."""
    size = float(count)
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def plural(count: int, noun: str, several: str = "") -> str:
    """Return a count with its noun, in the plural unless there is one."""
    return f"{count} {noun if count == 1 else several or noun + 's'}"


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
