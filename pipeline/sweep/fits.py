"""All heads of a sweep fitted on all folds: a head's settings together, the folds side by side."""

from __future__ import annotations

import time
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import groupby
from threading import Event, Lock

import numpy as np
from numpy.typing import NDArray

from pipeline.config import usable_cores
from pipeline.evaluate import METRICS, Fold, fit_temperature, score
from pipeline.events import FitDone, Observer
from pipeline.heads.base import Fitted, HeadSpec, Trainer
from pipeline.heads.mlp import MlpTrainer
from pipeline.heads.registry import ALONE, trainer
from pipeline.heads.rows import FoldRows
from pipeline.heads.scoring import logits_all
from pipeline.heads.threads import one_blas_thread
from pipeline.sweep.kept import Fit, Memory, digest_of_fit, digest_of_rows
from pipeline.sweep.leaderboard import SweepConfig, SweepData
from pipeline.sweep.views import fold_rows, of_images, scored_rows
from pipeline.workers import in_order


@dataclass(frozen=True)
class FoldFits:
    """Every head on every part, as far as time allowed.

    Attributes
    ----------
    of
        By number of the head and of the part.
    reused
        How many of them were kept by an earlier sweep.
    """

    of: dict[tuple[int, int], Fit]
    reused: int

    def whole(self, head: int, parts: int) -> list[Fit] | None:
        """All fits of a head; None where one is missing."""
        fits = [self.of[head, part] for part in range(parts) if (head, part) in self.of]
        return fits if len(fits) == parts else None


def fit_folds(
    specs: Sequence[HeadSpec],
    data: SweepData,
    parts: Sequence[Fold],
    config: SweepConfig,
    memory: Memory,
    observe: Observer,
    until: float | None = None,
) -> FoldFits:
    """Fit every head on every part, unless that was done before or time is up.

    A thread takes a fold, whose products keep to that thread: folds need not wait for each other.
    Networks come after, a fit a thread.

    Parameters
    ----------
    until
        Reading of ``time.monotonic`` after which no further fit is begun; None for no limit.
    """
    work = _Work(specs, data, parts, config, memory, observe, until)
    reused = work.recall()
    # Settings of other heads share work, so they go together; networks go one by one, a head with
    # all its folds after the other, so that some heads are whole when time is up.
    together = [i for i, spec in enumerate(specs) if spec.head not in ALONE]
    work.run(usable_cores(), [(number, together) for number in range(len(parts))])
    alone = [i for i, spec in enumerate(specs) if spec.head in ALONE and work.lacks(i)]
    for at_once, some in groupby(alone, key=work.at_once):
        work.run(at_once, [(number, [i]) for i in some for number in range(len(parts))])
    return FoldFits(work.found, reused)


def fit_seed(seed: int, spec: HeadSpec, number: int) -> int:
    """Make a seed that no other fit of a sweep has."""
    own = np.random.SeedSequence([seed, zlib.crc32(spec.name.encode()), number])
    return int(own.generate_state(1)[0])


