"""Resizing: the three modes against references, and images of extreme shapes."""

import numpy as np
import pytest
from PIL import Image

from pipeline.errors import UsageError
from pipeline.images import resize
from pipeline.images.picture import PillowPicture
from pipeline.images.resize import Resize

RNG = np.random.default_rng(1)


def resized(source, way):
    return resize.resized(PillowPicture(source), way)


def image(height, width):
    # Far from black and white, for Pillow rounds and clips between its two passes.
    return Image.fromarray(RNG.integers(64, 192, (height, width, 3), dtype=np.uint8))


def bicubic_weights(size, start, length, out):
    """Antialiased bicubic (a = -0.5) as float64 rows: output pixel by input pixel."""
    scale = length / out
    support = 2 * max(scale, 1)
    weights = np.zeros((out, size))
    for i in range(out):
        centre = start + (i + 0.5) * scale
        x = np.abs((np.arange(size) + 0.5 - centre) / max(scale, 1))
        inside = np.abs(np.arange(size) + 0.5 - centre) <= support
        near = 1.5 * x**3 - 2.5 * x**2 + 1
        far = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
        weights[i] = np.where(x < 1, near, np.where(x < 2, far, 0)) * inside
        weights[i] /= weights[i].sum()
    return weights


def reference(source, rows, columns):
    return np.einsum("ij,jkc,lk->ilc", rows, np.asarray(source, np.float64), columns)


@pytest.mark.parametrize("shape", [(50, 70), (20, 90), (300, 33), (7, 5)])
def test_stretch_is_antialiased_bicubic(shape):
    source = image(*shape)
    got = np.asarray(resized(source, Resize(24, 32)), np.float64)
    rows = bicubic_weights(shape[0], 0, shape[0], 24)
    columns = bicubic_weights(shape[1], 0, shape[1], 32)
    np.testing.assert_allclose(got, reference(source, rows, columns), atol=1.3)


@pytest.mark.parametrize("shape", [(50, 71), (71, 50), (333, 100), (101, 64)])
def test_crop_is_the_exact_centre_at_one_scale(shape):
    source = image(*shape)
    got = np.asarray(resized(source, Resize(32, 32, "crop")), np.float64)
    side = min(shape)
    rows = bicubic_weights(shape[0], (shape[0] - side) / 2, side, 32)
    columns = bicubic_weights(shape[1], (shape[1] - side) / 2, side, 32)
    np.testing.assert_allclose(got, reference(source, rows, columns), atol=1.3)


def test_crop_of_a_symmetric_image_is_symmetric():
    half = RNG.integers(0, 256, (40, 31, 3), dtype=np.uint8)
    source = Image.fromarray(np.concatenate([half, half[:, ::-1]], 1))
    got = np.asarray(resized(source, Resize(24, 24, "crop")))
    np.testing.assert_array_equal(got, got[:, ::-1])


def test_pad_keeps_the_whole_image_in_the_middle_of_the_colour():
    got = np.asarray(resized(Image.new("RGB", (80, 20), (10, 20, 30)), Resize(40, 40, "pad")))
    assert (got[15:25] == (10, 20, 30)).all()
    assert (got[:15] == 255).all()
    assert (got[25:] == 255).all()
    black = Resize(40, 40, "pad", fill=(0, 0, 0))
    assert (np.asarray(resized(Image.new("RGB", (20, 80), "red"), black))[:, 0] == 0).all()


@pytest.mark.parametrize("mode", ["stretch", "crop", "pad"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 5000), (5000, 1), (2, 3), (224, 224)])
def test_every_shape_becomes_the_size_asked_for(mode, shape):
    source = Image.new("RGB", shape, (9, 99, 199))
    got = np.asarray(resized(source, Resize(33, 47, mode)))
    assert got.shape == (33, 47, 3)
    if mode != "pad":
        assert (got == (9, 99, 199)).all()
    else:
        assert (got == (9, 99, 199)).all(-1).any()


def test_the_rule_names_what_changes_pixels():
    rules = [Resize(1, 1, m).rule for m in ("stretch", "crop", "pad")]
    assert rules == ["stretch-bicubic", "crop-bicubic", "pad-bicubic-ffffff"]
    assert Resize(1, 1, "pad", fill=(0, 0, 255)).rule == "pad-bicubic-0000ff"


@pytest.mark.parametrize("wrong", [{"mode": "squash"}, {"height": 0}])
def test_wrong_settings_are_named(wrong):
    with pytest.raises(UsageError, match=str(next(iter(wrong.values())))):
        Resize(**({"height": 4, "width": 4} | wrong))
