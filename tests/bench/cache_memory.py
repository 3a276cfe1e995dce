"""Peak memory of a peer, in a process of its own."""

from __future__ import annotations

import gc
import multiprocessing
import shutil
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.bench.cache_peers import BATCH, Peer, drop_cached

_PIECES = 4


def memory_of(
    kind: type[Peer], filled: Path, folder: Path, keys: NDArray[np.uint8], dims: int, dtype: str
) -> dict[str, float]:
    """Return the growth of the peak in bytes; nothing where the system does not tell (not Linux).

    Parameters
    ----------
    filled
        Folder of the peer, with a row for each key.
    folder
        Where the peer may make other folders.
    """
    args = kind, filled, folder, keys, dims, dtype
    lines: dict[str, Callable[..., float]] = {
        "memory, append, MB": _appending,
        "memory, open and gather, MB": _gathering,
        "memory, read all beyond it, MB": _reading,
    }
    if not Path("/proc/self/clear_refs").exists():
        return {}
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["cache_libraries"])
    results = {}
    for line, work in lines.items():
        with ProcessPoolExecutor(1, context) as pool:
            results[line] = pool.submit(_loaded, work, *args).result()
    return results


def _loaded(
    work: Callable[..., float],
    kind: type[Peer],
    filled: Path,
    folder: Path,
    keys: NDArray[np.uint8],
    dims: int,
    dtype: str,
) -> float:
    """Do everything once on few rows, so that code and pools are there, and then the work."""
    small = folder / "small"
    peer = kind(small, keys[: 2 * BATCH], dims, dtype)
    batch = np.ones((BATCH, dims), dtype)
    peer.add(0, batch)
    peer.add(BATCH, batch)
    peer.finish()
    peer.open()
    peer.check()
    peer.gather(np.arange(9, 2, -1))
    peer.read_all()
    peer.close()
    shutil.rmtree(small)
    try:
        return work(kind, filled, folder, keys, dims, dtype)
    finally:
        shutil.rmtree(small, ignore_errors=True)


def _appending(
    kind: type[Peer], filled: Path, folder: Path, keys: NDArray[np.uint8], dims: int, dtype: str
) -> float:
    peer = kind(folder / "small", keys, dims, dtype)
    count = min(len(keys), _PIECES * peer.at_once) // BATCH * BATCH
    peer.rows, peer.keys = count, keys[:count]
    batch = np.random.default_rng(0).random((BATCH, dims), np.float32).astype(dtype)

    def work() -> None:
        for first in range(0, count, BATCH):
            peer.add(first, batch)
        peer.finish()

    return growth(work)


def _gathering(
    kind: type[Peer], filled: Path, folder: Path, keys: NDArray[np.uint8], dims: int, dtype: str
) -> float:
    peer = kind(filled, keys, dims, dtype)
    some = np.random.default_rng(0).integers(0, len(keys), 256)

    def work() -> None:
        peer.open()
        peer.gather(some)

    drop_cached(filled)  # else the kernel maps more pages around each than were asked for
    return growth(work)


def _reading(
    kind: type[Peer], filled: Path, folder: Path, keys: NDArray[np.uint8], dims: int, dtype: str
) -> float:
    peer = kind(filled, keys, dims, dtype)
    peer.open()
    peer.gather(np.arange(1))
    return growth(peer.read_all) - len(keys) * dims * np.dtype(dtype).itemsize


def growth(work: Callable[[], Any]) -> float:
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = _peak()
    work()
    return _peak() - before


def _peak() -> float:
    (line,) = (
        line for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line
    )
    return float(line.split()[1]) * 1024
