"""Plan the missing rows, run the backbones over them, append: the heart of stage one."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cache import FeatureStore, RowBuffer
from pipeline.config import usable_cores
from pipeline.events import ExtractionPlanned, Observer, RowsKept, ignore
from pipeline.images.batches import Source, decoded_batches
from pipeline.images.formats import Undecodable
from pipeline.images.hashing import distinct
from pipeline.lanes import Lane, Lanes, Network
from pipeline.sink import Sink
from pipeline.worklock import sole_worker
from pipeline.workshard import WorkShard

_WAITING_BYTES = 64 << 20  # of all stores together; as much again may be on its way to the disk


@dataclass(frozen=True, slots=True)
class Filled:
    """What became of one store.

    Attributes
    ----------
    new, reused
        Rows computed now, and rows that were in the store already; one a distinct image.
    unfit
        Positions among the sources of those whose features were not finite numbers.
    """

    new: int
    reused: int
    unfit: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Extraction:
    """What one extraction did.

    Attributes
    ----------
    new, reused
        Distinct images of which a row was computed now, and those that lacked none.
    stores
        The same for each store, in the order of the job's networks and their outputs.
    failures
        ``(position among the sources, error)`` of those that lack a row still.
    startup, seconds
        Seconds that it took to build the networks, and all others until the last shard was
        committed.
    busy
        Share of those seconds in which images were in a network: the rest it waited for images.
    """

    new: int
    reused: int
    stores: tuple[Filled, ...]
    failures: tuple[tuple[int, Undecodable], ...]
    startup: float
    seconds: float
    busy: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What is to be brought up to date, and with what.

    Attributes
    ----------
    sources
        The images, as files or as bytes.
    keys
        uint8 ``(n, 32)``, the SHA-256 of each source's bytes; equal keys are one image.
    networks
        What the images go through, and the stores of that. An image is decoded once for all.
    facts
        Where the facts that decoding tells are kept.
    observe
        Told what happens; what was told as ``RowsKept`` survives any later failure.
    commit_seconds
        Rows are committed at the latest after so many seconds, and at 64 MiB.
    shard
        The part of a larger work that the sources are; None if they are all of it.
    """

    sources: Sequence[Source]
    keys: NDArray[np.uint8]
    networks: tuple[Network, ...]
    facts: FeatureStore
    observe: Observer = ignore
    commit_seconds: float = 30.0
    shard: WorkShard | None = None

    @property
    def stores(self) -> tuple[FeatureStore, ...]:
        """The stores of all networks, one after the other."""
        return tuple(store for network in self.networks for store in network.stores)


@dataclass(frozen=True, slots=True)
class _Plan:
    """Positions of the n sources to decode; which of them lack a row of each store, or facts."""

    positions: NDArray[np.int64]
    features: NDArray[np.bool_]  # (n, stores)
    facts: NDArray[np.bool_]
    reused: tuple[int, ...]  # by store
    whole: int  # distinct images that lack no row of any store


def extract(job: Job) -> Extraction:
    """Compute the rows that a job's stores lack; each is computed once.

    Raises
    ------
    CacheError
        A shard could not be committed. What was committed before stays kept.
    """
    plan = _plan(job)
    if not len(plan.positions):
        job.observe(ExtractionPlanned(new=0, reused=plan.whole))
        filled = tuple(Filled(0, n, ()) for n in plan.reused)
        return Extraction(0, plan.whole, filled, (), 0.0, 0.0, 0.0)
    lacking = np.flatnonzero(plan.features.any(axis=0))
    folders = [job.stores[i].folder for i in lacking]
    with sole_worker(folders or [job.facts.folder], job.shard, job.observe):
        for store in (*job.stores, job.facts):
            store.refresh()
        plan = _plan(job)
        job.observe(ExtractionPlanned(new=len(plan.positions), reused=plan.whole))
        return _run(job, plan)


def _plan(job: Job) -> _Plan:
    first, _ = distinct(job.keys)
    keys = job.keys[first]
    features = np.stack([_lacks(store, keys) for store in job.stores], axis=1)
    facts = _lacks(job.facts, keys)
    lacking = features.any(axis=1)
    todo = lacking | facts
    reused = tuple((~features).sum(axis=0).tolist())
    return _Plan(first[todo], features[todo], facts[todo], reused, int((~lacking).sum()))


def _lacks(store: FeatureStore, keys: NDArray[np.uint8]) -> NDArray[np.bool_]:
    mask = np.zeros(len(keys), bool)
    mask[store.missing(keys)] = True
    return mask


def _run(job: Job, plan: _Plan) -> Extraction:
    began = time.monotonic()
    keys = job.keys[plan.positions]
    with contextlib.ExitStack() as stack:
        # Left in reverse order, also by Ctrl-C: the networks stop, each buffer commits what it has.
        buffers, fact_rows = _buffers(job, stack)
        sink = Sink(keys, plan.features, plan.facts, buffers, fact_rows, job.observe)
        lanes = _lanes(job, plan, sink)
        running = stack.enter_context(Lanes(lanes))
        # Facts alone need no input of a network, but decoding ends with one.
        resizes = running.resizes or (job.networks[0].resize,)
        batches = decoded_batches(
            [job.sources[i] for i in plan.positions],
            keys,
            resizes,
            batch_size=max(network.batch_size for network in job.networks),
            workers=usable_cores(),
        )
        for batch in stack.enter_context(contextlib.closing(batches)):
            sink.decoded(batch)
            running.take(batch)
        running.finish()
    startup = sum(lane.building for lane in lanes)
    seconds = time.monotonic() - began - startup
    return _told(plan, sink, startup, seconds, running.busy / max(seconds, 1e-9))


def _told(plan: _Plan, sink: Sink, startup: float, seconds: float, busy: float) -> Extraction:
    positions = plan.positions.tolist()
    stores = zip(sink.new, plan.reused, sink.unfit, strict=True)
    return Extraction(
        new=int(sink.computed.sum()),
        reused=plan.whole,
        stores=tuple(Filled(n, r, tuple(positions[i] for i in unfit)) for n, r, unfit in stores),
        failures=tuple((positions[i], error) for i, error in sorted(sink.failures.items())),
        startup=startup,
        seconds=seconds,
        busy=busy,
    )


def _buffers(job: Job, stack: contextlib.ExitStack) -> tuple[list[RowBuffer], RowBuffer]:
    """Open a buffer for each store, and one for facts."""

    def kept(rows: int, nbytes: int) -> None:
        job.observe(RowsKept(rows, nbytes))

    seconds, share = job.commit_seconds, _WAITING_BYTES // len(job.stores)
    facts = stack.enter_context(RowBuffer(job.facts, max_seconds=seconds))
    features = [RowBuffer(store, share, seconds, on_commit=kept) for store in job.stores]
    return [stack.enter_context(buffer) for buffer in features], facts


def _lanes(job: Job, plan: _Plan, sink: Sink) -> list[Lane]:
    """Make a lane for each network that an image lacks a row of."""
    lanes, first = [], 0
    for network in job.networks:
        lacking = plan.features[:, first : first + len(network.stores)]
        wanted = np.logical_or.reduce(lacking, axis=1)
        if wanted.any():
            needed = np.flatnonzero(lacking.any(axis=0)).tolist()
            deliver = sink.receiver([first + i for i in needed], wanted)
            outputs = [network.outputs[i] for i in needed]
            lanes.append(Lane(network, outputs, wanted, deliver))
        first += len(network.stores)
    return lanes
