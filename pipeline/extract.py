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
from pipeline.events import BatchDone, ExtractionPlanned, Notice, Observer, RowsKept
from pipeline.images.batches import DecodedBatch, Source, decoded_batches
from pipeline.images.decode import Resize

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
        ``(position among the sources, reason)`` of those that could not be decoded.
    startup, seconds
        Seconds until the network was ready, and from then until the last shard was committed.
    """

    new: int
    reused: int
    failures: tuple[tuple[int, str], ...]
    startup: float
    seconds: float


@dataclass(frozen=True, slots=True)
class _Plan:
    """Positions of the sources to decode, and which of them lack their features or their facts."""

    positions: NDArray[np.int64]
    features: NDArray[np.bool_]
    facts: NDArray[np.bool_]


def extract(
    sources: Sequence[Source],
    keys: NDArray[np.uint8],
    store: FeatureStore,
    facts: FeatureStore,
    resize: Resize,
    make_engine: Callable[[], Engine],
    batch_size: int,
    observe: Observer,
    commit_seconds: float = 30.0,
) -> Extraction:
    """Bring `store` and `facts` up to date with `sources`; each row is computed once.

    Parameters
    ----------
    sources
        The images, as files or as bytes.
    keys
        uint8 ``(n, 32)``, the SHA-256 of each source's bytes; equal keys are one image.
    store, facts
        Where features, and the facts that decoding tells, are kept.
    make_engine
        Called once, when the first batch is decoded: where nothing that is missing can be decoded,
        no network is ever built.
    commit_seconds
        Rows are committed at the latest after so many seconds, and at 64 MiB.

    Returns
    -------
    Extraction
        Counts, failures and times. What was reported as ``RowsKept`` survives any later failure.

    Raises
    ------
    CacheError
        A shard could not be committed. What was committed before stays kept.
    """
    _, first = np.unique(keys, axis=0, return_index=True)
    distinct = np.sort(first).astype(np.int64)
    if not len(_plan(keys, distinct, store, facts).positions):
        observe(ExtractionPlanned(new=0, reused=len(distinct)))
        return Extraction(0, len(distinct), (), 0.0, 0.0)
    with _sole_worker(store, observe):
        store.refresh()
        facts.refresh()
        plan = _plan(keys, distinct, store, facts)
        reused = len(distinct) - int(plan.features.sum())
        observe(ExtractionPlanned(new=len(distinct) - reused, reused=reused))
        batches = decoded_batches(
            [sources[i] for i in plan.positions],
            [keys[i].tobytes() for i in plan.positions],
            resize,
            batch_size=batch_size,
            workers=usable_cores(),
        )
        with contextlib.closing(batches):
            return _run(
                batches, keys, plan, store, facts, make_engine, reused, observe, commit_seconds
            )


def _plan(
    keys: NDArray[np.uint8],
    distinct: NDArray[np.int64],
    store: FeatureStore,
    facts: FeatureStore,
) -> _Plan:
    features_missing = np.zeros(len(distinct), bool)
    features_missing[store.missing(keys[distinct])] = True
    facts_missing = np.zeros(len(distinct), bool)
    facts_missing[facts.missing(keys[distinct])] = True
    todo = features_missing | facts_missing
    return _Plan(distinct[todo], features_missing[todo], facts_missing[todo])


def _run(
    batches: Iterator[DecodedBatch],
    keys: NDArray[np.uint8],
    plan: _Plan,
    store: FeatureStore,
    facts: FeatureStore,
    make_engine: Callable[[], Engine],
    reused: int,
    observe: Observer,
    commit_seconds: float,
) -> Extraction:
    engine: Engine | None = None
    failures: list[tuple[int, str]] = []
    new = 0
    began = ready = time.monotonic()

    def kept(rows: int, nbytes: int) -> None:
        observe(RowsKept(rows, nbytes))

    # Left in reverse order, also by Ctrl-C: each buffer commits what it holds.
    with (
        RowBuffer(facts, max_seconds=commit_seconds) as fact_rows,
        RowBuffer(store, max_seconds=commit_seconds, on_commit=kept) as feature_rows,
    ):
        for batch in batches:
            failures += [(int(plan.positions[i]), reason) for i, reason in batch.failures]
            here = np.asarray(batch.positions, np.int64)
            batch_keys = keys[plan.positions[here]]
            needed = plan.features[here]
            if needed.any():
                if engine is None:
                    engine = make_engine()
                    ready = time.monotonic()
                feature_rows.add(batch_keys[needed], engine(batch.pixels()[needed]))
                new += int(needed.sum())
            needed = plan.facts[here]
            if needed.any():
                rows = np.stack([image.facts.pack() for image in batch.images])
                fact_rows.add(batch_keys[needed], rows[needed])
            observe(BatchDone(images=len(here), rejected=len(batch.failures)))
    return Extraction(new, reused, tuple(failures), ready - began, time.monotonic() - ready)


@contextlib.contextmanager
def _sole_worker(store: FeatureStore, observe: Observer) -> Iterator[None]:
    """Keep a second run from computing the same rows; the store itself needs no lock."""
    lock = FileLock(store.folder / WORK_LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        observe(Notice("another run is filling this store; waiting for it to finish"))
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
