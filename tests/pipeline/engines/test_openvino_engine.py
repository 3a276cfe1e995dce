from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.backbones import backbone, resolve_weights
from pipeline.backbones.build import build
from pipeline.backbones.quiet import import_keras
from pipeline.backbones.statistics import pack
from pipeline.batchnorm import norms_of
from pipeline.engines import Output
from pipeline.engines.conversion import Conversion
from pipeline.engines.convert import trace
from pipeline.engines.graph import graph
from pipeline.engines.keras_engine import KerasEngine
from pipeline.engines.openvino_engine import OpenVinoEngine, executed_precision, has_bfloat16
from pipeline.errors import UsageError

from .contract import BATCH, SIZE, EngineContract, noise
from .test_keras_engine import INNER

ov = pytest.importorskip("openvino")

PRECISIONS = ["float32", *(["bfloat16"] if has_bfloat16() else [])]
# Largest difference from float64, as a part of the largest feature; random weights pass errors on
# more than trained ones do. Seen was 4e-5.
ROUNDING = 1e-4


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where this module's conversions are kept."""
    return tmp_path_factory.mktemp("converted")


def outputs_of(name: str) -> tuple[Output, ...]:
    return Output(), Output("top", "max"), Output(INNER[name], "avg")


def make(name: str, folder: Path, **settings: Any) -> OpenVinoEngine:
    row = backbone(name)
    chosen = {"size": SIZE, "batch_size": BATCH, "outputs": outputs_of(name)} | settings
    return OpenVinoEngine(row, resolve_weights(row, "random"), folder=folder, **chosen)


class TestOpenVinoEngine(EngineContract):
    # Exact: whatever the batch, each image goes through alone.
    tolerance = 0.0

    @pytest.fixture(scope="class", params=[(n, p) for n in INNER for p in PRECISIONS], ids="-".join)
    @classmethod
    def engine(cls, request: pytest.FixtureRequest, folder: Path) -> OpenVinoEngine:
        name, precision = request.param
        return make(name, folder, precision=precision)


@pytest.mark.parametrize("name", INNER)
def test_features_are_those_of_the_unfolded_network_in_float64(name: str, folder: Path) -> None:
    """OpenVINO folds BatchNorm into convolutions; Keras in float64 does not."""
    keras = import_keras()
    row = backbone(name)
    model, network = graph(
        row,
        resolve_weights(row, "random"),
        size=SIZE,
        outputs=outputs_of(name),
        batch_size=BATCH,
        policy="float64",
    )
    assert {layer.compute_dtype for layer in network.layers} == {"float64"}
    truth = [keras.ops.convert_to_numpy(rows) for rows in model(noise(BATCH), training=False)]
    for rows, expected in zip(make(name, folder)(noise(BATCH)), truth, strict=True):
        assert np.abs(rows - expected).max() < ROUNDING * np.abs(expected).max()


@pytest.mark.skipif(not has_bfloat16(), reason="this processor has no bfloat16")
def test_bfloat16_gives_nearly_the_same_and_not_the_same(folder: Path) -> None:
    exact, rounded = (make("resnet50", folder, precision=p)(noise(BATCH))[0] for p in PRECISIONS)
    lengths = np.linalg.norm(exact, axis=1) * np.linalg.norm(rounded, axis=1)
    assert ((exact * rounded).sum(axis=1) > 0.95 * lengths).all()
    assert np.abs(exact - rounded).max() > 10 * ROUNDING * np.abs(exact).max()


@pytest.mark.parametrize("name", INNER)
def test_batchnorm_is_folded_and_nothing_of_it_is_left(name: str, folder: Path) -> None:
    plan = make(name, folder).compiled.get_runtime_model()
    kinds = {node.get_rt_info()["layerType"].astype(str) for node in plan.get_ops()}
    assert "Convolution" in kinds
    # One that were not folded would be an operation of its own on a map.
    assert not kinds & {"Multiply", "Add", "Eltwise", "MVN", "BatchNormInference"}


def test_the_trace_holds_no_batchnorm_in_training_form(monkeypatch: pytest.MonkeyPatch) -> None:
    row = backbone("efficientnet-lite0")
    conversion = Conversion(row, resolve_weights(row, "random"), SIZE, (Output(),))
    assert list(training_operations(trace(conversion))) == []
    # What the check would see otherwise:
    network = graph(row, conversion.weights, size=SIZE, outputs=(Output(),), batch_size=1)[1]
    network.trainable = True
    tf = pytest.importorskip("tensorflow")
    traced = tf.function(lambda x: network(x, training=True))
    concrete = traced.get_concrete_function(tf.TensorSpec((1, SIZE, SIZE, 3)))
    assert list(training_operations(concrete.graph.as_graph_def()))


def training_operations(graph_def: Any) -> Iterator[str]:
    """Operations that take statistics of a batch or move a variable."""
    for node in graph_def.node:
        own_statistics = "moments" in node.name or node.op in ("SquaredDifference",)
        fused = node.op.startswith("FusedBatchNorm") and node.attr["is_training"].b
        if own_statistics or fused or node.op.startswith("Assign"):
            yield f"{node.op} {node.name}"


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_precision_told_is_that_of_the_plan(precision: str, folder: Path) -> None:
    engine = make("resnet50", folder, precision=precision)
    assert engine.precision == precision
    plan = engine.compiled.get_runtime_model()
    info = [node.get_rt_info() for node in plan.get_ops()]
    executed = [
        each["runtimePrecision"].astype(str)
        for each in info
        if each["layerType"].astype(str) == "Convolution"
    ]
    assert len(executed) == 53
    assert set(executed) == {{"float32": "f32", "bfloat16": "bf16"}[precision]}


