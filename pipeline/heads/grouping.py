"""Settings that share more than the rows, brought together and put back in order."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def by_key(
    items: Sequence[T],
    key: Callable[[T], Hashable],
    work: Callable[[list[T]], Iterable[R]],
) -> list[R]:
    """Do the work of all items of one key at once; results in the order of the items."""
    places: dict[Hashable, list[int]] = {}
    for i, item in enumerate(items):
        places.setdefault(key(item), []).append(i)
    done: dict[int, R] = {}
    for own in places.values():
        done |= dict(zip(own, work([items[i] for i in own]), strict=True))
    return [done[i] for i in range(len(items))]
