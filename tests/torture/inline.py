"""Do at once what the cache hands to threads, so that its calls come in the same order each time.

It makes faults repeatable and cheap. `kill`, `at_once` and `hostile` run the cache with threads.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, Self

import cache.compaction
import cache.garbage  # noqa: F401 - with the above, all that could have threads


class Inline:
    """What a `ThreadPoolExecutor` promises, done by whoever asks for it."""

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def submit(self, work: Callable[..., Any], *args: Any, **options: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(work(*args, **options))
        except BaseException as error:
            future.set_exception(error)
        return future

    def map(self, work: Callable[..., Any], *parts: Iterable[Any]) -> Iterator[Any]:
        return iter([work(*args) for args in zip(*parts, strict=False)])

    def shutdown(self, *_: object, **__: object) -> None:
        pass


@contextmanager
def without_threads() -> Iterator[None]:
    """Let no module of the cache have a pool of threads. (`commit` keeps its one thread.)"""
    names = [
        (module, "ThreadPoolExecutor")
        for name, module in sorted(sys.modules.items())
        if name.split(".")[0] == "cache" and hasattr(module, "ThreadPoolExecutor")
    ]
    real = [getattr(module, name) for module, name in names]
    for module, name in names:
        setattr(module, name, Inline)
    try:
        yield
    finally:
        for (module, name), pool in zip(names, real, strict=True):
            setattr(module, name, pool)
