"""A sweep: what is fitted on what, how it is scored, ordered and told."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from pipeline.errors import UsageError
from pipeline.evaluate import METRICS, folds
from pipeline.events import Event, FitDone, HeadTrained, Notice, SweepPlanned
from pipeline.heads import Fitted, FoldRows, HeadSpec, default_specs, fit_one, trainer
from pipeline.heads.fitted import LinearHead
from pipeline.heads.ridge import RidgeTrainer
from pipeline.sweep import SweepConfig, SweepData, sweep

ROWS, LABELS = load_digits(return_X_y=True)
ROWS = ROWS[:600].astype(np.float32)
LABELS = LABELS[:600]
CLASSES = tuple("0123456789")
ROLES = np.array(["train", "val", "test"])
FAST = (
    HeadSpec("logistic", {"C": 0.1}),
    HeadSpec("ridge", {"alpha": 100.0}),
    HeadSpec("svm", {"C": 1e-4}),
    HeadSpec("knn", {"k": 3}),
    HeadSpec("centroid", {"metric": "euclidean"}),
    HeadSpec("centroid", {"metric": "cosine"}),
)
MLP = HeadSpec("mlp", {"hidden": (16,), "dropout": 0.3, "epochs": 3})


def data(**changes: Any) -> SweepData:
    return SweepData(**({"features": ROWS, "labels": LABELS, "classes": CLASSES} | changes))


def without_seconds(result: Any) -> list[dict[str, Any]]:
    return [entry.plain() | {"seconds": 0} for entry in result.leaderboard]


def test_scores_are_those_of_cross_validation_in_scikit_learn() -> None:
    spec = HeadSpec("logistic", {"C": 0.1})
    entry = sweep(data(), SweepConfig(specs=(spec,), seed=3)).leaderboard[0]
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))
    expected = cross_val_score(model, ROWS, LABELS, cv=folds(LABELS, None, 5, 3))
    assert entry.fold_scores == pytest.approx(expected.tolist())
    assert entry.score == pytest.approx(expected.mean())
    assert entry.std == pytest.approx(expected.std(ddof=1))
    assert entry.train_score >= entry.score
    assert (entry.parameters, entry.bytes) == (650, 2600)
    assert entry.converged
    assert entry.iterations > 0


def test_two_runs_give_the_same_board_but_for_the_seconds() -> None:
    config = SweepConfig(specs=(*FAST, MLP), folds=3, seed=1)
    first, again = sweep(data(), config), sweep(data(), config)
    assert without_seconds(first) == without_seconds(again)
    for name, tensor in first.best.tensors().items():
        assert np.array_equal(tensor, again.best.tensors()[name])
    json.dumps(without_seconds(first), allow_nan=False)


@pytest.mark.parametrize("metric", METRICS)
def test_every_metric_orders_the_board_best_first(metric: str) -> None:
    board = sweep(data(), SweepConfig(metric=metric, specs=FAST, folds=3)).leaderboard
    scores = [entry.score for entry in board]
    assert scores == sorted(scores, reverse=METRICS[metric].greater_is_better)
    assert board[0].tied
    if metric == "log_loss":
        # Decision values alone would score like guessing (2.3) or worse.
        assert max(scores) < 1.0


def test_equal_scores_go_to_the_smaller_head() -> None:
    rows = np.eye(2, 8, dtype=np.float32)[np.arange(40) % 2] * 5
    rows += np.random.default_rng(0).normal(size=rows.shape).astype(np.float32) * 0.01
    board = sweep(
        SweepData(rows, np.arange(40) % 2, ("a", "b")), SweepConfig(specs=FAST)
    ).leaderboard
    assert {entry.score for entry in board} == {1.0}
    assert all(entry.tied for entry in board)
    sizes = [(entry.parameters, entry.spec.name) for entry in board]
    assert sizes == sorted(sizes)


def test_test_rows_are_looked_at_once_by_the_best_head_alone() -> None:
    roles = ROLES[np.where(np.arange(600) % 5 == 0, 2, 0)]
    result = sweep(data(roles=roles), SweepConfig(specs=FAST))
    best = result.leaderboard[0]
    test = roles == "test"
    head = fit_one(trainer(best.spec), FoldRows(ROWS[~test], LABELS[~test], 10), 0).head
    expected = (head.logits(ROWS[test]).argmax(axis=1) == LABELS[test]).mean()
    assert result.holdout is not None
    assert result.holdout.score == pytest.approx(expected)
    assert (result.holdout.n, result.trained_on, result.folds) == (120, 480, 5)
    # What the test rows are decides nothing else.
    scrambled = ROWS.copy()
    scrambled[test] = 7
    other = sweep(data(features=scrambled, roles=roles), SweepConfig(specs=FAST))
    assert without_seconds(other) == without_seconds(result)
    assert np.array_equal(
        next(iter(other.best.tensors().values())), next(iter(result.best.tensors().values()))
    )


def test_val_rows_replace_the_folds() -> None:
    roles = ROLES[np.arange(600) % 6 // 4]
    assert {*roles} == {"train", "val"}
    for metric in ("accuracy", "log_loss"):
        result = sweep(data(roles=roles), SweepConfig(metric=metric, specs=FAST, folds=50))
        assert (result.folds, result.scheme, result.holdout) == (1, "val", None)
        assert all(entry.std is None for entry in result.leaderboard)
        assert result.trained_on == 600
        assert result.leaderboard[0].tied
        assert not all(entry.tied for entry in result.leaderboard)


def test_copies_in_one_group_do_not_flatter() -> None:
    rng = np.random.default_rng(0)
    noise = np.repeat(rng.normal(size=(60, 20)), 4, axis=0).astype(np.float32)
    labels = np.repeat(rng.integers(0, 2, 60), 4)
    groups = np.repeat(np.arange(60), 4)
    config = SweepConfig(specs=(HeadSpec("knn", {"k": 1}),))
    careless = sweep(SweepData(noise, labels, ("a", "b")), config).leaderboard[0]
    honest = sweep(SweepData(noise, labels, ("a", "b"), groups), config).leaderboard[0]
    assert careless.score > 0.95
    assert honest.score < 0.7


def test_a_class_that_groups_take_out_of_training_is_told_and_survived() -> None:
    labels = np.array([0] * 30 + [1] * 30 + [2] * 6)
    groups = np.array([*range(60), *[99] * 6])
    seen: list[Event] = []
    result = sweep(
        SweepData(ROWS[:66], labels, ("a", "b", "c"), groups), SweepConfig(specs=FAST), seen.append
    )
    assert any(isinstance(event, Notice) and "of c" in event.text for event in seen)
    assert len(result.leaderboard) == len(FAST)


def test_events_tell_the_plan_and_every_head() -> None:
    seen: list[Event] = []
    sweep(data(), SweepConfig(specs=FAST, folds=3), seen.append)
    assert seen[0] == SweepPlanned(heads=6, fits=18)
    trained = [event for event in seen if isinstance(event, HeadTrained)]
    assert [event.head for event in trained] == [spec.head for spec in FAST]
    assert sum(isinstance(event, FitDone) for event in seen) == 18


def test_a_head_that_no_head_file_could_hold_is_left_out_and_told() -> None:
    seen: list[Event] = []
    roles = ROLES[np.where(np.arange(600) % 5 == 0, 2, 0)]
    # The last fit is on 480 rows; 384 of them, as in a fold, would have fitted.
    needed = 480 * (64 * 4 + 4) + 8
    for largest, heads in ((needed, 6), (needed - 1, 5)):
        seen.clear()
        config = SweepConfig(specs=FAST, largest=largest)
        result = sweep(data(roles=roles), config, seen.append)
        assert len(result.leaderboard) == heads
        assert SweepPlanned(heads, heads * 5) in seen
        notices = [event.text for event in seen if isinstance(event, Notice)]
        assert [text.startswith("left out knn k=3: ") for text in notices] == [True] * (6 - heads)
    with pytest.raises(UsageError, match="no head can be saved: logistic"):
        sweep(data(), SweepConfig(specs=FAST, largest=100))


def test_a_head_with_outputs_that_are_not_finite_is_left_out_and_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def diverge(trainers: Sequence[RidgeTrainer], rows: FoldRows, _: Any) -> Iterator[Fitted]:
        for _one in trainers:
            yield Fitted(LinearHead(np.full((64, 10), np.nan, "f4"), np.zeros(10, "f4")))

    monkeypatch.setattr(RidgeTrainer, "fit_all", diverge)
    seen: list[Event] = []
    result = sweep(data(), SweepConfig(metric="log_loss", specs=FAST[:3], folds=2), seen.append)
    assert [entry.spec.head for entry in result.leaderboard].count("ridge") == 0
    json.dumps(without_seconds(result), allow_nan=False)
    assert any(isinstance(e, Notice) and "left out ridge alpha=100.0" in e.text for e in seen)
    # Progress counts its fits as done.
    assert sum(isinstance(event, FitDone) for event in seen) == 6
    with pytest.raises(UsageError, match="finite"):
        sweep(data(), SweepConfig(specs=FAST[1:2], folds=2))


def test_a_best_head_that_fails_in_its_last_fit_is_not_handed_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fit_all = RidgeTrainer.fit_all

    def diverge_on_all(
        trainers: Sequence[RidgeTrainer], rows: FoldRows, seeds: Sequence[int]
    ) -> Iterator[Fitted]:
        if len(rows.labels) < 600:
            yield from fit_all(trainers, rows, seeds)
        else:
            yield Fitted(LinearHead(np.full((64, 10), np.inf, "f4"), np.zeros(10, "f4")))

    monkeypatch.setattr(RidgeTrainer, "fit_all", diverge_on_all)
    with pytest.raises(UsageError, match="the best head, ridge"):
        sweep(data(), SweepConfig(specs=FAST[1:2], folds=2))


def test_ctrl_c_between_heads_goes_through() -> None:
    def interrupt(event: Event) -> None:
        if isinstance(event, HeadTrained):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sweep(data(), SweepConfig(specs=FAST, folds=2), interrupt)


@pytest.mark.parametrize(
    ("changes", "config", "told"),
    [
        ({"labels": np.zeros(600, int), "classes": ("a",)}, {}, "one class"),
        ({}, {"folds": 80}, "'[0-9]' has [0-9]+ images"),
        ({}, {"metric": "acuracy"}, "acuracy"),
        ({}, {"specs": ()}, "no head"),
        ({}, {"specs": (HeadSpec("forest"),)}, "forest"),
        ({"roles": np.full(600, "dev")}, {}, "dev"),
        ({"roles": np.array(["val"] * 300 + ["test"] * 300)}, {}, "one class"),
    ],
)
def test_wrong_use_gets_a_sentence(
    changes: dict[str, Any], config: dict[str, Any], told: str
) -> None:
    with pytest.raises(UsageError, match=told):
        sweep(data(**changes), SweepConfig(**({"specs": FAST} | config)))


def test_parts_of_different_length_are_refused() -> None:
    with pytest.raises(ValueError, match="labels has 5"):
        data(labels=LABELS[:5])


def test_read_only_half_precision_features_are_taken_as_they_are() -> None:
    half = ROWS.astype(np.float16)
    half.setflags(write=False)
    config = SweepConfig(specs=FAST, folds=2)
    assert without_seconds(sweep(data(features=half), config)) == without_seconds(
        sweep(data(), config)
    )


@pytest.mark.parametrize(("n", "d", "classes"), [(10, 300, 2), (9, 1, 3), (40, 3, 2), (12, 30, 4)])
def test_the_default_heads_survive_a_handful_of_images(n: int, d: int, classes: int) -> None:
    labels = np.arange(n) % classes
    rows = np.random.default_rng(0).normal(size=(n, d)).astype(np.float32) + labels[:, None]
    specs = tuple(spec for spec in default_specs() if spec.head != "mlp")
    config = SweepConfig(specs=specs, folds=2)
    board = sweep(SweepData(rows, labels, CLASSES[:classes]), config).leaderboard
    assert len(board) == len(specs)
    same = SweepData(np.ones_like(rows), labels, CLASSES[:classes])
    assert len(sweep(same, config).leaderboard) == len(specs)
