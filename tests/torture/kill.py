"""Fault 1: kill -9 at any moment of a process that fills a store.

Two kinds of process are killed in turns. One computes rows with a fake network and keeps them
through `RowBuffer`, and checks, repairs or compacts on the way. The other is the real stage one
(`stage`). Each is killed and started again until all is kept; the end must be what an undisturbed
run gives. One half of the kills come by the clock, the other before a numbered call to the system,
which can be done again; a fixed number of cases has the latter alone.
"""

from __future__ import annotations

import os
import shutil
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from cache import FeatureStore, RowBuffer
from cache.compaction import compact
from tests.torture.children import start
from tests.torture.faults import ERRORS
from tests.torture.stage import Stage
from tests.torture.world import Budget, Tally, World, scratch, seeded

ROWS = 240
_KEPT = struct.Struct("<I")


class Run(Protocol):
    """Something that fills a store, and a look at what it left."""

    name: str

    def work(self, root: Path, pipe: int, seed: str) -> None:
        """Do what is missing; write to the pipe what is kept."""

    def look(self, root: Path, said: bytes, tally: Tally, what: str) -> None:
        """Judge what is there, and repair nothing: the next run finds it as it is."""

    def at_the_end(self, root: Path, tally: Tally, what: str) -> None:
        """Judge what an undisturbed run has brought to its end."""


class Buffered:
    """Rows of a fake network through `RowBuffer`, with checks and compactions between them."""

    name = "rows"

    def __init__(self, world: World) -> None:
        self.world = world
        self._kept: set[int] = set()

    def work(self, root: Path, pipe: int, seed: str) -> None:
        world, rng = self.world, seeded(seed)
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

    def look(self, root: Path, said: bytes, tally: Tally, what: str) -> None:
        self._kept |= {row for (row,) in _KEPT.iter_unpack(said[: len(said) // 4 * 4])}
        if not (root / self.world.recipe.name / "recipe.json").exists():
            if self._kept:
                tally.tell(f"{what}: no store", lost=len(self._kept))
            return
        store = FeatureStore.open(root, self.world.recipe)
        missing, wrong = self.world.misread(store)
        lost = len(self._kept & set(missing.tolist()))
        if lost or wrong:
            tally.tell(what, lost=lost, misread=wrong)

    def at_the_end(self, root: Path, tally: Tally, what: str) -> None:
        store = FeatureStore.open(root, self.world.recipe)
        missing, wrong = self.world.misread(store)
        if len(missing) or wrong or store.verify():
            tally.tell(f"{what}: the end is not an undisturbed run's", unhealed=1)


def _before_a_call(work: Callable[[], None], n: int) -> None:
    """Do something and kill this process before its ``n``-th call that the cache may make."""
    left = n

    def counting(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            nonlocal left
            left -= 1
            if left == 0:
                os.kill(os.getpid(), 9)
            return real(*args, **options)

        return call

    for name in ERRORS:
        setattr(os, name, counting(getattr(os, name)))
    work()


def killed_run(run: Run, root: Path, seed: str, kills: int, by_clock: bool, tally: Tally) -> int:
    """Kill a run again and again, then let it come to its end; return how many kills came late."""
    rng, late = seeded(seed), 0
    for attempt in range(kills):
        mine = f"{seed}, attempt {attempt}"
        if by_clock and rng.random() < 0.5:
            child = start(lambda pipe, mine=mine: run.work(root, pipe, mine))
            time.sleep(rng.uniform(0.0, rng.choice([0.02, 0.1, 0.3])))
            with suppress(ProcessLookupError):
                child.kill()
        else:
            n = rng.randrange(1, rng.choice([100, 400, 1600]))
            child = start(
                lambda pipe, mine=mine, n=n: _before_a_call(lambda: run.work(root, pipe, mine), n)
            )
        said, code = child.wait()
        if code > 0:
            tally.tell(f"{mine}: ended with {code}", unclear=1)
        late += code == 0
        tally.tried += code < 0
        tally.states += 1
        run.look(root, said, tally, mine)
    said, code = start(lambda pipe: run.work(root, pipe, seed)).wait()
    if code:
        tally.tell(f"{seed}: the last run ended with {code}", unhealed=1)
    run.look(root, said, tally, f"{seed}, the end")
    run.at_the_end(root, tally, seed)
    return late


def run(tally: Tally, budget: Budget, seed: int) -> None:
    """Kill runs as long as there is a budget of kills."""
    world, runs, late = World(ROWS, 50), 0, 0
    counts = {Buffered.name: 0, Stage.name: 0}
    with scratch() as root:
        images = Stage.prepared(root / "undisturbed")
        while budget.allows(tally.tried):
            run: Run = Buffered(world) if runs % 2 else Stage(images)
            name, before = f"{seed} {run.name} {runs}", tally.tried
            kills = seeded(name).randrange(3, 9)
            if not budget.clock:
                kills = min(kills, 3)
            late += killed_run(run, root / "store", name, kills, budget.clock, tally)
            shutil.rmtree(root / "store", ignore_errors=True)
            counts[run.name] += tally.tried - before
            runs += 1
    kinds = ", ".join(f"{count} of {name}" for name, count in counts.items())
    tally.notes.append(f"{tally.tried} kills: {kinds}; {late} more came after the end")
    tally.notes.append(f"{runs} runs that came to their end after their kills")
