"""What the installed Keras does with BatchNorm in `fit`: the doctor's advice rests on it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pipeline.backbones.quiet import import_keras
from pipeline.batchnorm import Norm, norms_of
from pipeline.batchnorm.layers import in_training_form
from pipeline.batchnorm.theirs import pinned


def backbone() -> Any:
    keras = import_keras()
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3)(inputs)
    x = keras.layers.BatchNormalization(name="bn")(x)
    return keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(x), name="base")


def on_top_of(base: Any, **how: Any) -> Any:
    keras = import_keras()
    inputs = keras.Input((8, 8, 3))
    model = keras.Model(inputs, keras.layers.Dense(2)(base(inputs, **how)))
    model.compile("sgd", "mse")
    return model


def one_step(model: Any) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(3, 2, (16, 8, 8, 3)).astype(np.float32)
    model.fit(x, np.zeros((16, 2), np.float32), epochs=1, verbose=0)


def moves(model: Any) -> bool:
    (norm,) = norms_of(model)
    before = norm.statistics
    one_step(model)
    return not norm.statistics.equal(before)


def test_not_trainable_is_safe_in_fit() -> None:
    base = backbone()
    base.trainable = False
    assert not moves(on_top_of(base))


def test_training_false_at_the_call_of_a_backbone_is_not_safe_in_fit() -> None:
    model = on_top_of(backbone(), training=False)
    assert pinned(model) == ("base",)
    assert moves(model)


def test_trainable_moves_in_fit() -> None:
    assert moves(on_top_of(backbone()))


def test_what_the_doctor_calls_training_form_is_what_fit_computes() -> None:
    keras = import_keras()
    base = backbone()
    (norm,) = norms_of(base)
    norm.layer.moving_mean.assign(np.full(4, 0.5, np.float32))
    x = np.random.default_rng(0).normal(3, 2, (16, 8, 8, 3)).astype(np.float32)
    before = norm.statistics
    expected = keras.ops.convert_to_numpy(base(x, training=True))
    assert not norm.statistics.equal(before)
    norm.set(before)
    base.trainable = False
    with in_training_form([norm]):
        found = keras.ops.convert_to_numpy(base(x, training=False))
    np.testing.assert_array_equal(found, expected)
    assert norm.statistics.equal(before)
    assert not norm.layer.trainable
    stored = keras.ops.convert_to_numpy(base(x, training=False))
    assert np.abs(stored - expected).max() > 0.1


def test_layers_are_found_in_models_within_models_once_and_by_name() -> None:
    keras = import_keras()
    base = backbone()
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.BatchNormalization(name="first")(inputs)
    model = keras.Model(inputs, keras.layers.Add()([base(x), base(inputs)]))
    assert [norm.name for norm in norms_of(model)] == ["first", "base/bn"]
    assert [norm.name for norm in norms_of(keras.Sequential([model]))] == [
        f"{model.name}/first",
        f"{model.name}/base/bn",
    ]


def test_statistics_are_put_back_whatever_happens() -> None:
    base = backbone()
    norms: tuple[Norm, ...] = norms_of(base)
    before = norms[0].statistics
    with pytest.raises(ZeroDivisionError), in_training_form(norms):
        1 // int(base(np.ones((2, 8, 8, 3), np.float32)).shape[0] - 2)
    assert norms[0].statistics.equal(before)
    assert "call" not in vars(norms[0].layer)
