"""Every head agrees with scikit-learn's own estimator at the same setting, alone and in company."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.multiclass import OneVsRestClassifier
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, LinearSVC

from pipeline.heads import FoldRows, HeadSpec, fit_one, logits_all, softmax, trainer

Rows = NDArray[np.float32]
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Peer:
    """A head, scikit-learn's estimator of the same problem, and how near decisions must be.

    Tolerances are relative to the largest decision. Float32 weights and rows give about 1e-6; what
    is beyond is the tolerance of a solver, ours (1e-6, or libsvm's 1e-3 either way) or theirs.
    """

    head: str
    settings: dict[str, Any]
    estimator: Any
    tolerance: float


def logistic(C: float, weight: str | None = None) -> Peer:
    settings = {"C": C, "tol": 1e-6} | ({"class_weight": weight} if weight else {})
    model = LogisticRegression(C=C, tol=1e-8, max_iter=10_000, class_weight=weight)
    return Peer("logistic", settings, model, 1e-3)


def ovr(C: float, weight: str | None = None) -> Peer:
    peer = logistic(C, weight)
    settings = peer.settings | {"multi_class": "ovr"}
    return Peer("logistic", settings, OneVsRestClassifier(peer.estimator), 1e-3)


def ridge(alpha: float, weight: str | None = None) -> Peer:
    model = RidgeClassifier(alpha=alpha, class_weight=weight)
    return Peer("ridge", {"alpha": alpha, "class_weight": weight}, model, 2e-6)


def svm(C: float, weight: str | None = None) -> Peer:
    model = LinearSVC(C=C, tol=1e-9, max_iter=1_000_000, class_weight=weight, random_state=0)
    return Peer("svm", {"C": C, "tol": 1e-7, "class_weight": weight}, model, 1e-3)


def svc(kernel: str, C: float, gamma: Any = "scale", weight: str | None = None) -> Peer:
    settings = {"kernel": kernel, "C": C, "gamma": gamma, "class_weight": weight}
    return Peer("svc", settings, SVC(break_ties=True, **settings), 1e-3)


def lda(shrinkage: Any) -> Peer:
    model = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=shrinkage)
    return Peer("lda", {"shrinkage": shrinkage}, model, 2e-5)


PEERS = [
    *(logistic(C, weight) for C in (1e-3, 0.1, 1.0) for weight in (None, "balanced")),
    *(ovr(C, weight) for C in (1e-2, 1.0) for weight in (None, "balanced")),
    *(ridge(alpha, weight) for alpha in (0.1, 10.0, 1e4) for weight in (None, "balanced")),
    *(svm(C, weight) for C in (1e-4, 1e-2) for weight in (None, "balanced")),
    *(svc("linear", C, weight=weight) for C in (1e-3, 1.0) for weight in (None, "balanced")),
    *(svc("rbf", C, gamma) for C in (0.5, 10.0) for gamma in ("scale", 0.003)),
    svc("rbf", 1.0, weight="balanced"),
    *(lda(shrinkage) for shrinkage in ("auto", 0.1, 0.9, 1.0)),
]


def classes_around_means(n: int, d: int, classes: int, seed: int = 0) -> tuple[Rows, Labels]:
    """Rows as pooled features are: not negative, correlated, classes of unequal size, two columns
    constant (one of them as rounding leaves it)."""
    rng = np.random.default_rng(seed)
    labels = np.minimum(rng.integers(0, classes + classes // 2, n), classes - 1)
    labels[: 3 * classes] = np.arange(3 * classes) % classes
    hidden = rng.normal(size=(n, 12)) + 1.2 * rng.normal(size=(classes, 12))[labels]
    rows = hidden @ rng.normal(size=(12, d)) + 2 * rng.normal(size=(n, d))
    rows = np.maximum(rows, 0).astype(np.float32)
    rows[:, 0], rows[:, 1] = 0, 0.1
    return rows, labels


SHAPES = [(n, d, classes) for classes in (2, 10) for n, d in ((150, 220), (400, 60))]


def decisions(head: Any, rows: Rows) -> NDArray[np.float32]:
    """Logits as scikit-learn has them: one decision where there are two classes."""
    logits = head.logits(rows)
    return logits[:, 1] - logits[:, 0] if logits.shape[1] == 2 else logits


@pytest.mark.parametrize(("n", "d", "classes"), SHAPES)
@pytest.mark.parametrize("peer", PEERS, ids=lambda p: HeadSpec(p.head, p.settings).name)
def test_decisions_and_predictions_are_those_of_scikit_learn(
    peer: Peer, n: int, d: int, classes: int
) -> None:
    rows, labels = classes_around_means(2 * n, d, classes)
    train, test = slice(0, n), slice(n, None)
    fold = FoldRows(rows[train], labels[train], classes)
    fitted = fit_one(trainer(HeadSpec(peer.head, peer.settings)), fold, 0)
    theirs = make_pipeline(StandardScaler(), peer.estimator)
    theirs.fit(rows[train].astype(np.float64), labels[train])
    expected = theirs.decision_function(rows[test].astype(np.float64))
    found = decisions(fitted.head, rows[test])
    assert fitted.converged
    assert np.abs(found - expected).max() < peer.tolerance * np.abs(expected).max()
    assert np.array_equal(
        fitted.head.logits(rows[test]).argmax(axis=1),
        expected.argmax(axis=1) if classes > 2 else expected > 0,
    )


@pytest.mark.parametrize(("n", "d", "classes"), SHAPES)
def test_coefficients_of_logistic_regression_are_those_of_scikit_learn(
    n: int, d: int, classes: int
) -> None:
    rows, labels = classes_around_means(n, d, classes)
    fold = FoldRows(rows, labels, classes)
    scaled = StandardScaler().fit_transform(rows.astype(np.float64))
    for C in (1e-3, 1e-2, 0.1):
        head = fit_one(trainer(HeadSpec("logistic", {"C": C, "tol": 1e-6})), fold, 0).head
        model = LogisticRegression(C=C, tol=1e-8, max_iter=10_000).fit(scaled, labels)
        inverse = np.where(fold.scaling.inverse > 0, fold.scaling.inverse, 1)
        weight = head.tensors()["weight"].T / inverse
        found = weight[1:] - weight[:1] if classes == 2 else weight
        # Float32 weights over deviations from 0.1 on are good to 1e-6.
        assert np.abs(found - model.coef_).max() < 3e-4
        probabilities = softmax(head.logits(rows))
        assert np.abs(probabilities - model.predict_proba(scaled)).max() < 1e-3


@pytest.mark.parametrize("k", [1, 5, 10_000])
def test_neighbours_vote_as_in_scikit_learn(k: int) -> None:
    rows, labels = classes_around_means(400, 60, 10)
    fold = FoldRows(rows[:200], labels[:200], 10)
    head = fit_one(trainer(HeadSpec("knn", {"k": k})), fold, 0).head
    theirs = KNeighborsClassifier(min(k, 200), metric="cosine").fit(rows[:200], labels[:200])
    votes = theirs.predict_proba(rows[200:]) * min(k, 200)
    found = np.exp(head.logits(rows[200:])) * (min(k, 200) + 1) - 0.1
    assert np.abs(found - votes).max() < 1e-2
    assert np.array_equal(head.logits(rows[200:]).argmax(axis=1), theirs.predict(rows[200:]))


def test_the_nearest_class_mean_is_that_of_scikit_learn() -> None:
    rows, labels = classes_around_means(400, 60, 10)
    rows = rows[:, 2:]  # scikit-learn warns of constant columns
    spec = HeadSpec("centroid", {"metric": "euclidean"})
    head = fit_one(trainer(spec), FoldRows(rows[:200], labels[:200], 10), 0).head
    theirs = make_pipeline(StandardScaler(), NearestCentroid()).fit(rows[:200], labels[:200])
    assert np.array_equal(head.logits(rows).argmax(axis=1), theirs.predict(rows))


def test_the_cosine_of_a_class_mean_is_what_it_says() -> None:
    rows, labels = classes_around_means(100, 30, 4)
    spec = HeadSpec("centroid", {"metric": "cosine"})
    head = fit_one(trainer(spec), FoldRows(rows, labels, 4), 0).head
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    means = np.stack([unit[labels == i].mean(axis=0) for i in range(4)])
    expected = unit @ (means / np.linalg.norm(means, axis=1, keepdims=True)).T
    assert np.abs(head.logits(rows) - expected).max() < 1e-5


def test_an_svm_of_a_weak_penalty_converges_on_labels_that_mean_nothing() -> None:
    rows, labels = classes_around_means(400, 60, 3)
    noisy = np.random.default_rng(0).permutation(labels)
    fitted = fit_one(trainer(HeadSpec("svm", {"C": 100.0})), FoldRows(rows, noisy, 3), 0)
    assert fitted.converged
    theirs = make_pipeline(StandardScaler(), LinearSVC(C=100.0, dual=False, max_iter=10_000))
    theirs.fit(rows, noisy)
    assert (fitted.head.logits(rows).argmax(axis=1) == theirs.predict(rows)).mean() > 0.995


def _families() -> dict[str, list[dict[str, Any]]]:
    families: dict[str, list[dict[str, Any]]] = {
        "knn": [{"k": k} for k in (7, 1, 50)],
        "centroid": [{"metric": "cosine"}, {"metric": "euclidean"}],
    }
    for peer in PEERS:
        families.setdefault(peer.head, []).append(peer.settings)
    return families


@pytest.mark.parametrize(("n", "d", "classes"), SHAPES)
@pytest.mark.parametrize("head", sorted(_families()))
def test_in_company_a_head_is_what_it_is_alone(head: str, n: int, d: int, classes: int) -> None:
    rows, labels = classes_around_means(2 * n, d, classes)
    fold = FoldRows(rows[:n], labels[:n], classes)
    trainers = [trainer(HeadSpec(head, settings)) for settings in _families()[head]]
    together = list(type(trainers[0]).fit_all(trainers, fold, range(len(trainers))))
    scored = list(logits_all([fitted.head for fitted in together], rows[n:]))
    for i, (one, logits) in enumerate(zip(trainers, scored, strict=True)):
        alone = fit_one(one, FoldRows(rows[:n], labels[:n], classes), i).head
        # Other batches round otherwise, and may end an iteration earlier within its tolerance.
        expected = alone.logits(rows[n:])
        largest = np.abs(expected[:, labels[:n].min()]).max()
        assert np.abs(logits - expected).max() < 1e-3 * max(1, largest)
        assert logits.dtype == np.float32


Change = Callable[[Rows, Labels], None]


def _without_class_1(rows: Rows, labels: Labels) -> None:
    labels[labels == 1] = 2


def _one_class(rows: Rows, labels: Labels) -> None:
    labels[:] = 2


@pytest.mark.parametrize("head", sorted(_families()))
@pytest.mark.parametrize("change", [_without_class_1, _one_class])
def test_all_settings_survive_classes_without_rows(head: str, change: Change) -> None:
    rows, labels = classes_around_means(100, 30, 4)
    change(rows, labels)
    trainers = [trainer(HeadSpec(head, settings)) for settings in _families()[head]]
    fold = FoldRows(rows, labels, 4)
    heads = [one.head for one in type(trainers[0]).fit_all(trainers, fold, [0] * len(trainers))]
    for logits in logits_all(heads, rows):
        assert logits.shape == (100, 4)
        assert np.isfinite(logits).all()
        assert set(logits.argmax(axis=1)) <= set(labels)
