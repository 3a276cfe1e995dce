"""Decoding: every mode to exact RGB on white, hostile bytes to a reason, from many threads."""

import io
import struct
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pipeline.images.decode import MAX_PIXELS, Resize, Undecodable, decode, load_rgb
from pipeline.images.formats import Transient

RNG = np.random.default_rng(3)
RGB = RNG.integers(0, 256, (20, 30, 3), dtype=np.uint8)
ALPHA = RNG.integers(0, 256, (20, 30), dtype=np.uint8)


def saved(image, form="PNG", **options):
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def pixels(data):
    return np.asarray(load_rgb(data).picture.image)


def on_white(colour, alpha):
    a = alpha[..., None].astype(np.float64) / 255
    return np.floor(colour * a + 255 * (1 - a) + 0.5).astype(np.uint8)


def chunk(name, body):
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


LOSSLESS = [("PNG", {}), ("WEBP", {"lossless": True, "exact": True}), ("TIFF", {})]


@pytest.mark.parametrize("form, options", LOSSLESS)
def test_alpha_is_laid_over_white_exactly(form, options):
    rgba = Image.fromarray(np.dstack([RGB, ALPHA]))
    np.testing.assert_array_equal(pixels(saved(rgba, form, **options)), on_white(RGB, ALPHA))


def test_grey_with_alpha_is_laid_over_white_exactly():
    image = Image.merge("LA", [Image.fromarray(RGB[..., 0]), Image.fromarray(ALPHA)])
    expected = on_white(np.repeat(RGB[..., :1], 3, 2), ALPHA)
    np.testing.assert_array_equal(pixels(saved(image)), expected)


@pytest.mark.parametrize("transparency", [5, bytes(range(0, 250, 25))])
def test_a_palettes_transparency_is_laid_over_white(transparency):
    indexes = RNG.integers(0, 10, (20, 30), dtype=np.uint8)
    colours = RNG.integers(0, 256, (10, 3), dtype=np.uint8)
    image = Image.new("P", (30, 20))
    image.putpalette(colours.tobytes())
    image.putdata(indexes.ravel().tolist())
    alpha = np.full(10, 255, np.uint8)
    if isinstance(transparency, int):
        alpha[transparency] = 0
    else:
        alpha[:] = list(transparency)
    data = saved(image, transparency=transparency)
    np.testing.assert_array_equal(pixels(data), on_white(colours[indexes], alpha[indexes]))


def test_a_transparent_colour_is_white_in_grey_rgb_and_16_bit_images():
    grey = RGB[..., 0].copy()
    data = saved(Image.fromarray(grey), transparency=int(grey[0, 0]))
    expected = np.where(grey == grey[0, 0], 255, grey)
    np.testing.assert_array_equal(pixels(data), np.repeat(expected[..., None], 3, 2))
    colour = tuple(int(v) for v in RGB[3, 4])
    data = saved(Image.fromarray(RGB), transparency=colour)
    expected = np.where((RGB[3, 4] == RGB).all(-1, keepdims=True), 255, RGB)
    np.testing.assert_array_equal(pixels(data), expected)
    wide = np.array([[256, 512], [65535, 0]], np.uint16)
    data = saved(Image.fromarray(wide))
    end = data.index(b"IDAT") - 4
    data = data[:end] + chunk(b"tRNS", struct.pack(">H", 512)) + data[end:]
    np.testing.assert_array_equal(pixels(data)[..., 0], [[1, 255], [255, 0]])


def test_the_transparent_colour_of_16_bit_rgb_is_white():
    raw = (b"\0" + struct.pack(">6H", 0x1000, 0x2000, 0x3000, 7, 7, 7)) * 2
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 2, 16, 2, 0, 0, 0))
    data += chunk(b"tRNS", struct.pack(">3H", 0x1000, 0x2000, 0x3000))
    data += chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")
    np.testing.assert_array_equal(pixels(data)[0], [[255, 255, 255], [0, 0, 0]])


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_16_bits_are_divided_by_257_exactly(form):
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    expected = np.rint(values / 257.0).astype(np.uint8)
    np.testing.assert_array_equal(pixels(saved(Image.fromarray(values), form))[..., 1], expected)


def test_16_bits_of_either_byte_order_are_the_same():
    values = np.arange(0, 60000, 100, dtype=np.uint16).reshape(20, 30)
    little = saved(Image.fromarray(values), "TIFF")
    big = saved(Image.frombytes("I;16B", (30, 20), values.astype(">u2").tobytes()), "TIFF")
    assert load_rgb(big)[1] == "I;16B"
    np.testing.assert_array_equal(pixels(big), pixels(little))


