"""What every head promises, on every head of the registry."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.errors import UsageError
from pipeline.heads import (
    HEADS,
    FoldRows,
    HeadSpec,
    default_specs,
    fit_one,
    restore,
    size_of,
    softmax,
    trainer,
)
from pipeline.heads.base import UNSEEN
from pipeline.heads.fitted import CELLS
from pipeline.heads.neighbours import NeighboursTrainer

ARRAYS = tuple[NDArray[np.float32], NDArray[np.int64]]
SPECS = [
    HeadSpec("logistic", {"C": 0.1}),
    HeadSpec("ridge", {"alpha": 10.0}),
    HeadSpec("svm", {"C": 1e-3}),
    HeadSpec("svc", {"C": 1.0, "kernel": "linear"}),
    HeadSpec("svc", {"C": 1.0, "kernel": "rbf"}),
    HeadSpec("lda", {"shrinkage": "auto"}),
    HeadSpec("lda", {"shrinkage": 0.3}),
    HeadSpec("knn", {"k": 3}),
    HeadSpec("centroid", {"metric": "euclidean"}),
    HeadSpec("centroid", {"metric": "cosine"}),
    HeadSpec("mlp", {"hidden": (8, 4), "epochs": 2}),
]


def gaussians(n: int, d: int, classes: int, seed: int = 0) -> ARRAYS:
    """Classes around means three deviations apart; every class occurs."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(n) % classes)
    rows = rng.normal(size=(n, d)) + 3 * rng.normal(size=(classes, d))[labels]
    return rows.astype(np.float32), labels


@pytest.fixture(params=SPECS, ids=lambda spec: spec.name.replace(" ", "-"))
def spec(request: pytest.FixtureRequest) -> HeadSpec:
    found: HeadSpec = request.param
    return found


@pytest.mark.parametrize(("n", "d", "classes"), [(60, 8, 2), (120, 24, 12), (20, 50, 3)])
def test_logits_have_a_column_for_each_class_and_learn_them(
    spec: HeadSpec, n: int, d: int, classes: int
) -> None:
    rows, labels = gaussians(n, d, classes)
    head = fit_one(trainer(spec), FoldRows(rows, labels, classes), 1).head
    logits = head.logits(rows)
    assert logits.shape == (n, classes)
    assert logits.dtype == np.float32
    assert np.isfinite(logits).all()
    assert (head.dims, head.n_classes) == (d, classes)
    if spec.head != "mlp":
        assert (logits.argmax(axis=1) == labels).mean() > 0.9


def test_the_same_seed_gives_the_same_tensors(spec: HeadSpec) -> None:
    rows, labels = gaussians(50, 6, 3)
    fitter = trainer(spec)
    first, again = (fit_one(fitter, FoldRows(rows, labels, 3), 5).head.tensors() for _ in range(2))
    fresh = fit_one(trainer(spec), FoldRows(rows, labels, 3), 5).head.tensors()
    for name, tensor in first.items():
        assert np.array_equal(tensor, again[name])
        assert np.array_equal(tensor, fresh[name])


@pytest.mark.parametrize(("n", "d", "classes"), [(60, 8, 2), (20, 50, 3)])
def test_the_size_is_known_before_the_fit(spec: HeadSpec, n: int, d: int, classes: int) -> None:
    rows, labels = gaussians(n, d, classes)
    fitter = trainer(spec)
    head = fit_one(fitter, FoldRows(rows, labels, classes), 1).head
    told, found = fitter.head_size(n, d, classes), size_of(head)
    if head.kind == "kernel":  # its support is known after the fit
        assert found.parameters <= told.parameters
        assert found.other_bytes == told.other_bytes
    else:
        assert found == told


def test_a_prediction_of_neighbours_takes_bounded_memory() -> None:
    rng = np.random.default_rng(0)
    rows, labels = rng.normal(size=(40_000, 2)).astype(np.float32), np.arange(40_000) % 2
    head = fit_one(NeighboursTrainer(k=3), FoldRows(rows, labels, 2), 0).head
    tracemalloc.start()
    try:
        head.logits(rows[:512])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # A cosine and a position each, and little else.
    assert peak < 13 * CELLS


def test_tensors_make_the_same_head_again(spec: HeadSpec) -> None:
    rows, labels = gaussians(50, 6, 3)
    head = fit_one(trainer(spec), FoldRows(rows, labels, 3), 5).head
    back = restore(head.kind, {name: t.copy() for name, t in head.tensors().items()})
    assert np.array_equal(back.logits(rows), head.logits(rows))
    assert size_of(back) == size_of(head)


def test_inputs_are_not_changed_and_may_be_read_only(spec: HeadSpec) -> None:
    rows, labels = gaussians(50, 6, 3)
    for array in (rows, labels):
        array.setflags(write=False)
    before = rows.copy()
    head = fit_one(trainer(spec), FoldRows(rows, labels, 3), 5).head
    half = rows.astype(np.float16)
    assert np.array_equal(head.logits(half), head.logits(half.astype(np.float32)))
    assert np.array_equal(rows, before)


def test_columns_that_are_constant_in_training_say_nothing_later(spec: HeadSpec) -> None:
    rows, labels = gaussians(50, 6, 3)
    rows[:, [1, 4]] = 0.0
    head = fit_one(trainer(spec), FoldRows(rows, labels, 3), 5).head
    other = rows.copy()
    other[:, 4] = 100.0
    assert np.isfinite(head.logits(other)).all()
    if head.kind in ("linear", "mlp"):
        assert np.array_equal(head.logits(rows), head.logits(other))


