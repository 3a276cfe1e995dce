"""Intervals, the winner's correction, recommendation and comparison of heads."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from pipeline.evaluate import (
    METRICS,
    Bootstrap,
    Cost,
    OutOfFold,
    bbc,
    bootstrap,
    corrected_t,
    intervals,
    recommended,
    repeated_folds,
    score,
    standard_errors,
)
from pipeline.evaluate.resamples import drawn_rows
from pipeline.evaluate.softmax import Floats, Labels

RNG = np.random.default_rng(0)
N = 120
LABELS = RNG.integers(0, 3, N)
HEADS = [RNG.normal(size=(N, 3)) + lift * np.eye(3)[LABELS] for lift in (0.5, 1.0, 2.0, 2.1)]
GROUPS = np.repeat(np.arange(40), 3)


def answers(right: np.ndarray, labels: Labels) -> Floats:  # type: ignore[type-arg]
    """Logits of two classes whose largest entry is right where it is said to be."""
    return np.eye(2)[np.where(right, labels, 1 - labels)]


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("groups", [None, GROUPS])
def test_resampled_scores_are_those_of_rows_copied_as_often_as_drawn(
    metric: str, groups: Labels | None
) -> None:
    scored = bootstrap(metric, OutOfFold(LABELS, HEADS, groups), seed=3, count=7)
    weights = np.concatenate([*drawn_rows(7, N, groups, 3)], axis=1).astype(int)
    for head, logits in enumerate(HEADS):
        assert scored.scores[head] == pytest.approx(score(metric, LABELS, logits))
        for b in range(7):
            rows = np.repeat(np.arange(N), weights[:, b])
            left = np.flatnonzero(weights[:, b] == 0)
            inside = score(metric, LABELS[rows], logits[rows])
            outside = score(metric, LABELS[left], logits[left])
            # Sums in another order.
            assert scored.inside[head, b] == pytest.approx(inside, abs=1e-12)
            assert scored.outside[head, b] == pytest.approx(outside, abs=1e-12)


@pytest.mark.parametrize("metric", METRICS)
def test_a_repeat_of_the_same_predictions_changes_nothing(metric: str) -> None:
    once = bootstrap(metric, OutOfFold(LABELS, HEADS, GROUPS), seed=0, count=50)
    twice = OutOfFold(LABELS, [np.stack([logits, logits]) for logits in HEADS], GROUPS)
    again = bootstrap(metric, twice, seed=0, count=50)
    assert np.allclose(once.inside, again.inside, rtol=0, atol=1e-12)
    assert np.allclose(once.outside, again.outside, rtol=0, atol=1e-12)


def test_scores_are_averaged_over_repeats_and_not_voted() -> None:
    right = np.array([True, False])
    labels = np.array([0, 1])
    repeats = np.stack([answers(right, labels), answers(~right, labels), answers(right, labels)])
    scored = bootstrap("accuracy", OutOfFold(labels, [repeats]), seed=0)
    assert scored.scores[0] == pytest.approx(0.5)


def test_a_group_is_drawn_whole() -> None:
    weights = np.concatenate([*drawn_rows(50, N, GROUPS * 7 + 2, 0)], axis=1)
    assert (weights.reshape(40, 3, 50) == weights[::3][:, None]).all()
    assert (weights[::3].sum(axis=0) == 40).all()


def test_more_rows_in_each_group_that_say_the_same_do_not_narrow_an_interval() -> None:
    right = RNG.random(60) < 0.8
    labels = RNG.integers(0, 2, 60)
    alone = bootstrap("accuracy", OutOfFold(labels, [answers(right, labels)]), seed=0)
    copies = answers(np.repeat(right, 9), np.repeat(labels, 9))
    grouped = OutOfFold(np.repeat(labels, 9), [copies], np.repeat(np.arange(60), 9))
    together = bootstrap("accuracy", grouped, seed=0)
    assert intervals(alone) == intervals(together)
    careless = bootstrap("accuracy", replace(grouped, groups=None), seed=0)
    widths = [i.high - i.low for s in (together, careless) if (i := intervals(s)[0])]
    assert widths[0] > 2 * widths[1]


def test_an_interval_is_near_that_of_a_normal_proportion() -> None:
    right = np.arange(400) < 320
    labels = np.arange(400) % 2
    scored = bootstrap("accuracy", OutOfFold(labels, [answers(right, labels)]), seed=0)
    error = np.sqrt(0.8 * 0.2 / 400)
    # A thousand resamples know a deviation to about 2 %, a far percentile to about 5 %.
    assert standard_errors(scored)[0] == pytest.approx(error, rel=0.08)
    found = intervals(scored)[0]
    assert found is not None
    assert found.low == pytest.approx(0.8 - 1.645 * error, abs=0.2 * error)
    assert found.high == pytest.approx(0.8 + 1.645 * error, abs=0.2 * error)


def test_few_groups_widen_an_interval() -> None:
    resampled = np.random.default_rng(0).normal(size=(1, 100_000))
    widths = []
    for units in (4, 40, 4000):
        (found,) = intervals(Bootstrap(np.zeros(1), resampled, resampled, units))
        assert found is not None
        widths.append(found.high - found.low)
    assert widths[0] > widths[1] > widths[2]
    assert widths[2] == pytest.approx(2 * 1.645, rel=0.01)


def test_groups_of_unequal_size_count_as_fewer() -> None:
    assert OutOfFold(LABELS, HEADS, GROUPS).units == pytest.approx(40)
    assert OutOfFold(LABELS, HEADS).units == N
    one_large = np.where(np.arange(N) < N // 2, 0, np.arange(N))
    assert OutOfFold(LABELS, HEADS, one_large).units < 4


def test_one_group_alone_has_no_interval_and_no_correction() -> None:
    scored = bootstrap("accuracy", OutOfFold(LABELS, HEADS, np.zeros(N, int)), seed=0)
    assert intervals(scored) == [None] * 4
    assert bbc(scored) is None
    assert np.isnan(standard_errors(scored)).all()
    assert recommended(scored, [Cost("a", 1, 1)] * 4) == scored.best


def test_a_score_that_is_not_defined_is_none_throughout() -> None:
    scored = bootstrap("roc_auc", OutOfFold(np.zeros(N, int), HEADS), seed=0)
    assert np.isnan(scored.scores).all()
    assert intervals(scored) == [None] * 4
    assert bbc(scored) is None


def test_predictions_that_do_not_fit_the_labels_are_refused() -> None:
    with pytest.raises(ValueError, match="one row of logits for each of 7 labels"):
        OutOfFold(np.zeros(7, int), [np.zeros((6, 2))])
    with pytest.raises(ValueError, match="no predictions"):
        OutOfFold(np.zeros(7, int), [])


def test_the_correction_takes_away_the_luck_of_the_best_of_fifty_coins() -> None:
    labels = np.random.default_rng(0).integers(0, 2, 400)
    corrected, naive = [], []
    for i in range(20):
        rng = np.random.default_rng(i)
        coins = [answers(rng.random(400) < 0.5, labels) for _ in range(50)]
        scored = bootstrap("accuracy", OutOfFold(labels, coins), seed=0, count=300)
        found = bbc(scored)
        assert found is not None
        corrected.append(found.score)
        naive.append(found.score + found.optimism)
        assert naive[-1] == pytest.approx(scored.scores.max())
    # Twenty means of fifty coins each: a deviation of about 0.003.
    assert np.mean(corrected) == pytest.approx(0.5, abs=0.012)
    assert np.mean(naive) > 0.54


def test_one_head_alone_needs_no_correction() -> None:
    found = bbc(bootstrap("accuracy", OutOfFold(LABELS, HEADS[2:3]), seed=0))
    assert found is not None
    assert found.winner == 0
    assert found.optimism == pytest.approx(0, abs=0.005)  # the noise of 1000 resamples


@pytest.mark.parametrize("metric", METRICS)
def test_the_correction_does_not_depend_on_the_order_of_the_heads(metric: str) -> None:
    there = bbc(bootstrap(metric, OutOfFold(LABELS, HEADS), seed=0, count=200))
    back = bbc(bootstrap(metric, OutOfFold(LABELS, HEADS[::-1]), seed=0, count=200))
    assert there is not None
    assert back is not None
    assert there.winner == 3 - back.winner
    assert there.score == pytest.approx(back.score, abs=1e-12)


def test_the_winner_of_a_loss_has_the_smallest_and_its_luck_is_negative() -> None:
    labels = np.random.default_rng(0).integers(0, 2, 200)
    noise = [np.random.default_rng(i).normal(size=(200, 2)) for i in range(30)]
    scored = bootstrap("log_loss", OutOfFold(labels, noise), seed=0)
    found = bbc(scored)
    assert found is not None
    assert scored.scores[found.winner] == scored.scores.min()
    assert found.optimism < 0
    assert found.interval is not None
    own = intervals(scored)[found.winner]
    assert own is not None
    assert (found.interval.low, found.interval.high) == (own.low, own.high - found.optimism)


def scored_as(scores: list[float], error: float, greater: bool = True) -> Bootstrap:
    """Scores whose standard errors are all `error`, to the last digits."""
    resampled = np.tile([-1.0, 1.0], 500) * error * np.sqrt(999 / 1000)
    inside = np.array(scores)[:, None] + resampled
    return Bootstrap(np.array(scores), inside, inside, 10**9, greater)


def test_the_smallest_head_within_one_error_of_the_best_is_recommended() -> None:
    costs = [Cost("mlp", 900, 3600), Cost("logistic", 10, 40), Cost("centroid", 5, 20)]
    assert recommended(scored_as([0.90, 0.89, 0.80], error=0.02), costs) == 1
    assert recommended(scored_as([0.90, 0.89, 0.80], error=0.005), costs) == 0
    assert recommended(scored_as([0.90, 0.89, 0.80], error=0.2), costs) == 2
    assert recommended(scored_as([0.30, 0.31, 0.50], error=0.02, greater=False), costs) == 1


def test_equally_large_heads_are_told_apart_by_parameters_then_by_name() -> None:
    scored = scored_as([0.9, 0.9, 0.9], error=0.1)
    assert recommended(scored, [Cost("c", 9, 40), Cost("b", 8, 40), Cost("a", 9, 40)]) == 1
    assert recommended(scored, [Cost("bb", 8, 40), Cost("b", 8, 40), Cost("a", 8, 40)]) == 2
    with pytest.raises(ValueError, match="2 costs for 3 heads"):
        recommended(scored, [Cost("a", 1, 1)] * 2)


def test_the_corrected_t_is_that_of_its_formula() -> None:
    plan = repeated_folds(LABELS, None, 5, 2, seed=0)
    first = [0.80, 0.84, 0.79, 0.90, 0.85, 0.81, 0.83, 0.82, 0.88, 0.86]
    second = [0.78, 0.80, 0.80, 0.84, 0.80, 0.80, 0.79, 0.80, 0.83, 0.84]
    d = np.subtract(first, second)
    t = d.mean() / np.sqrt((1 / 10 + 24 / 96) * d.var(ddof=1))
    found = corrected_t(first, second, plan)
    assert found.difference == pytest.approx(d.mean())
    assert found.p == pytest.approx(2 * stats.t.sf(t, 9))
    assert found.p > stats.ttest_rel(first, second).pvalue
    half = stats.t.ppf(0.95, 9) * d.mean() / t
    assert found.interval.high - found.interval.low == pytest.approx(2 * half)
    turned = corrected_t(second, first, plan)
    assert (turned.difference, turned.p) == pytest.approx((-found.difference, found.p))


def test_folds_without_a_score_do_not_count_in_a_t_test() -> None:
    plan = [[(np.arange(4), np.arange(4, 5))] * 3]
    assert corrected_t([0.5, None, None], [0.4, 0.3, 0.2], plan).p == 1.0
    assert corrected_t([None] * 3, [None] * 3, plan).interval.high == np.inf
    equal = corrected_t([0.5, 0.6, None], [0.5, 0.6, 0.1], plan)
    assert (equal.p, equal.difference) == (1.0, 0.0)
    assert corrected_t([0.5, 0.6, 0.7], [0.4, 0.5, 0.6], plan).p == 0.0
