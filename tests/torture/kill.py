"""Fault 1: kill -9 at any moment of a process that appends.

The process computes rows with a fake network and keeps them through `RowBuffer`, as extraction
does; some runs check, repair or compact on the way. It is killed and started again until all is
kept; the end must be what an undisturbed run gives.
"""

from __future__ import annotations

import os
import random
import shutil
import struct
import time
from pathlib import Path

from cache import FeatureStore, RowBuffer
from cache.compaction import compact
from tests.torture.children import start
from tests.torture.world import Tally, World, scratch

ROWS = 240
_KEPT = struct.Struct("<I")


def extract(world: World, root: Path, pipe: int, seed: int) -> None:
    """Append what is missing in batches; tell each row that is kept."""
    rng = random.Random(seed)
    store = FeatureStore.open(root, world.recipe)
    if rng.random() < 0.7:
        store.check()
    if rng.random() < 0.3:
        compact(store.folder, target_bytes=rng.choice([20_000, 1 << 20]))
        store.refresh()
    missing = store.missing(world.keys).tolist()
    batch = rng.choice([1, 4, 16])
    waiting: list[int] = []

    def told(rows: int, nbytes: int) -> None:
        os.write(pipe, b"".join(map(_KEPT.pack, waiting[:rows])))
        del waiting[:rows]

    with RowBuffer(store, max_bytes=batch * 2 * world.dims * 4, on_commit=told) as buffer:
        for low in range(0, len(missing), batch):
            part = missing[low : low + batch]
            waiting += part
            buffer.add(world.keys[part], world.features[part])


def killed_run(world: World, root: Path, rng: random.Random, tally: Tally) -> None:
    """Kill a run again and again, then let it come to its end."""
    kept: set[int] = set()
    seed = rng.randrange(1 << 30)
    for attempt in range(rng.randrange(3, 9)):
        child = start(lambda pipe, n=attempt: extract(world, root, pipe, seed + n))
        time.sleep(rng.uniform(0.0, rng.choice([0.02, 0.1, 0.3])))
        child.kill()
        said, _ = child.wait()
        kept |= {row for (row,) in _KEPT.iter_unpack(said[: len(said) // 4 * 4])}
        tally.tried += 1
        _look(world, root, kept, tally, f"run {seed}, kill {attempt}")
    said, code = start(lambda pipe: extract(world, root, pipe, seed - 1)).wait()
    if code:
        tally.tell(f"run {seed}: the last run ended with {code}", unhealed=1)
    store = FeatureStore.open(root, world.recipe)
    missing, wrong = world.misread(store)
    if len(missing) or wrong or store.verify():
        tally.tell(f"run {seed}: the end is not an undisturbed run's", unhealed=1)


def _look(world: World, root: Path, kept: set[int], tally: Tally, what: str) -> None:
    """Read all there is after a kill; repair nothing, so that the next run finds it as it is."""
    tally.states += 1
    if not (root / world.recipe.name / "recipe.json").exists():
        if kept:
            tally.tell(f"{what}: no store", lost=len(kept))
        return
    store = FeatureStore.open(root, world.recipe)
    missing, wrong = world.misread(store)
    lost = len(kept & set(missing.tolist()))
    if lost or wrong:
        tally.tell(what, lost=lost, misread=wrong)


def run(seconds: float, seed: int) -> Tally:
    """Kill runs until the time is over."""
    tally, rng, world = Tally("kill"), random.Random(seed), World(ROWS, 50)
    end, runs = time.monotonic() + seconds, 0
    with scratch() as root:
        while runs == 0 or time.monotonic() < end:
            killed_run(world, root / "store", rng, tally)
            shutil.rmtree(root / "store")
            runs += 1
    tally.notes.append(f"{runs} runs that came to their end after their kills")
    return tally
