from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest

from pipeline.backbones import backbone, resolve_weights
from pipeline.backbones.build import build
from pipeline.backbones.preprocessing import preprocess
from pipeline.backbones.quiet import import_keras
from pipeline.engines import Output, dims_of
from pipeline.engines.keras_engine import KerasEngine
from pipeline.engines.pooling import pool
from pipeline.errors import UsageError

from .contract import BATCH, SIZE, EngineContract, noise

# One graph against single calls: kernels are fused, so that sums round otherwise; seen was 3e-5 of
# the largest feature, with random weights, which pass errors on more than trained ones do.
ROUNDING = 1e-4


# A layer inside of each network whose output is a map.
INNER = {"resnet50": "conv4_block6_out", "efficientnet-lite0": "block6d_add"}


def make(name: str, **settings: Any) -> KerasEngine:
    row = backbone(name)
    chosen = {"size": SIZE, "batch_size": BATCH} | settings
    return KerasEngine(row, resolve_weights(row, "random"), **chosen)


class TestKerasEngine(EngineContract):
    # Without AVX-512 and with one thread, oneDNN sums the later images of a batch in another order:
    # measured 1.4e-5 of the largest feature.
    tolerance = 1e-4

    @pytest.fixture(scope="class", params=INNER)
    @classmethod
    def engine(cls, request: pytest.FixtureRequest) -> KerasEngine:
        outputs = (Output(), Output("top", "max"), Output(INNER[request.param], "avg"))
        return make(request.param, outputs=outputs)


class TestKerasEngineInBfloat16(EngineContract):
    # Kernels may differ by the place in the batch; bfloat16 rounds to 2**-9 of a number.
    tolerance = 0.02

    @pytest.fixture(scope="class")
    @classmethod
    def engine(cls) -> KerasEngine:
        outputs = (Output(), Output("top", "max"))
        return make("efficientnet-lite0", outputs=outputs, precision="bfloat16")


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_mixed_precision_multiplies_in_it_and_keeps_weights_and_rows_in_float32(
    precision: str,
) -> None:
    engine = make("efficientnet-lite0", precision=precision)
    assert engine.precision == precision
    products = [layer for layer in engine.network.layers if hasattr(layer, "kernel")]
    assert len(products) > 30
    assert {str(layer.output.dtype) for layer in products} == {precision}
    assert {str(weight.dtype) for weight in engine.network.weights} == {"float32"}
    assert make("efficientnet-lite0").precision == "float32"


def reference(name: str, *, training: bool) -> Any:
    """Maps of the bare network, eagerly, in the mode asked for."""
    keras = import_keras()
    row = backbone(name)
    model = build(row, resolve_weights(row, "random"), SIZE)
    # Frozen as it is built, it would use its stored statistics in training mode too.
    model.trainable = training
    inputs = preprocess(row.preprocessing, keras.ops.convert_to_tensor(noise(BATCH)))
    return keras.ops.convert_to_numpy(model(inputs, training=training))


@pytest.mark.parametrize("name", ["resnet50", "efficientnet-lite0"])
def test_features_are_those_of_inference_and_not_of_training(name: str) -> None:
    (features,) = make(name)(noise(BATCH))
    scale = np.abs(features).max()
    inference = reference(name, training=False).mean(axis=(1, 2))
    training = reference(name, training=True).mean(axis=(1, 2))
    assert np.abs(features - inference).max() < ROUNDING * scale
    assert np.abs(features - training).max() > 0.1 * scale


def test_nothing_in_the_network_moves_or_can() -> None:
    engine = make("resnet50")
    before = [np.array(value) for value in engine.network.get_weights()]
    assert any("moving_mean" in variable.path for variable in engine.network.weights)
    for seed in range(3):
        engine(noise(BATCH, seed))
    after = engine.network.get_weights()
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))
    assert engine.network.trainable_weights == []


