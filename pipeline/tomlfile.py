"""A TOML file whose every complaint has the file's name and a line."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import UsageError
from pipeline.tomllines import KeyPath, key_lines

_WHERE = re.compile(r" \(at (?:line (\d+), column \d+|end of document)\)$")


@dataclass(frozen=True)
class TomlFile:
    """What a TOML file says, and where.

    Attributes
    ----------
    name
        As messages show it.
    values
        As `tomllib` reads them.
    lines
        Line of each key, as :func:`pipeline.tomllines.key_lines` finds it.
    """

    name: str
    values: Mapping[str, Any]
    lines: Mapping[KeyPath, int]

    @classmethod
    def read(cls, path: Path, name: str = "") -> TomlFile:
        """Read a file, to be shown by its path or by a name of its own.

        Raises
        ------
        UsageError
            It cannot be read, or is not TOML; then with the line.
        """
        shown = name or str(path)
        try:
            text = path.read_bytes().decode("utf-8-sig")
        except OSError as error:
            raise UsageError(f"{shown} cannot be read: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise UsageError(f"{shown} is not UTF-8 text, which a TOML file is") from error
        try:
            return cls(shown, tomllib.loads(text), key_lines(text))
        except tomllib.TOMLDecodeError as error:
            raise UsageError(_where(shown, text, str(error))) from error
        except ValueError as error:
            raise UsageError(f"{shown} cannot be read: {error}") from error
        except RecursionError as error:
            raise UsageError(f"{shown} nests its values too deeply") from error

    @contextmanager
    def at(self, *path: str | int) -> Iterator[None]:
        """Put file and line before what is refused meanwhile.

        Parameters
        ----------
        path
            The way to the key or the value at fault; where it has no line, what holds it has.
        """
        try:
            yield
        except UsageError as error:
            ways = (path[:length] for length in range(len(path), 0, -1))
            line = next((self.lines[way] for way in ways if way in self.lines), 1)
            raise UsageError(f"{self.name}, line {line}: {error}") from error


def _where(name: str, text: str, told: str) -> str:
    """Put the line first, as everywhere; tomllib has it last."""
    place = _WHERE.search(told)
    line = place[1] if place and place[1] else str(len(text.splitlines()))
    return f"{name}, line {line}: this is not TOML: {_WHERE.sub('', told)}"
