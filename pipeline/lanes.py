"""Images on their way through networks: each network's own full batches, all in one thread."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from cache import FeatureStore
from pipeline.engines.base import Engine, Output
from pipeline.images.batches import DecodedBatch
from pipeline.images.resize import Resize

BATCHES_IN_FLIGHT = 2
"""One goes through a network, the next is ready, so that the network never waits for it."""

Rows: TypeAlias = tuple[NDArray[np.float32], ...]
Deliver: TypeAlias = Callable[[NDArray[np.int64], Rows], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """One network, and what a pass through it yields.

    Attributes
    ----------
    outputs
        The rows of each image that a pass can yield.
    stores
        Where they are kept, one store an output.
    augmented
        Where those of augmented views are kept, one store an output; empty where none are made.
    resize
        From an image to the network's input.
    make_engine
        Called once with the outputs that are needed and the number of images, when the first batch
        is full: where nothing that is missing can be decoded, no network is ever built.
    batch_size
        Images of the first batch; of the others there are as many as the engine likes at once.
    """

    outputs: tuple[Output, ...]
    stores: tuple[FeatureStore, ...]
    resize: Resize
    make_engine: Callable[[Sequence[Output], int], Engine]
    batch_size: int
    augmented: tuple[FeatureStore, ...] = ()


class Lane:
    """The images that wait for one network.

    Parameters
    ----------
    network
        The network.
    outputs
        Those of its outputs that are needed; the others are not asked of it.
    wanted
        bool ``(n,)``: which of n images it is to see.
    deliver
        Called with positions of images, int64 ``(m,)``, and the rows of each output, float32
        ``(m, dims)``, by the thread that uses the `Lanes`.

    Attributes
    ----------
    building
        Seconds that it took to build the network.
    """

    def __init__(
        self,
        network: Network,
        outputs: Sequence[Output],
        wanted: NDArray[np.bool_],
        deliver: Deliver,
    ) -> None:
        self.network = network
        self.deliver = deliver
        self.building = 0.0
        self._outputs = outputs
        self._wanted = wanted
        self._engine: Engine | None = None
        self._waiting: list[tuple[int, NDArray[np.uint8]]] = []

    def takes(self, position: int, pixels: NDArray[np.uint8]) -> bool:
        """Take an image if the network is to see it; say whether the batch is full now."""
        if self._wanted[position]:
            self._waiting.append((position, pixels))
        engine = self._engine
        return len(self._waiting) == (engine.batch_size if engine else self.network.batch_size)

    def batch(self) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
        """Hand out what is waiting: positions, and pixels uint8 ``(n, h, w, 3)``; n is not zero."""
        positions, pixels = zip(*self._waiting, strict=True)
        self._waiting = []
        return np.array(positions, np.int64), np.stack(pixels)

    @property
    def engine(self) -> Engine:
        """The network, built when it is first asked for."""
        if self._engine is None:
            began = time.monotonic()
            self._engine = self.network.make_engine(self._outputs, int(self._wanted.sum()))
            self.building = time.monotonic() - began
        return self._engine

    @property
    def empty(self) -> bool:
        """Whether no image is waiting."""
        return not self._waiting


class Lanes:
    """Lanes side by side. As a context manager, what is in flight is dropped on the way out.

    Parameters
    ----------
    lanes
        One a network.

    Attributes
    ----------
    resizes
        The distinct ways from an image to an input; a batch must have been decoded with these.
    busy
        Seconds that images were in a network.
    """

    def __init__(self, lanes: Sequence[Lane]) -> None:
        self._lanes = lanes
        self._in_flight: deque[tuple[Lane, NDArray[np.int64], Future[Rows]]] = deque()
        self._thread = ThreadPoolExecutor(1, "network")
        self.busy = 0.0
        self.resizes = tuple(dict.fromkeys(lane.network.resize for lane in lanes))
        self._inputs = [(self.resizes.index(lane.network.resize), lane) for lane in lanes]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)

    def take(self, batch: DecodedBatch) -> None:
        """Take decoded images; their positions are those of the lanes' images."""
        for position, images in zip(batch.positions, batch.images, strict=True):
            for number, lane in self._inputs:
                if lane.takes(position, images[number].pixels):
                    self._run(lane)
        while self._in_flight and self._in_flight[0][2].done():
            self._collect()

    def finish(self) -> None:
        """Run what is left, and wait for it."""
        for lane in self._lanes:
            if not lane.empty:
                self._run(lane)
        while self._in_flight:
            self._collect()

    def _run(self, lane: Lane) -> None:
        engine = lane.engine
        positions, pixels = lane.batch()
        while len(self._in_flight) >= BATCHES_IN_FLIGHT:
            self._collect()
        self._in_flight.append((lane, positions, self._thread.submit(self._timed, engine, pixels)))

    def _timed(self, engine: Engine, pixels: NDArray[np.uint8]) -> Rows:
        began = time.monotonic()
        rows = engine(pixels)
        self.busy += time.monotonic() - began
        return rows

    def _collect(self) -> None:
        lane, positions, rows = self._in_flight[0]
        lane.deliver(positions, rows.result())
        self._in_flight.popleft()
