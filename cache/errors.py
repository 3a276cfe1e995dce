"""What can go wrong in the cache, as exceptions whose text says where, what and what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray


class CacheError(Exception):
    """A failure of the cache; its text is fit to be shown to a user."""


@contextmanager
def told_as(what: str) -> Iterator[None]:
    """Raise an OSError as a CacheError that says what could not be done: "cannot <what>: ..."."""
    try:
        yield
    except OSError as error:
        raise CacheError(f"cannot {what}: {error.strerror or error}") from error


class ShardError(CacheError):
    """A shard fails a check; none of its rows may be used."""


class RecipeError(CacheError):
    """The recipe of a store is unreadable, another one, or of a newer format."""


class DamagedRecipe(RecipeError):
    """A recipe.json is not what was written, whatever it was; it holds nothing of use."""


class MissingRows(CacheError):
    """Rows that were asked for are not in the store.

    Attributes
    ----------
    positions : ndarray of int64, shape (m,)
        Positions of the absent rows among those asked for, ascending.
    """

    def __init__(self, positions: NDArray[np.int64], folder: object) -> None:
        super().__init__(positions, folder)
        self.positions = positions
        self.folder = folder

    def __str__(self) -> str:
        shown = ", ".join(map(str, self.positions[:5].tolist()))
        more = ", ..." if len(self.positions) > 5 else ""
        return (
            f"{len(self.positions)} of the rows asked for are not in {self.folder} "
            f"(positions {shown}{more}); run `headstart features` on these images"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.positions, self.folder)
