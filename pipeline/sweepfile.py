"""The sweep file, ``heads.toml``: what to compare and how, as a user writes it."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from pipeline.config import HeadEntry
from pipeline.errors import UsageError
from pipeline.heads import HEADS, HeadSpec, trainer
from pipeline.heads.ranges import RANGES, check_setting
from pipeline.heads.registry import REQUIRED, settings_of
from pipeline.text import nearest
from pipeline.tomlfile import TomlFile

PRESETS = Path(__file__).parent / "presets"
"""Sweep files that come with the package, known by their names without ``.toml``."""

MOST_HEADS = 10_000
"""So many combinations of settings are a mistake, and not a sweep."""

NOTHING: dict[str, object] = {"patience": 0, "class_weight": "none"}
"""What stands for None in settings that can be that: TOML has no word for it."""

_TEXT, _WHOLE, _YES_OR_NO = (str,), (int,), (bool,)
CHOICES: dict[str, tuple[type, ...]] = {
    "data": _TEXT,
    "out": _TEXT,
    "metric": _TEXT,
    "folds": _WHOLE,
    "repeats": _WHOLE,
    "holdout": _YES_OR_NO,
    "groups": _YES_OR_NO,
    "nested": _YES_OR_NO,
    "calibrate": _YES_OR_NO,
    "budget": (str, int, float),
    "seed": _WHOLE,
    "backbone": _TEXT,
    "weights": _TEXT,
    "size": _WHOLE,
    "resize": _TEXT,
    "pooling": _TEXT,
    "layer": _TEXT,
    "precision": _TEXT,
    "engine": _TEXT,
    "views": _WHOLE,
    "augment": _TEXT,
    "augment_seed": _WHOLE,
    "tta": _YES_OR_NO,
    "bn": _TEXT,
    "bn_images": _WHOLE,
    "bn_mix": (int, float),
}
"""Keys beside the heads, each the flag of that name; what it can be, the flag knows."""

_OWN: dict[str, tuple[type, ...]] = {"head": _TEXT, "pooling": _TEXT, "only_first_fold": _YES_OR_NO}
_LAYERS = re.compile(r"\d{1,9}(\+\d{1,9})*", re.ASCII)
_POOLINGS = ("avg", "max", "avgmax", "flatten")
_WORDS = {str: "text in quotes", int: "a whole number", float: "a number", bool: "true or false"}


@dataclass(frozen=True)
class SweepFile:
    """What a sweep file asks for.

    Attributes
    ----------
    toml
        The file, which knows its lines.
    choices
        Values of the flags it has an opinion on, by their names, as TOML has them: of the right
        type, and not yet of a range.
    entries
        Its heads, each at one setting, in its order and each once; empty for the default sweep.
    """

    toml: TomlFile
    choices: Mapping[str, Any]
    entries: tuple[HeadEntry, ...]


def read_sweepfile(name: str) -> SweepFile:
    """Read a sweep file, or one that comes with the package.

    Parameters
    ----------
    name
        Path of a file, or the name of a preset, which goes first: ``./question`` is a file.

    Raises
    ------
    UsageError
        There is no such file, it is not TOML, or it has an unknown key, a wrong type, or an
        impossible setting; with the line, and the nearest right names.
    """
    presets = sorted(path.stem for path in PRESETS.glob("*.toml"))
    path = PRESETS / f"{name}.toml" if name in presets else Path(name)
    if not path.exists():
        raise UsageError(
            f"there is no sweep file {name}: headstart init writes one, and of the presets there "
            f"is {', '.join(presets)}"
        )
    toml = TomlFile.read(path, f"{name}.toml" if name in presets else name)
    choices = {key: value for key, value in toml.values.items() if key != "heads"}
    for key, value in choices.items():
        with toml.at(key):
            _check_type("key", key, value, CHOICES, also=("heads",))
    return SweepFile(toml, choices, _entries(toml))


def _check_type(
    noun: str,
    key: str,
    value: object,
    known: Mapping[str, tuple[type, ...]],
    also: tuple[str, ...] = (),
) -> None:
    if key not in known:
        raise UsageError(f"there is no {noun} {key!r}{nearest(key, [*known, *also])}")
    if type(value) not in known[key]:
        expected = " or ".join(_WORDS[kind] for kind in known[key])
        raise UsageError(f"{key} has to be {expected}, and is {value!r}")


def _entries(toml: TomlFile) -> tuple[HeadEntry, ...]:
    tables = toml.values.get("heads")
    if tables is None:
        return ()
    with toml.at("heads"):
        if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
            raise UsageError("heads are a list of tables, each of which begins with [[heads]]")
        if not tables:
            raise UsageError("this is a sweep without a head; without this key it is the default")
    entries: list[HeadEntry] = []
    for number, table in enumerate(tables):
        entries += (entry for entry in _of_table(toml, number, table) if entry not in entries)
    return tuple(entries)


def _of_table(toml: TomlFile, number: int, table: Mapping[str, Any]) -> Iterator[HeadEntry]:
    """Make every combination of the settings of one ``[[heads]]``."""
    head = _check_own(toml, number, table)
    axes = {
        name: _axis(toml, ("heads", number, name), head, given)
        for name, given in table.items()
        if name not in _OWN
    }
    with toml.at("heads", number):
        needed = (name for name, value in settings_of(head).items() if value is REQUIRED)
        if missing := [name for name in needed if name not in axes]:
            raise UsageError(f"the head {head} needs {' and '.join(missing)}")
        if (count := math.prod(map(len, axes.values()))) > MOST_HEADS:
            raise UsageError(f"these are {count} combinations; a sweep takes {MOST_HEADS}")
        for point in product(*axes.values()):
            settings = dict(zip(axes, point, strict=True))
            trainer(HeadSpec(head, settings))  # it knows what goes together
            yield HeadEntry(
                head, settings, table.get("pooling"), table.get("only_first_fold", False)
            )


def _check_own(toml: TomlFile, number: int, table: Mapping[str, Any]) -> str:
    """Check the keys that are no settings; return which head it is."""
    for key in _OWN.keys() & table.keys():
        with toml.at("heads", number, key):
            _check_type("key", key, table[key], _OWN)
    with toml.at("heads", number):
        if "head" not in table:
            raise UsageError(f"it says not which head: head = {' or '.join(map(repr, HEADS))}")
    with toml.at("heads", number, "head"):
        settings_of(table["head"])
    with toml.at("heads", number, "pooling"):
        if (pooling := table.get("pooling", "avg")) not in _POOLINGS:
            raise UsageError(f"there is no pooling {pooling!r}{nearest(pooling, _POOLINGS)}")
    head: str = table["head"]
    return head


def _axis(toml: TomlFile, path: tuple[str | int, ...], head: str, given: Any) -> list[Any]:
    """Make the values of one setting: those of a list, or the one there is."""
    name = str(path[-1])
    with toml.at(*path):
        if name not in (known := settings_of(head)):
            if name in CHOICES:
                raise UsageError(f"{name} is no matter of one head: it goes above all [[heads]]")
            hint = nearest(name, [*known, *_OWN])
            raise UsageError(f"the head {head} has no setting {name!r}{hint}")
        if given == []:
            raise UsageError(f"{name} has no value: give one, or leave it out")
    if not isinstance(given, list):
        with toml.at(*path):
            return [_value(head, name, given)]
    values = []
    for position, one in enumerate(given):
        with toml.at(*path, position):
            values.append(_value(head, name, one))
    return values


def _value(head: str, name: str, given: object) -> object:
    """Make of what TOML can say what trainers take, so that equal settings have equal names."""
    value = given
    if name in NOTHING and type(given) is type(NOTHING[name]) and given == NOTHING[name]:
        value = None
    elif name == "hidden":
        value = _layers(given)
    elif type(given) is int and name in RANGES and RANGES[name].number:
        value = float(given)
    elif isinstance(given, list):
        value = tuple(given)
    check_setting(head, name, value)
    return value


def _layers(given: object) -> object:
    """Make a tuple of ``"512+256"`` or of a list in a list; a bare number could mean either."""
    if isinstance(given, str) and _LAYERS.fullmatch(given):
        return tuple(map(int, given.split("+")))
    if type(given) is int:
        raise UsageError(
            'layers are written as text: "512+256" is one head with two of them, '
            '["512", "256"] are two heads with one'
        )
    return tuple(given) if isinstance(given, list) else given
