"""Finished fits are kept: no sweep computes one twice, and nothing is taken for what it is not."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import signal
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.errors import UsageError
from pipeline.events import Event, FitDone, Notice, SweepPlanned
from pipeline.heads import Fitted, FoldRows, HeadSpec
from pipeline.heads.ridge import RidgeTrainer
from pipeline.sweep import SweepConfig, SweepData, sweep
from pipeline.sweep.kept import Fit, KeptFits, Rows

from .test_sweep import FAST, LABELS, ROWS, data, without_seconds

RIDGE = tuple(HeadSpec("ridge", {"alpha": alpha}) for alpha in (1.0, 10.0, 100.0))


def named(recipe: str = "r", **changes: Any) -> SweepData:
    keys = [hashlib.sha256(row.tobytes()).digest() for row in ROWS]
    rows = Rows(recipe, np.frombuffer(b"".join(keys), np.uint8).reshape(-1, 32))
    return data(rows_named=rows, **changes)


@pytest.fixture
def fitted(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The settings of ridge that were really fitted, fold by fold."""
    done: list[float] = []
    honest = RidgeTrainer.fit_all

    def fit_all(
        trainers: Sequence[RidgeTrainer], rows: FoldRows, seeds: Sequence[int]
    ) -> Iterator[Fitted]:
        done.extend(trainer.alpha for trainer in trainers)
        return honest(trainers, rows, seeds)

    monkeypatch.setattr(RidgeTrainer, "fit_all", fit_all)
    return done


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[KeptFits]:
    with KeptFits(tmp_path / "heads" / "fits.sqlite") as memory:
        yield memory


def test_a_second_sweep_fits_nothing_but_the_best_head(
    memory: KeptFits, fitted: list[float]
) -> None:
    first = sweep(named(), SweepConfig(specs=RIDGE), memory=memory)
    # And on three parts of each fold's rows, for the learning curve.
    assert (first.fits, first.fits_reused, len(fitted)) == (15, 0, 15 + 3 * 5 + 1)
    fitted.clear()
    again = sweep(named(), SweepConfig(specs=RIDGE), memory=memory)
    assert (again.fits, again.fits_reused, len(fitted)) == (15, 15, 1)
    assert [entry.plain() for entry in again.leaderboard] == [e.plain() for e in first.leaderboard]


def test_one_more_value_costs_that_value(memory: KeptFits, fitted: list[float]) -> None:
    sweep(named(), SweepConfig(specs=RIDGE), memory=memory)
    fitted.clear()
    more = (*RIDGE, HeadSpec("ridge", {"alpha": 1e8}))
    result = sweep(named(), SweepConfig(specs=more), memory=memory)
    assert (result.fits, result.fits_reused) == (20, 15)
    assert fitted.count(1e8) == 5
    assert len(fitted) == 6  # and the best head's last fit


def test_a_board_of_kept_fits_is_that_of_new_ones(memory: KeptFits) -> None:
    for metric in ("accuracy", "log_loss"):
        config = SweepConfig(specs=FAST, metric=metric)
        sweep(named(), config, memory=memory)
        kept, new = sweep(named(), config, memory=memory), sweep(data(), config)
        assert kept.fits_reused == kept.fits
        assert without_seconds(kept) == without_seconds(new)


def test_another_metric_that_needs_no_probabilities_reuses_all(memory: KeptFits) -> None:
    sweep(named(), SweepConfig(specs=FAST), memory=memory)
    result = sweep(named(), SweepConfig(specs=FAST, metric="macro_f1"), memory=memory)
    assert result.fits_reused == result.fits


