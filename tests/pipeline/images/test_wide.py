"""Colour of 16 bits: exact in PNG and TIFF, whatever the byte order and the compression."""

import struct
import zlib

import numpy as np
import pytest

from pipeline.images.decode import load_rgb

RNG = np.random.default_rng(5)
EVERY = RNG.permutation(65536 * 3).astype(np.uint16).reshape(256, 256, 3)  # each value three times


def chunk(name, body):
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png(samples, colour, *, transparent=b"", interlaced=0):
    height, width = samples.shape[:2]
    rows = samples.astype(">u2").reshape(height, -1).view(np.uint8)
    # Filter 2 (up), so that a decoding that lost the low bytes early would show.
    above = np.vstack([np.zeros_like(rows[:1]), rows[:-1]])
    raw = np.hstack([np.full((height, 1), 2, np.uint8), rows - above]).tobytes()
    head = struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, interlaced)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head)
    if transparent:
        data += chunk(b"tRNS", transparent)
    return data + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")


def tiff(samples, order, *, deflated=False, planes=False):
    height, width, bands = samples.shape
    layers = [samples[..., b] for b in range(bands)] if planes else [samples]
    parts = [layer.astype(f"{order}u2").tobytes() for layer in layers]
    parts = [zlib.compress(part) for part in parts] if deflated else parts
    body, starts, lists = b"", [], b""
    for part in parts:
        starts.append(8 + len(body))
        body += part + b"\0" * (len(part) % 2)
    rows = []

    def tag(number, kind, values):
        nonlocal lists
        packed = struct.pack(f"{order}{len(values)}{'HI'[kind == 4]}", *values)
        if len(packed) > 4:
            place, lists = 8 + len(body) + len(lists), lists + packed
            packed = struct.pack(f"{order}I", place)
        rows.append(struct.pack(f"{order}HHI", number, kind, len(values)) + packed.ljust(4, b"\0"))

    tag(256, 4, [width])
    tag(257, 4, [height])
    tag(258, 3, [16] * bands)
    tag(259, 3, [8 if deflated else 1])
    tag(262, 3, [2])
    tag(273, 4, starts)
    tag(277, 3, [bands])
    tag(278, 4, [height])
    tag(279, 4, [len(part) for part in parts])
    tag(284, 3, [2 if planes else 1])
    if bands == 4:
        tag(338, 3, [2])
    magic = {"<": b"II", ">": b"MM"}[order]
    head = magic + struct.pack(f"{order}HI", 42, 8 + len(body) + len(lists))
    directory = struct.pack(f"{order}H", len(rows)) + b"".join(rows) + bytes(4)
    return head + body + lists + directory


def eight(samples):
    return np.rint(samples / 257.0).astype(np.uint8)


def on_white(colour, alpha):
    a = eight(alpha)[..., None] / 255.0
    return np.floor(eight(colour) * a + 255 * (1 - a) + 0.5).astype(np.uint8)


def pixels(data):
    return np.asarray(load_rgb(data).picture.image)


ALPHA = RNG.permutation(65536).astype(np.uint16).reshape(256, 256)
RGBA = np.dstack([EVERY, ALPHA])


def test_every_value_of_16_bit_rgb_in_png_is_divided_by_257_exactly():
    np.testing.assert_array_equal(pixels(png(EVERY, 2)), eight(EVERY))


def test_16_bit_colour_and_grey_with_alpha_in_png_are_exact():
    np.testing.assert_array_equal(pixels(png(RGBA, 6)), on_white(EVERY, ALPHA))
    grey = np.dstack([EVERY[..., 0], ALPHA])
    expected = on_white(np.repeat(EVERY[..., :1], 3, 2), ALPHA)
    np.testing.assert_array_equal(pixels(png(grey, 4)), expected)


@pytest.mark.parametrize("colour, bands", [(2, 3), (4, 2), (6, 4)])
def test_an_interlaced_png_of_16_bits_is_exact(colour, bands):
    samples = np.full((1, 1, bands), 0xFFFF, np.uint16)  # one pixel: the first pass is all of it
    samples[..., 0] = 0x12FF
    data = png(samples, colour, interlaced=1)
    assert pixels(data)[0, 0, 0] == eight(np.uint16(0x12FF)) == 0x13


def test_the_transparent_colour_is_compared_in_16_bits():
    samples = np.array([[[0x1001, 2, 3], [0x1002, 2, 3], [2, 2, 0x1001]]], np.uint16)
    got = pixels(png(samples, 2, transparent=struct.pack(">3H", 0x1001, 2, 3)))
    np.testing.assert_array_equal(got, [[[255, 255, 255], [16, 0, 0], [0, 0, 16]]])


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("deflated", [False, True])
def test_16_bit_colour_in_tiff_is_exact(order, deflated):
    np.testing.assert_array_equal(pixels(tiff(EVERY, order, deflated=deflated)), eight(EVERY))
    got = pixels(tiff(RGBA, order, deflated=deflated))
    np.testing.assert_array_equal(got, on_white(EVERY, ALPHA))


def test_16_bit_planes_of_a_tiff_are_within_one_level():
    got = pixels(tiff(EVERY, "<", deflated=True, planes=True)).astype(int)
    assert np.abs(got - eight(EVERY)).max() <= 1
