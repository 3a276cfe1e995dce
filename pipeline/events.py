"""What extraction and sweeps tell while they run: observers draw, the work does not print."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class HashingPlanned:
    """Files that are new or changed, and are to be read for their keys."""

    files: int


@dataclass(frozen=True, slots=True)
class FilesHashed:
    """So many more files have a key now, or a reason why not."""

    files: int


@dataclass(frozen=True, slots=True)
class ExtractionPlanned:
    """Known before the first image is decoded: what is to be done, and what is there already.

    Attributes
    ----------
    new, reused
        Images to put through a network and those in the cache; or rows, where an image has
        several (of several stores, or views).
    unit
        What is counted, here and in `BatchDone`: ``"images"`` or ``"rows"``.
    """

    new: int
    reused: int
    unit: str = "images"


@dataclass(frozen=True, slots=True)
class BatchDone:
    """One batch went through the network; counts are of this batch, in the unit planned."""

    images: int
    rejected: int


@dataclass(frozen=True, slots=True)
class RowsKept:
    """A shard was committed: these rows survive a crash from now on."""

    rows: int
    nbytes: int


@dataclass(frozen=True, slots=True)
class SweepPlanned:
    """Known before the first head is trained: settings to try and fits that takes."""

    heads: int
    fits: int


@dataclass(frozen=True, slots=True)
class FitDone:
    """One head was fitted on one fold, or that was found to be done already."""

    head: str


@dataclass(frozen=True, slots=True)
class HeadTrained:
    """One setting of one head went through all of its folds."""

    head: str
    settings: dict[str, object]
    score: float


@dataclass(frozen=True, slots=True)
class Notice:
    """One sentence a user should read while the run goes on."""

    text: str


Event: TypeAlias = (
    HashingPlanned
    | FilesHashed
    | ExtractionPlanned
    | BatchDone
    | RowsKept
    | SweepPlanned
    | FitDone
    | HeadTrained
    | Notice
)
Observer: TypeAlias = Callable[[Event], None]


def ignore(event: Event) -> None:
    """Observe nothing."""
