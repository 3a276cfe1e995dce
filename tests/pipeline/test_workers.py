"""Tasks by some threads: in order, no more at once than asked for, and gone when nobody waits."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from functools import partial

import pytest

from pipeline.workers import in_order


def number(n: int, cancelled: threading.Event) -> int:
    return n


def until_cancelled(begun: Callable[[], object], cancelled: threading.Event) -> None:
    begun()
    cancelled.wait()


@pytest.mark.parametrize(("at_once", "ahead"), [(1, 0), (2, 1), (3, 50)])
def test_results_come_in_order(at_once: int, ahead: int) -> None:
    tasks = [partial(number, n) for n in range(20)]
    assert list(in_order(tasks, at_once, ahead)) == list(range(20))
    assert list(in_order([], at_once, ahead)) == []


def test_no_more_begin_than_may_be_ahead() -> None:
    begun: list[int] = []

    def task(n: int, cancelled: threading.Event) -> int:
        begun.append(n)
        return n

    results = in_order([partial(task, n) for n in range(9)], 1, 1)
    assert next(results) == 0
    results.close()  # type: ignore[attr-defined]
    assert max(begun) <= 2


def test_a_failure_is_raised_in_its_place_and_ends_the_others() -> None:
    def failure(cancelled: threading.Event) -> int:
        raise ArithmeticError("as it happens")

    results = in_order([partial(number, 0), failure, partial(until_cancelled, int)], 2, 2)
    assert next(results) == 0
    with pytest.raises(ArithmeticError, match="as it happens"):
        next(results)


def test_an_interrupt_ends_all_threads() -> None:
    before = set(threading.enumerate())
    both = threading.Barrier(2)

    def interrupt() -> None:
        both.wait()
        os.kill(os.getpid(), signal.SIGINT)

    tasks = [partial(until_cancelled, interrupt), partial(until_cancelled, both.wait)]
    with pytest.raises(KeyboardInterrupt):
        list(in_order(tasks, 2, 1))
    left = set(threading.enumerate()) - before
    assert not [thread for thread in left if thread.name.startswith("ThreadPoolExecutor")]
