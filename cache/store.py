"""A store: a folder of sealed shards seen as one matrix whose rows are asked for by key.

Nothing on disk says which rows exist but the shards themselves. Writers need no lock, and a store
sees what others committed after `FeatureStore.refresh`.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cache.atomic import anchor, commit
from cache.census import Census
from cache.errors import CacheError, DamagedRecipe, MissingRows, RecipeError, ShardError, told_as
from cache.folder import Folder, load_recipe, save_recipe
from cache.integrity import Finding, quarantine
from cache.recipe import Recipe
from cache.rows import cast, identities
from cache.shard import Block, shard_name
from cache.table import Maps, Table
from cache.writer import write_shard

# How often a reader looks again when a shard vanishes under it (others compact or repair). Each
# time some others are gone, so there is an end to it.
_ATTEMPTS = 100
_NO_PROVENANCE: Mapping[str, Any] = MappingProxyType({})


class FeatureStore:
    """Rows of features, kept by image and view under one recipe.

    Open one with `FeatureStore.open` or `FeatureStore.at`. Keys are arrays of uint8 with shape
    (n, 32), the SHA-256 of each image file; views are uint32 with shape (n,), 0 (the default) for
    the plain image and above for augmented ones. One store may be used by several threads.
    """

    def __init__(self, folder: Path, recipe: Recipe) -> None:
        self._folder = Folder(folder)
        self._recipe = recipe
        self._census = Census(self._folder, recipe)
        self._table: Table | None = None
        self._maps = Maps()
        self._lock = threading.RLock()
        self._anchored = False
        self.refresh()

    @classmethod
    def open(
        cls, root: Path, recipe: Recipe, *, provenance: Mapping[str, Any] = _NO_PROVENANCE
    ) -> FeatureStore:
        """Open the store of a recipe in ``root / recipe.name``; create it if there is none.

        A damaged recipe.json goes to the quarantine and is written anew.

        Parameters
        ----------
        root
            Folder of stores; created if absent.
        recipe
            What identifies the rows besides their images.
        provenance
            Plain values to record beside the recipe when the store is created; never compared.

        Raises
        ------
        RecipeError
            The folder holds another recipe, an unreadable one or one of a newer format; or a
            damaged one that cannot be moved.
        CacheError
            The folder cannot be created.
        """
        folder = Folder(Path(root) / recipe.name)
        try:
            found = load_recipe(folder)
        except DamagedRecipe:
            # What it said is known here, and the folder's name has its digest.
            folder.create()
            quarantine(folder.recipe, folder.quarantine, None)
            found = None
        if found is None:
            folder.create()
            save_recipe(folder, recipe, provenance)
            found = load_recipe(folder)
        if found is None or found.digest != recipe.digest:
            raise RecipeError(f"{folder.recipe} holds another recipe; choose another output folder")
        return cls(folder.path, recipe)

    @classmethod
    def at(cls, folder: Path) -> FeatureStore:
        """Open an existing store with the recipe that it records; it may be read-only.

        Raises
        ------
        RecipeError
            There is no store, or its recipe is unreadable or of a newer format.
        """
        folder = Path(folder)
        recipe = load_recipe(Folder(folder))
        if recipe is None:
            raise RecipeError(f"{folder} is not a store: it has no recipe.json")
        return cls(folder, recipe)

    @property
    def folder(self) -> Path:
        """Folder of the store."""
        return self._folder.path

    @property
    def recipe(self) -> Recipe:
        """Recipe of the rows."""
        return self._recipe

    @property
    def digest(self) -> str:
        """Digest of the recipe, 64 hex digits."""
        return self._recipe.digest

    @property
    def dims(self) -> int | None:
        """Numbers in a row; None while there is no row."""
        with self._lock:
            return self._census.dims

    @property
    def rows(self) -> int:
        """Distinct rows that can be read."""
        return self._tabled().rows

    @property
    def last_view(self) -> int:
        """Largest number of a view that has a row; 0 where there are plain images alone."""
        return int(self._tabled().index.views.max(initial=0))

    @property
    def nbytes(self) -> int:
        """Bytes of all good shards on disk."""
        with self._lock:
            return sum(shard.header.length for shard in self._census.good.values())

    @property
    def shards(self) -> int:
        """Number of good shards."""
        with self._lock:
            return len(self._census.good)

    def refresh(self) -> None:
        """Look for shards that others committed, replaced or took away.

        Raises
        ------
        CacheError
            The folder cannot be listed.
        """
        with self._lock:
            self._census.refresh()

    def missing(self, keys: ArrayLike, views: ArrayLike | None = None) -> NDArray[np.int64]:
        """Return the positions, ascending, of the rows asked for that the store does not have.

        Raises
        ------
        ValueError
            Keys or views have another shape or dtype.
        """
        found = self._tabled().index.find(*identities(keys, views))
        return np.flatnonzero(found < 0)

    def append(self, keys: ArrayLike, features: ArrayLike, views: ArrayLike | None = None) -> Path:
        """Commit rows as one sealed shard; they survive a crash from the moment this returns.

        Parameters
        ----------
        keys : array of uint8, shape (n, 32)
        features : array, shape (n, dims)
            Cast to the store's dtype if both are floating-point.
        views : array of uint32, shape (n,), optional

        Returns
        -------
        Path
            The shard.

        Raises
        ------
        ValueError
            Shapes or dtypes do not fit the store, or a number does not fit its dtype.
        CacheError
            The system failed; nothing of this call was kept, all that was kept before is.
        """
        block = self._block(keys, features, views)
        folder = self._folder
        self._ensure_folder()
        path = commit(
            folder.tmp,
            folder.shards,
            folder.quarantine,
            lambda fd: write_shard(fd, block, self._recipe),
            lambda digest: shard_name(self._recipe, len(block.keys), digest),
        )
        self._ensure_folder()  # others may have begun to remove the store before they saw the shard
        with self._lock:
            try:
                self._census.add(path)
            except ShardError:  # others merged it into another one already
                self._census.refresh()
        return path

    def read(self, keys: ArrayLike, views: ArrayLike | None = None) -> NDArray[Any]:
        """Return the rows asked for, in that order.

        Returns
        -------
        ndarray of the store's dtype, shape (n, dims)
            Where the rows lie one after the other in one shard: that part of the file, mapped and
            read-only, nothing copied. Else a new array.

        Raises
        ------
        MissingRows
            Some are not in the store; has their positions.
        ValueError
            Keys or views have another shape or dtype.
        CacheError
            The system failed.
        """
        wanted, numbers = identities(keys, views)
        for _ in range(_ATTEMPTS):
            table = self._tabled()
            found = table.index.find(wanted, numbers)
            if (found < 0).any():
                raise MissingRows(np.flatnonzero(found < 0), self.folder)
            if not len(found):
                return np.empty((0, self.dims or 0), self._recipe.dtype)
            try:
                return table.gather(found, self._maps)
            except (ShardError, FileNotFoundError):
                self.refresh()
            except OSError as error:
                raise CacheError(f"cannot map a shard: {error}") from error
        raise CacheError(f"{self.folder} keeps changing while it is read; try again")

    def blocks(self, rows: int = 4096) -> Iterator[Block]:
        """Iterate over the distinct rows of this moment, each once, at most ``rows`` at a time.

        They are mapped and not copied, unless others merge shards meanwhile: then those that are
        left are looked up anew.

        Raises
        ------
        CacheError
            Rows were taken away since this began, or the system failed.
        """
        table, given = self._tabled(), 0
        try:
            for block in table.blocks(rows, self._maps):
                given += len(block.keys)
                yield block
            return
        except (ShardError, FileNotFoundError):
            self.refresh()
        except OSError as error:
            raise CacheError(f"cannot map a shard: {error}") from error
        keys, views = table.distinct(given)
        order = np.argsort(self._tabled().index.find(keys, views), kind="stable")
        for low in range(0, len(order), rows):
            part = order[low : low + rows]
            try:
                yield Block(keys[part], views[part], self.read(keys[part], views[part]))
            except MissingRows as error:
                raise CacheError(f"{self.folder} changed while it was read: {error}") from error

    def check(self) -> list[Finding]:
        """Check every byte of each shard that was not yet checked in its present state.

        Shards that fail are moved to the quarantine, and their rows are missing from then on (in a
        read-only store too, where they cannot be moved). What passed is remembered in the store's
        folder; whoever cannot read or write that memory checks again.

        Returns
        -------
        list of Finding
            One for each file among the shards that is not good.
        """
        with self._lock:
            return self._census.check()

    def verify(self, *, repair: bool = False) -> list[Finding]:
        """Check every byte of every shard against its digests, checked before or not.

        What passes is opened with h5py as well and compared with what our own reader sees. The rows
        of what fails are missing from then on, and no earlier check of it counts any more.

        Parameters
        ----------
        repair
            Move what fails to the quarantine. Else it stays in place.

        Returns
        -------
        list of Finding
            What is damaged, renamed, foreign or not what HDF5 shows, by name.
        """
        with self._lock:
            return self._census.verify(repair=repair)

    def _tabled(self) -> Table:
        """Return the table of the good shards, building it if they changed."""
        with self._lock:
            if self._table is None or self._table.by_name != self._census.good:
                self._table = Table(self._census.good.values())
                self._maps.drop_all_but(self._table.by_name.values())
                # The table's shards share one copy of the identities; the others are let go.
                self._census.good = dict(self._table.by_name)
            return self._table

    def _block(self, keys: ArrayLike, features: ArrayLike, views: ArrayLike | None) -> Block:
        """Check and cast what is to be appended."""
        wanted, numbers = identities(keys, views)
        rows = np.asarray(features)
        if rows.ndim != 2 or len(rows) != len(wanted) or not rows.size:
            raise ValueError(
                f"features of shape {rows.shape} for {len(wanted)} keys: expected (n, dims), n > 0"
            )
        if self.dims is not None and rows.shape[1] != self.dims:
            raise ValueError(
                f"rows of {rows.shape[1]} numbers, while {self.folder} has {self.dims}"
            )
        return Block(wanted, numbers, cast(rows, self._recipe.dtype))

    def _ensure_folder(self) -> None:
        """Make folders and recipe durable, once, and again where others removed them.

        `commit` does so for what lies in them.
        """
        folder = self._folder
        made = folder.create()
        with told_as(f"look at {folder.recipe}"):
            there = folder.recipe.exists()
        if not there:
            save_recipe(folder, self._recipe, {})
        if made or not there or not self._anchored:
            with told_as(f"sync {self.folder}"):
                anchor(folder.shards)
            self._anchored = True