@pytest.mark.parametrize("pooling", ["avg", "max", "avgmax", "flatten"])
def test_poolings_are_what_they_say(pooling: str) -> None:
    keras = import_keras()
    maps = np.random.default_rng(0).normal(size=(3, 2, 4, 5)).astype(np.float32)
    average, largest = maps.mean(axis=(1, 2)), maps.max(axis=(1, 2))
    expected = {
        "avg": average,
        "max": largest,
        "avgmax": np.concatenate([average, largest], axis=1),
        "flatten": maps.reshape(3, -1),
    }[pooling]
    rows = keras.ops.convert_to_numpy(pool(pooling, keras.ops.convert_to_tensor(maps)))
    np.testing.assert_allclose(rows, expected, rtol=1e-5, atol=1e-6)


def test_every_position_of_the_map_is_a_feature_of_flatten() -> None:
    maps = reference("efficientnet-lite0", training=False)
    engine = make("efficientnet-lite0", outputs=[Output("top", "flatten")])
    assert engine.dims == (maps[0].size,)
    (rows,) = engine(noise(BATCH))
    np.testing.assert_allclose(rows, maps.reshape(BATCH, -1), atol=ROUNDING * maps.max())


def test_an_inner_layer_gives_what_the_network_cut_there_gives() -> None:
    keras = import_keras()
    row = backbone("resnet50")
    whole = build(row, resolve_weights(row, "random"), SIZE)
    inner = keras.Model(whole.inputs, whole.get_layer(INNER["resnet50"]).output)
    pixels = preprocess(row.preprocessing, keras.ops.convert_to_tensor(noise(BATCH)))
    maps = keras.ops.convert_to_numpy(inner(pixels, training=False))
    top, rows = make("resnet50", outputs=[Output(), Output(INNER["resnet50"])])(noise(BATCH))
    expected = maps.mean(axis=(1, 2))
    assert rows.shape == expected.shape != top.shape
    assert np.abs(rows - expected).max() < ROUNDING * np.abs(expected).max()


def test_dimensions_are_known_without_building() -> None:
    lite0 = backbone("efficientnet-lite0")
    dims = [dims_of(lite0, pooling) for pooling in ("avg", "max", "avgmax", "flatten")]
    assert dims == [1280, 1280, 2560, None]
    assert make(lite0.name, size=32, outputs=[Output("top", "avgmax")]).dims == (2560,)


def test_the_network_is_compiled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    if import_keras().backend.backend() == "torch":
        pytest.skip("Keras runs torch operation by operation")
    engine = make("efficientnet-lite0")
    compiled = engine.network.call
    calls = []
    monkeypatch.setattr(
        engine.network, "call", lambda *a, **k: calls.append(1) or compiled(*a, **k)
    )
    for count in (BATCH, 1, 3, BATCH):
        engine(noise(count))
    assert len(calls) == 1


def test_wrong_settings_get_one_sentence() -> None:
    for settings, sentence in (
        ({"size": 31}, "efficientnet-lite0 cannot take images of size 31"),
        (
            {"outputs": [Output("top", "median")]},
            "no pooling 'median': there are avg, max, avgmax, flatten",
        ),
        ({"outputs": [Output("block")]}, "has no layer 'block' that gives a map: try"),
        ({"precision": "float8"}, "in float32, bfloat16, float16, not in 'float8'"),
        ({"batch_size": 0}, "batch size must be at least 1"),
    ):
        with pytest.raises(UsageError, match=sentence):
            make("efficientnet-lite0", **settings)
    with pytest.raises(UsageError, match="no pooling"):
        dims_of(backbone("resnet50"), "median")


def test_it_prints_nothing(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    capfd.readouterr()
    make("efficientnet-lite0", size=32, batch_size=1)(noise(1)[:, :32, :32])
    # What TensorFlow logs from the sixth engine of a process on.
    logging.getLogger("tensorflow").warning("6 calls triggered tf.function retracing.")
    assert capfd.readouterr() == ("", "")
    assert caplog.text == ""
