"""All heads of a sweep fitted on all folds: a head's settings together, the folds side by side."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.config import usable_cores
from pipeline.evaluate import Fold
from pipeline.heads.base import Fitted, HeadSpec
from pipeline.heads.grouping import by_key
from pipeline.heads.registry import ALONE, trainer
from pipeline.heads.rows import FoldRows
from pipeline.heads.scoring import logits_all
from pipeline.heads.threads import one_blas_thread
from pipeline.sweep.leaderboard import SweepData


@dataclass(frozen=True)
class FoldFit:
    """What is left of one head fitted on one fold.

    The fitted head is not kept: that of neighbours has a copy of the features.

    Attributes
    ----------
    logits, train_logits
        Of the rows to score, and of those fitted on.
    iterations, converged
        As the solver tells.
    seconds
        Spent in fitting.
    """

    logits: NDArray[np.floating[Any]]
    train_logits: NDArray[np.floating[Any]]
    iterations: int
    converged: bool
    seconds: float


def fit_folds(
    specs: Sequence[HeadSpec], data: SweepData, parts: Sequence[Fold], seed: int
) -> list[list[FoldFit]]:
    """Fit every head on every part.

    A thread takes a fold, whose products keep to that thread: folds need not wait for each other.
    Heads that fill the cores by themselves come after, one fold at a time.

    Returns
    -------
    list of list of FoldFit
        For each head, in their order, one a part.
    """
    found: dict[tuple[int, int], FoldFit] = {}
    together = [i for i, spec in enumerate(specs) if spec.head not in ALONE]
    alone = [i for i, spec in enumerate(specs) if spec.head in ALONE]

    def fit(number: int, which: list[int]) -> None:
        own = [specs[i] for i in which]
        for i, fitted in zip(which, _on_fold(own, data, parts[number], seed, number), strict=True):
            found[i, number] = fitted

    pool = ThreadPoolExecutor(usable_cores())
    try:
        with one_blas_thread():
            list(pool.map(fit, range(len(parts)), [together] * len(parts)))
    finally:
        pool.shutdown(cancel_futures=True)
    for number in range(len(parts)):
        fit(number, alone)
    return [[found[i, number] for number in range(len(parts))] for i in range(len(specs))]


def fold_rows(data: SweepData, at: NDArray[np.int64]) -> FoldRows:
    """Take the rows to fit on that lie at these positions."""
    rows = np.asarray(data.features[at], dtype=np.float32)
    return FoldRows(rows, data.labels[at], len(data.classes), data.groups_at(at))


def fit_seed(seed: int, spec: HeadSpec, number: int) -> int:
    """Make a seed that no other fit of a sweep has."""
    own = np.random.SeedSequence([seed, zlib.crc32(spec.name.encode()), number])
    return int(own.generate_state(1)[0])


def _on_fold(
    specs: Sequence[HeadSpec], data: SweepData, part: Fold, seed: int, number: int
) -> list[FoldFit]:
    """Fit and score heads on one part, all settings of a head together."""
    if not specs:
        return []
    rows, out = fold_rows(data, part[0]), np.asarray(data.features[part[1]], dtype=np.float32)

    def family(own: list[HeadSpec]) -> Iterator[FoldFit]:
        fits, seconds = _timed(own, rows, [fit_seed(seed, spec, number) for spec in own])
        heads = [fit.head for fit in fits]
        scored = zip(logits_all(heads, out), logits_all(heads, rows.features), strict=True)
        for fit, took, (logits, of_train) in zip(fits, seconds, scored, strict=True):
            yield FoldFit(logits, of_train, fit.iterations, fit.converged, took)

    return by_key(specs, lambda spec: spec.head, family)


def _timed(
    specs: Sequence[HeadSpec], rows: FoldRows, seeds: Sequence[int]
) -> tuple[list[Fitted], list[float]]:
    """Fit one family; seconds that each took, equal shares where they were fitted together."""
    trainers = [trainer(spec) for spec in specs]
    fits, marks = [], [perf_counter()]
    for fitted in type(trainers[0]).fit_all(trainers, rows, seeds):
        fits.append(fitted)
        marks.append(perf_counter())
    if specs[0].head not in ALONE:
        return fits, [(marks[-1] - marks[0]) / len(fits)] * len(fits)
    return fits, np.diff(marks).tolist()
