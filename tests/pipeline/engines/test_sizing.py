"""How large a batch is chosen where that is found out by trying."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from pipeline.engines import keras_engine
from pipeline.engines.sizing import fastest_batch

from .test_keras_engine import ROUNDING, SIZE, make


def device(overhead: float, each: float, memory: int = 1 << 30) -> Callable[[int], float]:
    """A device that takes so long for a batch and for each image, and holds so many."""

    def seconds(count: int) -> float:
        if count > memory:
            raise RuntimeError("RESOURCE_EXHAUSTED: OOM when allocating tensor")
        return overhead + each * count

    return seconds


def test_batches_grow_while_an_image_becomes_cheaper() -> None:
    assert fastest_batch(device(10, 0.01), 32, 512) == 512
    assert fastest_batch(device(1, 0.2), 32, 512) == 64
    assert fastest_batch(device(0, 1), 32, 512) == 32


def test_what_does_not_fit_into_the_devices_memory_is_not_taken() -> None:
    assert fastest_batch(device(10, 0.01, memory=200), 32, 512) == 128


def test_no_batch_is_larger_than_allowed() -> None:
    assert fastest_batch(device(10, 0.01), 32, 100) == 64
    assert fastest_batch(device(10, 0.01), 32, 0) == 32


def test_an_error_that_is_not_about_memory_is_not_hidden() -> None:
    def seconds(count: int) -> float:
        if count > 32:
            raise RuntimeError("no kernel for this shape")
        return 1.0

    with pytest.raises(RuntimeError, match="no kernel"):
        fastest_batch(seconds, 32, 64)


def test_a_gpu_gets_the_batch_that_measures_fastest_and_the_same_features(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plain = make("efficientnet-lite0")
    assert make("efficientnet-lite0", largest=16).batch_size == plain.batch_size

    monkeypatch.setattr(keras_engine, "device_of", lambda backend: "gpu")
    monkeypatch.setattr(keras_engine.KerasEngine, "_seconds", lambda self, n: 1 + n / 1000)
    grown = make("efficientnet-lite0", largest=16)
    assert (plain.batch_size, grown.batch_size) == (4, 16)
    images = np.random.default_rng(0).integers(0, 256, (11, SIZE, SIZE, 3), np.uint8)
    (rows,) = grown(images)
    parts = [plain(images[i : i + 4])[0] for i in range(0, 11, 4)]
    expected = np.concatenate(parts)
    np.testing.assert_allclose(rows, expected, rtol=0, atol=ROUNDING * np.abs(expected).max())