@dataclass
class _Work:
    """What is to be fitted, and what is already."""

    specs: Sequence[HeadSpec]
    data: SweepData
    parts: Sequence[Fold]
    config: SweepConfig
    memory: Memory
    observe: Observer
    until: float | None
    found: dict[tuple[int, int], Fit] = field(default_factory=dict)
    stopped: Event = field(default_factory=Event)
    _lock: Lock = field(default_factory=Lock)
    _rows_names: dict[int, str] = field(default_factory=dict)

    def recall(self) -> int:
        """Take what is kept; say how many fits that saves."""
        for number in range(len(self.parts)):
            for i in range(len(self.specs)):
                fit = self.memory.get(self._name(i, number))
                if fit is not None and self.config.metric in fit.train_scores:
                    self._done(i, number, fit)
        return len(self.found)

    def lacks(self, i: int) -> bool:
        """Whether a head has not been fitted on every part."""
        return any((i, number) not in self.found for number in range(len(self.parts)))

    def at_once(self, i: int) -> int:
        """Reckon how many networks like this one can be trained at once."""
        fitter = trainer(self.specs[i])
        assert isinstance(fitter, MlpTrainer)
        views = self.data.views.count if self.data.views else 0
        rows = (1 + views) * max((len(train) for train, _ in self.parts), default=0)
        return fitter.at_once(rows, self.data.features.shape[1], len(self.data.classes))

    def run(self, at_once: int, jobs: Sequence[tuple[int, Sequence[int]]]) -> None:
        """Do jobs, each a part's number and its heads', so many at once.

        An interrupt waits for the heads that are being fitted, and networks for their epoch alone.
        """
        tasks = [partial(self._job, number, which) for number, which in jobs]
        with one_blas_thread():
            list(in_order(tasks, at_once, len(tasks)))

    def _job(self, number: int, which: Sequence[int], cancelled: Event) -> int:
        self.stopped = cancelled  # one for all jobs of a run
        self.fit(number, which)
        return number

    def fit(self, number: int, which: Sequence[int]) -> None:
        """Fit and score those of some heads that this part lacks, all settings of a head at once.

        Rows are read where something is missing, once for all of them.
        """
        missing = [i for i in which if (i, number) not in self.found]
        if not missing or self._late:
            return
        train, out = self.parts[number]
        rows, scored = fold_rows(self.data, train), scored_rows(self.data, out)
        for head in dict.fromkeys(self.specs[i].head for i in missing):
            if not self._late:
                own = [i for i in missing if self.specs[i].head == head]
                self._family(own, number, rows, scored)

    def _family(
        self, own: list[int], number: int, rows: FoldRows, scored: NDArray[np.float32]
    ) -> None:
        trainers = [self._limited(trainer(self.specs[i])) for i in own]
        seeds = [fit_seed(self.config.seed, self.specs[i], number) for i in own]
        fits = type(trainers[0]).fit_all(trainers, rows, seeds)
        began = time.perf_counter()
        done = list(fits)
        share = (time.perf_counter() - began) / len(own)
        scores = self._scored(done, trainers, number, rows, scored, share)
        for i, fit in zip(own, scores, strict=True):
            self._keep(i, number, fit)

    def _limited(self, fitter: Trainer) -> Trainer:
        """Let a network end after the epoch at hand when time is up."""
        if not isinstance(fitter, MlpTrainer):
            return fitter
        return replace(fitter, ended=lambda: self._late)

    def _scored(
        self,
        fits: Sequence[Fitted],
        trainers: Sequence[Trainer],
        number: int,
        rows: FoldRows,
        scored: NDArray[np.float32],
        seconds: float,
    ) -> Iterator[Fit]:
        heads, labels = [fit.head for fit in fits], self.data.labels[self.parts[number][1]]
        own_rows = logits_all(heads, rows.features)
        both = zip(of_images(logits_all(heads, scored), self.data), own_rows, strict=True)
        for fitted, fitter, (logits, own) in zip(fits, trainers, both, strict=True):
            finite = bool(np.isfinite(logits).all() and np.isfinite(own).all())
            names = _scores_wanted(self.config.metric) if finite else ()
            temperature = 1.0
            if finite and not fitter.probabilistic and _probabilities(self.config.metric):
                temperature = fit_temperature(logits, labels)
            yield Fit(
                logits=logits,
                train_scores={n: score(n, rows.labels, own, temperature) for n in names},
                iterations=fitted.iterations,
                converged=fitted.converged,
                seconds=seconds,
            )

    def _keep(self, i: int, number: int, fit: Fit) -> None:
        # Neither one whose outputs are no finite numbers, nor one that the budget ended.
        if fit.train_scores and (fit.converged or not self._late):
            self.memory.put(self._name(i, number), fit)
        self._done(i, number, fit)

    def _done(self, i: int, number: int, fit: Fit) -> None:
        with self._lock:
            self.found[i, number] = fit
            self.observe(FitDone(self.specs[i].head))

    def _name(self, i: int, number: int) -> str:
        spec, seed = self.specs[i], self.config.seed
        if self.data.rows_named is None:
            return ""
        if number not in self._rows_names:
            named, (train, out) = self.data.rows_named, self.parts[number]
            views = self.data.views.told if self.data.views else ""
            self._rows_names[number] = digest_of_rows(
                named, train, out, self.data.labels, self.data.groups, views
            )
        own = fit_seed(seed, spec, number)
        return digest_of_fit(self._rows_names[number], spec, len(self.data.classes), own)

    @property
    def _late(self) -> bool:
        late = self.until is not None and time.monotonic() > self.until
        return late or self.stopped.is_set()


def _scores_wanted(metric: str) -> tuple[str, ...]:
    """Name the metric asked for, and all that cost no temperature."""
    return tuple({metric: 0} | {n: 0 for n in METRICS if not _probabilities(n)})


def _probabilities(metric: str) -> bool:
    return METRICS[metric].needs_probabilities
