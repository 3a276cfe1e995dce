"""Check, cast and copy rows: pure functions on arrays."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cache.header import KEY_BYTES

_PIECE = 1 << 20


def identities(
    keys: ArrayLike, views: ArrayLike | None
) -> tuple[NDArray[np.uint8], NDArray[np.uint32]]:
    """Check keys and views; the default of views is 0.

    Returns
    -------
    keys : ndarray of uint8, shape (n, 32), contiguous
    views : ndarray of uint32, shape (n,)

    Raises
    ------
    ValueError
        Another shape or dtype, or views that do not fit 32 bits.
    """
    wanted = np.asarray(keys)
    if wanted.dtype != np.uint8 or wanted.ndim != 2 or wanted.shape[1] != KEY_BYTES:
        raise ValueError(
            f"keys of dtype {wanted.dtype} and shape {wanted.shape}: expected uint8, (n, 32)"
        )
    wanted = np.ascontiguousarray(wanted)
    if views is None:
        return wanted, np.zeros(len(wanted), np.uint32)
    numbers = np.asarray(views)
    if numbers.shape != (len(wanted),) or numbers.dtype.kind not in "ui":
        raise ValueError(
            f"views of dtype {numbers.dtype} and shape {numbers.shape}: "
            f"expected uint32, ({len(wanted)},)"
        )
    if numbers.size and not 0 <= int(numbers.min()) <= int(numbers.max()) < 1 << 32:
        raise ValueError("views out of range: expected 0 to 4294967295")
    return wanted, numbers.astype(np.uint32)


def cast(rows: NDArray[Any], dtype: str) -> NDArray[Any]:
    """Return rows in a storage dtype, contiguous; only floats are cast, and only to floats.

    Raises
    ------
    ValueError
        Another kind of number, or one too large for the dtype.
    """
    wanted = np.dtype(dtype)
    if rows.dtype != wanted and not rows.dtype.kind == wanted.kind == "f":
        raise ValueError(f"features of dtype {rows.dtype}, while the store has {dtype}")
    try:
        with np.errstate(over="raise"):
            return np.ascontiguousarray(rows, wanted)
    except FloatingPointError as error:
        raise ValueError(f"features too large for {dtype}; store them as float32") from error


def is_run(numbers: NDArray[np.int64]) -> bool:
    """Whether each number (there is at least one) is the one before plus one."""
    return int(numbers[-1] - numbers[0]) == len(numbers) - 1 and bool((np.diff(numbers) == 1).all())


def copy_rows(
    source: NDArray[Any], rows: NDArray[np.int64], out: NDArray[Any], at: NDArray[np.int64]
) -> None:
    """``out[at] = source[rows]`` with as little traffic as the order of both allows."""
    if not is_run(at):
        # Small pieces, so that what is gathered is still in the processor's cache when scattered.
        step = max(1, _PIECE // source[:1].nbytes)
        for low in range(0, len(rows), step):
            out[at[low : low + step]] = source[rows[low : low + step]]
        return
    target = out[at[0] : at[-1] + 1]
    if is_run(rows):
        np.copyto(target, source[rows[0] : rows[-1] + 1])
    else:
        np.take(source, rows, axis=0, out=target, mode="clip")  # "raise" would buffer all of it


def ranges(holes: Iterable[int], stop: int, step: int) -> Iterator[slice]:
    """Slices of at most ``step`` numbers that cover all below ``stop`` but the ascending holes."""
    for before, after in pairwise([-1, *holes, stop]):
        for low in range(before + 1, after, step):
            yield slice(low, min(low + step, after))
