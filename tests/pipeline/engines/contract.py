"""What every engine must pass: subclass with an `engine` fixture.

The fixture gives an engine for images of 64 x 64 with a batch size of 4 and several outputs.
"""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.engines import Engine

SIZE = 64
BATCH = 4


def noise(count: int, seed: int = 0) -> NDArray[np.uint8]:
    """Smooth coloured noise, no two images alike, uint8 (count, 64, 64, 3)."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)
    return coarse.repeat(8, axis=1).repeat(8, axis=2)


def features_of(engine: Engine, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """All outputs side by side."""
    return np.concatenate(engine(images), axis=1)


class EngineContract:
    # Of one engine, at one batch shape, between one call and the next. Zero for an engine that does
    # the same arithmetic for every place in the batch; otherwise relative to the largest feature.
    tolerance = 0.0

    def close(self, first: NDArray[np.float32], second: NDArray[np.float32]) -> bool:
        if self.tolerance == 0.0:
            return bool(np.array_equal(first, second))
        scale = float(np.abs(second).max())
        return bool(np.abs(first - second).max() <= self.tolerance * scale)

    def test_features_are_float32_rows_owned_by_the_caller(self, engine: Engine) -> None:
        outputs = engine(noise(BATCH))
        before = [rows.copy() for rows in outputs]
        engine(noise(BATCH, seed=1))
        for rows, dims, first in zip(outputs, engine.dims, before, strict=True):
            assert rows.dtype == np.float32
            assert rows.shape == (BATCH, dims)
            assert rows.flags.owndata
            assert rows.flags.writeable
            np.testing.assert_array_equal(rows, first)

    def test_it_tells_what_it_is(self, engine: Engine) -> None:
        assert engine.name
        assert engine.precision in ("float32", "bfloat16", "float16")
        assert engine.batch_size == BATCH
        assert len(engine.outputs) == len(engine.dims) > 1

    def test_images_differ(self, engine: Engine) -> None:
        features = features_of(engine, noise(BATCH))
        assert np.isfinite(features).all()
        assert features.std(axis=0).mean() > 0.01 * features.std()

    def test_calling_again_gives_the_same_bits(self, engine: Engine) -> None:
        np.testing.assert_array_equal(
            features_of(engine, noise(BATCH)), features_of(engine, noise(BATCH))
        )

    @pytest.mark.parametrize("count", range(BATCH + 1))
    def test_a_feature_does_not_depend_on_how_full_the_batch_is(
        self, engine: Engine, count: int
    ) -> None:
        whole = features_of(engine, noise(BATCH))
        part = features_of(engine, noise(BATCH)[:count])
        assert part.shape == (count, sum(engine.dims))
        assert count == 0 or self.close(part, whole[:count])

    def test_a_feature_does_not_depend_on_its_neighbours(self, engine: Engine) -> None:
        images = noise(BATCH)
        others = noise(BATCH, seed=1)
        others[1] = images[1]
        others[2] = 255
        assert self.close(features_of(engine, others)[1:2], features_of(engine, images)[1:2])

    def test_a_feature_does_not_depend_on_its_place(self, engine: Engine) -> None:
        images = noise(BATCH)
        order = [2, 0, 3, 1]
        assert self.close(features_of(engine, images[order]), features_of(engine, images)[order])

    def test_images_are_not_changed(self, engine: Engine) -> None:
        images = noise(BATCH)
        features_of(engine, images)
        np.testing.assert_array_equal(images, noise(BATCH))

    def test_views_and_read_only_images_are_taken(self, engine: Engine) -> None:
        images = noise(2 * BATCH)
        images.flags.writeable = False
        assert self.close(features_of(engine, images[::2]), features_of(engine, images[::2].copy()))

    @pytest.mark.parametrize(
        "images",
        [
            noise(BATCH + 1),
            noise(1).astype(np.float32),
            noise(1)[:, :32],
            noise(1)[..., :1],
            noise(1)[0],
        ],
        ids=["too many", "floats", "another size", "grey", "no batch"],
    )
    def test_other_input_is_refused(self, engine: Engine, images: NDArray[np.uint8]) -> None:
        with pytest.raises(ValueError, match="expected at most 4 uint8 images"):
            features_of(engine, images)