@pytest.mark.parametrize(
    "changed",
    [
        {"recipe": "another"},
        {"labels": np.roll(LABELS, 1)},
        {"groups": np.arange(600) // 2},
        {"features": ROWS[:500], "labels": LABELS[:500]},
    ],
    ids=["recipe", "labels", "groups", "rows"],
)
def test_what_a_fit_depends_on_is_in_its_name(memory: KeptFits, changed: dict[str, Any]) -> None:
    sweep(named(), SweepConfig(specs=RIDGE), memory=memory)
    other = named(**changed)
    if len(other.labels) != len(LABELS):
        rows = other.rows_named
        assert rows is not None
        other = data(rows_named=Rows(rows.recipe, rows.keys[: len(other.labels)]), **changed)
    assert sweep(other, SweepConfig(specs=RIDGE), memory=memory).fits_reused == 0


def test_one_changed_label_costs_the_fits_that_were_trained_on_it(memory: KeptFits) -> None:
    roles = np.where(np.arange(600) % 3 == 0, "val", "train")
    sweep(named(roles=roles), SweepConfig(specs=RIDGE), memory=memory)
    scored, trained = LABELS.copy(), LABELS.copy()
    scored[0] = (scored[0] + 1) % 10
    trained[1] = (trained[1] + 1) % 10
    config = SweepConfig(specs=RIDGE)
    assert sweep(named(roles=roles, labels=scored), config, memory=memory).fits_reused == 3
    assert sweep(named(roles=roles, labels=trained), config, memory=memory).fits_reused == 0


def test_a_budget_leaves_out_what_it_does_not_reach_and_the_next_run_goes_on(
    memory: KeptFits, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match="--budget"):
        sweep(named(), SweepConfig(specs=RIDGE), memory=memory, until=time.monotonic() - 1)

    now = 0.0
    seen: list[Event] = []

    def observe(event: Event) -> None:
        nonlocal now
        seen.append(event)
        now = float(sum(isinstance(event, FitDone) for event in seen))

    monkeypatch.setattr("pipeline.sweep.fits.usable_cores", lambda: 1)
    monkeypatch.setattr("pipeline.sweep.fits.time.monotonic", lambda: now)
    specs = (RIDGE[0], FAST[0])
    part = sweep(named(), SweepConfig(specs=specs, folds=2), observe, memory, until=2.5)
    assert (part.fits, [entry.spec for entry in part.leaderboard]) == (3, [RIDGE[0]])
    assert any(isinstance(event, Notice) and "time was up" in event.text for event in seen)
    monkeypatch.undo()
    whole = sweep(named(), SweepConfig(specs=specs, folds=2), memory=memory)
    assert (whole.fits, whole.fits_reused) == (4, 3)


def test_ctrl_c_keeps_what_was_fitted(memory: KeptFits) -> None:
    count = 0

    def interrupt(event: Event) -> None:
        nonlocal count
        count += isinstance(event, FitDone)
        if count == 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sweep(named(), SweepConfig(specs=FAST), interrupt, memory)
    assert sweep(named(), SweepConfig(specs=FAST), memory=memory).fits_reused >= 8


def test_an_interrupt_waits_for_a_networks_epoch_and_not_for_its_fit(memory: KeptFits) -> None:
    endless = HeadSpec("mlp", {"hidden": (4,), "epochs": 10**9, "patience": None})

    def interrupt(event: Event) -> None:
        if isinstance(event, SweepPlanned):
            threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()

    with pytest.raises(KeyboardInterrupt):
        sweep(named(), SweepConfig(specs=(endless,)), interrupt, memory)


def _put_and_die(file: Path) -> None:
    with KeptFits(file) as memory:
        for i in range(50):
            memory.put(str(i), a_fit(i))
        os.kill(os.getpid(), 9)


def a_fit(seed: int) -> Fit:
    logits = np.random.default_rng(seed).normal(size=(20, 3)).astype(np.float32)
    return Fit(logits, {"accuracy": 0.5, "roc_auc": None}, 7, False, 0.25)


def same(a: Fit | None, b: Fit) -> bool:
    if a is None:
        return False
    facts = [(f.train_scores, f.iterations, f.converged, f.seconds) for f in (a, b)]
    return facts[0] == facts[1] and np.array_equal(a.logits, b.logits)


def test_a_kill_loses_no_fit_that_was_put(tmp_path: Path) -> None:
    file = tmp_path / "fits.sqlite"
    child = multiprocessing.get_context("spawn").Process(target=_put_and_die, args=(file,))
    child.start()
    child.join()
    assert child.exitcode == -9
    with KeptFits(file) as memory:
        assert all(same(memory.get(str(i)), a_fit(i)) for i in range(50))
        assert memory.get("50") is None


@pytest.mark.parametrize("content", [b"", b"no database at all" * 1000])
def test_a_file_that_is_no_database_is_made_anew(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "fits.sqlite"
    file.write_bytes(content)
    with KeptFits(file) as memory:
        memory.put("a", a_fit(0))
        assert same(memory.get("a"), a_fit(0))


def test_logits_that_are_not_those_that_were_put_are_not_taken(tmp_path: Path) -> None:
    file = tmp_path / "fits.sqlite"
    with KeptFits(file) as memory:
        memory.put("a", a_fit(0))
        memory.put("b", a_fit(1))
    with sqlite3.connect(file) as database:
        database.execute("UPDATE fits SET logits = zeroblob(240) WHERE name = 'a'")
        database.execute("UPDATE fits SET told = '{' WHERE name = 'b'")
    database.close()
    with KeptFits(file) as memory:
        assert memory.get("a") is None
        assert memory.get("b") is None
