"""The commands ``compact`` and ``gc``: fewer shards, and no row that no data set needs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from filelock import Timeout
from numpy.typing import NDArray

from cache.compaction import Rewritten
from cache.compaction import compact as compact_store
from cache.garbage import (
    Garbage,
    find_garbage,
    keys_wanted,
    leftovers_in,
    remove_files,
    remove_garbage,
)
from cache.integrity import Finding
from pipeline.config import FeaturesConfig
from pipeline.errors import UsageError
from pipeline.images.rejects import Reject
from pipeline.keyed import image_keys
from pipeline.stage_one import find_dataset
from pipeline.stores import find_stores
from pipeline.worklock import nobody_at_work

# Files that no row can come from; all others may be readable again tomorrow.
_NO_IMAGE = (
    "is empty", "is a folder", "is a FIFO", "is a socket", "is a device", "is not a regular file",
    "lies beside",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class GarbagePlan:
    """What ``gc`` would remove.

    Attributes
    ----------
    needed
        uint8 ``(n, 32)``, keys of the distinct images of the data sets.
    stores
        What would go from each store.
    leftovers
        Temporary files of dead processes beside the file lists and the converted networks.
    broken
        ``(folder, why)`` of stores that cannot be opened; they are left alone.
    """

    needed: NDArray[np.uint8]
    stores: tuple[Garbage, ...]
    leftovers: tuple[Path, ...]
    broken: tuple[tuple[Path, str], ...]

    @property
    def nothing(self) -> bool:
        """Whether there is nothing to remove."""
        return not self.leftovers and all(store.nothing for store in self.stores)


@dataclass(frozen=True, slots=True)
class Compacted:
    """What ``compact`` did.

    Attributes
    ----------
    stores
        What became of the shards of each store.
    broken
        ``(folder, why)`` of stores that cannot be opened; they are left alone.
    """

    stores: Mapping[Path, Rewritten]
    broken: tuple[tuple[Path, str], ...]

    @property
    def sound(self) -> bool:
        """Whether nothing damaged was met."""
        return not self.broken and not any(store.findings for store in self.stores.values())


def compact(out: Path) -> Compacted:
    """Merge the small shards of each store below `out`.

    Raises
    ------
    UsageError
        `out` is not there.
    CacheError
        Another compaction is at work, or the system failed; no row is lost.
    """
    found = find_stores(out)
    merged = {store.folder: compact_store(store.folder) for store in found.good}
    return Compacted(merged, found.broken)


def plan_gc(data: Sequence[str], out: Path) -> GarbagePlan:
    """Find what none of the data sets needs; removes nothing.

    A row is needed if its key is that of an image of any of the data sets, whatever the recipe: a
    data set does not say which backbones it will be used with. A store with rows of which none is
    needed goes as a whole.

    Raises
    ------
    UsageError
        No such data; or files of theirs cannot be read, so that what they need is not known.
    """
    stores = find_stores(out)
    keys = [_keys_of(each, out) for each in data]
    needed = np.unique(np.concatenate(keys), axis=0)
    wanted = keys_wanted(needed)
    found = tuple(find_garbage(store.folder, wanted) for store in stores.good)
    beside = (*leftovers_in(out / "files"), *leftovers_in(out / "converted" / "tmp"))
    return GarbagePlan(needed, found, beside, stores.broken)


def carry_out(plan: GarbagePlan) -> tuple[tuple[Path, Finding], ...]:
    """Remove what was planned.

    Returns
    -------
    tuple of (store, finding)
        Damaged shards that were left as they are.

    Raises
    ------
    CacheError
        A compaction is at work, or the system failed; nothing that is needed is lost.
    UsageError
        A run is filling a store.
    """
    wanted = keys_wanted(plan.needed)
    findings: list[tuple[Path, Finding]] = []
    for garbage in plan.stores:
        if not garbage.nothing:
            with _no_worker(garbage.folder):
                found = remove_garbage(garbage, wanted)
            findings += [(garbage.folder, finding) for finding in found]
    remove_files(plan.leftovers)
    return tuple(findings)


def _keys_of(data: str, out: Path) -> NDArray[np.uint8]:
    """Keys of a data set's images; refuses to guess what a file it cannot read would need."""
    config = FeaturesConfig(data=data, out=out)
    dataset = find_dataset(config)
    _, keys, rejects = image_keys(dataset, config)
    unknown = [r for r in (*dataset.rejects, *rejects) if not _certain(r)]
    if unknown:
        raise UsageError(
            f"{len(unknown)} files of {data} cannot be read, such as {unknown[0].path} "
            f"({unknown[0].reason}): which rows they need is not known, so nothing is removed. "
            "Make them readable, or take them out of the data"
        )
    return keys


def _certain(reject: Reject) -> bool:
    return reject.reason.startswith(_NO_IMAGE)


@contextlib.contextmanager
def _no_worker(folder: Path) -> Iterator[None]:
    """Keep runs from filling a store meanwhile; they would find rows gone that they counted on."""
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(nobody_at_work(folder))
        except Timeout:
            raise UsageError(f"a run is filling {folder}; run gc when it is through") from None
        yield
