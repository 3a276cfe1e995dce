"""A file that is not all there is refused, wherever it was cut, in every format."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from pipeline.images.decode import Resize, Undecodable, decode, load_rgb

SMALL = Resize(8, 8)


def picture(height=24, width=32, seed=0):
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))


def saved(image, form, **options):
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


FILES = {
    "jpeg": saved(picture(), "JPEG"),
    "jpeg-grey": saved(picture().convert("L"), "JPEG"),
    "jpeg-cmyk": saved(picture().convert("CMYK"), "JPEG"),
    "jpeg-progressive": saved(picture(), "JPEG", progressive=True),
    "jpeg-restarts": saved(picture(), "JPEG", restart_marker_rows=1),
    "png": saved(picture(), "PNG"),
    "png-palette": saved(picture().convert("P"), "PNG"),
    "gif": saved(picture().convert("P"), "GIF"),
    "gif-animated": saved(picture(), "GIF", save_all=True, append_images=[picture(seed=1)]),
    "bmp": saved(picture(), "BMP"),
    "bmp-palette": saved(picture().convert("P"), "BMP"),
    "webp": saved(picture(), "WEBP"),
    "webp-lossless": saved(picture(), "WEBP", lossless=True),
    "tiff": saved(picture(), "TIFF"),
    "tiff-lzw": saved(picture(), "TIFF", compression="tiff_lzw"),
    "tiff-deflate": saved(picture(), "TIFF", compression="tiff_deflate"),
    "tiff-jpeg": saved(picture(), "TIFF", compression="jpeg"),
    "tiff-big": saved(picture(), "TIFF", big_tiff=True),
    "tiff-bilevel": saved(picture().convert("1"), "TIFF", compression="group4"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_whole_file_is_decoded_to_what_pillow_makes_of_it(name):
    with Image.open(io.BytesIO(FILES[name])) as image:
        expected = np.asarray(image.convert("RGB"))
    np.testing.assert_array_equal(np.asarray(load_rgb(FILES[name]).picture.image), expected)


@pytest.mark.parametrize("name", FILES)
def test_a_cut_off_file_is_refused(name):
    data = FILES[name]
    step = max(1, len(data) // 150)
    cuts = {*range(1, len(data) - 40, step), *range(len(data) - 40, len(data))}
    accepted = []
    for cut in sorted(cuts):
        try:
            decode(data[:cut], SMALL)
        except Undecodable:
            continue
        accepted.append(len(data) - cut)
    assert accepted == []


@pytest.mark.parametrize("name", ["jpeg", "jpeg-grey", "jpeg-cmyk", "jpeg-restarts"])
@pytest.mark.parametrize("share", [0.5, 0.9, 0.98])
def test_a_jpeg_that_was_cut_and_closed_again_is_refused(name, share):
    # Pillow itself decodes this, with the rest of the picture grey.
    options = {"restart_marker_rows": 1} if name == "jpeg-restarts" else {}
    mode = {"jpeg-grey": "L", "jpeg-cmyk": "CMYK"}.get(name, "RGB")
    data = saved(picture(128, 160).convert(mode), "JPEG", **options)
    closed = data[: int(len(data) * share)].rstrip(b"\xff") + b"\xff\xd9"
    with Image.open(io.BytesIO(closed)) as image:
        image.load()
    with pytest.raises(Undecodable, match="cannot be decoded"):
        decode(closed, SMALL)


def test_a_jpeg_filled_up_with_zeros_is_refused():
    data = FILES["jpeg"]
    with pytest.raises(Undecodable, match="cut off"):
        decode(data[: len(data) // 2] + bytes(len(data)), SMALL)


def test_the_thumbnail_in_a_cut_off_jpeg_does_not_close_it():
    thumbnail = FILES["jpeg-grey"]
    exif = b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0" + thumbnail
    segment = b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif
    data = FILES["jpeg"][:2] + segment + FILES["jpeg"][2:]
    decode(data, SMALL)
    with pytest.raises(Undecodable):
        decode(data[:-400], SMALL)


def test_what_follows_the_end_of_a_jpeg_does_not_matter():
    plain, trailed = decode(FILES["jpeg"], SMALL), decode(FILES["jpeg"] + b"trailer\xff", SMALL)
    np.testing.assert_array_equal(plain.pixels, trailed.pixels)


def test_fill_bytes_between_a_jpegs_segments_are_allowed():
    data = FILES["jpeg"]
    scan = data.index(b"\xff\xda")
    filled = data[:scan] + b"\xff\xff" + data[scan:-2] + b"\xff\xff\xff\xd9"
    np.testing.assert_array_equal(decode(filled, SMALL).pixels, decode(data, SMALL).pixels)


def test_a_gif_and_a_png_that_were_cut_and_closed_again_are_refused():
    gif = FILES["gif"]
    at = gif.index(b",\0\0\0\0") + 11
    shortened = gif[: at + 1 + gif[at]] + b"\0\x3b"  # the first of its sub-blocks alone
    with pytest.raises(Undecodable):
        decode(shortened, SMALL)
    png = FILES["png"]
    idat = png.index(b"IDAT")
    (length,) = struct.unpack(">I", png[idat - 4 : idat])
    body = b"IDAT" + png[idat + 4 : idat + 4 + length // 2]
    closed = png[: idat - 4] + struct.pack(">I", length // 2) + body
    closed += struct.pack(">I", zlib.crc32(body)) + png[-12:]
    with pytest.raises(Undecodable):
        decode(closed, SMALL)


def test_a_png_whose_pixels_were_altered_is_refused():
    data = bytearray(FILES["png"])
    data[data.index(b"IDAT") + 40] ^= 1
    with pytest.raises(Undecodable, match="checksum of IDAT"):
        decode(bytes(data), SMALL)
