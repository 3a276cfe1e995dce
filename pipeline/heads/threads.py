"""One thread for each product of matrices, while several folds are fitted at once."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_lock = threading.Lock()
_held: list[Any] = []


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Keep BLAS to one thread until the last of those who asked for it is done.

    Threads of a product wait for each other, and spin while they do: on cores that are shared with
    anything else they were measured up to twenty times slower than one. Folds need not wait for
    each other, so the cores are filled by folds. One thread also fixes the order of the sums.

    The limit is the process's own, so it is set by the first who enters and lifted by the last who
    leaves, whichever thread they are in.
    """
    from threadpoolctl import threadpool_limits

    with _lock:
        _held.append(_held[0] if _held else threadpool_limits(1, user_api="blas"))
    try:
        yield
    finally:
        with _lock:
            limits = _held.pop()
            if not _held:
                limits.restore_original_limits()