def test_a_class_without_a_training_row_gets_no_probability(spec: HeadSpec) -> None:
    rows, labels = gaussians(60, 6, 2)
    labels[labels == 1] = 3
    head = fit_one(trainer(spec), FoldRows(rows, labels, 4), 5).head
    logits = head.logits(rows)
    assert logits.shape == (60, 4)
    assert np.isfinite(logits).all()
    if spec.head in ("mlp", "knn"):
        return  # theirs is small by training, or by smoothing
    assert not np.isin(logits.argmax(axis=1), (1, 2)).any()
    assert softmax(logits)[:, 1:3].max() < 1e-6


def test_one_class_alone_is_always_the_answer(spec: HeadSpec) -> None:
    rows, labels = gaussians(20, 6, 2)
    head = fit_one(trainer(spec), FoldRows(rows, np.full_like(labels, 1), 2), 5).head
    if spec.head != "mlp":
        assert (head.logits(rows).argmax(axis=1) == 1).all()
    assert np.isfinite(head.logits(rows)).all()


def test_rows_of_another_length_are_refused(spec: HeadSpec) -> None:
    rows, labels = gaussians(20, 6, 2)
    head = fit_one(trainer(spec), FoldRows(rows, labels, 2), 5).head
    with pytest.raises(ValueError, match="6 features"):
        head.logits(rows[:, :5])


def test_the_default_sweep_has_every_head_and_two_hundred_fits_in_five_folds() -> None:
    specs = default_specs()
    assert {spec.head for spec in specs} == {*HEADS}
    assert len({spec.name for spec in specs}) == len(specs)
    assert 200 <= 5 * len(specs) <= 300
    assert {tuple(s.settings["hidden"]) for s in specs if s.head == "mlp"} == {(256,), (512, 256)}
    assert all(trainer(spec) for spec in specs)


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        (HeadSpec("logistc", {"C": 1}), "logistic"),
        (HeadSpec("mlp", {"droput": 0.1}), "dropout"),
        (HeadSpec("mlp", {"_net": 1}), "no setting"),
        (HeadSpec("ridge"), "alpha"),
        (HeadSpec("ridge", {"alpha": float("nan")}), "ridge alpha=nan"),
        (HeadSpec("logistic", {"C": float("inf")}), "logistic C=inf"),
        (HeadSpec("logistic", {"C": 0}), "C is 0"),
        (HeadSpec("logistic", {"C": "1"}), "C is '1'"),
        (HeadSpec("logistic", {"C": 1, "multi_class": "ovo"}), "'ovr'"),
        (HeadSpec("svm", {"C": 1, "class_weight": "balance"}), "'balanced'"),
        (HeadSpec("svc", {"C": 1, "kernel": "poly"}), "'rbf'"),
        (HeadSpec("svc", {"C": 1, "gamma": "auto"}), "gamma is 'auto'"),
        (HeadSpec("lda", {"shrinkage": 2}), "1 at most"),
        (HeadSpec("knn", {"k": 0}), "k is 0"),
        (HeadSpec("centroid", {"metric": "manhattan"}), "'cosine'"),
    ],
)
def test_wrong_names_get_a_sentence_with_the_near_one(spec: HeadSpec, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        trainer(spec)


def _seen(classes: list[int], n_classes: int) -> dict[str, NDArray[np.int32]]:
    return {"seen": np.array(classes, "i4"), "classes": np.array([n_classes], "i4")}


KERNEL = {"rows": np.ones((3, 4), "f4"), "gamma": np.ones(1, "f4")}


@pytest.mark.parametrize(
    ("kind", "tensors", "told"),
    [
        ("forest", {}, "forest"),
        ("linear", {"weight": np.ones((2, 2), "f4")}, "bias"),
        ("linear", {"weight": np.ones((2, 2), "f8"), "bias": np.ones(2, "f4")}, "float32"),
        ("linear", {"weight": np.ones((2, 3), "f4"), "bias": np.ones(2, "f4")}, "expected"),
        ("linear", {"weight": np.ones((0, 2), "f4"), "bias": np.ones(2, "f4")}, "expected"),
        ("cosine", {"prototypes": np.full((2, 2), np.nan, "f4")}, "finite"),
        ("cosine", {"prototypes": np.ones((2, 2), "f4"), "more": np.ones(1)}, "more"),
        ("mlp", {}, "dense_0.weight"),
        ("votes", _seen([0, 1, 4], 4), "ascending"),
        ("votes", _seen([1, 0], 4), "ascending"),
        ("votes", _seen([0, 1, 2], 4) | {"weight": np.ones((5, 2), "f4")}, "expected"),
        ("kernel", _seen([0, 1], 2) | KERNEL | {"gamma": np.zeros(1, "f4")}, "above 0"),
        ("kernel", _seen([0, 1], 2) | KERNEL | {"coefficients": np.ones((2, 1), "f4")}, "expected"),
    ],
)
def test_tensors_that_do_not_fit_are_refused(
    kind: str, tensors: dict[str, NDArray[np.float32]], told: str
) -> None:
    with pytest.raises(ValueError, match=told):
        restore(kind, tensors)


def test_the_logit_of_an_unseen_class_is_finite() -> None:
    assert np.isfinite(np.float32(UNSEEN))
