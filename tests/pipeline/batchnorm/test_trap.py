from __future__ import annotations

import numpy as np
import pytest

from pipeline.backbones import backbone, resolve_weights
from pipeline.batchnorm import norms_of
from pipeline.batchnorm.proofs import features_of
from pipeline.batchnorm.trap import batch_features, measure
from pipeline.engines.keras_engine import KerasEngine

N = 120
LABELS = np.arange(N) % 2
ALONE = np.arange(N)


def rows() -> np.ndarray:
    """Two classes in 8 dimensions that a head tells apart, at a margin."""
    rng = np.random.default_rng(0)
    features = rng.normal(0, 1, (N, 8)).astype(np.float32)
    features[:, 0] += 6 * LABELS
    return features


def test_no_shift_costs_nothing() -> None:
    found = measure(rows(), rows(), LABELS, ALONE, seed=0)
    assert found.cached > 0.95
    assert (found.loss, found.error) == (0, 0)
    assert found.promised == found.cached
    assert (found.images, found.classes, found.folds) == (N, 2, 5)


def test_features_that_are_served_elsewhere_than_trained_cost_what_chance_does() -> None:
    shift = np.zeros(8, np.float32)
    shift[0] = 12
    found = measure(rows(), rows() + shift, LABELS, ALONE, seed=0)
    assert found.promised > 0.95
    assert found.served == pytest.approx(0.5, abs=0.02)
    assert found.loss > 0.4
    assert found.loss > 5 * found.error


def test_a_group_is_on_one_side_of_every_fold() -> None:
    # Pairs of one picture under two labels: who has seen the one gets the other wrong.
    features = np.repeat(np.random.default_rng(0).normal(0, 1, (N // 2, 200)), 2, axis=0)
    features = features.astype(np.float32)
    torn = measure(features, features, LABELS, ALONE, seed=0)
    together = measure(features, features, LABELS, ALONE // 2, seed=0)
    assert torn.cached < 0.4
    assert together.cached == 0.5


def test_batch_features_are_others_than_stored_ones_and_leave_nothing_behind() -> None:
    row = backbone("efficientnet-lite0")
    engine = KerasEngine(row, resolve_weights(row, "random"), size=32, batch_size=4)
    norms = norms_of(engine.network)
    before = [norm.statistics for norm in norms]
    images = np.random.default_rng(0).integers(0, 256, (10, 32, 32, 3), dtype=np.uint8)
    stored = features_of(engine, images)
    batched = batch_features(engine.model, norms, images, 4, seed=0)
    assert batched.shape == stored.shape
    assert np.abs(batched - stored).max() > 0.1 * np.abs(stored).max()
    assert all(n.statistics.equal(was) for n, was in zip(norms, before, strict=True))
    np.testing.assert_array_equal(features_of(engine, images), stored)
