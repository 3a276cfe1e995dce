"""The search for near codes finds what comparing all pairs finds."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.images import neighbours
from pipeline.images.neighbours import RADIUS, near_codes
from pipeline.images.spectrum import MIRRORS, distance

LOW = np.uint64(2**63 - 1)  # the constant's bit is always 0


def all_pairs(codes: np.ndarray, turned: np.ndarray) -> set[tuple[int, int]]:
    """Compare all pairs."""
    i, j = np.triu_indices(len(codes), 1)
    near = np.minimum(distance(codes[i], codes[j]), distance(turned[i], codes[j])) <= RADIUS
    return set(zip(i[near].tolist(), j[near].tolist(), strict=True))


def found(codes: np.ndarray, turned: np.ndarray) -> set[tuple[int, int]]:
    return {
        pair
        for i, j in near_codes(codes, turned)
        for pair in zip(i.tolist(), j.tolist(), strict=True)
    }


def crowd(seed: int, count: int, bits: int) -> tuple[np.ndarray, np.ndarray]:
    """Scatter codes about few centres, up to `bits` bits off, mirrored at random."""
    rng = np.random.default_rng(seed)
    centres = rng.integers(0, 2**63, (max(1, count // 8), 2), np.uint64)
    chosen = centres[rng.integers(0, len(centres), count)]
    for _ in range(bits):
        chosen ^= np.where(
            rng.random(chosen.shape) < 0.7,
            np.uint64(1) << rng.integers(0, 63, chosen.shape, np.uint64),
            np.uint64(0),
        )
    codes, turned = (chosen ^ MIRRORS[rng.integers(0, 4, chosen.shape)]).T & LOW
    return np.ascontiguousarray(codes), np.ascontiguousarray(turned)


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(0, 60), st.integers(0, 8))
def test_it_finds_exactly_what_comparing_all_pairs_finds(seed: int, count: int, bits: int) -> None:
    codes, turned = crowd(seed, count, bits)
    assert found(codes, turned) == all_pairs(codes, turned)


@given(st.integers(0, 2**63 - 1), st.sets(st.integers(0, 62), min_size=9, max_size=9))
@settings(max_examples=30)
def test_no_way_to_spread_the_differing_bits_hides_a_pair(code: int, bits: set[int]) -> None:
    codes = np.array([code, code ^ sum(1 << bit for bit in bits)], np.uint64)
    assert found(codes, ~codes & LOW) >= {(0, 1)}


def test_equal_codes_beyond_what_is_compared_at_once_are_all_found(monkeypatch) -> None:
    monkeypatch.setattr(neighbours, "_AT_ONCE", 50)
    codes = np.full(40, 12345, np.uint64)
    assert len(found(codes, codes)) == 40 * 39 // 2
    assert found(codes[:1], codes[:1]) == found(codes[:0], codes[:0]) == set()
