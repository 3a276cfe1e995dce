from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.backbones import backbone, resolve_weights
from pipeline.backbones.build import build
from pipeline.backbones.preprocessing import preprocess
from pipeline.backbones.quiet import import_keras


def built(name: str, seed: int = 0, size: int = 96) -> Any:
    row = backbone(name)
    return build(row, resolve_weights(row, "random", seed), size)


def fingerprint(model: Any) -> str:
    hashed = hashlib.sha256()
    for value in model.get_weights():
        hashed.update(np.asarray(value, "<f4").tobytes())
    return hashed.hexdigest()


@pytest.mark.parametrize("name", ["xception", "convnexttiny"])
def test_building_twice_in_one_process_gives_the_same_tensors(name: str) -> None:
    # These have layers or weights that Keras names by how many it has made so far.
    first, second = built(name), built(name)
    assert fingerprint(first) == fingerprint(second)


def test_another_seed_gives_other_tensors() -> None:
    first, second = built("efficientnet-lite0"), built("efficientnet-lite0", seed=1)
    assert not any(
        np.array_equal(a, b) for a, b in zip(first.get_weights(), second.get_weights(), strict=True)
    )


def test_the_rule_gives_these_very_numbers() -> None:
    # If this fails on another machine or library, the rule is not what it promises to be. If it
    # fails because the rule was changed, its version must change too: the digest names it.
    assert fingerprint(built("efficientnet-lite0")).startswith("9ba3ddb831130dc3")
    digest = resolve_weights(backbone("efficientnet-lite0"), "random", 0).digest
    assert digest.startswith("2bd32f51")


@pytest.mark.parametrize(
    "name", ["resnet50", "efficientnet-lite0", "mobilenetv2", "efficientnetb0", "convnexttiny"]
)
def test_features_stay_finite_and_tell_images_and_modes_apart(
    name: str, crops: NDArray[np.uint8]
) -> None:
    keras = import_keras()
    row = backbone(name)
    model = built(name)
    inputs = preprocess(row.preprocessing, keras.ops.convert_to_tensor(crops))
    features = keras.ops.convert_to_numpy(model(inputs, training=False)).mean(axis=(1, 2))
    assert np.isfinite(features).all()
    assert 0.05 < features.std() < 500
    assert features.std(axis=0).mean() > 0.05 * features.std()
    if not row.batchnorm:
        return
    model.trainable = True
    batch = keras.ops.convert_to_numpy(model(inputs, training=True)).mean(axis=(1, 2))
    assert np.linalg.norm(batch - features) > 0.3 * np.linalg.norm(features)
