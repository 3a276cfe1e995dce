"""The Keras MLP: seeds, orders, early stopping, and its tensors against Keras' own predict."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest
from sklearn.datasets import load_digits

from pipeline.evaluate import log_softmax
from pipeline.heads import (
    FoldRows,
    HeadSpec,
    fit_one,
    mlp_parameters,
    size_of,
    training_bytes,
)
from pipeline.heads.mlp import MlpTrainer
from pipeline.heads.scaling import Scaling
from pipeline.heads.size import HeadSize
from pipeline.heads.stopping import EarlyStopping, stopping_rows

ROWS, LABELS = load_digits(return_X_y=True)
ROWS = ROWS[:400].astype(np.float32)
LABELS = LABELS[:400]


def test_tensors_give_the_predictions_of_keras() -> None:
    # Patience 0 of 1 epoch: the network is left with the weights that the head has.
    fitter = MlpTrainer(hidden=(16, 8), epochs=1)
    head = fit_one(fitter, FoldRows(ROWS, LABELS, 10), 0).head
    assert fitter._net is not None
    expected = fitter._net.model.predict(Scaling.of(ROWS).apply(ROWS), verbose=0)
    assert np.abs(head.logits(ROWS) - expected).max() < 1e-4


def test_a_second_fit_of_the_same_shape_uses_the_same_network_and_forgets_the_first() -> None:
    fitter = MlpTrainer(hidden=(16,), epochs=3)
    first = fit_one(fitter, FoldRows(ROWS[:300], LABELS[:300], 10), 1).head
    net = fitter._net
    fit_one(fitter, FoldRows(ROWS[50:], LABELS[50:], 10), 2)
    again = fit_one(fitter, FoldRows(ROWS[:300], LABELS[:300], 10), 1).head
    assert fitter._net is net
    for name, tensor in first.tensors().items():
        assert np.array_equal(tensor, again.tensors()[name])


def test_every_epoch_takes_every_row_in_an_order_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from pipeline.heads import mlp

    orders = []
    epoch = mlp._Net.epoch

    def spy(net: mlp._Net, rows: np.ndarray, targets: np.ndarray, batch: int) -> None:  # type: ignore[type-arg]
        orders.append(rows.copy())
        epoch(net, rows, targets, batch)

    monkeypatch.setattr(mlp._Net, "epoch", spy)
    fitter = MlpTrainer(hidden=(4,), epochs=3, batch_size=32)
    fit_one(fitter, FoldRows(ROWS, LABELS, 10), 0)
    assert len(orders) == 3
    assert not np.array_equal(orders[0], orders[1])
    assert not np.array_equal(orders[1], orders[2])
    assert np.array_equal(np.sort(orders[0], axis=0), np.sort(orders[1], axis=0))
    # Calls into the graph of several steps each lose no step at the end of an epoch.
    assert fitter._net is not None
    assert int(fitter._net.model.optimizer.iterations) == 3 * -(-len(orders[0]) // 32)


def test_the_network_goes_with_its_trainer() -> None:
    fitter = MlpTrainer(hidden=(4,), epochs=1)
    fit_one(fitter, FoldRows(ROWS, LABELS, 10), 0)
    assert fitter._net is not None
    alive = weakref.ref(fitter._net.model)
    del fitter
    gc.collect()
    assert alive() is None


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
    heads = [object() for _ in range(5)]
    losses = [1.0, 0.5, 0.7, 0.6]
    ended = [stopping.ends(h, loss) for h, loss in zip(heads, losses, strict=False)]  # type: ignore[arg-type]
    assert ended == [False, False, False, True]
    assert stopping.best is heads[1]
    assert EarlyStopping(2).ends(heads[0], float("nan"))  # type: ignore[arg-type]


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
