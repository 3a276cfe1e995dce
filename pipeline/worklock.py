"""Who may fill a store: runs that share work wait for one another, shards of one work do not.

A store itself needs no lock; these keep two people from paying for the same rows. A run over
everything holds the store's gate for as long as it works. A shard holds the gate only while it
takes a lock of its own, ``work-<I>-of-<N>.lock``. So different shards work at once, the same shard
twice does not, and whoever holds the gate and has waited for the shards' locks is alone.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from pipeline.events import Notice, Observer
from pipeline.workshard import WorkShard

GATE = "work.lock"
_OF_SHARDS = "work-*.lock"


@contextlib.contextmanager
def sole_worker(
    folders: Iterable[Path], shard: WorkShard | None, observe: Observer
) -> Iterator[None]:
    """Keep a second run from computing the same rows; says so where it has to wait.

    Parameters
    ----------
    folders
        Folders of the stores that are to be filled. They are taken in the order of their names,
        so that two runs never wait for each other.
    shard
        The part of the work that this run is; None for all of it.
    """
    with contextlib.ExitStack() as held:
        for folder in sorted(folders):
            with contextlib.ExitStack() as gate:
                _wait(FileLock(folder / GATE), gate, observe)
                if shard is None:
                    for other in sorted(folder.glob(_OF_SHARDS)):
                        _wait(FileLock(other), held, observe)
                    held.enter_context(gate.pop_all())
                else:
                    name = f"work-{shard.index}-of-{shard.count}.lock"
                    _wait(FileLock(folder / name), held, observe)
        yield


@contextlib.contextmanager
def nobody_at_work(folder: Path) -> Iterator[None]:
    """Keep all runs from filling a store.

    Raises
    ------
    filelock.Timeout
        One is filling it.
    """
    with contextlib.ExitStack() as held:
        for lock in (folder / GATE, *sorted(folder.glob(_OF_SHARDS))):
            held.enter_context(FileLock(lock).acquire(timeout=0))
        yield


def _wait(lock: FileLock, held: contextlib.ExitStack, observe: Observer) -> None:
    """Take a lock until `held` is left."""
    try:
        held.enter_context(lock.acquire(timeout=0))
    except Timeout:
        observe(Notice("another run is filling this store; waiting for it to finish"))
        held.enter_context(lock.acquire())
