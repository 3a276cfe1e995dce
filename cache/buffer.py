"""Collect rows until they are worth a shard of their own."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cache.store import FeatureStore


def _nobody(rows: int, nbytes: int) -> None:
    """Tell nobody."""


class RowBuffer:
    """Rows on their way to a store, committed by size or by age.

    As a context manager it commits what is left on the way out, also when an exception (Ctrl-C is
    one) is that way: what was added is lost only if the process is killed or the disk fails.

    Parameters
    ----------
    store
        Where the rows go.
    max_bytes, max_seconds
        A commit is due when so many bytes of features are waiting, or the oldest has waited so
        long. Both are looked at when rows are added.
    clock
        Seconds that never go back.
    on_commit
        Called with the number of rows and their bytes of features after each commit.
    """

    def __init__(
        self,
        store: FeatureStore,
        max_bytes: int = 64 << 20,
        max_seconds: float = 30.0,
        clock: Callable[[], float] = time.monotonic,
        on_commit: Callable[[int, int], None] = _nobody,
    ) -> None:
        self._store = store
        self._max_bytes = max_bytes
        self._max_seconds = max_seconds
        self._clock = clock
        self._on_commit = on_commit
        self._waiting: list[tuple[NDArray[Any], NDArray[Any]]] = []  # keys and views
        # Features lie one after the other, so that a commit takes them as they are, and in the same
        # memory after each commit: asking the system for it anew costs as much as writing a file.
        self._features = np.empty((0, 0))
        self._filled = 0
        self._since = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.flush()

    @property
    def rows(self) -> int:
        """Rows that are not committed yet."""
        return sum(len(keys) for keys, _ in self._waiting)

    @property
    def nbytes(self) -> int:
        """Bytes of features that are not committed yet."""
        return self._features[: self._filled].nbytes

    def add(self, keys: ArrayLike, features: ArrayLike, views: ArrayLike | None = None) -> None:
        """Take rows (copied); commit if that is due.

        Parameters
        ----------
        keys : array of uint8, shape (n, 32)
        features : array, shape (n, dims)
        views : array of uint32, shape (n,), optional

        Raises
        ------
        ValueError
            Rows of another length than those that wait; they are not taken.
        CacheError
            A commit failed; the rows are still here, and `flush` may be called again.
        """
        keys = np.array(keys)
        if len(keys):
            if not self._waiting:
                self._since = self._clock()
            numbers = np.zeros(len(keys), np.uint32) if views is None else np.array(views)
            self._hold(np.asarray(features))
            self._waiting.append((keys, numbers))
        if self._waiting and (
            self.nbytes >= self._max_bytes or self._clock() - self._since >= self._max_seconds
        ):
            self.flush()

    def flush(self) -> None:
        """Commit what is waiting, as one shard.

        Raises
        ------
        CacheError
            The commit failed; the rows are still here.
        """
        if not self._waiting:
            return
        keys, views = (np.concatenate(parts) for parts in zip(*self._waiting, strict=True))
        features = self._features[: self._filled]
        self._store.append(keys, features, views)
        # Interrupted before this line, the same rows are committed again: the same shard.
        self._waiting, self._filled = [], 0
        self._on_commit(len(keys), features.nbytes)

    def _hold(self, rows: NDArray[Any]) -> None:
        """Copy rows behind those that wait, into more memory where there is too little."""
        held, filled, stop = self._features, self._filled, self._filled + len(rows)
        if filled and held.shape[1:] != rows.shape[1:]:
            raise ValueError(
                f"rows of shape {rows.shape[1:]}: those that wait have {held.shape[1:]}"
            )
        dtype = np.result_type(held, rows) if filled else rows.dtype
        if len(held) < stop or (held.dtype, held.shape[1:]) != (dtype, rows.shape[1:]):
            self._features = np.empty((max(stop, 2 * filled), *rows.shape[1:]), dtype)
            if filled:
                self._features[:filled] = held[:filled]
        self._features[filled:stop] = rows
        self._filled = stop
