"""Progress on standard error: a bar on a terminal, a line every few seconds elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TextIO

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from pipeline.events import (
    BatchDone,
    Event,
    ExtractionPlanned,
    FilesHashed,
    FitDone,
    HashingPlanned,
    HeadTrained,
    Notice,
    RowsKept,
    SweepPlanned,
)
from pipeline.text import one_line

SECONDS_BETWEEN_LINES = 5.0


class ProgressReport:
    """An observer that shows how far a run is; use it as a context manager.

    Parameters
    ----------
    stream
        Where to draw; standard error by default, so that standard output stays a result.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._console = Console(file=stream or sys.stderr, highlight=False, soft_wrap=True)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._task: TaskID | None = None
        self._counts = _Counts("", 0)
        self._last_line = time.monotonic()
        self._told = True

    def __enter__(self) -> ProgressReport:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()
        if self._counts.done and not self._console.is_terminal and not self._told:
            self._console.print(self._counts.line(), markup=False)

    def __call__(self, event: Event) -> None:
        """Show one event."""
        match event:
            case Notice():
                self._console.print(one_line(f"headstart: {event.text}"), markup=False)
            case HashingPlanned():
                self._begin(_Counts("files", event.files))
            case FilesHashed():
                self._advance(event.files)
                self._told = True  # no result: nothing of it is to be told at the end
            case ExtractionPlanned(new=0):
                pass
            case ExtractionPlanned():
                self._begin(_Counts(event.unit, event.new, reused=event.reused))
            case SweepPlanned():
                self._begin(_Counts("fits", event.fits))
            case BatchDone():
                self._counts.rejected += event.rejected
                self._advance(event.images + event.rejected)
            case HeadTrained():
                self._counts.latest = f"{event.head} {event.score:.3f}"
                self._advance(0)
            case FitDone():
                self._counts.latest = self._counts.latest or event.head
                self._advance(1)
            case RowsKept():
                self._counts.kept += event.rows
                self._told = False

    def _begin(self, counts: _Counts) -> None:
        if self._task is not None:
            self._bar.remove_task(self._task)
        self._counts = counts
        self._task = self._bar.add_task(
            counts.unit, total=counts.total, rate="", note=counts.note()
        )

    def _advance(self, steps: int) -> None:
        counts = self._counts
        counts.done += steps
        self._told = False
        if self._task is not None:
            self._bar.update(
                self._task, completed=counts.done, rate=counts.rate(), note=counts.note()
            )
        now = time.monotonic()
        if not self._console.is_terminal and now - self._last_line > SECONDS_BETWEEN_LINES:
            self._last_line, self._told = now, True
            self._console.print(counts.line(), markup=False)


class _Counts:
    """What one task has done so far, in words."""

    def __init__(self, unit: str, total: int, reused: int = 0) -> None:
        self.unit, self.total, self.reused = unit, total, reused
        self.done = self.rejected = self.kept = 0
        self.latest = ""
        # The first step includes start-up (building the network), so rates count from its end.
        self._first: tuple[float, int] | None = None

    def per_second(self) -> float:
        now = time.monotonic()
        if self._first is None:
            self._first = (now, self.done)
        began, done = self._first
        return (self.done - done) / (now - began) if now > began else 0.0

    def rate(self) -> str:
        speed = self.per_second()
        return f"{speed:.1f} {self.unit}/s" if speed else ""

    def note(self) -> str:
        if self.unit == "fits":
            return self.latest
        if self.unit == "files":
            return "reading what is new or changed"
        if not self.done:
            return "starting the network"
        return f"{self.reused} reused, {self.rejected} rejected, {self.kept} saved"

    def line(self) -> str:
        speed = self.per_second()
        left = f", {(self.total - self.done) / speed:.0f} s left" if speed else ""
        told = " ".join(filter(None, (f"{self.done}/{self.total}", self.rate())))
        return f"{told}{left} ({self.note()})"
