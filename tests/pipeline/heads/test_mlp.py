"""MLPs: seeds, orders, early stopping, budgets, and many at once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits

from pipeline.errors import UsageError
from pipeline.evaluate import log_softmax
from pipeline.heads import HeadSpec, mlp, mlp_graph, mlp_parameters, size_of, training_bytes
from pipeline.heads import trainer as registered
from pipeline.heads.base import Fitted, fit_one
from pipeline.heads.member import Member, Network, glorot
from pipeline.heads.mlp import MlpTrainer
from pipeline.heads.mlp_compiled import CompiledNetwork
from pipeline.heads.mlp_graph import GraphNetwork
from pipeline.heads.rows import FoldRows
from pipeline.heads.size import HeadSize
from pipeline.heads.stopping import EarlyStopping, stopping_rows

ROWS, LABELS = load_digits(return_X_y=True)
ROWS = ROWS[:400].astype(np.float32)
LABELS = LABELS[:400]


def fold(n: int = 400) -> FoldRows:
    return FoldRows(ROWS[:n], LABELS[:n], 10)


def same(a: Fitted, b: Fitted) -> bool:
    tensors = b.head.tensors()
    return all(np.array_equal(t, tensors[name]) for name, t in a.head.tensors().items())


def test_each_is_trained_as_if_alone_and_they_come_in_order() -> None:
    trainers = [
        MlpTrainer(hidden=(16,), epochs=epochs, dropout=rate, learning_rate=step, batch_size=batch)
        for epochs, rate, step, batch in [(6, 0.5, 1e-2, 64), (1, 0.2, 1e-3, 16), (3, 0.0, 1e-3, 7)]
    ]
    together = list(MlpTrainer.fit_all(trainers, fold(), [3, 4, 5]))
    for trainer, seed, fitted in zip(trainers, (3, 4, 5), together, strict=True):
        assert same(fitted, fit_one(trainer, FoldRows(ROWS, LABELS, 10), seed))
    assert [fitted.iterations for fitted in together[1:]] == [1, 3]


def test_what_changes_no_shape_traces_nothing_again() -> None:
    before = mlp_graph._traced.cache_info().misses
    for n, seed in ((300, 0), (401, 1)):
        for rate, batch, smoothing in [(0.0, 32, 0.0), (0.3, 32, 0.1), (0.3, 100, 0.2)]:
            trainer = MlpTrainer(
                hidden=(13,), dropout=rate, batch_size=batch, label_smoothing=smoothing
            )
            network = mlp_graph.GraphNetwork(Member.drawn(trainer, fold(n), seed))
            assert network.epoch() is not None
    assert mlp_graph._traced.cache_info().misses == before + 1


def test_every_epoch_takes_every_training_row_in_an_order_of_its_own() -> None:
    member = Member.drawn(MlpTrainer(), fold(), 0)
    orders = [member.order() for _ in range(3)]
    assert len({order.tobytes() for order in orders}) == 3
    for order in orders:
        assert np.array_equal(np.sort([*order, *member.held]), np.arange(400))


def test_without_patience_no_row_is_kept_and_all_epochs_are_trained() -> None:
    assert not len(Member.drawn(MlpTrainer(patience=None), fold(), 0).held)
    trainer = MlpTrainer(hidden=(8,), epochs=4, patience=None)
    fitted = fit_one(trainer, FoldRows(ROWS, LABELS, 10), 0)
    assert (fitted.iterations, fitted.converged) == (4, True)


@pytest.mark.parametrize("patience", [5, None])
def test_a_budget_ends_a_fit_after_the_epoch_at_hand(patience: int | None) -> None:
    trainer = MlpTrainer(hidden=(8,), epochs=9, patience=patience, ended=lambda: True)
    fitted = fit_one(trainer, FoldRows(ROWS, LABELS, 10), 0)
    assert (fitted.iterations, fitted.converged) == (1, False)
    assert np.isfinite(fitted.head.logits(ROWS)).all()


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"hidden": (256, 0)}, "hidden"),
        ({"dropout": 1.0}, "dropout 1.0.*below 1"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"batch_size": 0}, "batch_size"),
        ({"batch_size": 2.5}, "batch_size 2.5.*whole"),
        ({"epochs": 0}, "epochs"),
        ({"patience": 0}, "patience"),
        ({"stopping_fraction": 1.0}, "stopping_fraction"),
        ({"weight_decay": -1.0}, "weight_decay"),
        ({"l2": -1e-4}, "l2"),
        ({"label_smoothing": 1.0}, "label_smoothing"),
        ({"class_weight": "even"}, "class_weight 'even'.*balanced"),
        ({"ended": 1.0}, "no setting 'ended'"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        registered(HeadSpec("mlp", settings))


def test_small_networks_train_a_core_each_as_memory_allows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(mlp, "usable_cores", lambda: 8)
    for left, expected in ((16 << 30, 8), (1 << 28, 1)):
        monkeypatch.setattr(mlp, "memory_at_hand", lambda own=left: own)
        assert MlpTrainer().at_once(2000, 2048, 2) == expected


def test_the_users_own_head_trains_alone_on_all_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    question = MlpTrainer(hidden=(1024, 512, 256), learning_rate=1e-5)
    assert question.at_once(2000, 10 * 10 * 2048, 2) == 1
    made: list[type] = []
    honest = mlp.train

    def noted(member: Member, network: Network) -> Fitted:
        made.append(type(network))
        return honest(member, network)

    monkeypatch.setattr(mlp, "train", noted)
    for least, expected in ((1 << 40, CompiledNetwork), (1, GraphNetwork)):
        monkeypatch.setattr(mlp, "LARGE", least)
        fit_one(MlpTrainer(hidden=(4,), epochs=1), fold(), 0)
        assert made.pop() is expected


def test_without_numba_the_graph_trains(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = fit_one(MlpTrainer(hidden=(8,), epochs=3), fold(), 0)
    monkeypatch.setattr(mlp, "load_kernels", lambda: None)
    monkeypatch.setattr(mlp, "CompiledNetwork", None)
    fitted = fit_one(MlpTrainer(hidden=(8,), epochs=3), fold(), 0)
    for name, tensor in fitted.head.tensors().items():
        assert np.abs(tensor - expected.head.tensors()[name]).max() < 1e-3


def test_it_stops_early_and_keeps_the_best_weights() -> None:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 2, len(ROWS))
    fitter = MlpTrainer(hidden=(64,), dropout=0.0, learning_rate=1e-2, epochs=30, patience=3)
    fitted = fit_one(fitter, FoldRows(ROWS, noise, 2), 0)
    assert fitted.converged
    assert 4 <= fitted.iterations < 30
    # On labels that mean nothing the best weights are hardly worse than chance, later ones much.
    held = stopping_rows(noise, None, fitter.stopping_fraction, np.random.default_rng(0))
    logp = log_softmax(fitted.head.logits(ROWS[held]))
    assert -logp[np.arange(held.sum()), noise[held]].mean() < 1.2


def test_early_stopping_counts_and_remembers() -> None:
    stopping = EarlyStopping(patience=2)
    heads = [glorot((2, 2), np.random.default_rng(i)) for i in range(4)]
    losses = [1.0, 0.5, 0.7, 0.6]
    ended = [
        stopping.ends(lambda own=head: own, loss)  # type: ignore[misc]
        for head, loss in zip(heads, losses, strict=True)
    ]
    assert ended == [False, False, False, True]
    assert stopping.best is heads[1]
    assert EarlyStopping(2).ends(lambda: heads[0], float("nan"))


def test_rows_for_early_stopping_are_stratified_and_divide_no_group() -> None:
    labels = np.repeat([0, 1, 2], [80, 16, 1])
    rng = np.random.default_rng(0)
    held = stopping_rows(labels, None, 0.125, rng)
    assert np.bincount(labels[held], minlength=3).tolist() == [10, 2, 0]
    groups = np.arange(97) // 4
    held = stopping_rows(labels, groups, 0.125, rng)
    assert all(len({*held[groups == g]}) == 1 for g in groups)
    assert 4 <= held.sum() <= 16


def test_one_row_a_class_trains_without_early_stopping() -> None:
    fitted = fit_one(MlpTrainer(hidden=(4,), epochs=2), FoldRows(ROWS[:2], np.array([0, 1]), 2), 0)
    assert fitted.iterations == 2
    assert np.isfinite(fitted.head.logits(ROWS)).all()


def test_the_arithmetic_of_the_users_own_head() -> None:
    size = HeadSize(mlp_parameters(10 * 10 * 2048, (1024, 512, 256), 2))
    assert size.parameters == 210_372_866
    assert round(size.bytes / 1e9, 2) == 0.84
    assert round(size.training_bytes / 1e9, 2) == 2.52
    assert training_bytes(HeadSpec("mlp"), size.parameters) == size.training_bytes
    assert training_bytes(HeadSpec("knn", {"k": 1}), size.parameters) is None


def test_parameters_counted_before_training_are_those_kept_after() -> None:
    head = fit_one(MlpTrainer(hidden=(16, 8), epochs=1), FoldRows(ROWS, LABELS, 10), 0).head
    assert size_of(head) == HeadSize(mlp_parameters(64, (16, 8), 10))
    assert size_of(head).bytes == 4 * size_of(head).parameters
