"""What each setting of a head can be, by its name: the same for every head that has it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from pipeline.errors import UsageError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


@dataclass(frozen=True)
class Range:
    """The values that a setting can have.

    Attributes
    ----------
    expected
        Which they are, in words.
    holds
        Whether a value is one of them.
    number
        Whether they are numbers of which some are no whole ones.
    """

    expected: str
    holds: Callable[[object], bool]
    number: bool = False


def check_setting(head: str, name: str, value: object) -> None:
    """Refuse an impossible value of a setting; one that is not listed here can be anything.

    Raises
    ------
    UsageError
        The value is of another type than the setting's, or out of its range.
    """
    allowed = RANGES.get(name)
    if allowed is not None and not allowed.holds(value):
        raise UsageError(
            f"the head {head} cannot have {name} {value!r}; it has to be {allowed.expected}"
        )


def check_settings(trainer: DataclassInstance) -> None:
    """Raise a ValueError that names the first impossible setting of a trainer."""
    for field in fields(trainer):
        value, allowed = getattr(trainer, field.name), RANGES.get(field.name)
        if allowed is not None and not allowed.holds(value):
            raise ValueError(f"{field.name} is {value!r}, and has to be {allowed.expected}")


# True is an int to Python, and to nobody else: hence the looks at the type.
def _number(expected: str, within: Callable[[float], bool]) -> Range:
    def holds(value: object) -> bool:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return False
        return math.isfinite(value) and within(value)

    return Range(f"a number {expected}", holds, number=True)


def _is_count(value: object) -> bool:
    return type(value) is int and value >= 1


def _is_layers(value: object) -> bool:
    return isinstance(value, (list, tuple)) and all(map(_is_count, value))


def _one_of(*values: str | None) -> Range:
    return Range(" or ".join(map(repr, values)), lambda v: v in values)


def _or(word: str | None, numbers: Range) -> Range:
    expected = f"{word!r} or {numbers.expected}"
    return Range(expected, lambda v: v == word or numbers.holds(v), numbers.number)


POSITIVE = _number("above 0", lambda v: v > 0)
NOT_NEGATIVE = _number("from 0", lambda v: v >= 0)
RATE = _number("from 0, and below 1", lambda v: 0 <= v < 1)
COUNT = Range("a whole number from 1", _is_count)

RANGES: dict[str, Range] = {
    "C": POSITIVE,
    "alpha": POSITIVE,
    "tol": POSITIVE,
    "gamma": _or("scale", POSITIVE),
    "shrinkage": _or("auto", _number("above 0, 1 at most", lambda v: 0 < v <= 1)),
    "kernel": _one_of("linear", "rbf"),
    "metric": _one_of("euclidean", "cosine"),
    "class_weight": _one_of(None, "balanced"),
    "multi_class": _one_of("multinomial", "ovr"),
    "k": COUNT,
    "hidden": Range("whole numbers from 1, one a layer", _is_layers),
    "dropout": RATE,
    "label_smoothing": RATE,
    "stopping_fraction": _number("between 0 and 1", lambda v: 0 < v < 1),
    "learning_rate": POSITIVE,
    "weight_decay": NOT_NEGATIVE,
    "l2": NOT_NEGATIVE,
    "batch_size": COUNT,
    "epochs": COUNT,
    "patience": _or(None, COUNT),
}
"""What can be said of a setting before its trainer is made."""
