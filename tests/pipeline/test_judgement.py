"""What a sweep tells beside its scores: luck, uncertainty, baselines, failures, more data."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score

from pipeline.events import Event, Notice
from pipeline.heads import HeadSpec
from pipeline.looks import looked
from pipeline.sweep import SweepConfig, SweepData, SweepResult, sweep
from pipeline.sweep.kept import KeptFits, Rows

from .test_kept_fits import RIDGE, named
from .test_sweep import FAST, LABELS, ROWS, data

SETTINGS = tuple(HeadSpec("ridge", {"alpha": float(alpha)}) for alpha in np.geomspace(1, 1e6, 30))


def noise(n: int = 120, **more: Any) -> SweepData:
    """Features that say nothing about the labels."""
    rng = np.random.default_rng(3)
    rows = rng.normal(size=(n, 40)).astype(np.float32)
    return SweepData(rows, np.arange(n) % 2, ("a", "b"), **more)


def test_the_best_of_many_heads_on_noise_is_corrected_towards_chance() -> None:
    specs = (*SETTINGS, *(HeadSpec("knn", {"k": k}) for k in range(1, 16)))
    result = sweep(noise(), SweepConfig(specs=specs))
    corrected = result.judgement.corrected
    assert corrected is not None
    assert corrected.interval is not None
    best = result.leaderboard[0].score
    assert corrected.score < best
    assert abs(corrected.score - 0.5) < abs(best - 0.5)
    assert corrected.interval.low < 0.5


def test_every_head_has_an_interval_around_its_score() -> None:
    judged = sweep(data(), SweepConfig(specs=FAST)).judgement
    for score, interval in zip(judged.scores, judged.intervals, strict=True):
        assert interval is not None
        assert interval.low < score < interval.high
        # 600 rows at 0.9 or so: a standard error of 0.012, and 1.65 of them on either side.
        assert 0.01 < interval.high - interval.low < 0.1


def test_balanced_accuracy_is_told_of_every_head_beside_the_score() -> None:
    often = np.flatnonzero((LABELS > 1) | (np.arange(len(LABELS)) % 5 == 0))
    rare = SweepData(ROWS[often], LABELS[often], tuple("0123456789"))
    result = sweep(rare, SweepConfig(specs=FAST))
    for predicted, balanced in zip(
        result.judgement.predicted, result.judgement.balanced, strict=True
    ):
        assert balanced == pytest.approx(balanced_accuracy_score(rare.labels, predicted))


def test_calibrating_gives_every_head_a_temperature_and_costs_no_fit(tmp_path: Path) -> None:
    keys = np.random.default_rng(0).integers(0, 256, (120, 32), np.uint8)
    rows = noise(rows_named=Rows("noise", keys))
    config = SweepConfig(specs=(HeadSpec("logistic", {"C": 100.0}),), metric="log_loss")
    with KeptFits(tmp_path / "fits.sqlite") as memory:
        plain = sweep(rows, config, memory=memory)
        scaled = sweep(rows, replace(config, calibrate=True), memory=memory)
    assert plain.temperature == 1.0
    assert scaled.temperature > 1.0
    assert scaled.fits_reused == scaled.fits
    assert scaled.leaderboard[0].score < plain.leaderboard[0].score


def test_a_temperature_is_applied_once_whatever_the_metric() -> None:
    spec = HeadSpec("ridge", {"alpha": 100.0})
    by_hits, by_loss = (
        sweep(data(), SweepConfig(specs=(spec,), metric=metric)).judgement
        for metric in ("accuracy", "log_loss")
    )
    assert np.array_equal(by_hits.probabilities, by_loss.probabilities)
    assert by_hits.calibration == by_loss.calibration


def test_the_smallest_head_within_one_error_is_recommended() -> None:
    result = sweep(data(), SweepConfig(specs=FAST))
    advised = result.leaderboard[result.judgement.recommended]
    assert advised.bytes == min(e.bytes for e in result.leaderboard if e.score >= advised.score)


def test_rows_with_wrong_labels_are_among_the_hardest() -> None:
    wrong = LABELS.copy()
    swapped = np.arange(0, 600, 60)
    wrong[swapped] = (wrong[swapped] + 5) % 10
    result = sweep(data(labels=wrong), SweepConfig(specs=FAST))
    hard = {row.row: row.given for row in result.judgement.hard}
    found = [row for row in swapped.tolist() if row in hard]
    assert len(found) >= 9
    assert sum(hard[row] == LABELS[row] for row in found) >= 8


def test_more_data_is_told_to_help_where_it_does() -> None:
    curve = sweep(data(), SweepConfig(specs=(HeadSpec("logistic", {"C": 0.1}),))).curve
    rows, scores = [point.rows for point in curve], [point.score for point in curve]
    assert rows == sorted(rows)
    assert rows[-1] == 480
    assert scores[0] < scores[-1] - 0.05
    assert all(p.interval is not None for p in curve)


def test_random_numbers_are_at_chance_unless_pictures_that_are_alike_are_divided() -> None:
    pairs = np.arange(120) // 4  # four pictures that are alike, of one label
    labels = (pairs % 2).astype(np.int64)
    rows, classes = noise().features, ("a", "b")
    kept = SweepData(rows, labels, classes, groups=pairs, alike=pairs)
    torn = SweepData(rows, labels, classes, alike=pairs)
    config = SweepConfig(specs=RIDGE)
    chance, leaked = sweep(kept, config).random, sweep(torn, config).random
    assert chance is not None
    assert leaked is not None
    assert chance < 0.75
    assert leaked > 0.95


def test_the_sizes_of_the_classes_are_the_baseline() -> None:
    keep = np.flatnonzero((LABELS < 2) & ((LABELS == 0) | (np.arange(600) % 3 == 0)))
    some = SweepData(ROWS[keep], LABELS[keep], ("0", "1"))
    judged = sweep(some, SweepConfig(specs=RIDGE)).judgement
    assert judged.majority == pytest.approx((LABELS[keep] == 0).mean(), abs=0.02)
    assert judged.classes.support.tolist() == np.bincount(LABELS[keep]).tolist()


def test_predictions_are_those_of_heads_that_did_not_see_the_rows() -> None:
    result = sweep(data(), SweepConfig(specs=FAST))
    judged = result.judgement
    assert judged.rows.tolist() == list(range(600))
    right = (judged.predicted == LABELS).mean(axis=1)
    assert right.tolist() == pytest.approx(judged.scores)
    assert judged.probabilities.sum(axis=1) == pytest.approx(np.ones(600), abs=1e-5)
    assert (judged.probabilities.argmax(axis=1) == judged.predicted[0]).all()


def test_repeats_draw_the_folds_anew_and_add_to_what_was_fitted(tmp_path: Path) -> None:
    with KeptFits(tmp_path / "fits.sqlite") as memory:
        once = sweep(named(), SweepConfig(specs=RIDGE), memory=memory)
        thrice = sweep(named(), SweepConfig(specs=RIDGE, repeats=3), memory=memory)
    assert (thrice.fits, thrice.fits_reused) == (45, 15)
    best = next(e for e in thrice.leaderboard if e.spec == once.leaderboard[0].spec)
    assert len(best.fold_scores) == 15
    assert best.fold_scores[:5] == once.leaderboard[0].fold_scores


def nested(rows: SweepData, memory: KeptFits | None = None) -> SweepResult:
    return sweep(rows, SweepConfig(specs=SETTINGS[::6], nested=True), memory=memory)


def test_a_nested_score_is_of_the_choice_and_is_at_chance_on_noise() -> None:
    found = nested(noise()).nested
    assert found is not None
    assert found.interval is not None
    assert found.interval.low < 0.5 < found.interval.high
    good = nested(data()).nested
    assert good is not None
    assert good.score > 0.85


def test_nothing_is_nested_where_val_rows_replace_the_folds() -> None:
    seen: list[Event] = []
    roles = np.where(np.arange(600) % 3 == 0, "val", "train")
    config = SweepConfig(specs=RIDGE, nested=True)
    assert sweep(data(roles=roles), config, seen.append).nested is None
    assert any(isinstance(e, Notice) and "nothing is nested" in e.text for e in seen)


def test_looks_at_a_holdout_are_counted_whatever_the_order_of_its_images(tmp_path: Path) -> None:
    file = tmp_path / "heads" / "looks.json"
    keys = np.random.default_rng(0).integers(0, 256, (9, 32), np.uint8)
    assert [looked(file, keys), looked(file, keys[::-1]), looked(file, keys[:8])] == [1, 2, 1]
    assert looked(file, keys) == 3
    file.write_bytes(b"\xff no JSON")
    assert looked(file, keys) == 1
