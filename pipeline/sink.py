"""Where the results of an extraction end: rows in buffers, failures in a list, observers told.

What is counted here is *looks*: the plain picture of an image is one, each augmented view another.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cache import RowBuffer
from pipeline.events import BatchDone, Observer
from pipeline.images.batches import DecodedBatch
from pipeline.images.formats import Undecodable
from pipeline.lanes import Deliver, Rows

NOT_FINITE = "its features are not finite numbers"


class Sink:
    """Results of n looks at images on their way to the stores.

    What is told as done are rows; an image of which facts alone are wanted counts as one.

    Parameters
    ----------
    keys, views
        uint8 ``(n, 32)`` and uint32 ``(n,)``: the image of each look, and which view of it.
    lacking
        bool ``(n, stores)``: which rows are to be made; the others, which a pass of a network gives
        anyway, are not kept again.
    facts
        bool ``(n,)``: with which looks facts are to be kept.
    buffers, fact_rows
        On the way to each store, and to that of facts.
    observe
        Told of batches that are done.

    Attributes
    ----------
    computed
        bool ``(n,)``: of which looks a row was computed.
    new
        Rows added, by store.
    unfit
        Positions of the looks whose rows were not finite, by store.
    failures
        What went wrong, by position of the look.
    """

    def __init__(
        self,
        keys: NDArray[np.uint8],
        views: NDArray[np.uint32],
        lacking: NDArray[np.bool_],
        facts: NDArray[np.bool_],
        buffers: Sequence[RowBuffer],
        fact_rows: RowBuffer,
        observe: Observer,
    ) -> None:
        self._keys, self._views, self._lacking, self._facts = keys, views, lacking, facts
        self._buffers, self._fact_rows = buffers, fact_rows
        self._observe = observe
        self.computed = np.zeros(len(keys), bool)
        self.new = [0] * len(buffers)
        self.unfit: list[list[int]] = [[] for _ in buffers]
        self.failures: dict[int, Undecodable] = {}

    def receiver(self, stores: Sequence[Sequence[int]]) -> Deliver:
        """Return what one network is to give its rows to.

        Parameters
        ----------
        stores
            Numbers of the stores that each of its outputs is for: each keeps what it lacks.
        """

        def deliver(positions: NDArray[np.int64], rows: Rows) -> None:
            done = 0
            for own, each in zip(stores, rows, strict=True):
                for store in own:
                    done += self._keep(store, positions, each)
            self._observe(BatchDone(done, 0))

        return deliver

    def decoded(self, batch: DecodedBatch) -> None:
        """Take what decoding told: facts and failures."""
        self.failures.update(batch.failures)
        here = np.array(batch.positions, np.int64)
        new = self._facts[here]
        if new.any():
            rows = np.stack([first.facts.pack() for first, *_ in batch.images])
            self._fact_rows.add(self._keys[here[new]], rows[new])
        done = int((~self._lacking[here].any(axis=1)).sum())
        failed = [position for position, _ in batch.failures]
        rejected = int(np.maximum(self._lacking[failed].sum(axis=1), 1).sum())
        if done or rejected:
            self._observe(BatchDone(done, rejected))

    def _keep(self, store: int, positions: NDArray[np.int64], rows: NDArray[np.float32]) -> int:
        """Keep what a store lacks; say how many rows that were, with those that cannot be kept."""
        lacking = self._lacking[positions, store]
        positions, rows = positions[lacking], rows[lacking]
        finite = np.isfinite(rows).all(axis=1)
        for position in positions[~finite].tolist():
            self.unfit[store].append(position)
            self.failures[position] = Undecodable(NOT_FINITE)
        if finite.any():
            fit = positions[finite]
            self._buffers[store].add(self._keys[fit], rows[finite], self._views[fit])
        self.new[store] += int(finite.sum())
        self.computed[positions[finite]] = True
        return len(positions)
