from __future__ import annotations

import importlib
import inspect
import subprocess
import sys

import numpy as np
import pytest

from pipeline.backbones import BACKBONES, Backbone, backbone
from pipeline.backbones.network import construct
from pipeline.backbones.preprocessing import preprocess
from pipeline.backbones.quiet import import_keras
from pipeline.errors import UnknownBackbone, UsageError

KERAS = [row for row in BACKBONES.values() if row.builder.startswith("keras.")]
# One of each kind of name, preprocessing, smallest size and normalisation; all forty are built by
# tests/bench/check_backbones.py.
BUILT = ["efficientnet-lite0", "resnet50", "mobilenetv3small", "vgg16", "convnexttiny", "xception"]


def applications() -> object:
    return import_keras().applications


def test_the_table_has_every_image_model_of_keras() -> None:
    functions = {name for name in dir(applications()) if name[0].isupper()}
    assert {row.builder.rsplit(".", 1)[1] for row in KERAS} == functions
    assert set(BACKBONES) == {name.lower() for name in functions} | {"efficientnet-lite0"}


@pytest.mark.parametrize("row", KERAS, ids=lambda row: row.name)
def test_preprocessing_is_that_of_the_networks_own_module(row: Backbone) -> None:
    keras = import_keras()
    function = getattr(applications(), row.builder.rsplit(".", 1)[1])
    module = importlib.import_module(function.__module__)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 5, 7, 3), dtype=np.uint8)
    ours = preprocess(row.preprocessing, keras.ops.convert_to_tensor(pixels))
    theirs = module.preprocess_input(pixels.astype(np.float32))
    np.testing.assert_allclose(keras.ops.convert_to_numpy(ours), theirs, atol=2e-5, rtol=1e-6)


@pytest.mark.parametrize("row", KERAS, ids=lambda row: row.name)
def test_weight_files_and_hashes_are_those_of_the_installed_keras(row: Backbone) -> None:
    function = getattr(applications(), row.builder.rsplit(".", 1)[1])
    # ResNetV2 builds on resnet.py, where its hashes are.
    modules = {function.__module__, function.__module__.replace(".resnet_v2", ".resnet")}
    source = "".join(inspect.getsource(importlib.import_module(name)) for name in modules)
    assert row.weights_hash in source
    assert row.weights_hash or row.name in ("mobilenet", "mobilenetv2")
    assert row.weights_file.endswith((".h5",))
    assert "notop" in row.weights_file or "no_top" in row.weights_file


@pytest.mark.parametrize("name", BUILT)
def test_dimensions_and_batchnorm_are_those_of_the_built_network(name: str) -> None:
    keras = import_keras()
    row = backbone(name)
    model = construct(row, row.min_size)
    assert model.output_shape[1] >= 1
    assert model.output_shape[-1] == row.dims
    kinds = {type(layer) for layer in model.layers}
    assert (keras.layers.BatchNormalization in kinds) == row.batchnorm


@pytest.mark.parametrize("row", KERAS, ids=lambda row: row.name)
def test_keras_refuses_what_is_smaller_than_the_smallest_size(row: Backbone) -> None:
    function = getattr(applications(), row.builder.rsplit(".", 1)[1])
    side = row.min_size - 1
    with pytest.raises(ValueError, match="at least"):
        function(weights=None, include_top=False, input_shape=(side, side, 3))


@pytest.mark.parametrize("size", [-1, 0, 31, 5000])
def test_a_size_that_the_network_cannot_take_is_told(size: int) -> None:
    with pytest.raises(UsageError, match=rf"resnet50 cannot take images of size {size}: .*32 to"):
        backbone("resnet50").checked_size(size)


def test_sizes_default_to_the_networks_own() -> None:
    assert backbone("inceptionv3").checked_size() == 299
    assert backbone("inceptionv3").checked_size(75) == 75


@pytest.mark.parametrize(
    "name", ["resnet50", "ResNet50", "EfficientNetV2-S", "efficientnet_lite0", "convnext_tiny"]
)
def test_names_are_found_in_any_spelling(name: str) -> None:
    assert backbone(name).name.replace("-", "") == name.lower().replace("-", "").replace("_", "")


def test_an_unknown_name_gets_the_near_ones() -> None:
    with pytest.raises(UnknownBackbone, match=r"no backbone 'resnet5': did you mean resnet50"):
        backbone("resnet5")
    with pytest.raises(UnknownBackbone, match=r"there are resnet50, .*efficientnet-lite0"):
        backbone("???")


def test_facts_need_no_keras() -> None:
    code = (
        "import sys; import pipeline.backbones as b, pipeline.engines as e;"
        "b.resolve_weights(b.backbone('efficientnet-lite0'));"
        "sys.exit(bool({'keras', 'tensorflow', 'torch', 'h5py'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
