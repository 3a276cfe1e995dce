"""Collect rows until they are worth a shard of their own, and commit them beside the work."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cache.errors import CacheError
from cache.store import FeatureStore


def _nobody(rows: int, nbytes: int) -> None:
    """Tell nobody."""


class RowBuffer:
    """Rows on their way to a store, committed by size or by age in a thread of the buffer's own.

    Whoever adds rows waits for a commit only where as many are waiting again as are due at once:
    no more than two lots are ever in memory. To be used by one thread at a time.

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
        Called with the number of rows and their bytes of features once they are durable, by the
        thread that uses the buffer, in its next call.
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
        self._waiting = _Lot()
        self._spare = _Lot()
        self._shape: tuple[int, ...] | None = None
        self._since = 0.0
        self._sent: tuple[_Lot, Future[Path]] | None = None
        self._thread = ThreadPoolExecutor(1, "commit")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self.flush()
        finally:
            self._thread.shutdown(wait=False)

    @property
    def rows(self) -> int:
        """Rows that are not known to be committed yet."""
        return sum(lot.rows for lot in self._uncommitted())

    @property
    def nbytes(self) -> int:
        """Bytes of features that are not known to be committed yet."""
        return sum(lot.nbytes for lot in self._uncommitted())

    def add(self, keys: ArrayLike, features: ArrayLike, views: ArrayLike | None = None) -> None:
        """Take rows (copied); have them committed if that is due.

        Parameters
        ----------
        keys : array of uint8, shape (n, 32)
        features : array, shape (n, dims)
        views : array of uint32, shape (n,), optional

        Raises
        ------
        ValueError
            Rows of another length than those before; they are not taken.
        CacheError
            A commit failed, this one or the one before; the rows are still here, and `flush` may be
            called again.
        """
        keys, rows = np.array(keys), np.asarray(features)
        if len(keys):
            if self._shape not in (None, rows.shape[1:]):
                raise ValueError(f"rows of shape {rows.shape[1:]}: those before have {self._shape}")
            self._shape = rows.shape[1:]
            if not self._waiting.rows:
                self._since = self._clock()
            numbers = np.zeros(len(keys), np.uint32) if views is None else np.array(views)
            self._waiting.add(keys, rows, numbers)
        due = self._due()
        if due or (self._sent is not None and self._sent[1].done()):
            self._settle()
        if due:
            self._send()

    def flush(self) -> None:
        """Commit what is waiting, as one shard, and wait for all commits.

        Raises
        ------
        CacheError
            A commit failed; the rows are still here.
        """
        with contextlib.suppress(CacheError):  # what could not be kept is tried again right here
            self._settle()
        self._send()
        self._settle()

    def _uncommitted(self) -> list[_Lot]:
        return [self._waiting, *([] if self._sent is None else [self._sent[0]])]

    def _due(self) -> bool:
        if not self._waiting.rows:
            return False
        if self._waiting.nbytes >= self._max_bytes:
            return True
        # What is merely old does not wait for the commit before it: that would stop the work.
        return self._sent is None and self._clock() - self._since >= self._max_seconds

    def _send(self) -> None:
        """Let the thread commit what is waiting."""
        lot = self._waiting
        if lot.rows:
            self._sent = lot, self._thread.submit(self._store.append, *lot.arrays())
            # Interrupted before this line, the same rows are committed again: the same shard.
            self._waiting, self._spare = self._spare, _Lot()

    def _settle(self) -> None:
        """Wait for the commit under way; where it failed, its rows are waiting again."""
        if self._sent is None:
            return
        lot, commit = self._sent
        error = commit.exception()
        if error is not None:
            if self._waiting.rows:
                lot.add(*self._waiting.arrays())
            self._waiting = lot
            self._sent = None
            raise error
        self._sent = None
        rows, nbytes = lot.rows, lot.nbytes
        lot.clear()
        if lot is not self._waiting:
            self._spare = lot
        self._on_commit(rows, nbytes)


class _Lot:
    """Rows that are committed together.

    Their features lie one after the other, so that a commit takes them as they are, and the memory
    is kept for the lot after the next: asking the system for it anew costs as much as writing a
    file.
    """

    def __init__(self) -> None:
        self._identities: list[tuple[NDArray[Any], NDArray[Any]]] = []
        self._features = np.empty((0, 0))
        self.rows = 0

    @property
    def nbytes(self) -> int:
        return self._features[: self.rows].nbytes

    def add(self, keys: NDArray[Any], features: NDArray[Any], views: NDArray[Any]) -> None:
        """Copy rows behind those that are there, into more memory where there is too little."""
        held, filled, stop = self._features, self.rows, self.rows + len(features)
        dtype = np.result_type(held, features) if filled else features.dtype
        if len(held) < stop or (held.dtype, held.shape[1:]) != (dtype, features.shape[1:]):
            self._features = np.empty((max(stop, 2 * filled), *features.shape[1:]), dtype)
            if filled:
                self._features[:filled] = held[:filled]
        self._features[filled:stop] = features
        self._identities.append((keys, views))
        self.rows = stop

    def arrays(self) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        """Keys, features (not copied) and views."""
        keys, views = (np.concatenate(parts) for parts in zip(*self._identities, strict=True))
        return keys, self._features[: self.rows], views

    def clear(self) -> None:
        self._identities, self.rows = [], 0