def test_one_bit_is_black_and_white():
    bits = RNG.integers(0, 2, (20, 30)).astype(bool)
    expected = np.repeat(np.where(bits, 255, 0)[..., None], 3, 2)
    np.testing.assert_array_equal(pixels(saved(Image.fromarray(bits))), expected)


def test_an_adobe_cmyk_jpeg_is_not_inverted():
    cmyk = Image.new("CMYK", (16, 16), (0, 255, 255, 0))  # red; Pillow writes Adobe's inversion
    data = saved(cmyk, "JPEG", quality=100)
    assert b"Adobe" in data
    np.testing.assert_allclose(pixels(data)[8, 8], [255, 0, 0], atol=3)


@pytest.mark.parametrize("mode", ["I", "F"])
def test_32_bit_images_are_refused_with_advice(mode):
    with pytest.raises(Undecodable, match="convert the image to 8 or 16 bits"):
        decode(saved(Image.new(mode, (4, 4)), "TIFF"), Resize(4, 4))


def test_a_gif_gives_its_first_frame():
    frames = [Image.new("RGB", (8, 8), c) for c in [(255, 0, 0), (0, 255, 0)]]
    data = saved(frames[0], "GIF", save_all=True, append_images=frames[1:])
    np.testing.assert_array_equal(pixels(data)[0, 0], [255, 0, 0])


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(form, orientation):
    base = np.zeros((16, 24, 3), np.uint8)
    base[:8, :8] = 255
    turned = {
        1: base,
        2: base[:, ::-1],
        3: base[::-1, ::-1],
        4: base[::-1],
        5: base.transpose(1, 0, 2),
        6: np.rot90(base, -1),
        7: np.rot90(base, 2).transpose(1, 0, 2),
        8: np.rot90(base),
    }[orientation]
    exif = Image.Exif()
    exif[274] = orientation
    exif[271] = "a camera"
    options = {"tiffinfo": {274: orientation}} if form == "TIFF" else {"exif": exif}
    got = decode(saved(Image.fromarray(base), form, **options), Resize(16, 16))
    assert (got.facts.height, got.facts.width) == turned.shape[:2]
    data = saved(Image.fromarray(base), form, **options)
    np.testing.assert_allclose(pixels(data).astype(int), turned, atol=12)


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_an_orientation_that_makes_no_sense_is_none(value):
    exif = Image.Exif()
    exif[274] = value
    assert pixels(saved(Image.fromarray(RGB), "PNG", exif=exif)).shape == RGB.shape


def test_broken_metadata_neither_fails_nor_warns():
    jpeg = saved(Image.fromarray(RGB), "JPEG")
    broken = b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + b"\xee" * 50
    segment = b"\xff\xe1" + struct.pack(">H", len(broken) + 2) + broken
    np.testing.assert_array_equal(pixels(jpeg[:2] + segment + jpeg[2:]), pixels(jpeg))
    png = saved(Image.fromarray(RGB))
    bomb = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(200 << 20), 9))
    odd = chunk(b"acTL", b"\0" * 8) + chunk(b"iCCP", b"x\0\0junk") + bomb
    np.testing.assert_array_equal(pixels(png[:33] + odd + png[33:]), RGB)
    tags = {270: "text", 65000: "private", 33432: "me"}
    tiff = bytearray(saved(Image.fromarray(RGB), "TIFF", tiffinfo=tags))
    at = tiff.index(struct.pack("<HH", 270, 2))
    tiff[at + 4 : at + 12] = struct.pack("<II", 1 << 20, 1 << 30)
    np.testing.assert_array_equal(pixels(bytes(tiff)), RGB)


