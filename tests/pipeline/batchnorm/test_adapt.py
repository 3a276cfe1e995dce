from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pipeline.backbones.quiet import import_keras
from pipeline.batchnorm import Statistics, norms_of
from pipeline.batchnorm.adapt import adapt
from pipeline.batchnorm.measure import InputMoments


def network() -> Any:
    """Three BatchNorm layers, one on a side branch; random weights."""
    keras = import_keras()
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.BatchNormalization(name="a")(keras.layers.Conv2D(4, 3)(inputs))
    y = keras.layers.BatchNormalization(name="b")(keras.layers.Conv2D(4, 3)(keras.ops.relu(x)))
    z = keras.layers.Add()([y, keras.layers.Conv2D(4, 3)(x)])
    z = keras.layers.BatchNormalization(name="c", scale=False)(keras.ops.relu(z))
    return keras.Model(inputs, z)


def images(count: int) -> np.ndarray:
    return np.random.default_rng(0).normal(3, 2, (count, 8, 8, 3)).astype(np.float32)


@pytest.mark.parametrize("mix", [1.0, 0.3])
def test_one_pass_gives_what_adapting_one_layer_after_the_other_gives(mix: float) -> None:
    model, some = network(), images(40)
    norms = norms_of(model)
    stored = [norm.statistics for norm in norms]
    found = adapt(model, norms, some, mix)
    assert [*found] == ["a", "b", "c"]
    assert all(norm.statistics.equal(found[norm.name]) for norm in norms)
    for norm, before in zip(norms, stored, strict=True):
        norm.set(before)
    for i, norm in enumerate(norms):  # in order, a pass each
        data = InputMoments(model, norms)([some], len(some))[i]
        norm.set(
            Statistics(
                (stored[i].mean * (1 - mix) + data.mean * mix).astype(np.float32),
                (stored[i].variance * (1 - mix) + data.variance * mix).astype(np.float32),
            )
        )
    for norm in norms:
        np.testing.assert_allclose(found[norm.name].mean, norm.statistics.mean, atol=1e-5)
        np.testing.assert_allclose(found[norm.name].variance, norm.statistics.variance, rtol=1e-4)


def test_a_mix_of_none_is_what_was_stored() -> None:
    model = network()
    norms = norms_of(model)
    before = [norm.statistics for norm in norms]
    adapt(model, norms, images(4), 0.0)
    assert all(norm.statistics.equal(was) for norm, was in zip(norms, before, strict=True))
