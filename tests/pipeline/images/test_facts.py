"""Facts: the layout of their rows, an exact digest, and hashes that see what they should."""

import hashlib
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pipeline.images.facts import FACTS_BYTES, FACTS_DTYPE, ImageFacts, facts_of
from pipeline.images.picture import PillowPicture

RNG = np.random.default_rng(5)


def photograph(height=300, width=400, seed=0):
    """Smooth blobs: something with low frequencies, as photographs have."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    return small.resize((width, height), Image.Resampling.BICUBIC)


def facts(image):
    return facts_of(PillowPicture(image), "RGB", "PNG")


def distance(a, b):
    return (a ^ b).bit_count()


WORD = st.integers(0, 2**64 - 1)
SIZE = st.integers(1, 2**32 - 1)
NAME = st.sampled_from(["RGB", "L", "I;16B", "1", "PA", "RGBA", "CMYK"])


@given(
    st.builds(
        ImageFacts, SIZE, SIZE, NAME, NAME, st.binary(min_size=32, max_size=32), WORD, WORD, WORD
    )
)
def test_a_row_is_read_as_it_was_packed(written):
    row = written.pack()
    assert row.dtype == np.uint8
    assert row.shape == (FACTS_BYTES,)
    assert ImageFacts.unpack(row) == written


def test_the_layout_is_what_the_documentation_says():
    row = ImageFacts(640, 480, "RGB", "JPEG", bytes(range(32)), 1, 2, 3).pack()
    mode, form = b"RGB".ljust(8, b"\0"), b"JPEG".ljust(8, b"\0")
    expected = struct.pack("<II8s8s32sQQQ", 640, 480, mode, form, bytes(range(32)), 1, 2, 3)
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


def test_the_hashes_hardly_move_when_a_picture_is_scaled_or_stored_again():
    image = photograph()
    first = facts(image)
    for changed in (
        image.resize((320, 240)),
        image.resize((1000, 750)),
        image.quantize(64).convert("RGB"),
    ):
        other = facts(changed)
        assert distance(first.phash, other.phash) <= 4
        assert distance(first.dhash, other.dhash) <= 6
        assert first.pixels != other.pixels


def test_other_pictures_are_far_away():
    hashes = [facts(photograph(seed=s)).phash for s in range(12)]
    pairs = [distance(a, b) for i, a in enumerate(hashes) for b in hashes[:i]]
    assert min(pairs) > 12


def test_the_hashes_are_near_those_of_the_unreduced_picture():
    # The textbook's way, over all pixels.
    cosines = np.cos(np.pi * np.outer(np.arange(32), 2 * np.arange(32) + 1) / 64)
    for seed in range(10):
        image = photograph(480, 640, seed)
        grey = np.asarray(image.convert("L").resize((32, 32), Image.Resampling.LANCZOS), float)
        low = (cosines @ grey @ cosines.T)[:8, :8].ravel()
        bits = low > np.median(low[1:])
        exact = int("".join("01"[int(b)] for b in bits), 2)
        assert distance(exact, facts(image).phash) <= 2


def test_a_border_is_trimmed_before_the_trimmed_hash_only():
    image = photograph()
    framed = Image.new("RGB", (560, 420), (0, 0, 0))
    framed.paste(image, (100, 40))
    plain, bordered = facts(image), facts(framed)
    assert distance(plain.trimmed, bordered.trimmed) <= 4
    assert distance(plain.phash, bordered.phash) > 10
    assert plain.trimmed == plain.phash


@pytest.mark.parametrize("size", [(1, 1), (64, 64), (1, 5000), (5000, 1), (300, 20)])
@pytest.mark.parametrize("grey", [0, 77, 255])
def test_a_flat_picture_has_the_same_hashes_at_every_size(size, grey):
    flat = facts(Image.new("RGB", size, (grey,) * 3))
    assert (flat.dhash, flat.phash, flat.trimmed) == (0, (1 << 63) * (grey > 0), flat.phash)
