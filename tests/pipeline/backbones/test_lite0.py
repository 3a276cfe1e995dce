"""The port of efficientnet-lite0, held against an independent pass and against the world."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from pipeline.backbones import backbone, resolve_weights
from pipeline.backbones.build import build
from pipeline.backbones.preprocessing import preprocess
from pipeline.backbones.quiet import import_keras

from .lite0_reference import Reference

PALACE, BELL_COTE, MONASTERY, CASTLE = 698, 442, 663, 483
DAISY = 985


@pytest.fixture(scope="module")
def reference() -> Reference:
    return Reference()


def lite0(size: int) -> Any:
    row = backbone("efficientnet-lite0")
    return build(row, resolve_weights(row), size)


def stage_outputs(model: Any) -> list[str]:
    """Names of the layers that end the stem, each block and the head."""
    names = [layer.name for layer in model.layers]
    ends = [
        names[i + 1] if names[i + 1].endswith("_add") else name
        for i, name in enumerate(names)
        if name.endswith("_project_bn")
    ]
    return ["stem_activation", *ends, "top_activation"]


# Float32 sums of up to 1152 products per layer, 49 layers deep, against float64: what was seen is
# 5e-6 of a map's largest value. A wrong epsilon, padding or clip moves some map by over 1e-3.
TOLERANCE = 2e-5


@pytest.mark.parametrize("size", [96, 97])
def test_every_stage_agrees_with_the_numpy_pass(
    reference: Reference, crops: NDArray[np.uint8], size: int
) -> None:
    keras = import_keras()
    model = lite0(size)
    stages = keras.Model(model.input, [model.get_layer(n).output for n in stage_outputs(model)])
    pixels = np.pad(crops[[1, 4]], ((0, 0), (0, size - 96), (0, size - 96), (0, 0)), mode="edge")
    inputs = preprocess("lite", keras.ops.convert_to_tensor(pixels))
    ours = [keras.ops.convert_to_numpy(maps) for maps in stages(inputs, training=False)]
    theirs = list(reference.maps(pixels))
    assert len(ours) == len(theirs) == 18
    for found, (stage, expected) in zip(ours, theirs, strict=True):
        assert found.shape == expected.shape, stage
        assert np.abs(found - expected).max() < TOLERANCE * np.abs(expected).max(), stage


@pytest.mark.parametrize("which, right", [(0, PALACE), (1, DAISY)], ids=["palace", "flower"])
def test_photographs_get_their_class_from_the_checkpoints_own_classifier(
    reference: Reference, photographs: list[NDArray[np.uint8]], which: int, right: int
) -> None:
    # A reference can share one's mistakes; what is in a photograph cannot. The first shows the
    # Summer Palace. The second shows a dahlia: of ImageNet's 1000 classes, daisy is the one of its
    # family.
    keras = import_keras()
    image = Image.fromarray(photographs[which]).resize((224, 224), Image.Resampling.BICUBIC)
    pixels = keras.ops.convert_to_tensor(np.asarray(image)[None])
    maps = keras.ops.convert_to_numpy(lite0(224)(preprocess("lite", pixels), training=False))
    scores = reference.logits(maps.mean(axis=(1, 2)))[0]
    assert right in np.argsort(scores)[::-1][:5]


def test_the_first_batchnorm_finds_the_statistics_it_stores(
    reference: Reference, photographs: list[NDArray[np.uint8]]
) -> None:
    # The published preprocessing, seen in the data: with ImageNet mean and deviation the variance
    # would be several times the stored one.
    pixels = np.stack([photo[::2, ::2] for photo in photographs])
    tensors = reference.tensors
    stem = reference._conv((pixels.astype(np.float64) - 127) / 128, "_conv_stem", 2)
    stored = tensors["_bn0.running_var"]
    alive = stored > 1e-3  # a few channels of the stem are dead
    assert alive.sum() > 20
    ratio = stem.var(axis=(0, 1, 2))[alive] / stored[alive]
    assert 0.5 < np.median(ratio) < 2


def test_no_layer_name_begins_with_an_underscore() -> None:
    assert not [layer.name for layer in lite0(32).layers if layer.name.startswith("_")]
