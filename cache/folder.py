"""The folder of a store: its parts, and its recipe.json."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cache.atomic import commit, opened, read_at, write_at
from cache.errors import CacheError, DamagedRecipe, RecipeError, ShardError, told_as
from cache.recipe import Recipe, parse_recipe

# Far more than any recipe with its provenance; what is larger is not read.
_LARGEST_RECIPE = 1 << 20


@dataclass(frozen=True, slots=True)
class Folder:
    """Names of the parts of a store."""

    path: Path

    @property
    def recipe(self) -> Path:
        """The recipe and its provenance."""
        return self.path / "recipe.json"

    @property
    def shards(self) -> Path:
        """Sealed shards."""
        return self.path / "shards"

    @property
    def tmp(self) -> Path:
        """Files that are being written; never read."""
        return self.path / "tmp"

    @property
    def quarantine(self) -> Path:
        """What failed its check."""
        return self.path / "quarantine"

    @property
    def checked(self) -> Path:
        """Which shards passed their check; disposable."""
        return self.path / "checked.json"

    def create(self) -> bool:
        """Create what is absent; return whether anything was.

        Raises
        ------
        CacheError
            It cannot be created, or a part is a link.
        """
        parts = (self.path, self.shards, self.tmp, self.quarantine)
        with told_as(f"create the store {self.path}"):
            absent = [part for part in parts if not part.is_dir()]
            for part in absent:
                part.mkdir(parents=True, exist_ok=True)
        self.refuse_links()
        return bool(absent)

    def refuse_links(self) -> None:
        """Raise CacheError where a part is a link: a store's rows lie in its own folder."""
        for part in (self.shards, self.tmp, self.quarantine):
            with told_as(f"look at {part}"):
                linked = part.is_symlink()
            if linked:
                raise CacheError(f"{part} is a link; a store is not followed out of its folder")

    def entries(self) -> list[str]:
        """Names in the folder of shards that end as a shard's does, ascending."""
        self.refuse_links()
        with told_as(f"list {self.shards}"):
            try:
                names = os.listdir(self.shards)  # noqa: PTH208 - a Path for each of a million names is slow
            except FileNotFoundError:
                return []
        return sorted(name for name in names if name.endswith(".h5"))


def load_recipe(folder: Folder) -> Recipe | None:
    """Read the recipe of a store; None where there is no recipe.json.

    Raises
    ------
    DamagedRecipe
        It is not what was written.
    RecipeError
        It is unreadable or of a newer format.
    """
    try:
        with opened(folder.recipe) as fd:
            text = bytes(read_at(fd, 0, _LARGEST_RECIPE + 1))
        if len(text) > _LARGEST_RECIPE:
            raise DamagedRecipe(f"larger than {_LARGEST_RECIPE} bytes")
        return parse_recipe(text, folder.path.name)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ShardError, DamagedRecipe) as error:
        raise DamagedRecipe(
            f"{folder.recipe}: {error}; headstart features with the flags it was made with writes "
            "it anew"
        ) from error
    except RecipeError as error:
        raise RecipeError(f"{folder.recipe}: {error}") from error
    except OSError as error:
        raise RecipeError(f"{folder.recipe} cannot be read: {error.strerror}") from error


def save_recipe(folder: Folder, recipe: Recipe, provenance: Mapping[str, Any]) -> None:
    """Write recipe.json durably, unless somebody else just did.

    Raises
    ------
    CacheError
        It cannot be written.
    """
    whole = {
        "recipe": json.loads(recipe.canonical()),
        "digest": recipe.digest,
        "provenance": dict(provenance),
    }
    text = json.dumps(whole, indent=2, sort_keys=True).encode("ascii") + b"\n"
    if len(text) > _LARGEST_RECIPE:
        raise CacheError(f"recipe and provenance have {len(text)} bytes, {_LARGEST_RECIPE} at most")
    commit(
        folder.tmp,
        folder.path,
        None,
        lambda fd: write_at(fd, text, 0),
        lambda digest: folder.recipe.name,
    )
