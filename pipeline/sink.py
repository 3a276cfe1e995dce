"""Where the results of an extraction end: rows in buffers, failures in a list, observers told."""

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
    """Results of n images on their way to the stores.

    An image counts as done, and is told as such, once it went through each of its networks.

    Parameters
    ----------
    keys
        uint8 ``(n, 32)``, the images' keys.
    lacking
        bool ``(n, stores)``: which rows are to be made; the others, which a pass of a network gives
        anyway, are not kept again.
    facts
        bool ``(n,)``: of which images the facts are to be kept.
    buffers, fact_rows
        On the way to each store, and to that of facts.
    observe
        Told of batches that are done.

    Attributes
    ----------
    computed
        bool ``(n,)``: of which images a row was computed.
    new
        Rows added, by store.
    unfit
        Positions of the images whose rows were not finite, by store.
    failures
        What went wrong, by position of the image.
    """

    def __init__(
        self,
        keys: NDArray[np.uint8],
        lacking: NDArray[np.bool_],
        facts: NDArray[np.bool_],
        buffers: Sequence[RowBuffer],
        fact_rows: RowBuffer,
        observe: Observer,
    ) -> None:
        self._keys, self._lacking, self._facts = keys, lacking, facts
        self._buffers, self._fact_rows = buffers, fact_rows
        self._observe = observe
        self._passes = np.zeros(len(keys), np.int32)
        self.computed = np.zeros(len(keys), bool)
        self.new = [0] * len(buffers)
        self.unfit: list[list[int]] = [[] for _ in buffers]
        self.failures: dict[int, Undecodable] = {}

    def receiver(self, stores: Sequence[int], wanted: NDArray[np.bool_]) -> Deliver:
        """Return what one network is to give its rows to.

        Parameters
        ----------
        stores
            Numbers of the stores that its outputs are for.
        wanted
            bool ``(n,)``: which images it will see.
        """
        self._passes += wanted

        def deliver(positions: NDArray[np.int64], rows: Rows) -> None:
            for store, each in zip(stores, rows, strict=True):
                self._keep(store, positions, each)
            self._passes[positions] -= 1
            self._observe(BatchDone(int((self._passes[positions] == 0).sum()), 0))

        return deliver

    def decoded(self, batch: DecodedBatch) -> None:
        """Take what decoding told: facts and failures."""
        self.failures.update(batch.failures)
        here = np.array(batch.positions, np.int64)
        new = self._facts[here]
        if new.any():
            rows = np.stack([first.facts.pack() for first, *_ in batch.images])
            self._fact_rows.add(self._keys[here[new]], rows[new])
        done = int((self._passes[here] == 0).sum())
        if done or batch.failures:
            self._observe(BatchDone(done, len(batch.failures)))

    def _keep(self, store: int, positions: NDArray[np.int64], rows: NDArray[np.float32]) -> None:
        lacking = self._lacking[positions, store]
        positions, rows = positions[lacking], rows[lacking]
        finite = np.isfinite(rows).all(axis=1)
        for position in positions[~finite].tolist():
            self.unfit[store].append(position)
            self.failures[position] = Undecodable(NOT_FINITE)
        if finite.any():
            self._buffers[store].add(self._keys[positions[finite]], rows[finite])
        self.new[store] += int(finite.sum())
        self.computed[positions[finite]] = True
