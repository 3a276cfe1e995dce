"""Folds, metrics, temperatures and ties."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics

from pipeline.errors import UsageError
from pipeline.evaluate import (
    METRICS,
    Part,
    cross_fitted,
    fit_temperature,
    folds,
    score,
    softmax,
    tied,
)
from pipeline.evaluate.metrics import _log_odds
from pipeline.evaluate.resamples import resamples_for
from pipeline.evaluate.softmax import Floats, Labels, log_softmax

RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, 4, 300)
LOGITS = RNG.normal(size=(300, 4)) + 1.5 * np.eye(4)[LABELS]


def test_folds_hold_every_row_once_and_are_stratified() -> None:
    parts = folds(LABELS, None, 5, seed=1)
    assert np.array_equal(np.sort(np.concatenate([test for _, test in parts])), np.arange(300))
    for train, test in parts:
        assert not {*train} & {*test}
        assert len(train) + len(test) == 300
        counts = np.bincount(LABELS[test], minlength=4)
        assert np.abs(counts - np.bincount(LABELS) / 5).max() <= 1


def test_no_group_is_in_two_folds() -> None:
    groups = RNG.integers(0, 60, 300)
    parts = folds(LABELS, groups, 5, seed=1)
    assert np.array_equal(np.sort(np.concatenate([test for _, test in parts])), np.arange(300))
    for train, test in parts:
        assert not {*groups[train]} & {*groups[test]}


def test_folds_follow_the_seed() -> None:
    first, same, other = (folds(LABELS, None, 3, seed=s)[0][1] for s in (1, 1, 2))
    assert np.array_equal(first, same)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize(
    ("labels", "groups", "k", "told"),
    [
        (np.array([0, 0, 0, 1, 1]), None, 3, "2 images"),
        (np.array([0, 0, 0, 1, 1, 1]), np.array([0, 0, 0, 1, 1, 1]), 3, "2 groups"),
        (np.array([0, 1]), None, 1, "at least 2"),
    ],
)
def test_folds_that_cannot_be_are_refused(
    labels: np.ndarray,  # type: ignore[type-arg]
    groups: np.ndarray | None,  # type: ignore[type-arg]
    k: int,
    told: str,
) -> None:
    with pytest.raises(UsageError, match=told):
        folds(labels, groups, k, seed=0)


def test_metrics_are_those_of_scikit_learn() -> None:
    predicted, probabilities = LOGITS.argmax(axis=1), softmax(LOGITS)
    expected = {
        "accuracy": metrics.accuracy_score(LABELS, predicted),
        "balanced_accuracy": metrics.balanced_accuracy_score(LABELS, predicted),
        "macro_f1": metrics.f1_score(LABELS, predicted, average="macro"),
        "roc_auc": metrics.roc_auc_score(LABELS, probabilities, multi_class="ovr"),
        "log_loss": metrics.log_loss(LABELS, probabilities),
    }
    assert {*METRICS} == {*expected}
    for name, value in expected.items():
        assert score(name, LABELS, LOGITS) == pytest.approx(value, abs=1e-9)


def test_the_area_of_two_classes_is_that_of_the_second_ties_included() -> None:
    labels = np.array([0, 1, 1, 0, 1, 0])
    logits = np.stack([np.zeros(6), np.array([1.0, 2, 1, 0, 1, 1])], axis=1)
    expected = metrics.roc_auc_score(labels, logits[:, 1])
    assert score("roc_auc", labels, logits) == pytest.approx(expected)
    # Probabilities that round to 1 are still told apart.
    assert score("roc_auc", labels, logits * 1000) == pytest.approx(expected)


def test_classes_that_do_not_occur_leave_every_metric_defined_or_none() -> None:
    few = LABELS[LABELS < 2][:20]
    logits = LOGITS[LABELS < 2][:20]
    for name in METRICS:
        assert np.isfinite(score(name, few, logits))  # type: ignore[arg-type]
    assert score("roc_auc", np.zeros(5, int), LOGITS[:5]) is None


def test_one_sure_mistake_is_not_infinite() -> None:
    assert score("log_loss", np.array([0]), np.array([[-1e4, 0.0]])) == pytest.approx(34.5, abs=0.1)


def test_which_scores_are_better_when_greater() -> None:
    assert [m.name for m in METRICS.values() if not m.greater_is_better] == ["log_loss"]


@pytest.mark.parametrize("scale", [0.05, 1.0, 30.0])
def test_a_temperature_undoes_a_scale(scale: float) -> None:
    drawn = np.array([RNG.choice(4, p=p) for p in softmax(LOGITS)])
    base = fit_temperature(LOGITS, drawn)
    assert base == pytest.approx(1.0, abs=0.25)
    assert fit_temperature(LOGITS * scale, drawn) == pytest.approx(base * scale, rel=1e-2)


def test_temperatures_stay_finite() -> None:
    assert 1e-4 <= fit_temperature(np.eye(2)[[0, 1, 0]], np.array([0, 1, 0])) < 1
    assert 1 < fit_temperature(np.eye(2)[[1, 0, 1]], np.array([0, 1, 0])) <= 1e4


def test_a_part_is_scaled_by_the_others() -> None:
    parts, labels = [LOGITS[:150], LOGITS[150:] * 7], [LABELS[:150], LABELS[150:]]
    first, second = cross_fitted(parts, labels)
    assert np.allclose(first, parts[0] / fit_temperature(parts[1], labels[1]))
    assert np.allclose(second, parts[1] / fit_temperature(parts[0], labels[0]))
    alone = cross_fitted([LOGITS], [LABELS])[0]
    assert alone.shape == LOGITS.shape
    assert len(np.unique(np.round(LOGITS[:, 0] / alone[:, 0], 9))) == 2


@pytest.mark.parametrize("scale", [1.0, 50.0, 1e6])
@pytest.mark.parametrize("classes", [2, 3, 40])
def test_log_odds_are_those_of_the_sum_over_the_other_classes(classes: int, scale: float) -> None:
    logits = np.random.default_rng(1).normal(size=(200, classes)) * scale
    logits[:20] = 0.0  # all equal
    logits[20:40, 0] = logits[20:40, 1]  # two that share the largest or not
    logits[40:60, -1] = -1e4 * scale
    logp = log_softmax(logits)
    expected = np.stack(
        [
            logp[:, i] - np.logaddexp.reduce(np.delete(logp, i, axis=1), axis=1)
            for i in range(classes)
        ],
        axis=1,
    )
    assert np.allclose(_log_odds(logp), expected, rtol=1e-9, atol=1e-9)


def resampled_one_by_one(
    metric: str, labels: Labels, logits: tuple[Floats, Floats], groups: Labels
) -> bool:
    """The definition: rows copied as often as their group is drawn."""
    rng = np.random.default_rng(0)
    members = [np.flatnonzero(groups == group) for group in np.unique(groups)]
    differences = []
    for _ in range(1000):
        drawn = rng.integers(len(members), size=len(members))
        rows = np.concatenate([members[i] for i in drawn])
        a, b = (score(metric, labels[rows], part[rows]) for part in logits)
        if a is not None and b is not None:
            differences.append(a - b)
    low, high = np.quantile(differences, (0.025, 0.975))
    return bool(low <= 0.0 <= high)


@pytest.mark.parametrize("metric", METRICS)
def test_ties_on_rows_are_those_of_rows_drawn_one_by_one(metric: str) -> None:
    rng = np.random.default_rng(2)
    labels, logits, groups = LABELS[:90], LOGITS[:90], np.repeat(np.arange(45), 2) * 7
    others = [logits + rng.normal(size=logits.shape) * noise for noise in (0.1, 0.5, 1.0, 2.0, 9.0)]
    for own in (groups, np.arange(90)):
        expected = [resampled_one_by_one(metric, labels, (logits, o), own) for o in others]
        assert tied(metric, [Part(labels, logits, others, own)], 0) == expected
    assert tied(metric, [Part(labels, logits, others)], 0) == expected


def test_the_area_is_resampled_less_often_where_it_would_take_minutes() -> None:
    assert resamples_for("roc_auc", 10_000 * 10) == 1000
    assert resamples_for("roc_auc", 50_000 * 1000) == 200
    assert resamples_for("accuracy", 50_000 * 1000) == 1000


def test_ties_on_rows_follow_a_paired_bootstrap() -> None:
    noise = RNG.normal(size=LOGITS.shape) * 3
    slightly = LOGITS + RNG.normal(size=LOGITS.shape) * 0.1
    others = [LOGITS, slightly, noise]
    assert tied("accuracy", [Part(LABELS, LOGITS, others)], 0) == [True, True, False]
    assert tied("log_loss", [Part(LABELS, LOGITS, [noise])], 0) == [False]
    # All rows in one group: nothing varies.
    one = np.zeros(300, int)
    assert tied("accuracy", [Part(LABELS, LOGITS, [LOGITS, noise], one)], 0) == [True, False]
    assert tied("accuracy", [Part(LABELS, LOGITS, [])], 0) == []


def test_a_head_that_is_worse_in_every_fold_is_no_tie_however_its_lag_varies() -> None:
    """A test on the scores of five folds alone could not tell: they differ too much."""
    rng = np.random.default_rng(3)
    parts, lags = [], (0.12, 0.3, 0.12, 0.16, 0.07)
    for lag in lags:
        labels = rng.integers(0, 2, 44)
        right = np.eye(2)[labels]
        wrong = np.arange(44) < round(44 * lag)
        other = np.where(wrong[:, None], 1 - right, right)
        parts.append(Part(labels, right, [other, right]))
    assert tied("accuracy", parts, 0) == [False, True]


def test_a_fold_without_a_score_does_not_count() -> None:
    lacking = Part(np.zeros(20, int), LOGITS[:20], [LOGITS[:20]])
    assert tied("roc_auc", [lacking], 0) == [True]
    noise = RNG.normal(size=LOGITS.shape) * 30
    sound = Part(LABELS, LOGITS, [noise])
    assert tied("roc_auc", [lacking, sound], 0) == [False]