def test_one_layer_in_lower_precision_is_told() -> None:
    class Value(str):
        __slots__ = ()

        def astype(self, kind: type) -> str:
            return kind(self)

    class Node:
        def __init__(self, kind: str, precision: str) -> None:
            self.info = {"layerType": Value(kind), "runtimePrecision": Value(precision)}

        def get_rt_info(self) -> dict[str, Value]:
            return self.info

    class Compiled:
        def __init__(self, *nodes: Node) -> None:
            self.nodes = nodes

        def get_runtime_model(self) -> Compiled:
            return self

        def get_ops(self) -> tuple[Node, ...]:
            return self.nodes

    whole = [Node("Convolution", "f32"), Node("Pooling", "bf16")]
    assert executed_precision(Compiled(*whole)) == "float32"
    assert executed_precision(Compiled(*whole, Node("MatMul", "bf16"))) == "bfloat16"


def test_agrees_with_the_reference_engine(folder: Path) -> None:
    row = backbone("resnet50")
    weights = resolve_weights(row, "random")
    settings = {"size": SIZE, "batch_size": BATCH, "outputs": outputs_of(row.name)}
    reference = KerasEngine(row, weights, **settings)
    engine = make(row.name, folder)
    assert (engine.dims, engine.outputs) == (reference.dims, reference.outputs)
    for rows, expected in zip(engine(noise(3)), reference(noise(3)), strict=True):
        assert np.abs(rows - expected).max() < ROUNDING * np.abs(expected).max()


def test_flatten_is_in_the_order_of_keras(folder: Path) -> None:
    row = backbone("efficientnet-lite0")
    outputs = (Output("top", "flatten"),)
    (rows,) = make(row.name, folder, outputs=outputs)(noise(1))
    weights = resolve_weights(row, "random")
    (expected,) = KerasEngine(row, weights, size=SIZE, outputs=outputs, batch_size=1)(noise(1))
    assert rows.shape == expected.shape == (1, 2 * 2 * 1280)
    assert np.abs(rows - expected).max() < ROUNDING * np.abs(expected).max()


def test_wrong_settings_get_one_sentence(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for settings, sentence in (
        ({"size": 31}, "efficientnet-lite0 cannot take images of size 31"),
        ({"outputs": [Output("top", "median")]}, "no pooling 'median': there are avg, max"),
        ({"outputs": [Output("block")]}, "has no layer 'block' that gives a map: try"),
        ({"precision": "float16"}, "in float32, bfloat16, not in 'float16'"),
        ({"batch_size": 0}, "batch size must be at least 1"),
    ):
        with pytest.raises(UsageError, match=sentence):
            make("efficientnet-lite0", folder, **settings)
    monkeypatch.setattr("pipeline.engines.openvino_engine.installed", lambda: False)
    with pytest.raises(UsageError, match=re.escape('pip install "headstart[openvino]"')):
        make("efficientnet-lite0", tmp_path)


SPY = """
import json, sys
from pathlib import Path
import numpy as np
from pipeline.backbones import backbone, resolve_weights
from pipeline.engines.openvino_engine import OpenVinoEngine

row = backbone("efficientnet-lite0")
weights = resolve_weights(row, "random")
engine = OpenVinoEngine(row, weights, size=32, batch_size=2, folder=Path(sys.argv[1]))
(rows,) = engine(np.zeros((2, 32, 32, 3), np.uint8))
print(json.dumps([rows.shape, [name for name in ("keras", "tensorflow") if name in sys.modules]]))
"""


@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_neither_keras_nor_tensorflow_is_imported_and_nothing_is_printed(
    tmp_path: Path, backend: str
) -> None:
    """Not even to convert; and whatever Keras is set to, installed or not."""
    # Names that a working folder may well have, and that must not be imported.
    (tmp_path / "random.py").write_text("raise ImportError('not the module of that name')")
    (tmp_path / "keras.py").write_text("raise ImportError('not the module of that name')")
    ran = subprocess.run(
        [sys.executable, "-P", "-W", "error", "-c", SPY, "converted"],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "KERAS_BACKEND": backend, "HOME": str(tmp_path)},
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    assert json.loads(ran.stdout) == [[2, 1280], []]


def test_adapted_statistics_are_converted_for_themselves(folder: Path, tmp_path: Path) -> None:
    name = "efficientnet-lite0"
    row, weights = backbone(name), resolve_weights(backbone(name), "random")
    network = build(row, weights, SIZE)
    changed = {
        norm.name: (norm.statistics.mean + 1, 2 * norm.statistics.variance)
        for norm in norms_of(network)
    }
    file = tmp_path / "adapted.safetensors"
    file.write_bytes(pack(changed))
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    adapted = replace(weights, statistics=file, statistics_digest=digest)
    settings = {"size": SIZE, "batch_size": BATCH, "outputs": (Output(),)}
    (found,) = OpenVinoEngine(row, adapted, folder=folder, **settings)(noise(BATCH))
    (expected,) = KerasEngine(row, adapted, **settings)(noise(BATCH))
    (stored,) = KerasEngine(row, weights, **settings)(noise(BATCH))
    largest = np.abs(expected).max()
    assert np.abs(found - expected).max() < ROUNDING * largest
    assert np.abs(stored - expected).max() > 0.1 * largest
