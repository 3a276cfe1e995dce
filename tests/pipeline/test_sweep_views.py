"""Augmented views in a sweep: of images that are trained on, never on the other side of a split."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.evaluate import mean_logits, softmax
from pipeline.heads import FoldRows, HeadSpec
from pipeline.heads.member import Member
from pipeline.heads.mlp import MlpTrainer
from pipeline.sweep import SweepConfig, SweepData, fits, sweep
from pipeline.sweep.kept import KeptFits, Rows
from pipeline.sweep.plan import size_of_last
from pipeline.sweep.views import Views, fold_rows, image_logits, scored_rows

RIDGE = (HeadSpec("ridge", {"alpha": 1.0}), HeadSpec("logistic", {"C": 0.1}))


def numbered(n: int, count: int, *, averaged: bool = False, **more: Any) -> SweepData:
    """Rows that say which image they are of, and which view: ``(image, view, noise)``."""

    def read(at: np.ndarray, view: int) -> np.ndarray:
        noise = np.random.default_rng(view).normal(size=n).astype(np.float32)
        return np.stack([at, np.full(len(at), view), noise[at]], axis=1).astype(np.float32)

    every = np.arange(n)
    views = Views("numbered", count, read, averaged) if count else None
    usual: dict[str, Any] = {"labels": every % 2, "classes": ("a", "b"), "views": views}
    return SweepData(read(every, 0), **(usual | more))


class Spy:
    """What was fitted on and what was scored, by image and view."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.pairs: list[tuple[FoldRows, np.ndarray]] = []
        rows: list[FoldRows] = []

        def fitted_on(data: SweepData, at: np.ndarray) -> FoldRows:
            rows.append(fold_rows(data, at))
            return rows[-1]

        def scored_by(data: SweepData, at: np.ndarray) -> np.ndarray:
            scored = scored_rows(data, at)
            self.pairs.append((rows.pop(), scored))
            return scored

        monkeypatch.setattr(fits, "fold_rows", fitted_on)
        monkeypatch.setattr(fits, "scored_rows", scored_by)
        # In turn, so that what belongs together is seen together.
        monkeypatch.setattr(fits, "usable_cores", lambda: 1)


cases = st.tuples(
    st.integers(24, 60), st.integers(1, 4), st.booleans(), st.integers(0, 2**31), st.integers(1, 12)
)


