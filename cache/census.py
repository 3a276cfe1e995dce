"""Which files among the shards are good, and which are not and why."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeAlias

from cache.crosscheck import disagreement_of
from cache.errors import ShardError
from cache.folder import Folder
from cache.integrity import (
    CHANGED,
    Finding,
    load_checked,
    problem_of,
    quarantine,
    save_checked,
)
from cache.recipe import Recipe
from cache.shard import UNREADABLE, Shard, State, open_shard

# How often a check looks again, as others may commit and repair at the same time.
_ROUNDS = 3
# How often the folder is listed until it holds still.
_LISTINGS = 20
# How often a shard is checked anew when its state changes under the check.
_CHANGES = 5

Check: TypeAlias = Callable[[Shard], str | None]
"""Says what is wrong with a shard's bytes, if anything."""


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
        self._odd: dict[str, Shard] = {}
        self._bad: dict[str, tuple[State, str]] = {}
        self._checked: dict[str, State] = {}
        self._checking = False

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

        Since the first `check`, the bytes of what is new or changed are checked as well.

        Raises
        ------
        CacheError
            The folder cannot be listed.
        """
        dims = self.dims
        self._look()
        if self._checking:
            self._sift(problem_of, self._checked)
        self._keep_width(dims)

    def check(self) -> list[Finding]:
        """Check the bytes of what has not passed in its present state, and move what fails."""
        remembered = load_checked(self._folder.checked)
        self._checked = remembered | self._checked
        self._checking = True
        findings = self._examine(problem_of, self._checked, move=True)
        self._checked = {name: shard.state for name, shard in self.good.items()}
        if self._checked != remembered:
            save_checked(self._folder.checked, self._checked, self._folder.tmp)
        return findings

    def verify(self, *, repair: bool) -> list[Finding]:
        """Check the bytes of every shard, whatever is remembered, and read each with HDF5 as well.

        What fails is moved if it is to be repaired. In any case it is no longer remembered as good.
        """
        findings = self._examine(_thorough, {}, move=repair)
        failed = {finding.shard for finding in findings}
        remembered = load_checked(self._folder.checked)
        self._checked = {n: state for n, state in self._checked.items() if n not in failed}
        if not failed.isdisjoint(remembered):
            kept = {name: state for name, state in remembered.items() if name not in failed}
            save_checked(self._folder.checked, kept, self._folder.tmp)
        return sorted(findings, key=lambda finding: finding.shard)

    def _look(self) -> None:
        """Sort the files of the folder into good and bad; the width of rows is not yet looked at.

        A listing takes time: it may miss a shard that others merged some into, and the merged ones
        as well, which are gone by then. Two that are equal are one moment's.
        """
        known, failed = self.good | self._odd, self._bad
        names = self._folder.entries()
        for _ in range(_LISTINGS):
            self.good, self._odd, self._bad = {}, {}, {}
            for name in names:
                self._sort(name, known.get(name), failed.get(name))
            before, names = names, self._folder.entries()
            if names == before:
                break
            known, failed = known | self.good, failed | self._bad

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

    def _keep_width(self, dims: int | None) -> None:
        """Put shards of another width aside in memory; None: of another than most rows have."""
        if dims is None:
            dims = _most_common_dims(self.good.values())
        self._odd = {name: s for name, s in self.good.items() if s.header.dims != dims}
        self.good = {name: s for name, s in self.good.items() if s.header.dims == dims}

    def _examine(self, check: Check, passed: dict[str, State], *, move: bool) -> list[Finding]:
        """Check the bytes of what has not passed, and look again, as others may be at work.

        Which width of rows is the right one is decided by shards that passed alone.
        """
        findings: dict[str, Finding] = {}
        for _ in range(_ROUNDS):
            self._look()
            sifted = self._sift(check, passed)
            self._keep_width(None)
            wrong = self._bad | {name: (s.state, self._width(s)) for name, s in self._odd.items()}
            if not wrong and not sifted:
                break
            for name, (state, problem) in wrong.items():
                findings[name] = self._finding(name, state, problem, move=move)
        # What only changed while it was read, and is good now or taken away, is no finding.
        left = self._bad | self._odd
        return [finding for name, finding in findings.items() if finding.moved_to or name in left]

    def _sift(self, check: Check, passed: dict[str, State]) -> int:
        """Check what has not passed in its present state, and return how many shards that were."""
        unchecked = [s for name, s in self.good.items() if passed.get(name) != s.state]
        if not unchecked:
            return 0
        with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
            verdicts = list(pool.map(lambda shard: self._verdict(shard, check), unchecked))
        for shard, problem in verdicts:
            name = shard.path.name
            if problem is None:
                self.good[name] = shard
                passed[name] = shard.state
            else:
                del self.good[name]
                self._bad[name] = shard.state, problem
        return len(unchecked)

    def _verdict(self, shard: Shard, check: Check) -> tuple[Shard, str | None]:
        """Check one shard; again in its new state where that changed meanwhile.

        A commit does so to each file once, when it unlinks the temporary that the file came from.
        """
        problem = check(shard)
        for _ in range(_CHANGES):
            if problem != CHANGED:
                break
            try:
                shard = open_shard(shard.path, self._recipe)
            except ShardError as error:
                return shard, str(error) if os.path.lexists(shard.path) else None
            problem = check(shard)
        return shard, problem

    def _width(self, odd: Shard) -> str:
        return f"rows of {odd.header.dims} numbers, while others have {self.dims}"

    def _finding(self, name: str, state: State, problem: str, *, move: bool) -> Finding:
        path, aside = self._folder.shards / name, None
        if move and not problem.startswith(UNREADABLE):
            aside = quarantine(path, self._folder.quarantine, state)
        return Finding(name, problem, aside)


def _thorough(shard: Shard) -> str | None:
    return problem_of(shard) or disagreement_of(shard)


def _most_common_dims(shards: Iterable[Shard]) -> int | None:
    """Dims of the most rows: where two writers differ, one of them is wrong."""
    counts: Counter[int] = Counter()
    for shard in shards:
        counts[shard.header.dims] += shard.header.rows
    return max(counts, key=lambda dims: (counts[dims], dims), default=None)
