"""Facts: the layout of their rows, an exact digest, spectra with and without borders."""

import hashlib
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pipeline.images.facts import FACTS_BYTES, FACTS_DTYPE, ImageFacts, facts_of
from pipeline.images.picture import PillowPicture
from pipeline.images.spectrum import SPECTRUM, similarity, unit
from tests.pipeline.drawings import drawing, framed

RNG = np.random.default_rng(5)


def facts(image):
    return facts_of(PillowPicture(image), "RGB", "PNG")


def correlation(a, b):
    rows = (unit(np.frombuffer(part, np.int8)[None]) for part in (a, b))
    return similarity(*rows)[0]


SIZE = st.integers(1, 2**32 - 1)
NAME = st.sampled_from(["RGB", "L", "I;16B", "1", "PA", "RGBA", "CMYK"])
DIGEST = st.binary(min_size=32, max_size=32)
SPECTRA = st.binary(min_size=SPECTRUM, max_size=SPECTRUM)


@given(st.builds(ImageFacts, SIZE, SIZE, NAME, NAME, DIGEST, SPECTRA, SPECTRA))
def test_a_row_is_read_as_it_was_packed(written):
    row = written.pack()
    assert row.dtype == np.uint8
    assert row.shape == (FACTS_BYTES,)
    assert ImageFacts.unpack(row) == written


def test_the_layout_is_what_the_documentation_says():
    spectra = bytes(range(144)), bytes(range(1, 145))
    row = ImageFacts(640, 480, "RGB", "JPEG", bytes(range(32)), *spectra).pack()
    mode, form = b"RGB".ljust(8, b"\0"), b"JPEG".ljust(8, b"\0")
    parts = (mode, form, bytes(range(32)), *spectra)
    expected = struct.pack("<II8s8s32s144s144s", 640, 480, *parts)
    assert row.tobytes() == expected
    rows = np.stack([row, row]).view(FACTS_DTYPE)
    assert rows["width"].ravel().tolist() == [640, 640]


def test_a_row_of_another_length_is_refused():
    with pytest.raises(ValueError, match="size"):
        ImageFacts.unpack(np.zeros(FACTS_BYTES - 1, np.uint8))


@pytest.mark.parametrize("shape", [(1, 1), (3, 5000), (1100, 700)])
def test_the_digest_is_over_size_and_pixels(shape):
    pixels = RNG.integers(0, 256, (*shape, 3), dtype=np.uint8)
    size = struct.pack("<II", shape[1], shape[0])
    expected = hashlib.sha256(size + pixels.tobytes()).digest()
    assert facts(Image.fromarray(pixels)).pixels == expected


def test_a_border_is_trimmed_before_the_trimmed_spectrum_only():
    image = drawing(0)
    plain, bordered = facts(image), facts(framed(image))
    assert correlation(plain.trimmed, bordered.trimmed) > 0.98
    assert correlation(plain.spectrum, bordered.spectrum) < 0.9
    assert plain.trimmed == plain.spectrum


@pytest.mark.parametrize("size", [(1, 1), (64, 64), (1, 5000), (5000, 1), (300, 20)])
@pytest.mark.parametrize("grey", [0, 77, 255])
def test_a_flat_picture_has_no_spectrum_at_any_size(size, grey):
    flat = facts(Image.new("RGB", size, (grey,) * 3))
    assert flat.spectrum == flat.trimmed == bytes(SPECTRUM)
