"""What the answer to "is my head too big?" promises, on boards made by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from scipy.stats import t

from pipeline.heads import HeadSpec, mlp_parameters
from pipeline.report.answer import answer_text
from pipeline.report.effects import Board, Line, effects, gain

OWN = {"hidden": (1024, 512, 256), "dropout": 0.5}


def line(head: str, folds: Sequence[float | None], pooling: str = "avg", **settings: Any) -> Line:
    """A head that scored so on each fold, of the size it has on ResNet50 at 300 x 300."""
    dims = 10 * 10 * 2048 if pooling == "flatten" else 2048
    return Line(
        spec=HeadSpec(head, settings),
        score=float(np.mean([score for score in folds if score is not None])),
        train_score=0.9985,
        fold_scores=tuple(folds),
        parameters=mlp_parameters(dims, settings.get("hidden", ()), 2),
        pooling=pooling,
    )


def board(*lines: Line, metric: str = "accuracy", rows: int = 2000) -> Board:
    return Board(
        lines=lines,
        metric=metric,
        rows=rows,
        scored=rows // 5,
        batch=30,
        backbone="resnet50",
        backbone_bytes=94_700_000,
    )


NOISE = np.array([0.004, -0.003, 0.001, -0.002, 0.0])


def folds(mean: float, wiggle: int = 0) -> tuple[float, ...]:
    """Five scores around a mean, the noise of each head in an order of its own."""
    return tuple(float(score) for score in mean + np.roll(NOISE, wiggle))


def test_a_smaller_head_that_is_better_says_yes() -> None:
    text = answer_text(
        board(
            line("mlp", folds(0.875), **OWN),
            line("mlp", folds(0.92, 1), hidden=(256,)),
            line("logistic", folds(0.91, 2), C=0.01),
        )
    )
    assert "yes: a smaller head is better" in text
    assert "accuracy 0.875, and 0.999 on the images it was trained on" in text
    assert "+0.045 [" in text
    assert "best of 1 smaller network" in text
    assert "lucky" not in text


def test_a_tie_says_that_the_size_is_not_needed() -> None:
    text = answer_text(
        board(
            line("mlp", folds(0.900), **OWN),
            line("mlp", folds(0.901, 2), hidden=(256,)),
            line("mlp", folds(0.800, 2), hidden=(512,)),
        )
    )
    assert "+0.001 [" in text
    assert "cannot be told apart" in text
    assert "larger than it need be" in text
    assert "best of 2 smaller networks" in text
    assert "lucky" in text


def test_equal_scores_on_every_fold_are_a_tie() -> None:
    tie = board(line("mlp", folds(0.9), **OWN), line("ridge", folds(0.9), alpha=1.0))
    assert "larger than it need be" in answer_text(tie)


def test_a_larger_head_that_is_better_says_no() -> None:
    text = answer_text(
        board(
            line("mlp", folds(0.95), **OWN),
            line("mlp", folds(0.90, 1), hidden=(256,)),
            line("ridge", folds(0.89, 2), alpha=1.0),
        )
    )
    assert "no: what is smaller is worse" in text


def test_a_loss_is_better_where_it_is_smaller() -> None:
    text = answer_text(
        board(
            line("mlp", folds(0.5), **OWN),
            line("mlp", folds(0.3, 1), hidden=(256,)),
            metric="log_loss",
        )
    )
    assert "yes: a smaller head is better" in text
    assert "+0.200 [" in text


def test_one_fold_of_many_images_tells_a_large_difference_apart() -> None:
    own = line("mlp", (0.80,), "flatten", **OWN)
    small = line("mlp", folds(0.92), hidden=(256,))
    text = answer_text(board(own, small))
    assert "on one fold" in text
    assert "yes: a smaller head is better" in text
    few = answer_text(board(own, small, rows=50))
    assert "cannot be told apart" in few
    assert "larger than it need be" in few


def test_one_fold_of_another_metric_leaves_it_open() -> None:
    text = answer_text(
        board(
            line("mlp", (0.80,), "flatten", **OWN),
            line("mlp", folds(0.92), hidden=(256,)),
            metric="macro_f1",
        )
    )
    assert "tells no uncertainty" in text
    assert "open:" in text


def test_the_interval_is_that_of_the_corrected_t_test() -> None:
    first, second = folds(0.92, 1), folds(0.90)
    pair = (line("mlp", first, hidden=(256,)), line("mlp", second, **OWN))
    found = gain([pair], board(*pair))
    assert found is not None
    difference = np.subtract(first, second)
    # Five folds: 1/5 for the mean, and 1/4 for what a fold scores over what it trains on.
    error = np.sqrt((1 / 5 + 1 / 4) * difference.var(ddof=1))
    low, high = t.interval(0.95, 4, loc=difference.mean(), scale=error)
    assert (found.low, found.high) == pytest.approx((low, high), rel=1e-12)


def test_folds_without_a_score_are_left_out_of_both() -> None:
    pair = (line("mlp", (0.9, None, 0.8), hidden=(8,)), line("mlp", (0.7, 0.1, None), hidden=(9,)))
    found = gain([pair], board(*pair))
    assert found is not None
    assert (found.mean, found.folds) == (pytest.approx(0.2), 1)
    none = (line("mlp", (None, 0.9), hidden=(8,)), line("mlp", (0.7,), hidden=(9,)))
    assert gain([none], board(*none)) is None


def test_effects_compare_heads_that_differ_in_one_thing() -> None:
    lines = [
        line("mlp", folds(0.80), "flatten", **OWN),
        line("mlp", folds(0.86, 1), **OWN),
        line("mlp", folds(0.90), hidden=(256,), dropout=0.0),
        line("mlp", folds(0.91), hidden=(256,), dropout=0.5),
        line("mlp", folds(0.92), hidden=(512,), dropout=0.0),
        line("mlp", folds(0.95, 3), hidden=(512,), dropout=0.5),
        line("mlp", folds(0.89, 2), hidden=(256,), dropout=0.5, patience=None),
        line("ridge", folds(0.99), alpha=1.0),
    ]
    found = {(e.setting, e.value): e.gain for e in effects(board(*lines))}
    assert set(found) == {
        ("hidden", (256,)), ("hidden", (512,)), ("pooling", "avg"), ("dropout", 0.5),
        ("patience", 5),
    }  # fmt: skip
    assert found["pooling", "avg"].mean == pytest.approx(0.06)
    assert found["dropout", 0.5].mean == pytest.approx((0.01 + 0.03) / 2)
    assert found["dropout", 0.5].pairs == 2
    assert found["patience", 5].mean == pytest.approx(0.02)
    assert found["hidden", (256,)].mean == pytest.approx(0.05)
    text = answer_text(board(*lines))
    assert "avg pooling instead of flatten: +0.060 [" in text
    assert "dropout 0.5 instead of none: +0.020 [" in text
    assert "early stopping after 5 epochs" in text
    assert "layers 256 instead of 1024+512+256: +0.050 [" in text


def test_pairs_on_fewer_folds_do_not_count() -> None:
    lines = (
        line("mlp", folds(0.90), hidden=(256,), dropout=0.0),
        line("mlp", folds(0.92, 1), hidden=(256,), dropout=0.5),
        line("mlp", (0.1,), hidden=(512,), dropout=0.0),
        line("mlp", (0.9,), hidden=(512,), dropout=0.5),
    )
    (dropout,) = (e.gain for e in effects(board(*lines)) if e.setting == "dropout")
    assert (dropout.pairs, dropout.folds) == (1, 5)
    assert dropout.mean == pytest.approx(0.02)


def test_the_weight_file_is_told_with_and_without_the_optimizer() -> None:
    text = answer_text(
        board(line("mlp", (0.9,), "flatten", **OWN), line("ridge", folds(0.9), alpha=1.0))
    )
    assert (
        "210372866 parameters of 4 bytes, 841.5 MB, 2.5 GB with Adam's two moments, "
        "2.6 GB with resnet50 as well"
    ) in text
    assert "4098 parameters of 4 bytes, 16.4 kB, 94.7 MB with resnet50 as well" in text


@pytest.mark.parametrize(("rows", "steps"), [(2000, 67), (1800, 60), (1, 1)])
def test_steps_see_every_image_once(rows: int, steps: int) -> None:
    assert f"/ batch of 30) = {steps}," in answer_text(board(rows=rows))


def test_boards_that_lack_something_say_so() -> None:
    assert "no network is on this board" in answer_text(board())
    alone = answer_text(board(line("mlp", folds(0.9), **OWN)))
    assert "nothing smaller is there to compare it with" in alone
    assert "no two networks on this board differ in one thing alone" in alone


def test_an_interval_that_is_known_is_shown() -> None:
    known = Line(
        spec=HeadSpec("mlp", OWN),
        score=0.9,
        train_score=1.0,
        fold_scores=(0.9,),
        parameters=10,
        interval=(0.85, 0.94),
    )
    assert "accuracy 0.900 [0.850, 0.940]" in answer_text(board(known))
