"""The compiled kernels: Pillow's very pixels, or none at all."""

import io
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, seed, settings
from hypothesis import strategies as st
from PIL import Image

from pipeline.images import compiled, decode
from pipeline.images.compiled import Kernels, Loader, load_kernels, same_as_pillow
from pipeline.images.picture import PillowPicture, RowsPicture
from pipeline.images.resize import Resize, resized

SIDE = st.integers(1, 150)
SHAPE = st.tuples(SIDE, SIDE)


@pytest.fixture(scope="module")
def kernels():
    loaded = load_kernels()
    assert loaded is not None, "numba is among the development tools"
    return loaded


def noise(shape, extreme=False, start=0):
    """Noise of all values, or of 0 and 255 alone, which is the most for rounding and clipping."""
    pixels = np.random.default_rng(start).integers(0, 256, (*shape, 3), dtype=np.uint8)
    return np.where(pixels > 127, np.uint8(255), np.uint8(0)) if extreme else pixels


def assert_same(kernels, pixels, way):
    expected = resized(PillowPicture(Image.fromarray(pixels)), way)
    result = resized(RowsPicture(pixels, kernels), way)
    np.testing.assert_array_equal(result, expected)
    assert result.shape == (way.height, way.width, 3)
    assert not result.flags.writeable
    assert not expected.flags.writeable


@seed(5)
@settings(max_examples=400)
@given(SHAPE, SHAPE, st.sampled_from(["stretch", "crop", "pad"]), st.booleans())
def test_every_way_from_every_size_to_every_other(kernels, source, target, mode, extreme):
    assert_same(kernels, noise(source, extreme), Resize(*target, mode))


@pytest.mark.parametrize("mode", ["stretch", "crop", "pad"])
@pytest.mark.parametrize(
    "shape", [(224, 224), (480, 640), (1001, 333), (333, 1001), (1, 5000), (5000, 1), (1, 1)]
)
def test_the_sizes_of_photographs_and_extreme_ones(kernels, shape, mode):
    assert_same(kernels, noise(shape), Resize(224, 224, mode))


@seed(5)
@settings(max_examples=400)
@given(SHAPE, SHAPE, st.data())
def test_every_part_of_an_image(kernels, source, target, data):
    edges = []
    for length in source:
        begin = data.draw(st.floats(0, length - 0.5))
        edges.append((begin, data.draw(st.floats(begin + 0.1, length))))
    (top, bottom), (left, right) = edges
    pixels, size, box = noise(source, extreme=True), target[::-1], (left, top, right, bottom)
    expected = Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC, box=box)
    np.testing.assert_array_equal(kernels.resized(pixels, size, box), np.asarray(expected))


@seed(5)
@settings(max_examples=400)
@given(SHAPE, st.integers(1, 300), st.integers(1, 300), st.booleans())
def test_the_reduced_grey_of_every_block(kernels, shape, across, down, extreme):
    pixels = noise(shape, extreme)
    block = (min(across, shape[1]), min(down, shape[0]))
    expected = PillowPicture(Image.fromarray(pixels)).reduced_grey(block)
    result = RowsPicture(pixels, kernels).reduced_grey(block)
    assert result.mode == expected.mode == "L"
    np.testing.assert_array_equal(np.asarray(result), np.asarray(expected))


def test_threads_at_once_do_not_disturb_one_another(kernels):
    images = [noise((h, w), start=h) for h, w in ((50, 70), (300, 200), (17, 5), (240, 320))]
    way = Resize(64, 48, "crop")
    expected = [resized(RowsPicture(pixels, kernels), way).tobytes() for pixels in images]
    with ThreadPoolExecutor(8) as pool:
        pictures = [RowsPicture(pixels, kernels) for pixels in images] * 25
        results = list(pool.map(lambda picture: resized(picture, way).tobytes(), pictures))
    assert results == expected * 25


def jpeg(shape, orientation=1):
    exif = Image.Exif()
    exif[274] = orientation
    file = io.BytesIO()
    Image.fromarray(noise(shape)).resize((shape[1] * 3, shape[0] * 3)).save(file, "JPEG", exif=exif)
    return file.getvalue()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("shape", [(100, 140), (140, 100), (200, 30), (3, 3)])
def test_decoding_gives_the_same_with_and_without(monkeypatch, kernels, shape, orientation):
    data = jpeg(shape, orientation)
    ways = [Resize(96, 64, mode) for mode in ("stretch", "crop", "pad")]
    results = []
    for there in (None, kernels):
        monkeypatch.setattr(compiled, "ready", lambda there=there: there)
        results.append(decode.decode_all(data, ways))
    assert isinstance(decode.load_rgb(data).picture, RowsPicture)
    for without, within in zip(*results, strict=True):
        np.testing.assert_array_equal(within.pixels, without.pixels)
        assert within.facts == without.facts


def test_without_numba_pillow_does_the_work(monkeypatch):
    monkeypatch.delitem(sys.modules, "pipeline.images.kernels", raising=False)
    monkeypatch.delattr("pipeline.images.kernels", raising=False)
    monkeypatch.setitem(sys.modules, "numba", None)
    assert load_kernels() is None


@pytest.mark.parametrize("broken", [RuntimeError("no locator"), EOFError(), ValueError("pickle")])
def test_kernels_that_cannot_be_loaded_stop_nothing(monkeypatch, kernels, broken):
    class Unusable:
        def resize(self, *_):
            raise broken

    monkeypatch.setitem(sys.modules, "pipeline.images.kernels", Unusable())
    monkeypatch.setattr("pipeline.images.kernels", Unusable())
    assert load_kernels() is None


def test_a_pillow_with_other_pixels_is_noticed(monkeypatch, kernels):
    honest = Image.Image.resize

    def brighter(self, *args, **kwargs):
        return honest(self, *args, **kwargs).point(lambda value: value + 1)

    monkeypatch.setattr(Image.Image, "resize", brighter)
    assert not same_as_pillow(kernels)
    assert load_kernels() is None


def test_the_order_of_the_passes_is_that_of_the_installed_pillow(kernels):
    other = Kernels(kernels.routines, lambda *sizes: not kernels.down_first(*sizes))
    assert same_as_pillow(kernels)
    assert not same_as_pillow(other)


def test_nothing_is_loaded_for_a_few_images():
    calls = []
    loader = Loader(lambda: calls.append(1), 3)
    assert [loader(), loader()] == [None, None]
    assert not calls


def test_pillow_serves_until_the_kernels_are_there_and_they_are_loaded_once(kernels):
    calls, began, go = [], threading.Event(), threading.Event()

    def load():
        calls.append(threading.current_thread())
        began.set()
        go.wait()
        return kernels

    loader = Loader(load, 2)
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda _: loader(), range(100))) == {None}
    assert began.wait(60)
    go.set()
    calls[0].join()
    assert loader() is kernels
    assert len(calls) == 1


def test_the_command_line_does_not_import_numba():
    code = "import sys, pipeline.cli, pipeline.images.decode; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
