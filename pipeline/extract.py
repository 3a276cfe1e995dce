"""Plan the missing rows, run the backbones over them, append: the heart of stage one."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cache import FeatureStore, RowBuffer
from pipeline.config import usable_cores
from pipeline.engines.base import Engine, Output
from pipeline.errors import UsageError
from pipeline.events import ExtractionPlanned, Notice, Observer, RowsKept, ignore
from pipeline.images.augment import Policy
from pipeline.images.batches import Source, ViewPlan, decoded_batches
from pipeline.images.formats import Undecodable
from pipeline.lacking import Plan, planned
from pipeline.lanes import Lane, Lanes, Network
from pipeline.sink import Sink
from pipeline.text import human_bytes, plural
from pipeline.worklock import sole_worker
from pipeline.workshard import WorkShard

_WAITING_BYTES = 64 << 20  # of all stores together; as much again may be on its way to the disk


@dataclass(frozen=True, slots=True)
class Filled:
    """What became of one store.

    Attributes
    ----------
    new, reused
        Rows computed now, and rows that were in the store already: one a distinct image, or one an
        augmented view of it.
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
        Rows of each store, in the order of `Job.stores`.
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
    policy, views
        With a policy, so many views of each image are made, the plain picture among them, and the
        networks have stores for the augmented ones.
    """

    sources: Sequence[Source]
    keys: NDArray[np.uint8]
    networks: tuple[Network, ...]
    facts: FeatureStore
    observe: Observer = ignore
    commit_seconds: float = 30.0
    shard: WorkShard | None = None
    policy: Policy | None = None
    views: int = 1

    @property
    def stores(self) -> tuple[FeatureStore, ...]:
        """The stores of all networks, one after the other; then those of augmented views."""
        plain = tuple(store for network in self.networks for store in network.stores)
        return plain + tuple(store for network in self.networks for store in network.augmented)


def extract(job: Job) -> Extraction:
    """Compute the rows that a job's stores lack; each is computed once.

    Raises
    ------
    CacheError
        A shard could not be committed. What was committed before stays kept.
    UsageError
        The disk has no room for the rows.
    """
    plan = _plan(job)
    if not len(plan.positions):
        job.observe(_announced(job, plan))
        filled = tuple(Filled(0, n, ()) for n in plan.reused)
        return Extraction(0, plan.whole, filled, (), 0.0, 0.0, 0.0)
    lacking = np.flatnonzero(plan.features.any(axis=0))
    folders = [job.stores[i].folder for i in lacking]
    with sole_worker(folders or [job.facts.folder], job.shard, job.observe):
        for store in (*job.stores, job.facts):
            store.refresh()
        plan = _plan(job)
        job.observe(_announced(job, plan))
        return _run(job, plan)


def _announced(job: Job, plan: Plan) -> ExtractionPlanned:
    rows = int(np.maximum(plan.features.sum(axis=1), 1).sum())
    unit = "images" if len(job.stores) == 1 else "rows"
    return ExtractionPlanned(new=rows, reused=sum(plan.reused), unit=unit)


def _plan(job: Job) -> Plan:
    plain = sum(len(network.stores) for network in job.networks)
    return planned(job.keys, job.stores[:plain], job.stores[plain:], job.facts, job.views)


def _run(job: Job, plan: Plan) -> Extraction:
    began = time.monotonic()
    keys = job.keys[plan.source_of]
    with contextlib.ExitStack() as stack:
        # Left in reverse order, also by Ctrl-C: the networks stop, each buffer commits what it has.
        buffers, fact_rows = _buffers(job, stack)
        sink = Sink(keys, plan.views, plan.features, plan.facts, buffers, fact_rows, job.observe)
        lanes = _lanes(job, plan, sink)
        running = stack.enter_context(Lanes(lanes))
        # Facts alone need no input of a network, but decoding ends with one.
        resizes = running.resizes or (job.networks[0].resize,)
        batches = decoded_batches(
            [job.sources[i] for i in plan.positions],
            job.keys[plan.positions],
            resizes,
            # Images at once, of which each may have several views.
            batch_size=max(1, max(network.batch_size for network in job.networks) // job.views),
            workers=usable_cores(),
            views=ViewPlan(job.policy, plan.first, plan.views) if job.policy else None,
        )
        for batch in stack.enter_context(contextlib.closing(batches)):
            sink.decoded(batch)
            running.take(batch)
        running.finish()
    startup = sum(lane.building for lane in lanes)
    seconds = time.monotonic() - began - startup
    return _told(plan, sink, startup, seconds, running.busy / max(seconds, 1e-9))


def _told(plan: Plan, sink: Sink, startup: float, seconds: float, busy: float) -> Extraction:
    source_of = plan.source_of.tolist()
    stores = zip(sink.new, plan.reused, sink.unfit, strict=True)
    # Of an image that cannot be decoded no view can be made: it failed once.
    failures = {source_of[i]: error for i, error in sorted(sink.failures.items(), reverse=True)}
    return Extraction(
        new=len(np.unique(plan.source_of[sink.computed])),
        reused=plan.whole,
        stores=tuple(
            Filled(n, r, tuple(dict.fromkeys(source_of[i] for i in unfit)))
            for n, r, unfit in stores
        ),
        failures=tuple(sorted(failures.items(), key=lambda failure: failure[0])),
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


def _lanes(job: Job, plan: Plan, sink: Sink) -> list[Lane]:
    """Make a lane for each network that an image lacks a row of."""
    lanes, first = [], 0
    plain = sum(len(network.stores) for network in job.networks)
    for network in job.networks:
        # The stores of each output: that of plain pictures, and that of augmented views.
        own = [
            [number, *([plain + number] if network.augmented else [])]
            for number in range(first, first + len(network.stores))
        ]
        first += len(network.stores)
        numbers = [number for stores in own for number in stores]
        wanted = np.logical_or.reduce(plan.features[:, numbers], axis=1)
        if wanted.any():
            needed = [i for i, stores in enumerate(own) if plan.features[:, stores].any()]
            deliver = sink.receiver([own[i] for i in needed])
            outputs = [network.outputs[i] for i in needed]
            checked = replace(network, make_engine=_WithRoom(job, plan, network, own))
            lanes.append(Lane(checked, outputs, wanted, deliver))
    return lanes


@dataclass(frozen=True, slots=True)
class _WithRoom:
    """Makes a network's engine, unless the disk is too small for all rows that it will give."""

    job: Job
    plan: Plan
    network: Network
    own: list[list[int]]  # numbers of the stores of each output

    def __call__(self, outputs: Sequence[Output], images: int) -> Engine:
        engine = self.network.make_engine(outputs, images)
        dims = dict(zip(outputs, engine.dims, strict=True))
        rows, nbytes = 0, 0
        for output, stores in zip(self.network.outputs, self.own, strict=True):
            for number in stores:
                count = int(self.plan.features[:, number].sum())
                each = np.dtype(self.job.stores[number].recipe.dtype).itemsize
                rows, nbytes = rows + count, nbytes + count * dims.get(output, 0) * each
        folder = self.job.stores[self.own[0][0]].folder
        free = shutil.disk_usage(folder).free
        if nbytes > free:
            raise UsageError(
                f"{plural(rows, 'row')} take {human_bytes(nbytes)}, and the disk of {folder} has "
                f"{human_bytes(free)} left: make room, or ask for less (fewer --views, another "
                "--pooling)"
            )
        if self.job.policy:
            self.job.observe(Notice(f"{plural(rows, 'row')} to compute: {human_bytes(nbytes)}"))
        return engine
