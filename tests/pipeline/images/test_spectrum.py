"""Spectra: what of a picture stays however it is laid down, scaled or stored."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pipeline.images.spectrum import (
    SIDE,
    codes,
    distance,
    similarity,
    spectrum_of,
    transposed,
    unit,
)
from tests.pipeline.drawings import COPIES, drawing

LAID_DOWN = {
    "as it is": lambda grey: grey,
    "mirrored": lambda grey: grey[:, ::-1],
    "upside down": lambda grey: grey[::-1],
    "by 180": lambda grey: grey[::-1, ::-1],
    "by 90": np.rot90,
    "by 270": lambda grey: np.rot90(grey, 3),
    "transposed": lambda grey: grey.T,
    "the other way": lambda grey: grey[::-1, ::-1].T,
}


def small(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("L").resize((SIDE, SIDE), Image.Resampling.LANCZOS))


def compared(a: np.ndarray, b: np.ndarray) -> tuple[int, float]:
    """Compare two spectra as they are and transposed: bits that differ, and correlation."""
    a, b = a[None], b[None]
    bits = min(distance(codes(x), codes(b))[0] for x in (a, transposed(a)))
    return int(bits), float(max(similarity(unit(x), unit(b))[0] for x in (a, transposed(a))))


@pytest.mark.parametrize("way", LAID_DOWN)
@given(st.integers(0, 2**32 - 1))
def test_the_eight_ways_to_lay_a_picture_down_are_one(way: str, seed: int) -> None:
    grey = np.random.default_rng(seed).integers(0, 256, (SIDE, SIDE), np.uint8)
    bits, correlation = compared(spectrum_of(grey), spectrum_of(LAID_DOWN[way](grey)))
    # A coefficient that rounds to zero has no sign to change.
    assert bits <= np.sum(spectrum_of(grey) == 0)
    assert correlation == pytest.approx(1, abs=1e-5), "float32 sums of 144 products"


@pytest.mark.parametrize("copy", [name for name in COPIES if name != "framed"])
def test_a_copy_is_near(copy: str) -> None:
    for seed in range(10):
        image = drawing(seed)
        bits, correlation = compared(
            spectrum_of(small(image)), spectrum_of(small(COPIES[copy](image)))
        )
        assert bits <= 9
        assert correlation > 0.95


def test_other_drawings_are_far_away() -> None:
    spectra = [spectrum_of(small(drawing(seed))) for seed in range(40)]
    found = [compared(a, b)[1] for i, a in enumerate(spectra) for b in spectra[:i]]
    assert max(found) < 0.8


def test_contrast_and_brightness_change_nothing_much() -> None:
    grey = small(drawing(3)).astype(float)
    _, correlation = compared(
        spectrum_of(grey.astype(np.uint8)), spectrum_of((grey / 2 + 60).astype(np.uint8))
    )
    assert correlation > 0.98


def test_noise_on_a_flat_picture_is_no_structure() -> None:
    noise = np.random.default_rng(0).normal(0, 0.6, (SIDE, SIDE))
    assert not spectrum_of(np.rint(120 + noise).astype(np.uint8)).any()
