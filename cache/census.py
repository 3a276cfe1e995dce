"""Which files among the shards are good, and which are not and why."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from cache.crosscheck import disagreement_of
from cache.errors import ShardError
from cache.folder import Folder
from cache.integrity import Finding, load_checked, problem_of, quarantine, save_checked
from cache.recipe import Recipe
from cache.shard import Shard, State, open_shard

# How often a check looks again, as others may commit and repair at the same time.
_ROUNDS = 3
# How often the folder is listed until it holds still.
_LISTINGS = 20


class Census:
    """The shards of one store as they were at the last look. To be used by one thread at a time.

    Attributes
    ----------
    good : dict of str to Shard
        Open shards by name, all of the same dims.
    """

    def __init__(self, folder: Folder, recipe: Recipe) -> None:
        self._folder = folder
        self._recipe = recipe
        self.good: dict[str, Shard] = {}
        self._bad: dict[str, tuple[State, str]] = {}
        self._checked: dict[str, State] = {}

    @property
    def dims(self) -> int | None:
        """Numbers in a row; None while there is no row."""
        return next((shard.header.dims for shard in self.good.values()), None)

    def add(self, path: Path) -> None:
        """Take in a shard that this process just committed, and so has just read back."""
        shard = open_shard(path, self._recipe)
        self.good = self.good | {path.name: shard}
        self._bad.pop(path.name, None)
        self._checked[path.name] = shard.state

    def refresh(self) -> None:
        """Look at the folder again; only what is new or changed is opened.

        Raises
        ------
        CacheError
            The folder cannot be listed.
        """
        dims, known, failed = self.dims, self.good, self._bad
        names = self._folder.entries()
        # A listing takes time: it may miss a shard that others merged some into, and the merged
        # ones as well, which are gone by then. Two that are equal are one moment's.
        for _ in range(_LISTINGS):
            self.good, self._bad = {}, {}
            for name in names:
                self._sort(name, known.get(name), failed.get(name))
            before, names = names, self._folder.entries()
            if names == before:
                break
            known, failed = known | self.good, failed | self._bad
        if dims is None:
            dims = _most_common_dims(self.good.values())
        for name, shard in list(self.good.items()):
            if shard.header.dims != dims:
                self._drop(name, f"rows of {shard.header.dims} numbers, while others have {dims}")

    def check(self) -> list[Finding]:
        """Check the bytes of what has not passed in its present state, and move what fails."""
        self._checked = load_checked(self._folder.checked) | self._checked
        findings: dict[str, Finding] = {}
        for _ in range(_ROUNDS):
            self.refresh()
            self._check_unchecked()
            if not self._bad:
                break
            findings |= {name: self._put_aside(name) for name in self._bad}
        passed = {name: shard.state for name, shard in self.good.items()}
        if passed != load_checked(self._folder.checked):
            save_checked(self._folder.checked, passed, self._folder.tmp)
        self._checked = passed
        # What only changed while it was read, and is good now or taken away, is no finding.
        return [f for name, f in findings.items() if f.moved_to or name in self._bad]

    def verify(self, *, repair: bool) -> list[Finding]:
        """Check the bytes of every shard, whatever is remembered, and read each with HDF5 as well.

        What fails is moved if it is to be repaired; else nothing is moved or remembered.
        """
        seen: set[tuple[str, State]] = set()
        bad: dict[str, tuple[State, str]] = {}
        for _ in range(_ROUNDS):  # again, as others may commit and compact at the same time
            self.refresh()
            bad |= self._bad
            shards = [s for name, s in self.good.items() if (name, s.state) not in seen]
            if not shards:
                break
            seen |= {(shard.path.name, shard.state) for shard in shards}
            for shard, problem in zip(shards, _problems(shards, _thorough), strict=True):
                if problem is not None:
                    bad[shard.path.name] = shard.state, problem
        findings = [Finding(name, problem, None) for name, (_, problem) in sorted(bad.items())]
        if repair:
            for name, judged in bad.items():
                self.good.pop(name, None)
                self._checked.pop(name, None)
                self._bad[name] = judged
            findings = [self._put_aside(name) for name in sorted(bad)]
            self.refresh()
        return findings

    def _sort(self, name: str, known: Shard | None, failed: tuple[State, str] | None) -> None:
        """Sort one file into the good and the bad."""
        path = self._folder.shards / name
        try:
            state = State.of(path.lstat())
        except OSError:  # taken away since the folder was listed
            return
        if known is not None and known.state == state:
            self.good[name] = known
        elif failed is not None and failed[0] == state:
            self._bad[name] = failed
        else:
            try:
                self.good[name] = open_shard(path, self._recipe)
            except ShardError as error:
                if os.path.lexists(path):
                    self._bad[name] = state, str(error)

    def _drop(self, name: str, problem: str) -> None:
        self._bad[name] = self.good.pop(name).state, problem

    def _check_unchecked(self) -> None:
        unchecked = [s for name, s in self.good.items() if self._checked.get(name) != s.state]
        if not unchecked:
            return
        for shard, problem in zip(unchecked, _problems(unchecked), strict=True):
            if problem is None:
                self._checked[shard.path.name] = shard.state
            else:
                self._drop(shard.path.name, problem)

    def _put_aside(self, name: str) -> Finding:
        state, problem = self._bad[name]
        aside = quarantine(self._folder.shards / name, self._folder.quarantine, state)
        return Finding(name, problem, aside)


def _problems(
    shards: Sequence[Shard], check: Callable[[Shard], str | None] = problem_of
) -> list[str | None]:
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        return list(pool.map(check, shards))


def _thorough(shard: Shard) -> str | None:
    return problem_of(shard) or disagreement_of(shard)


def _most_common_dims(shards: Iterable[Shard]) -> int | None:
    """Dims of the most rows: where two writers differ, one of them is wrong."""
    counts: Counter[int] = Counter()
    for shard in shards:
        counts[shard.header.dims] += shard.header.rows
    return max(counts, key=lambda dims: (counts[dims], dims), default=None)
