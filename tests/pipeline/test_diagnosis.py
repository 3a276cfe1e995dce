"""Calibration, classes, baselines and the rows that most heads get wrong."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, seed
from hypothesis import strategies as st
from sklearn import metrics

from pipeline.evaluate import (
    METRICS,
    OutOfFold,
    calibrated,
    calibration,
    folds,
    hard_rows,
    majority_logits,
    majority_score,
    per_class,
    softmax,
)

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(3000, 4)) * 2
DRAWN = np.array([RNG.choice(4, p=p) for p in softmax(LOGITS)])


def test_the_calibration_error_is_that_of_its_definition() -> None:
    probabilities = softmax(LOGITS * 2)
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == DRAWN
    expected = 0.0
    for i in range(15):
        inside = (confidence > i / 15) & (confidence <= (i + 1) / 15)
        if inside.any():
            distance = abs(confidence[inside].mean() - right[inside].mean())
            expected += inside.mean() * distance
    found = calibration(LOGITS * 2, DRAWN)
    assert found.error == pytest.approx(expected, abs=1e-12)
    assert sum(line.rows for line in found.table) == 3000


def test_bins_are_of_equal_width_and_hold_their_upper_end() -> None:
    # Two equal logits are a confidence of exactly one half, the upper end of the second of four.
    found = calibration(np.zeros((3, 2)), np.array([0, 0, 1]), bins=4)
    assert [(line.low, line.high, line.rows) for line in found.table] == [
        (0.0, 0.25, 0),
        (0.25, 0.5, 3),
        (0.5, 0.75, 0),
        (0.75, 1.0, 0),
    ]
    assert found.table[0].accuracy is None
    assert found.table[1].accuracy == pytest.approx(2 / 3)
    assert found.error == pytest.approx(1 / 6)


def test_sure_and_right_is_perfectly_calibrated() -> None:
    found = calibration(np.eye(2)[[0, 1]] * 1e4, np.array([0, 1]))
    assert found.error == 0.0
    assert found.table[-1].rows == 2


def test_temperature_scaling_calibrates_a_head_that_is_too_sure() -> None:
    parts = np.array_split(np.arange(3000), 5)
    found = calibrated([LOGITS[p] * 5 for p in parts], [DRAWN[p] for p in parts])
    assert found.before.error > 0.15
    # A calibrated head of 3000 rows has about 0.02 by chance.
    assert found.after.error < 0.03


def test_a_class_is_counted_as_scikit_learn_counts() -> None:
    found = per_class(DRAWN, LOGITS)
    predicted = LOGITS.argmax(axis=1)
    columns = metrics.precision_recall_fscore_support(DRAWN, predicted)
    assert np.array_equal(found.confusion, metrics.confusion_matrix(DRAWN, predicted))
    for mine, theirs in zip(
        (found.precision, found.recall, found.f1, found.support), columns, strict=True
    ):
        assert np.allclose(mine, theirs, rtol=0, atol=1e-12)


def test_what_a_class_lacks_is_not_a_number() -> None:
    found = per_class(np.array([0, 0]), np.eye(3)[[0, 1]])
    assert found.recall.tolist()[0] == 0.5
    assert np.isnan(found.recall[1:]).all()
    assert np.isnan(found.precision[2])
    assert np.isnan(found.f1[2])
    assert found.f1[1] == 0.0
    assert found.support.tolist() == [2, 0, 0]


def test_confusion_is_a_mean_over_repeats() -> None:
    repeats = np.stack([np.eye(2)[[0, 1]], np.eye(2)[[0, 0]]])
    found = per_class(np.array([0, 1]), repeats)
    assert found.confusion.tolist() == [[1.0, 0.0], [0.5, 0.5]]
    assert found.support.tolist() == [1, 1]


def test_the_majority_scores_what_the_sizes_of_the_classes_say() -> None:
    labels = RNG.permutation(np.repeat([0, 1, 2], [60, 30, 10]))
    plan = folds(labels, None, 5, seed=0)
    found = {name: majority_score(name, labels, plan, 3) for name in METRICS}
    entropy = -sum(p * np.log(p) for p in (0.6, 0.3, 0.1))
    expected = {
        "accuracy": 0.6,
        "balanced_accuracy": 1 / 3,
        "macro_f1": 0.75 / 3,
        "roc_auc": 0.5,
        "log_loss": entropy,
    }
    assert found == pytest.approx(expected)


def test_a_class_that_training_lacks_is_not_impossible() -> None:
    logits = majority_logits(np.array([0, 0, 1]), 3, 2)
    assert np.isfinite(logits).all()
    assert softmax(logits) == pytest.approx(np.array([[2 / 3, 1 / 3, 0]] * 2), abs=1e-12)
    one_class = [(np.array([0]), np.array([1, 2]))]
    assert majority_score("roc_auc", np.zeros(3, int), one_class, 2) is None


def test_rows_that_most_heads_get_wrong_come_worst_first() -> None:
    labels = np.array([0, 0, 1, 2, 2])
    given_labels = [[0, 1, 1, 0, 1], [0, 2, 1, 2, 1], [0, 1, 0, 0, 1], [1, 1, 1, 2, 1]]
    heads = [np.eye(3)[row] for row in given_labels]
    found = hard_rows(OutOfFold(labels, heads))
    assert [(h.row, h.share, h.given, h.votes) for h in found] == [
        (1, 1.0, 1, 0.75),
        (4, 1.0, 1, 1.0),
    ]
    repeated = [np.stack(heads[:2]), np.stack(heads[2:])]
    assert hard_rows(OutOfFold(labels, repeated)) == found


@seed(7)
@given(st.integers(0, 10**6), st.integers(1, 6), st.integers(2, 5))
def test_hard_rows_are_those_that_most_heads_get_wrong(own: int, heads: int, size: int) -> None:
    rng = np.random.default_rng(own)
    labels = rng.integers(0, size, 20)
    logits = [rng.normal(size=(20, size)) for _ in range(heads)]
    found = hard_rows(OutOfFold(labels, logits))
    wrong = np.mean([one.argmax(axis=1) != labels for one in logits], axis=0)
    assert {h.row for h in found} == {*np.flatnonzero(wrong > 0.5).tolist()}
    assert [(-h.share, h.row) for h in found] == sorted((-h.share, h.row) for h in found)
    for h in found:
        assert h.given != labels[h.row]
        assert 0 < h.votes <= h.share
