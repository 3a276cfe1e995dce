"""Fault 7: anything in any order, against a dictionary that says what the store must answer."""

from __future__ import annotations

import os
import random
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from cache import FeatureStore, MissingRows
from cache.compaction import compact, drop_rows
from cache.garbage import keys_wanted
from cache.header import BLOCK
from tests.torture.children import start
from tests.torture.faults import ERRORS
from tests.torture.inline import without_threads
from tests.torture.world import Budget, Tally, World, seeded
from tests.torture.wounds import OF_ROWS, REGIONS, place, put

WORLD = World(16, 40)
_rows = st.sets(st.integers(0, WORLD.rows - 1), min_size=1, max_size=6)
_damage = st.sampled_from(["flip", "flip", "flip", "cut", "zero", "grow", "empty"])


class Steps:
    """How many steps were taken; each is followed by a look at the whole store."""

    taken = 0


class StoreAgainstDictionary(RuleBasedStateMachine):
    """`self.shards` is the dictionary: rows by the name of the good shard that holds them."""

    @initialize()
    def begin(self) -> None:
        base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        self.root = Path(tempfile.mkdtemp(prefix="torture-", dir=base))
        self.store = self.other = FeatureStore.open(self.root, WORLD.recipe)
        self.folder = self.store.folder
        self.shards: dict[str, set[int]] = {}
        self.damaged: dict[str, int] = {}  # the damaged file's inode
        self.unseen = False  # damage that nobody has checked for

    def teardown(self) -> None:
        shutil.rmtree(getattr(self, "root", "/nowhere"), ignore_errors=True)

    @property
    def kept(self) -> set[int]:
        return set().union(*self.shards.values())

    @rule(rows=_rows)
    def append(self, rows: set[int]) -> None:
        path = WORLD.append(self.store, sorted(rows))
        self.shards[path.name] = rows
        self.damaged.pop(path.name, None)

    @rule()
    def exchange(self) -> None:
        """Go on with the store as another process has it, which may not be up to date."""
        self.store, self.other = self.other, self.store

    @rule()
    def reopen(self) -> None:
        self.other, self.store = self.store, FeatureStore.at(self.folder)

    @rule()
    def refresh(self) -> None:
        self.store.refresh()

    @rule()
    def check(self) -> None:
        findings = {finding.shard for finding in self.store.check()}
        assert findings == set(self.damaged)
        left = set(os.listdir(self.folder / "shards"))  # noqa: PTH208
        assert left == set(self.shards)
        self.damaged.clear()
        self.unseen = False

    @rule(repair=st.booleans())
    def verify(self, repair: bool) -> None:
        findings = {finding.shard for finding in self.store.verify(repair=repair)}
        assert findings == set(self.damaged)
        if repair:
            self.damaged.clear()
            self.unseen = False

    @precondition(lambda self: not self.unseen)
    @rule(rows=_rows, order=st.randoms(use_true_random=False))
    def read(self, rows: set[int], order: random.Random) -> None:
        numbers = order.sample(sorted(rows), len(rows))
        self.store.refresh()
        lacking = [i for i, row in enumerate(numbers) if row not in self.kept]
        assert self.store.missing(WORLD.keys[numbers]).tolist() == lacking
        if lacking:
            with pytest.raises(MissingRows) as caught:
                self.store.read(WORLD.keys[numbers])
            assert caught.value.positions.tolist() == lacking
        else:
            assert np.array_equal(self.store.read(WORLD.keys[numbers]), WORLD.features[numbers])

    @precondition(lambda self: self.shards)
    @rule(
        data=st.data(),
        kind=_damage,
        region=st.sampled_from([*OF_ROWS, *REGIONS]),
        at=st.integers(0, 2**30),
    )
    def damage(self, data: Any, kind: str, region: str, at: int) -> None:
        name = data.draw(st.sampled_from(sorted(self.shards)))
        path, rng = self.folder / "shards" / name, seeded(at)
        before = path.read_bytes()
        content = bytearray(before)
        at = place(before, region, rng)
        page = at // BLOCK * BLOCK
        if kind == "flip":
            content[at] ^= 1 << rng.randrange(8)
        elif kind == "cut":
            del content[at:]
        elif kind == "zero":
            content[page : page + BLOCK] = bytes(len(content[page : page + BLOCK]))
        elif kind == "grow":
            content += b"\0"
        else:
            content.clear()
        if bytes(content) != before:
            put(path, bytes(content), rng)
            del self.shards[name]
            self.damaged[name] = path.lstat().st_ino
            self.unseen = True

    @rule(rows=_rows, call=st.sampled_from(sorted(ERRORS)), n=st.integers(1, 40))
    def killed_append(self, rows: set[int], call: str, n: int) -> None:
        self._killed(lambda: WORLD.append(FeatureStore.at(self.folder), sorted(rows)), call, n)

    @rule(call=st.sampled_from(sorted(ERRORS)), n=st.integers(1, 40))
    def killed_check(self, call: str, n: int) -> None:
        self._killed(lambda: FeatureStore.at(self.folder).check(), call, n)

    @rule(call=st.sampled_from(["unlink", "fsync", "link"]), n=st.integers(1, 6))
    def killed_compact(self, call: str, n: int) -> None:
        self._killed(lambda: compact(self.folder), call, n)

    @rule(size=st.sampled_from([400, 2000, 1 << 20]))
    def compact(self, size: int) -> None:
        found = compact(self.folder, target_bytes=size)
        assert {finding.shard for finding in found.findings} <= set(self.damaged)
        self._look_again(self.kept)

    @rule(rows=_rows)
    def collect(self, rows: set[int]) -> None:
        """Drop all rows but some."""
        drop_rows(self.folder, keys_wanted(WORLD.keys[sorted(rows)]))
        self._look_again(self.kept & rows)
        assert self.kept <= rows

    @invariant()
    def the_store_answers_as_the_dictionary_does(self) -> None:
        Steps.taken += 1
        if self.unseen:
            return
        store = FeatureStore.at(self.folder)
        missing, wrong = WORLD.misread(store)
        assert not wrong
        assert set(range(WORLD.rows)) - set(missing.tolist()) == self.kept

    def _killed(self, work: Callable[[], Any], call: str, n: int) -> None:
        """Do something in a process that ends, without a last word, before a call."""

        def inside(pipe: int) -> None:
            real, calls = getattr(os, call), 0

            def count(*args: Any, **options: Any) -> Any:
                nonlocal calls
                calls += 1
                if calls == n:
                    os._exit(0)
                return real(*args, **options)

            setattr(os, call, count)
            work()

        _, code = start(inside).wait()
        assert code == 0
        self._look_again(self.kept)

    def _look_again(self, at_least: set[int]) -> None:
        """Take over which shards there are after work that may have changed them."""
        there = {path.name: path.lstat().st_ino for path in (self.folder / "shards").iterdir()}
        # One that is gone or another file lies in the quarantine.
        self.damaged = {name: n for name, n in self.damaged.items() if there.get(name) == n}
        store = FeatureStore.at(self.folder)
        shards = store._census.good
        self.shards = {
            name: {WORLD.number[key.tobytes()] for key in shards[name].keys}
            for name in set(there) - set(self.damaged)
        }
        assert self.kept >= at_least


def run(tally: Tally, budget: Budget, run_seed: int) -> None:
    """Drive machines as long as there is a budget; a failure is told with its steps."""
    number, before = 0, Steps.taken
    quiet = settings(
        max_examples=5,
        stateful_step_count=30,
        deadline=None,
        database=None,
        phases=(Phase.generate,),  # to shrink a failure takes minutes
        suppress_health_check=list(HealthCheck),
        print_blob=False,
    )
    with without_threads():
        while number == 0 or budget.allows(number):
            machine = seed(run_seed * 1000 + number)(
                type("Machine", (StoreAgainstDictionary,), {})  # a class remembers its seed
            )
            tally.tried += 1
            try:
                run_state_machine_as_test(machine, settings=quiet)
            except Exception as error:
                notes = "\n".join(getattr(error, "__notes__", []))
                tally.tell(f"seed {run_seed}, {number}: {error!r}\n{notes}", unhealed=1)
                break
            number += 1
    tally.states = Steps.taken - before
    runs, steps = quiet.max_examples, quiet.stateful_step_count
    tally.notes.append(f"machines of {runs} runs of up to {steps} steps")
