"""Tasks by some threads, from a queue, with their results in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from itertools import islice
from threading import Event
from typing import TypeVar

_T = TypeVar("_T")

_TICK = 0.5
"""Seconds between two looks for an interrupt that came just before the wait began: a wait for a
lock does not notice such a one."""


def in_order(
    tasks: Iterable[Callable[[Event], _T | None]], at_once: int, ahead: int
) -> Iterator[_T]:
    """Run tasks, and yield what each returns, in their order.

    Parameters
    ----------
    tasks
        Called with an event: once that is set nobody waits for the result, and the task shall
        return at its next opportunity, whatever it likes.
    at_once
        Threads.
    ahead
        Tasks that may have begun, or be done and wait for their turn, beyond the one awaited.

    Yields
    ------
    object
        Results. Whoever closes the iterator, or is interrupted in it, has cancelled what is left:
        it then waits for the running tasks to return, and no other is begun.
    """
    cancelled = Event()
    left = iter(tasks)
    waiting: deque[Future[_T | None]] = deque()
    with ThreadPoolExecutor(at_once) as pool:
        try:
            waiting.extend(pool.submit(task, cancelled) for task in islice(left, 1 + ahead))
            while waiting:
                result = _result(waiting.popleft())
                waiting.extend(pool.submit(task, cancelled) for task in islice(left, 1))
                assert result is not None
                yield result
        finally:
            cancelled.set()
            for future in waiting:
                future.cancel()


def _result(future: Future[_T]) -> _T:
    while not future.done():
        wait([future], _TICK)
    return future.result()
