"""Settings that cannot be, refused before a fit."""

from __future__ import annotations


def check_positive(**settings: object) -> None:
    """Raise a ValueError that names the first setting which is not above 0."""
    for name, value in settings.items():
        if not isinstance(value, (int, float)) or not value > 0:
            raise ValueError(f"{name} is {value!r}, and must be a number above 0")


def check_among(name: str, value: object, known: tuple[object, ...]) -> None:
    """Raise a ValueError where a setting is not one of the values there are."""
    if value not in known:
        raise ValueError(f"{name} is {value!r}, and can be {', '.join(map(repr, known))}")


def check_class_weight(value: object) -> None:
    """Raise a ValueError where it is neither None nor ``"balanced"``."""
    check_among("class_weight", value, (None, "balanced"))
