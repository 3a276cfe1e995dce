"""Repeated and nested folds, and the leak that groups close."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, seed, settings
from hypothesis import strategies as st
from sklearn.neighbors import KNeighborsClassifier

from pipeline.errors import UsageError
from pipeline.evaluate import (
    Fold,
    OutOfFold,
    bbc,
    bootstrap,
    folds,
    in_rows,
    intervals,
    nested_folds,
    nested_score,
    repeated_folds,
    score,
)
from pipeline.evaluate.softmax import Floats, Labels

RNG = np.random.default_rng(0)
N = 120
LABELS = RNG.integers(0, 3, N)
HEADS = [RNG.normal(size=(N, 3)) + lift * np.eye(3)[LABELS] for lift in (0.5, 1.0, 2.0, 2.1)]
GROUPS = np.repeat(np.arange(40), 3)


def test_the_first_repeat_is_the_single_division_and_the_others_differ() -> None:
    plan = repeated_folds(LABELS, GROUPS, 4, 3, seed=5)
    single = folds(LABELS, GROUPS, 4, seed=5)
    assert [test.tolist() for _, test in plan[0]] == [test.tolist() for _, test in single]
    first_tests = {tuple(repeat[0][1].tolist()) for repeat in plan}
    assert len(first_tests) == 3
    longer = repeated_folds(LABELS, GROUPS, 4, 5, seed=5)
    assert np.array_equal(longer[2][3][1], plan[2][3][1])
    with pytest.raises(UsageError, match="0 repeats"):
        repeated_folds(LABELS, GROUPS, 4, 0, seed=5)


def test_predictions_of_folds_are_put_back_in_the_order_of_rows() -> None:
    plan = repeated_folds(LABELS, GROUPS, 4, 2, seed=0)
    parts = [[HEADS[i][test] for _, test in repeat] for i, repeat in enumerate(plan)]
    assert np.array_equal(in_rows(plan, parts, N), np.stack(HEADS[:2]))


@seed(6)
@settings(max_examples=15)
@given(outer=st.integers(2, 5), inner=st.integers(2, 4), grouped=st.booleans(), own=st.integers())
def test_nested_folds_choose_without_seeing_the_rows_they_are_scored_on(
    outer: int, inner: int, grouped: bool, own: int
) -> None:
    groups = GROUPS if grouped else np.arange(N)
    plan = nested_folds(LABELS, groups, outer, inner, seed=abs(own) % 2**31)
    assert len(plan) == outer
    tests = np.concatenate([part.test for part in plan])
    assert np.array_equal(np.sort(tests), np.arange(N))
    for part in plan:
        assert len(part.inner) == inner
        assert not {*groups[part.train]} & {*groups[part.test]}
        chosen_on = np.concatenate([out for _, out in part.inner])
        assert np.array_equal(np.sort(chosen_on), part.train)
        for fit, out in part.inner:
            assert not {*groups[fit]} & {*groups[out]}
            assert {*fit} | {*out} == {*part.train}


def test_a_nested_score_is_that_of_the_outer_predictions() -> None:
    plan = nested_folds(LABELS, GROUPS, 4, 2, seed=0)
    parts = [HEADS[2][part.test] for part in plan]
    found = nested_score("accuracy", LABELS, GROUPS, plan, parts, seed=0)
    assert found is not None
    assert found.score == pytest.approx(score("accuracy", LABELS, HEADS[2]))
    assert (
        found.interval
        == intervals(bootstrap("accuracy", OutOfFold(LABELS, HEADS[2:3], GROUPS), 0))[0]
    )
    one = np.zeros(N, int)
    assert nested_score("roc_auc", one, GROUPS, plan, parts, seed=0) is None


def test_inner_folds_that_cannot_be_are_told_as_such() -> None:
    labels = np.repeat([0, 1], [6, 60])
    with pytest.raises(UsageError, match=r"inside an outer fold .* 4 images, fewer than the 5"):
        nested_folds(labels, None, 3, 5, seed=0)


def patients() -> tuple[Floats, Labels, Labels]:
    """Make noise: 40 patients of 25 near-identical rows each, whose labels are drawn by patient."""
    rng = np.random.default_rng(4)
    groups = np.repeat(np.arange(40), 25)
    rows = rng.normal(size=(40, 32))[groups] + 0.05 * rng.normal(size=(1000, 32))
    return rows, rng.permutation(np.arange(40) % 2)[groups], groups


def neighbours(rows: Floats, labels: Labels, plan: list[Fold]) -> list[Floats]:
    """Out-of-fold logits of the nearest neighbours for several k."""
    heads = []
    for k in (1, 5, 15):
        parts = []
        for train, test in plan:
            fitted = KNeighborsClassifier(k).fit(rows[train], labels[train])
            parts.append(np.log(fitted.predict_proba(rows[test]) + 1e-9))
        heads.append(in_rows([plan], [parts], len(labels)))
    return heads


def test_a_careless_split_finds_signal_in_noise_and_groups_do_not() -> None:
    rows, labels, groups = patients()
    careless = neighbours(rows, labels, folds(labels, None, 5, seed=0))
    flattered = bbc(bootstrap("accuracy", OutOfFold(labels, careless), seed=0))
    honest = neighbours(rows, labels, folds(labels, groups, 5, seed=0))
    told = bbc(bootstrap("accuracy", OutOfFold(labels, honest, groups), seed=0))
    assert flattered is not None
    assert told is not None
    assert flattered.score > 0.9
    assert told.interval is not None
    # 40 coins: chance is 0.5 with a deviation of 0.08.
    assert told.interval.low < 0.5 < told.interval.high
    assert told.score < 0.66
