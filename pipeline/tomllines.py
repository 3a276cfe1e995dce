"""On which line of a TOML document each key stands: what `tomllib` does not tell."""

from __future__ import annotations

import re
import tomllib
from typing import Any, TypeAlias

KeyPath: TypeAlias = tuple[str | int, ...]

_BLANK = re.compile(r"(?:\s|#[^\n]*)*")
_STRING = r"\"(?:\\.|[^\"\\\n])*\"|'[^'\n]*'"
_PART = rf"(?:[A-Za-z0-9_-]+|{_STRING})"
_KEY = re.compile(rf"{_PART}(?:[ \t]*\.[ \t]*{_PART})*")
# Three quotes open a string of many lines, which may end in up to two of its own.
_SCALAR = re.compile(
    rf"\"{{3}}(?:\\.|[^\\])*?\"{{3,5}}|'{{3}}.*?'{{3,5}}|{_STRING}|[^,\]}}#\n]+", re.DOTALL
)


def key_lines(text: str) -> dict[KeyPath, int]:
    """Find the line of every key, table and element of an array, counted from 1.

    Parameters
    ----------
    text
        A document that `tomllib` reads.

    Returns
    -------
    dict
        By the way to it: names, and positions in arrays: ``("heads", 1, "C")`` is the key ``C`` of
        the second table ``[[heads]]``.
    """
    walk = _Walk(text)
    walk.document()
    return walk.lines


class _Walk:
    """One way through a document, which skips all values and notes where things begin."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.lines: dict[KeyPath, int] = {}
        self.tables: dict[KeyPath, int] = {}  # how many of each [[array of tables]] so far

    def document(self) -> None:
        inside: KeyPath = ()
        while self._blank() < len(self.text):
            if self.text[self.at] == "[":
                inside = self._header()
            else:
                self._pair(inside)

    def _blank(self) -> int:
        """Skip white space, line ends and comments; return the new place."""
        self.at = self._match(_BLANK).end()
        return self.at

    def _match(self, pattern: re.Pattern[str]) -> re.Match[str]:
        found = pattern.match(self.text, self.at)
        if found is None:
            raise ValueError(f"no TOML at character {self.at}")
        return found

    def _note(self, path: KeyPath) -> None:
        self.lines.setdefault(path, self.text.count("\n", 0, self.at) + 1)

    def _take(self, characters: str) -> str:
        """Skip one of these, where it comes next, with the blanks before it; return it."""
        self._blank()
        taken = self.text[self.at : self.at + 1]
        if not taken or taken not in characters:
            return ""
        self.at += 1
        return taken

    def _key(self, inside: KeyPath) -> KeyPath:
        found = self._match(_KEY)
        path = inside
        for name in _names(found[0]):
            path = (*path, name)
            if path in self.tables:  # [a.b] is in the last [[a]] there is
                path = (*path, self.tables[path] - 1)
            self._note(path)
        self.at = found.end()
        return path

    def _header(self) -> KeyPath:
        double = self.text.startswith("[[", self.at)
        self.at += 2 if double else 1
        self._blank()
        path = self._new_table() if double else self._key(())
        self._take("]")
        if double:
            self._take("]")
        return path

    def _new_table(self) -> KeyPath:
        """Note one more table of an array."""
        start, names = self.at, self._key(())
        # What came before is the last table of the same name, unless this is the first.
        array = names[:-1] if isinstance(names[-1], int) else names
        number = self.tables.get(array, 0)
        self.tables[array] = number + 1
        end, self.at = self.at, start
        self._note((*array, number))
        self.at = end
        return (*array, number)

    def _pair(self, inside: KeyPath) -> None:
        path = self._key(inside)
        self._take("=")
        self._value(path)

    def _value(self, path: KeyPath) -> None:
        self._blank()
        self._note(path)
        if self._take("["):
            position = 0
            while not self._take("]"):
                self._value((*path, position))
                self._take(",")
                position += 1
        elif self._take("{"):
            while not self._take("}"):
                self._pair(path)
                self._take(",")
        else:
            self.at = self._match(_SCALAR).end()


def _names(key: str) -> list[str]:
    """Split a key as written into its names; quotes and escapes are tomllib's business."""
    inner: Any = tomllib.loads(f"{key} = 0")
    names = []
    while isinstance(inner, dict):
        name, inner = next(iter(inner.items()))
        names.append(name)
    return names
