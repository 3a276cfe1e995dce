from __future__ import annotations

import shutil
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.backbones import backbone, resolve_weights
from pipeline.backbones.build import build
from pipeline.backbones.network import construct, construct_classifier
from pipeline.backbones.quiet import import_keras
from pipeline.backbones.random_weights import set_random_weights
from pipeline.errors import UsageError

from .lite0_reference import checkpoint

SIZE = 32
keras = import_keras()


def load(name: str, path: Path) -> Any:
    row = backbone(name)
    return build(row, resolve_weights(row, str(path)), SIZE)


def same(first: Any, second: Any) -> bool:
    pairs = zip(first.get_weights(), second.get_weights(), strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)


def save(model: Any, path: Path) -> None:
    with warnings.catch_warnings():
        # Keras hands its variables to h5py and NumPy in a way that NumPy is about to give up.
        warnings.filterwarnings("ignore", "__array__ implementation", DeprecationWarning)
        model.save_weights(path) if path.name.endswith(".weights.h5") else model.save(path)


@pytest.fixture(scope="module")
def mobilenet() -> Any:
    """A network with known weights."""
    row = backbone("mobilenetv2")
    model = construct(row, SIZE)
    set_random_weights(model, row, 7)
    return model


@pytest.mark.parametrize("name", ["file.h5", "file.weights.h5", "file.keras"])
def test_what_keras_wrote_is_read(mobilenet: Any, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    save(mobilenet, path)
    loaded = load("mobilenetv2", path)
    assert same(loaded, mobilenet)
    assert not loaded.trainable
    assert not loaded.trainable_weights


def test_a_file_with_the_classifier_fits_too(mobilenet: Any, tmp_path: Path) -> None:
    whole = construct_classifier(backbone("mobilenetv2"))
    count = len(mobilenet.weights)
    whole.set_weights([*mobilenet.get_weights(), *whole.get_weights()[count:]])
    save(whole, tmp_path / "whole.h5")
    assert same(load("mobilenetv2", tmp_path / "whole.h5"), mobilenet)


def test_a_keras_archive_is_read_for_its_arrays_only(mobilenet: Any, tmp_path: Path) -> None:
    save(mobilenet, tmp_path / "good.keras")
    evil = tmp_path / "evil.keras"
    with zipfile.ZipFile(tmp_path / "good.keras") as good, zipfile.ZipFile(evil, "w") as out:
        for name in good.namelist():
            data = b"{not even JSON" if name == "config.json" else good.read(name)
            out.writestr(name, data)
    assert same(load("mobilenetv2", evil), mobilenet)


@pytest.mark.parametrize("name", ["file.h5", "file.weights.h5", "file.keras"])
@pytest.mark.parametrize("data", [b"", b"not weights at all", b"\x89HDF\r\n\x1a\n" + bytes(50)])
def test_a_file_that_is_no_weight_file_is_told(tmp_path: Path, name: str, data: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(UsageError, match=r"does not hold weights of mobilenetv2"):
        load("mobilenetv2", path)


@pytest.mark.parametrize("name", ["file.h5", "file.weights.h5"])
def test_weights_of_another_network_are_told(mobilenet: Any, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    save(mobilenet, path)
    with pytest.raises(UsageError, match=r"does not hold weights of mobilenet:"):
        load("mobilenet", path)


def test_a_cut_off_file_is_told(mobilenet: Any, tmp_path: Path) -> None:
    path = tmp_path / "cut.h5"
    save(mobilenet, path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UsageError, match=r"cut\.h5"):
        load("mobilenetv2", path)


def test_numbers_that_are_not_finite_are_told(mobilenet: Any, tmp_path: Path) -> None:
    values = mobilenet.get_weights()
    broken = keras.models.clone_model(mobilenet)
    broken.set_weights([np.full_like(values[0], np.nan), *values[1:]])
    save(broken, tmp_path / "nan.h5")
    with pytest.raises(UsageError, match="not finite"):
        load("mobilenetv2", tmp_path / "nan.h5")


def test_another_suffix_is_told(tmp_path: Path) -> None:
    (tmp_path / "weights.bin").write_bytes(b"x")
    with pytest.raises(UsageError, match=r"by their suffix, one of \.h5"):
        load("mobilenetv2", tmp_path / "weights.bin")


def test_a_file_that_changed_since_it_was_hashed_is_refused(mobilenet: Any, tmp_path: Path) -> None:
    path = tmp_path / "file.h5"
    path.write_bytes(b"what was hashed")
    row = backbone("mobilenetv2")
    weights = resolve_weights(row, str(path))
    save(mobilenet, path)
    with pytest.raises(UsageError, match="changed"):
        build(row, weights, SIZE)


def test_lite0_takes_a_copy_of_its_checkpoint_and_nothing_else(tmp_path: Path) -> None:
    copy = tmp_path / "weights.pth"
    shutil.copy(checkpoint(), copy)
    row = backbone("efficientnet-lite0")
    assert resolve_weights(row, str(copy)).digest == resolve_weights(row).digest
    assert same(load(row.name, copy), build(row, resolve_weights(row), SIZE))
    copy.write_bytes(copy.read_bytes()[:-1])
    with pytest.raises(UsageError, match="cut off"):
        load(row.name, copy)


def test_efficientnet_is_built_as_its_imagenet_weights_expect() -> None:
    # Keras puts the second Rescaling in for weights="imagenet" alone.
    kinds = [type(layer).__name__ for layer in construct(backbone("efficientnetb0"), SIZE).layers]
    assert kinds[:5] == [
        "InputLayer", "Rescaling", "Normalization", "Rescaling", "ZeroPadding2D",
    ]  # fmt: skip


def test_networks_are_the_same_whatever_keras_is_set_to() -> None:
    keras.config.set_floatx("float16")
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = construct(backbone("mobilenetv2"), SIZE)
        assert keras.config.floatx() == "float16"
    finally:
        keras.config.set_floatx("float32")
        keras.config.set_dtype_policy("float32")
    assert {layer.compute_dtype for layer in model.layers} == {"float32"}
    assert {variable.dtype for variable in model.weights} == {"float32"}
