"""The fast decoder of common JPEGs: Pillow's very pixels, or none at all."""

import io
import random
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import simplejpeg
from PIL import Image, ImageFile

from pipeline.images import jpeg, turbo
from pipeline.images.decode import Resize, Undecodable, decode, load_rgb

SIZES = [(1, 1), (1, 17), (8, 8), (7, 9), (17, 15), (33, 16), (100, 1), (123, 257)]
KINDS = {
    "baseline": {},
    "optimised": {"optimize": True},
    "progressive": {"progressive": True},
    "restarts": {"restart_marker_rows": 1},
    "progressive-restarts": {"progressive": True, "restart_marker_blocks": 3},
}


@pytest.fixture(autouse=True)
def _room_to_encode(monkeypatch):
    # Pillow's encoder fails on noise at quality 100 where its buffer is too small.
    monkeypatch.setattr(ImageFile, "MAXBLOCK", 1 << 20)


def pictures(height, width):
    """Smooth blobs, and noise, which has every coefficient."""
    rng = np.random.default_rng(height * 1000 + width)
    few = rng.integers(0, 256, (height // 9 + 1, width // 9 + 1, 3), dtype=np.uint8)
    yield Image.fromarray(few).resize((width, height), Image.Resampling.BICUBIC)
    yield Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))


def saved(image, **options):
    file = io.BytesIO()
    image.save(file, "JPEG", **options)
    return file.getvalue()


def fast(data):
    return turbo.pixels(data, jpeg.tidy(data)[0])


def by_pillow(data):
    """Load as if there were no other decoder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(turbo, "pixels", lambda *_: None)
        return load_rgb(data)


def assert_same(data):
    result, expected = fast(data), by_pillow(data)
    assert result is not None
    np.testing.assert_array_equal(result.rgb, np.asarray(expected.picture.image))
    assert result.mode == expected.mode


def test_the_installed_packages_agree():
    assert turbo.same_as_pillow()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0", "grey"])
def test_the_pixels_are_pillows_at_every_size_and_quality(kind, subsampling):
    grey = subsampling == "grey"
    chroma = {} if grey else {"subsampling": subsampling}
    for size in SIZES:
        for image in pictures(*size):
            for quality in (1, 50, 75, 95, 100):
                stored = image.convert("L") if grey else image
                assert_same(saved(stored, quality=quality, **chroma, **KINDS[kind]))


@pytest.mark.parametrize("subsampling", ["440", "411", "422"])
def test_the_pixels_are_pillows_in_subsamplings_that_it_does_not_write(subsampling):
    for size in SIZES:
        for image in pictures(*size):
            pixels = np.array(image)
            assert_same(simplejpeg.encode_jpeg(pixels, 80, "RGB", subsampling))


def test_rgb_stored_as_such_is_not_converted():
    data = saved(next(pictures(40, 50)), keep_rgb=True)
    assert b"Adobe" in data
    assert_same(data)


@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_orientation_and_facts_are_the_same(orientation):
    exif = Image.Exif()
    exif[274] = orientation
    data = saved(next(pictures(300, 201)), exif=exif)
    assert fast(data) is not None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(turbo, "pixels", lambda *_: None)
        expected = decode(data, Resize(32, 32, "crop"))
    result = decode(data, Resize(32, 32, "crop"))
    np.testing.assert_array_equal(result.pixels, expected.pixels)
    assert result.facts == expected.facts


def test_rare_kinds_are_left_to_pillow():
    image = next(pictures(24, 32))
    cmyk = saved(image.convert("CMYK"))
    assert fast(cmyk) is None
    assert load_rgb(cmyk).mode == "CMYK"
    usual = saved(image)
    frame = usual.index(b"\xff\xc0")
    for at, value in ((1, 0xC9), (4, 12), (6, 0), (9, 2)):  # arithmetic, 12 bits, no height, two
        rare = bytearray(usual)
        rare[frame + at] = value
        assert fast(bytes(rare)) is None


def test_a_warning_is_left_to_pillow():
    data = saved(next(pictures(64, 64)), progressive=True)
    closed = data[: len(data) // 2].rstrip(b"\xff") + b"\xff\xd9"
    assert fast(closed) is None
    tables = data.index(b"\xff\xdb")
    extraneous = data[:tables] + b"junk" + data[tables:]
    assert fast(extraneous) is None
    np.testing.assert_array_equal(
        np.asarray(load_rgb(extraneous).picture.image), load_rgb(data).picture.rows
    )


def test_decoders_that_differ_are_noticed_and_not_used(monkeypatch):
    def brighter(data, *_, **__):
        with Image.open(io.BytesIO(data)) as image:
            return np.asarray(image.convert("RGB")) + 1

    monkeypatch.setattr("simplejpeg.decode_jpeg", brighter)
    turbo.same_as_pillow.cache_clear()
    try:
        assert not turbo.same_as_pillow()
        data = saved(next(pictures(24, 32)))
        assert fast(data) is None
        assert load_rgb(data).picture.rows is None
    finally:
        turbo.same_as_pillow.cache_clear()


def test_a_bomb_is_refused_before_memory_is_asked_for(monkeypatch):
    data = bytearray(saved(next(pictures(24, 32))))
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = b"\xff" * 4
    monkeypatch.setattr(turbo, "_decoded", None)
    with pytest.raises(Undecodable, match="decompression bomb"):
        load_rgb(bytes(data))


def test_a_second_header_cannot_ask_for_more_memory(monkeypatch):
    data = saved(next(pictures(24, 32)))
    monkeypatch.setattr(turbo, "_common_shape", lambda _: (8, 8, 3))
    assert fast(data) is None


@pytest.mark.parametrize("kind", ["baseline", "progressive", "restarts"])
def test_damage_is_judged_as_pillow_judges_it(kind):
    draw = random.Random(7)
    data = saved(next(pictures(40, 50)), **KINDS[kind])
    for _ in range(400):
        damaged = bytearray(data)
        for _ in range(draw.choice((1, 1, 2, 5))):
            damaged[draw.randrange(2, len(data))] = draw.randrange(256)
        results = []
        for load in (load_rgb, by_pillow):
            try:
                loaded = load(bytes(damaged))
                results.append((loaded.mode, np.asarray(loaded.picture.image).tobytes()))
            except Undecodable as error:
                results.append(str(error))
        assert results[0] == results[1]


def test_what_is_no_jpeg_inside_is_no_ones():
    for stream in (b"", b"\xff\xd8", b"\xff\xd8\xff\xda" + bytes(20), b"\xff\xd8\xff\xdb\0\0" * 9):
        assert turbo.pixels(stream, stream) is None


def test_threads_get_the_same_pixels():
    files = [saved(image) for size in SIZES for image in pictures(*size)]
    expected = [np.asarray(by_pillow(data).picture.image).tobytes() for data in files]
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda data: load_rgb(data).picture.image.tobytes(), files * 5))
    assert results == expected * 5
