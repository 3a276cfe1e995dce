from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.batchnorm import LayerShift, Moments, Statistics, jeffreys


def parts_of(images: np.ndarray) -> tuple[int, np.ndarray, np.ndarray]:
    """Size, means and variances of (n, pixels, channels), in float32 as a network gives them."""
    return images.shape[1], images.mean(axis=1, dtype=np.float32), images.var(axis=1)


@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(1, 9), st.floats(-1e3, 1e3))
def test_moments_of_parts_are_those_of_the_whole(seed: int, n: int, size: int, at: float) -> None:
    images = np.random.default_rng(seed).normal(at, 2, (n, size, 3)).astype(np.float32)
    moments = Moments.of_parts(*parts_of(images))
    whole = images.reshape(-1, 3).astype(np.float64)
    assert moments.count == n * size
    np.testing.assert_allclose(moments.mean, whole.mean(axis=0), rtol=1e-5, atol=1e-3)
    np.testing.assert_allclose(moments.variance, whole.var(axis=0), rtol=1e-3, atol=1e-2)


def test_the_order_and_the_size_of_the_parts_change_rounding_alone() -> None:
    images = np.random.default_rng(0).normal(1e3, 1, (64, 5, 4)).astype(np.float32)
    whole = Moments.of_parts(*parts_of(images))
    merged = Moments.of_parts(*parts_of(images[40:]))
    for start in (30, 0, 10, 20):
        merged = merged.merged(Moments.of_parts(*parts_of(images[start : start + 10])))
    assert merged.count == whole.count
    np.testing.assert_allclose(merged.mean, whole.mean, rtol=1e-12)
    np.testing.assert_allclose(merged.scatter, whole.scatter, rtol=1e-9)


def test_the_divergence_is_none_of_the_same_and_one_of_a_mean_one_deviation_off() -> None:
    mean, variance = np.array([0.0, 0, 0, 5]), np.array([1.0, 1, 1, 4])
    other_mean, other_variance = np.array([0.0, 1, 0, 7]), np.array([1.0, 1, 4, 4])
    found = jeffreys(mean, variance, other_mean, other_variance)
    np.testing.assert_allclose(found, [0, 1, 1.125, 1])
    np.testing.assert_allclose(jeffreys(other_mean, other_variance, mean, variance), found)


def test_the_divergence_is_what_sampling_says() -> None:
    rng = np.random.default_rng(0)
    (m, v), (k, w) = (0.3, 0.8), (-0.5, 2.1)

    def log_ratio(x: np.ndarray) -> np.ndarray:
        return (-((x - m) ** 2) / v + (x - k) ** 2 / w + np.log(w / v)) / 2

    sampled = log_ratio(rng.normal(m, v**0.5, 400_000)).mean()
    sampled -= log_ratio(rng.normal(k, w**0.5, 400_000)).mean()
    found = jeffreys(*(np.array([value]) for value in (m, v, k, w)))
    assert found[0] == pytest.approx(sampled, rel=0.02)


def test_a_dead_channel_is_far_and_not_infinitely_far() -> None:
    stored = Statistics(np.zeros(2, np.float32), np.array([0, 1], np.float32))
    data = Statistics(np.zeros(2, np.float32), np.array([1, 1], np.float32))
    shift = LayerShift.of("bn", stored, data, 1e-3)
    assert shift.distance == pytest.approx((1.001 / 0.002 + 0.001 / 2.002 - 1) / 2)
    assert shift.mean_shift == 0
