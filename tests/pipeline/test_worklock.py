"""Who waits for whom: a run for the run that does the same work, a shard for no other shard."""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path

import pytest
from filelock import Timeout

from pipeline.events import Event, Notice
from pipeline.worklock import nobody_at_work, sole_worker
from pipeline.workshard import WorkShard


class Worker:
    """A run in a thread, which works until it is let go."""

    def __init__(self, folders: list[Path], shard: WorkShard | None) -> None:
        self.waits, self.works, self.let_go = (threading.Event() for _ in range(3))
        self.thread = threading.Thread(target=self._run, args=(folders, shard))
        self.thread.start()

    def _run(self, folders: list[Path], shard: WorkShard | None) -> None:
        with sole_worker(folders, shard, self._told):
            self.works.set()
            self.let_go.wait(60)

    def _told(self, event: Event) -> None:
        assert isinstance(event, Notice)
        self.waits.set()

    def end(self) -> None:
        self.let_go.set()
        self.thread.join(60)


ALL = None
ONE, TWO, ONE_OF_FIVE = WorkShard(1, 4), WorkShard(2, 4), WorkShard(1, 5)


@pytest.mark.parametrize(
    "first, second, waits",
    [
        (ALL, ALL, True),
        (ALL, ONE, True),
        (ONE, ALL, True),
        (ONE, ONE, True),
        (ONE, TWO, False),
        (ONE, ONE_OF_FIVE, False),
    ],
)
def test_whoever_shares_work_waits(
    tmp_path: Path, first: WorkShard | None, second: WorkShard | None, waits: bool
) -> None:
    a = Worker([tmp_path], first)
    assert a.works.wait(60)
    b = Worker([tmp_path], second)
    try:
        assert (b.waits if waits else b.works).wait(60)
        assert b.works.is_set() != waits
    finally:
        a.end()
        assert b.works.wait(60)
        b.end()


def test_runs_over_other_stores_do_not_wait(tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / name).mkdir()
    a = Worker([tmp_path / "a"], ALL)
    b = Worker([tmp_path / "c", tmp_path / "b"], ALL)
    assert a.works.wait(60)
    assert b.works.wait(60)
    a.end()
    b.end()


@pytest.mark.parametrize("shard", [ALL, ONE])
def test_nobody_is_at_work_once_all_are_through(tmp_path: Path, shard: WorkShard | None) -> None:
    a = Worker([tmp_path], shard)
    assert a.works.wait(60)
    with pytest.raises(Timeout), nobody_at_work(tmp_path):
        pass
    a.end()
    with nobody_at_work(tmp_path):
        b = Worker([tmp_path], shard)
        assert b.waits.wait(60)
        assert not b.works.is_set()
    assert b.works.wait(60)
    b.end()


def test_an_exception_lets_go_of_all_locks(tmp_path: Path) -> None:
    for shard in (ALL, ONE):
        with contextlib.suppress(KeyboardInterrupt), sole_worker([tmp_path], shard, print):
            raise KeyboardInterrupt
    with nobody_at_work(tmp_path):
        pass
