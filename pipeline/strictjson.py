"""JSON that somebody else wrote: one object, without what Python alone accepts."""

from __future__ import annotations

import json
from typing import Any, TypeVar

_T = TypeVar("_T")


def entry(facts: dict[str, Any], name: str, kind: type[_T]) -> _T:
    """Take one entry of the JSON, of exactly this type (True is not an integer)."""
    if name not in facts:
        raise ValueError(f"its text lacks {name!r}")
    value = facts[name]
    if type(value) is not kind:
        raise ValueError(f"{name!r} is a {type(value).__name__}, expected a {kind.__name__}")
    return value


def texts(values: list[Any]) -> tuple[str, ...]:
    """Take a list of texts."""
    if not all(isinstance(value, str) for value in values):
        raise ValueError("a name of a class is not a text")
    return tuple(values)


def parsed(text: bytes) -> dict[str, Any]:
    """Read JSON without what Python alone accepts: NaN, repeated keys, nesting without end."""
    try:
        facts = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    except RecursionError as error:
        raise ValueError("its text is nested too deeply") from error
    if not isinstance(facts, dict):
        raise ValueError("its text is not a JSON object")
    return facts


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    mapping = dict(pairs)
    if len(mapping) != len(pairs):
        raise ValueError("its text has a key twice")
    return mapping


def _no_constant(name: str) -> None:
    raise ValueError(f"its text has the number {name}")