BOMB = chunk(b"IHDR", struct.pack(">IIBBBBB", 30000, 30000, 8, 2, 0, 0, 0))
HOSTILE = {
    "empty": (b"", "is empty"),
    "html": (b"\n<!DOCTYPE html><html>", "HTML"),
    "zeros": (bytes(4096), "zeros"),
    "text": (b"hello there, I am a text", "none of JPEG"),
    "svg": (b"<svg xmlns=", "SVG"),
    "heic": (b"\0\0\0\x18ftypheic\0\0\0\0", "HEIC, which is not read"),
    "ppm": (b"P6 2 2 255 " + bytes(12), "none of JPEG"),
    "png bomb": (b"\x89PNG\r\n\x1a\n" + BOMB + chunk(b"IDAT", b"") + chunk(b"IEND", b""), "bomb"),
    "gif bomb": (b"GIF89a\xff\xff\xff\xff\0\0\0,\0\0\0\0\xff\xff\xff\xff\0\x02\x01\0\0;", "bomb"),
    "no picture in a JPEG": (b"\xff\xd8\xff\xd9", "no picture"),
    "no picture in a GIF": (b"GIF89a\1\0\1\0\0\0\0;", "no picture"),
    "magic only": (b"\xff\xd8\xff", "cut off"),
    "endless TIFF": (b"II*\0\xff\xff\xff\xff", "cut off"),
    "BMP of no size": (b"BM" + bytes(8) + b"\x36\0\0\0\x28\0\0\0" + bytes(40), "BMP"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_bytes_are_refused_with_a_reason(name):
    data, reason = HOSTILE[name]
    with pytest.raises(Undecodable, match=reason):
        decode(data, Resize(8, 8))


def test_the_limit_on_pixels_is_the_modules_own(monkeypatch):
    # 100 million pixels: Pillow's global limit would warn here, its tightest would refuse.
    data = saved(Image.new("1", (12500, 8000)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10_000_000)
    assert MAX_PIXELS > 12500 * 8000
    assert load_rgb(data).picture.image.size == (12500, 8000)


LARGE_FRAME = b"GIF89a\1\0\1\0\0\0\0,\0\0\0\0" + struct.pack("<HH", 10_000, 10_000)
WEBP = b"WEBPVP8X" + struct.pack("<II", 10, 0) + (16383).to_bytes(3, "little") * 2
TOO_LARGE = {
    # 100 million pixels: of these formats Pillow warns from 89 million on.
    "GIF": LARGE_FRAME + b"\0\2\1\0\0;",
    "TIFF": saved(Image.new("1", (12500, 8000)), "TIFF", compression="group4"),
    # 268 million, the most that the format can say.
    "WEBP": b"RIFF" + struct.pack("<I", len(WEBP)) + WEBP,
}


@pytest.mark.parametrize("form", TOO_LARGE)
def test_what_pillow_would_warn_of_is_refused_before(form):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with pytest.raises(Undecodable, match=r"that are read \(a decompression bomb"):
            load_rgb(TOO_LARGE[form])
    assert not caught


def test_a_tiff_just_below_its_limit_is_read_without_a_warning():
    data = saved(Image.new("1", (9459, 9459)), "TIFF", compression="group4")
    assert load_rgb(data).picture.image.size == (9459, 9459)


def test_a_row_too_long_for_pillow_is_refused_without_a_warning():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with pytest.raises(Undecodable, match="more memory"):
            decode(saved(Image.new("1", (90_000_000, 1))), Resize(8, 8))
    assert not caught


def test_a_lack_of_memory_is_not_the_images_fault(monkeypatch):
    def exhausted(_):
        raise MemoryError

    monkeypatch.setattr("pipeline.images.wide.low_of", exhausted)
    with pytest.raises(Transient, match="more memory"):
        load_rgb(saved(Image.fromarray(RGB)))
    with pytest.raises(Undecodable) as broken:
        load_rgb(b"no image")
    assert not isinstance(broken.value, Transient)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(["JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF"]), st.data())
def test_damaged_bytes_give_pixels_or_a_reason_and_nothing_else(form, data):
    raw = bytearray(saved(Image.fromarray(RGB), form))
    for at in data.draw(st.lists(st.integers(0, len(raw) - 1), min_size=1, max_size=8)):
        raw[at] = data.draw(st.integers(0, 255))
    try:
        result = decode(bytes(raw), Resize(8, 8))
    except Undecodable:
        return
    assert result.pixels.shape == (8, 8, 3)


def test_threads_get_what_one_thread_gets_and_the_warning_filters_stay():
    rolled = [Image.fromarray(np.roll(RGB, i, 0)) for i in range(20)]
    files = [saved(image, form) for image in rolled for form in ("JPEG", "PNG", "TIFF")]
    files += [data for data, _ in HOSTILE.values()]

    def result(data):
        try:
            return decode(data, Resize(16, 16)).pixels.tobytes()
        except Undecodable as error:
            return str(error)

    before = list(warnings.filters)
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(result, files)) == [result(data) for data in files]
    assert list(warnings.filters) == before