@settings(max_examples=25)
@given(cases)
def test_no_view_of_an_image_or_of_its_group_is_on_two_sides_of_a_split(
    case: tuple[int, int, bool, int, int],
) -> None:
    n, count, averaged, seed, of_a_group = case
    groups = np.random.default_rng(seed).permutation(np.arange(n) // of_a_group)
    labels = groups % 2 if of_a_group > 1 else np.arange(n) % 2
    roles = np.where(groups % 5 == 4, "test", "train")
    data = numbered(n, count, averaged=averaged, groups=groups, labels=labels, roles=roles)
    if min(len(np.unique(groups[(labels == c) & (roles == "train")])) for c in (0, 1)) < 2:
        return
    with pytest.MonkeyPatch.context() as patch:
        spy = Spy(patch)
        config = SweepConfig(specs=RIDGE[:1], folds=2, seed=seed % 1000)
        sweep(data, config)
    real = [pair for pair in spy.pairs if pair[0].features.shape[1] == 3]
    assert real
    for rows, scored in real:
        trained, seen = (part[:, 0].astype(int) for part in (rows.features, scored))
        assert not set(groups[trained]) & set(groups[seen])
        assert not set(groups[trained]) & set(groups[roles == "test"])
        assert sorted(zip(*rows.features[:, :2].T.astype(int), strict=True)) == sorted(
            (i, view) for i in set(trained) for view in range(count + 1)
        ), "each image trained on is there with each of its views, once"
        assert set(scored[:, 1]) == (set(range(count + 1)) if averaged else {0})
        assert rows.groups is not None
        np.testing.assert_array_equal(rows.groups, groups[trained])
        np.testing.assert_array_equal(rows.labels, labels[trained])


@given(st.integers(8, 60), st.integers(1, 4), st.integers(0, 2**31), st.booleans())
@settings(max_examples=25)
def test_early_stopping_looks_at_plain_rows_of_images_that_are_not_trained_on(
    n: int, count: int, seed: int, grouped: bool
) -> None:
    data = numbered(n, count, groups=np.arange(n) // 2 if grouped else None)
    rows = fold_rows(data, np.arange(n))
    member = Member.drawn(MlpTrainer(hidden=(2,)), rows, seed)
    trained, held = rows.features[member.train], rows.features[member.held]
    assert len(held)
    assert set(held[:, 1]) == {0}
    assert not set(trained[:, 0]) & set(held[:, 0])
    assert len(trained) == (n - len(held)) * (count + 1)


def test_without_views_all_is_as_before() -> None:
    data = numbered(12, 0)
    rows = fold_rows(data, np.arange(3, 9))
    np.testing.assert_array_equal(rows.features, data.features[3:9])
    assert rows.groups is rows.plain is None


class Linear:
    """A head whose logits are two of the features."""

    kind, dims, n_classes = "linear", 3, 2

    def logits(self, features: np.ndarray) -> np.ndarray:
        return features[:, 1:].astype(np.float32)

    def tensors(self) -> dict[str, np.ndarray]:
        return {}


def test_the_mean_of_views_is_the_mean_of_their_probabilities() -> None:
    at = np.array([5, 2, 7])
    plain = image_logits(Linear(), numbered(9, 3), at)
    np.testing.assert_array_equal(plain, numbered(9, 3).features[at, 1:])
    mean = image_logits(Linear(), data := numbered(9, 3, averaged=True), at)
    assert data.views is not None
    each = [softmax(data.features[at, 1:])]
    each += [softmax(data.views.read(at, view)[:, 1:]) for view in (1, 2, 3)]
    np.testing.assert_allclose(softmax(mean), np.mean(each, axis=0), rtol=1e-5)


def test_means_of_logits_as_far_apart_as_they_come_are_finite() -> None:
    logits = np.array([[[-1e4, 300.0]], [[300.0, -1e4]], [[0.0, 0.0]]], np.float32)
    mean = mean_logits(logits)
    assert np.isfinite(mean).all()
    np.testing.assert_allclose(softmax(mean), [[0.5, 0.5]])


def test_views_help_where_they_show_what_plain_rows_do_not() -> None:
    """The classes differ in x; plain training rows know y, which changes in new images, as well."""
    rng = np.random.default_rng(0)
    n = 200
    labels = np.arange(n) % 2
    x = labels + rng.normal(0, 0.4, n)
    late = np.arange(n) >= n // 2
    y = np.where(late, rng.normal(0, 3, n), labels + rng.normal(0, 0.1, n))
    plain = np.stack([x, y], axis=1).astype(np.float32)

    def read(at: np.ndarray, view: int) -> np.ndarray:
        other = np.random.default_rng(view).normal(0, 3, n)
        return np.stack([x, other], axis=1)[at].astype(np.float32)

    roles = np.where(late, "val", "train")
    config = SweepConfig(specs=(HeadSpec("ridge", {"alpha": 1.0}),))
    alone = sweep(SweepData(plain, labels, ("a", "b"), roles=roles), config)
    views = Views("y", 7, read)
    more = sweep(SweepData(plain, labels, ("a", "b"), roles=roles, views=views), config)
    assert more.leaderboard[0].score > alone.leaderboard[0].score + 0.1


def named(**more: Any) -> SweepData:
    keys = [hashlib.sha256(b"%d" % i).digest() for i in range(40)]
    rows = Rows("recipe", np.frombuffer(b"".join(keys), np.uint8).reshape(-1, 32))
    return numbered(40, more.pop("count", 2), rows_named=rows, **more)


def test_kept_fits_are_of_the_same_views(tmp_path: Path) -> None:
    config = SweepConfig(specs=RIDGE)
    with KeptFits(tmp_path / "fits.sqlite") as memory:

        def reused(data: SweepData) -> int:
            return sweep(data, config, memory=memory).fits_reused

        other = Views("of another seed", 2, named().views.read)  # type: ignore[union-attr]
        different: Sequence[SweepData] = (
            named(count=0),
            named(),
            named(count=3),
            named(averaged=True),
            named(views=other),
        )
        assert [reused(data) for data in different] == [0] * 5
        assert [reused(data) for data in different] == [10] * 5


def test_the_size_of_a_head_that_keeps_its_rows_counts_those_of_views() -> None:
    from pipeline.heads.registry import trainer

    knn = trainer(HeadSpec("knn", {"k": 1}))
    sizes = [size_of_last(knn, numbered(20, count)).parameters for count in (0, 3)]
    assert sizes[1] == 4 * sizes[0]
