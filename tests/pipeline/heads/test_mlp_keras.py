"""MLP heads by plain Keras, on whichever backend is set."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest
from sklearn.datasets import load_digits

from pipeline.heads.base import fit_one
from pipeline.heads.fitted import MlpHead
from pipeline.heads.member import Member, glorot, train
from pipeline.heads.mlp import MlpTrainer
from pipeline.heads.mlp_keras import KerasNetwork, as_keras
from pipeline.heads.rows import FoldRows

ROWS, LABELS = load_digits(return_X_y=True)
FOLD = FoldRows(ROWS[:600].astype(np.float32), LABELS[:600], 10)
LEARNED = 0.75  # Eight epochs of some hundred rows are no more than a beginning; chance is 0.1.
TEST = ROWS[600:].astype(np.float32), LABELS[600:]


@pytest.mark.parametrize("patience", [2, None])
def test_it_learns_and_the_same_seed_gives_the_same_tensors(patience: int | None) -> None:
    trainer = MlpTrainer(hidden=(64,), dropout=0.2, epochs=8, patience=patience)
    fits = []
    for _ in range(2):
        member = Member.drawn(trainer, FOLD, 1)
        fits.append(train(member, KerasNetwork(member)))
    first, again = fits
    assert (first.head.logits(TEST[0]).argmax(axis=1) == TEST[1]).mean() > LEARNED
    for name, tensor in first.head.tensors().items():
        assert np.array_equal(tensor, again.head.tensors()[name])


def test_a_head_trains_on_whatever_backend_there_is() -> None:
    trainer = MlpTrainer(hidden=(64,), epochs=8, class_weight="balanced", l2=1e-4)
    for fitted in MlpTrainer.fit_all([trainer, trainer], FOLD, [1, 2]):
        assert (fitted.head.logits(TEST[0]).argmax(axis=1) == TEST[1]).mean() > LEARNED


# How Keras saves TensorFlow's variables, which NumPy 2 has deprecated: theirs to mend.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_a_head_is_an_ordinary_keras_model(tmp_path: Path) -> None:
    fitted = fit_one(MlpTrainer(hidden=(16, 8), epochs=2), FOLD, 0)
    assert isinstance(fitted.head, MlpHead)
    as_keras(fitted.head, dropout=0.5).save(tmp_path / "head.keras")
    opened = keras.models.load_model(tmp_path / "head.keras")
    logits = opened.predict(TEST[0], verbose=0)
    # The same products, added up in another order.
    assert np.abs(logits - fitted.head.logits(TEST[0])).max() < 1e-4


def test_a_head_without_hidden_layers_is_one_dense_layer() -> None:
    head = glorot((5, 3), np.random.default_rng(0))
    rows = np.eye(5, dtype=np.float32)
    model = as_keras(head)
    assert len(model.layers) == 1
    assert np.abs(model.predict(rows, verbose=0) - head.weights[0]).max() < 1e-6
