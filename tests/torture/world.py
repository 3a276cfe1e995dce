"""The truth that a store is compared with, and the judge of what a fault left of it.

Rows are numbered. Row n has a key and features that follow from n alone, so that any process at
any time knows what the store must answer.
"""

from __future__ import annotations

import hashlib
import math
import os
import random
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from cache import FeatureStore
from cache.recipe import FeatureRecipe

RECIPE = FeatureRecipe(
    backbone="torture",
    weights="0" * 64,
    pooling="avg",
    size=8,
    resize="stretch",
    decode="none",
    preprocessing="none",
    precision="float32",
)
FOREIGN = FeatureRecipe(**{**RECIPE.__dict__, "backbone": "foreign"})


@dataclass(slots=True)
class Tally:
    """What was tried with one kind of fault, and what came of it.

    Attributes
    ----------
    tried, states
        Faults injected; folders that were opened and judged afterwards.
    lost, misread
        Rows reported as kept that are missing; rows that were read and are not the truth.
    unhealed, unclear
        Stores that the next run did not make whole; errors that were no CacheError.
    broken
        Errors of the torture itself: what it should have tried and did not.
    share
        Of the faults that a whole run tries.
    told
        Text of what went wrong, with what is needed to do it again.
    notes
        Figures worth a line under the table.
    """

    kind: str
    tried: int = 0
    states: int = 0
    lost: int = 0
    misread: int = 0
    unhealed: int = 0
    unclear: int = 0
    broken: int = 0
    share: float = 0.0
    told: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def failures(self) -> int:
        return self.lost + self.misread + self.unhealed + self.unclear + self.broken

    def tell(self, what: str, **counts: int) -> None:
        """Count a failure and remember the first few in words."""
        for name, count in counts.items():
            setattr(self, name, getattr(self, name) + count)
        text = f"{self.kind}: {what}: {counts}"
        if sum(text.endswith(f"{counts}") for text in self.told) < 10:
            self.told.append(text)


@dataclass(slots=True)
class Budget:
    """How much of one kind of fault to try: so many cases, or what fits in so many seconds.

    A fixed number of cases is the same ones each time, however fast or busy the machine is.

    Attributes
    ----------
    clock
        Whether faults may come by the clock as well, which no seed can replay.
    """

    cases: int | None = None
    seconds: float = math.inf
    clock: bool = True
    end: float = field(init=False)

    def __post_init__(self) -> None:
        self.end = time.monotonic() + self.seconds

    def allows(self, done: int) -> bool:
        """Whether there is another case after ``done`` of them."""
        return done < self.cases if self.cases is not None else time.monotonic() < self.end

    def part(self, share: float) -> Budget:
        """Return a budget of a part of the seconds; a number of cases stays what it is."""
        return Budget(self.cases, self.seconds * share, self.clock)


def seeded(*names: object) -> random.Random:
    """Return random numbers that follow from a seed and a name, and from nothing else."""
    return random.Random(" ".join(map(str, names)))


@dataclass(frozen=True, eq=False)
class World:
    """The first ``rows`` rows of the truth."""

    rows: int
    dims: int
    recipe: FeatureRecipe = RECIPE

    def __post_init__(self) -> None:
        digests = [hashlib.sha256(b"image %d" % n).digest() for n in range(self.rows)]
        keys = np.frombuffer(b"".join(digests), np.uint8).reshape(self.rows, 32)
        ramp = np.arange(self.rows * self.dims, dtype=np.uint32).reshape(self.rows, self.dims)
        features = ((ramp * np.uint32(2654435761)) >> np.uint32(8)).astype(np.float32)
        object.__setattr__(self, "keys", keys)
        object.__setattr__(self, "features", features)
        object.__setattr__(self, "number", {digest: n for n, digest in enumerate(digests)})

    keys: np.ndarray = field(init=False, repr=False)
    features: np.ndarray = field(init=False, repr=False)
    number: dict[bytes, int] = field(init=False, repr=False)

    def append(self, store: FeatureStore, rows: Iterable[int]) -> Path:
        numbers = list(rows)
        return store.append(self.keys[numbers], self.features[numbers])

    def misread(self, store: FeatureStore) -> tuple[np.ndarray, int]:
        """Read all a store has, one way and the other: (numbers missing, rows that are wrong)."""
        missing = store.missing(self.keys)
        present = np.setdiff1d(np.arange(self.rows), missing)
        wrong = 0
        if len(present):
            found = store.read(self.keys[present])
            wrong += int((found != self.features[present]).any(axis=1).sum())
        for block in store.blocks():
            for key, row in zip(block.keys, block.features, strict=True):
                number = self.number.get(key.tobytes())
                wrong += number is None or not np.array_equal(row, self.features[number])
        return missing, wrong

    def judge(
        self,
        folder: Path,
        kept: Iterable[int],
        tally: Tally,
        what: str,
        store: FeatureStore | None = None,
        parts: Iterable[Iterable[int]] | None = None,
    ) -> None:
        """Judge a store after a fault: nothing kept is lost, nothing bad read, the next run heals.

        Parameters
        ----------
        kept
            Rows that were reported as kept and that the fault did not itself destroy.
        store
            The store as it was open during the fault; None: opened anew.
        parts
            How the next run cuts its rows into shards; None: all that is missing as one.
        """
        tally.states += 1
        try:
            store = FeatureStore.open(folder.parent, self.recipe) if store is None else store
            store.check()
            missing, wrong = self.misread(store)
            lost = len(set(kept) & set(missing.tolist()))
            if lost or wrong:
                tally.tell(what, lost=lost, misread=wrong)
            self._heal(store, set(missing.tolist()), parts)
            again = FeatureStore.at(folder)
            findings = again.check() + again.verify()
            left, wrong = self.misread(again)
            if findings or len(left) or wrong:
                tally.tell(f"{what}: after healing {findings[:1]} {left[:3]}", unhealed=1)
        except Exception as error:
            tally.tell(f"{what}: the next run fails: {error!r}", unhealed=1)

    def _heal(
        self, store: FeatureStore, missing: set[int], parts: Iterable[Iterable[int]] | None
    ) -> None:
        for part in [missing] if parts is None else parts:
            numbers = sorted(part)
            if missing.intersection(numbers):
                self.append(store, numbers)


@contextmanager
def scratch() -> Iterator[Path]:
    """Make a folder for one run, in memory where that is possible: an fsync costs nothing there."""
    base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    folder = Path(tempfile.mkdtemp(prefix="torture-", dir=base))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
