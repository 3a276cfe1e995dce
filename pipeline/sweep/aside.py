"""Heads beside the board: on features of their own, or on the first fold alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.evaluate import Fold
from pipeline.events import Notice, Observer, SweepPlanned
from pipeline.heads.base import HeadSpec
from pipeline.heads.registry import trainer
from pipeline.heads.size import training_bytes
from pipeline.sweep.board import scored
from pipeline.sweep.fits import fit_folds
from pipeline.sweep.kept import Memory
from pipeline.sweep.leaderboard import Entry, SweepConfig, SweepData
from pipeline.sweep.plan import parts_of, size_of_last
from pipeline.text import human_bytes


@dataclass(frozen=True)
class Aside:
    """A head that is compared with the board, and never the best of it.

    Attributes
    ----------
    pooling
        Of the features that it was trained on.
    entry
        As on the board; of one fold, its deviation is None.
    """

    pooling: str
    entry: Entry


def set_aside(
    specs: Sequence[HeadSpec],
    pooling: str,
    data: SweepData,
    config: SweepConfig,
    memory: Memory,
    observe: Observer,
    *,
    first_fold_only: bool,
    until: float | None,
) -> list[Aside]:
    """Fit and score some heads for comparison, their sizes told before, as far as time allows.

    Parameters
    ----------
    data
        The rows of the board, with the features that these heads are for.
    until
        Reading of ``time.monotonic`` after which no further fit is begun, and at which a network
        ends after the epoch at hand; None for no limit.
    """
    folds = parts_of(data, config)[0][: 1 if first_fold_only else None]
    for spec in specs:
        observe(Notice(_told(spec, pooling, data, folds)))
    observe(SweepPlanned(len(specs), len(specs) * len(folds)))
    done = fit_folds(specs, data, folds, config, memory, observe, until)
    asides = []
    for number, spec in enumerate(specs):
        fits = done.whole(number, len(folds))
        trial = None if fits is None else scored(spec, fits, data, [folds], config)
        if trial is None:
            observe(Notice(f"time was up, or its outputs are not finite: left out {spec.name}"))
        else:
            asides.append(Aside(pooling, trial.entry))
    return asides


def _told(spec: HeadSpec, pooling: str, data: SweepData, folds: Sequence[Fold]) -> str:
    size = size_of_last(trainer(spec), data)
    state = training_bytes(spec, size.parameters)
    trained = f", {human_bytes(state)} with Adam's state" if state else ""
    return (
        f"beside the board: {spec.name} on {pooling} pooling, {data.features.shape[1]} inputs, "
        f"{size.parameters} parameters, {human_bytes(size.bytes)}{trained}, {len(folds)} of "
        "the folds"
    )
