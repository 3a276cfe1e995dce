"""Work in processes of its own, forked: they can be limited, killed, and must not end with us.

Only for a process without other threads, as `python -m tests.torture` is; the tests start that.
"""

from __future__ import annotations

import os
import pickle
import resource
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py  # noqa: F401 - once, and not in every child


@dataclass(slots=True)
class Child:
    """A process and the pipe it writes to."""

    pid: int
    pipe: int

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)

    def wait(self) -> tuple[bytes, int]:
        """Return all that it wrote, and how it ended (negative: by which signal)."""
        parts = []
        while part := os.read(self.pipe, 1 << 16):
            parts.append(part)
        os.close(self.pipe)
        _, status = os.waitpid(self.pid, 0)
        return b"".join(parts), os.waitstatus_to_exitcode(status)


def start(work: Callable[[int], None]) -> Child:
    """Fork a process that does ``work(pipe)``; what it raises goes to standard error, exit 1."""
    sys.stdout.flush()
    ours, theirs = os.pipe()
    pid = os.fork()
    if pid:
        os.close(theirs)
        return Child(pid, ours)
    code = 1
    try:
        os.close(ours)
        work(theirs)
        code = 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(code)


def limited(
    work: Callable[[], Any], *, extra_bytes: int = 600 << 20, seconds: int = 20, wait: int = 600
) -> tuple[Any, int, float]:
    """Do work in a child with little memory and time: (result or exception, peak bytes, seconds).

    The peak is that of resident memory above what the child began with. Seconds are those that
    processors spent on it, by whatever else they are delayed; only whoever waits for what never
    comes is ended by the clock, after ``wait`` seconds.
    """

    def inside(pipe: int) -> None:
        statm = Path("/proc/self/statm").read_text().split()
        page = resource.getpagesize()
        limit = int(statm[0]) * page + extra_bytes
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(wait)
        before = os.times()
        spent = int(before.user + before.system) + 1
        resource.setrlimit(resource.RLIMIT_CPU, (spent + seconds, spent + seconds))
        try:
            result: Any = work()
        except Exception as error:
            result = error
        after = os.times()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - int(statm[1]) * page
        cpu = after.user + after.system - before.user - before.system
        try:
            data = pickle.dumps((result, peak, cpu))
        except Exception:
            data = pickle.dumps((repr(result), peak, cpu))
        done = 0
        while done < len(data):
            done += os.write(pipe, data[done:])

    data, code = start(inside).wait()
    if code:
        return RuntimeError(f"ended with {code}"), 0, float(seconds)
    return pickle.loads(data)
