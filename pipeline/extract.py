"""Plan the missing rows, run the backbone over them, append: the heart of stage one."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from cache import FeatureStore, RowBuffer
from pipeline.config import usable_cores
from pipeline.engines.base import Engine
from pipeline.events import BatchDone, ExtractionPlanned, Notice, Observer, RowsKept, ignore
from pipeline.images.batches import DecodedBatch, Source, decoded_batches
from pipeline.images.decode import Resize, Undecodable
from pipeline.images.hashing import distinct

WORK_LOCK = "work.lock"
"""File in a store's folder that is locked by whoever fills the store."""


@dataclass(frozen=True, slots=True)
class Extraction:
    """What one extraction did.

    Attributes
    ----------
    new, reused
        Rows computed now, and rows that were in the store already; one a distinct image.
    failures
        ``(position among the sources, error)`` of those that gave no row.
    startup, seconds
        Seconds until the network was ready, and from then until the last shard was committed.
    """

    new: int
    reused: int
    failures: tuple[tuple[int, Undecodable], ...]
    startup: float
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What is to be brought up to date, and with what.

    Attributes
    ----------
    sources
        The images, as files or as bytes.
    keys
        uint8 ``(n, 32)``, the SHA-256 of each source's bytes; equal keys are one image.
    store, facts
        Where features, and the facts that decoding tells, are kept.
    resize
        From an image to the network's input.
    make_engine
        Called once, when the first batch is decoded: where nothing that is missing can be decoded,
        no network is ever built.
    batch_size
        Images that go through the engine at once.
    observe
        Told what happens; what was told as ``RowsKept`` survives any later failure.
    commit_seconds
        Rows are committed at the latest after so many seconds, and at 64 MiB.
    """

    sources: Sequence[Source]
    keys: NDArray[np.uint8]
    store: FeatureStore
    facts: FeatureStore
    resize: Resize
    make_engine: Callable[[], Engine]
    batch_size: int
    observe: Observer = ignore
    commit_seconds: float = 30.0


@dataclass(frozen=True, slots=True)
class _Plan:
    """Positions of the sources to decode, and which of them lack their features or their facts."""

    positions: NDArray[np.int64]
    features: NDArray[np.bool_]
    facts: NDArray[np.bool_]
    reused: int


def extract(job: Job) -> Extraction:
    """Compute the rows that a job's stores lack; each is computed once.

    Raises
    ------
    CacheError
        A shard could not be committed. What was committed before stays kept.
    """
    plan = _plan(job)
    if not len(plan.positions):
        job.observe(ExtractionPlanned(new=0, reused=plan.reused))
        return Extraction(0, plan.reused, (), 0.0, 0.0)
    with _sole_worker(job):
        job.store.refresh()
        job.facts.refresh()
        plan = _plan(job)
        job.observe(ExtractionPlanned(new=len(plan.positions), reused=plan.reused))
        batches = decoded_batches(
            [job.sources[i] for i in plan.positions],
            [job.keys[i].tobytes() for i in plan.positions],
            job.resize,
            batch_size=job.batch_size,
            workers=usable_cores(),
        )
        with contextlib.closing(batches):
            return _run(job, plan, batches)


def _plan(job: Job) -> _Plan:
    first, _ = distinct(job.keys)
    keys = job.keys[first]
    features, facts = (_mask(store.missing(keys), len(keys)) for store in (job.store, job.facts))
    todo = features | facts
    return _Plan(first[todo], features[todo], facts[todo], len(keys) - int(features.sum()))


def _mask(positions: NDArray[np.int64], n: int) -> NDArray[np.bool_]:
    mask = np.zeros(n, bool)
    mask[positions] = True
    return mask


def _run(job: Job, plan: _Plan, batches: Iterator[DecodedBatch]) -> Extraction:
    engine: Engine | None = None
    failures: list[tuple[int, Undecodable]] = []
    new = 0
    began = ready = time.monotonic()

    def kept(rows: int, nbytes: int) -> None:
        job.observe(RowsKept(rows, nbytes))

    # Left in reverse order, also by Ctrl-C: each buffer commits what it holds.
    with (
        RowBuffer(job.facts, max_seconds=job.commit_seconds) as fact_rows,
        RowBuffer(job.store, max_seconds=job.commit_seconds, on_commit=kept) as feature_rows,
    ):
        for batch in batches:
            failures += [(int(plan.positions[i]), error) for i, error in batch.failures]
            here = np.asarray(batch.positions, np.int64)
            keys = job.keys[plan.positions[here]]
            lacking = plan.features[here]
            if lacking.any():
                if engine is None:
                    engine = job.make_engine()
                    ready = time.monotonic()
                (rows,) = engine(batch.pixels()[lacking])
                finite = np.isfinite(rows).all(axis=1)
                failures += [
                    (int(i), Undecodable("its features are not finite numbers"))
                    for i in plan.positions[here][lacking][~finite]
                ]
                if finite.any():
                    feature_rows.add(keys[lacking][finite], rows[finite])
                new += int(finite.sum())
            lacking = plan.facts[here]
            if lacking.any():
                facts = np.stack([image.facts.pack() for image in batch.images])
                fact_rows.add(keys[lacking], facts[lacking])
            job.observe(BatchDone(images=len(here), rejected=len(batch.failures)))
    return Extraction(new, plan.reused, tuple(failures), ready - began, time.monotonic() - ready)


@contextlib.contextmanager
def _sole_worker(job: Job) -> Iterator[None]:
    """Keep a second run from computing the same rows; the store itself needs no lock."""
    lock = FileLock(job.store.folder / WORK_LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        job.observe(Notice("another run is filling this store; waiting for it to finish"))
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
