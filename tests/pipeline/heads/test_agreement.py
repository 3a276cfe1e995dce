"""Heads agree with scikit-learn's own pipelines and with Keras' own predict."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from pipeline.heads import HeadSpec, softmax, trainer
from pipeline.heads.linear import LogisticTrainer, RidgeTrainer, SvmTrainer

TOLERANCE = 2e-4
"""Largest difference of decision values: those are about 1 to 10 and computed in float32."""


def digits(classes: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    rows, labels = load_digits(return_X_y=True)
    keep = labels < classes
    return rows[keep].astype(np.float32), labels[keep]


@pytest.mark.parametrize("classes", [2, 10])
def test_logistic_gives_the_probabilities_of_scikit_learn(classes: int) -> None:
    rows, labels = digits(classes)
    theirs = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=10_000))
    head = LogisticTrainer(C=0.1).fit(rows[::2], labels[::2], classes, seed=0).head
    theirs.fit(rows[::2], labels[::2])
    expected = theirs.predict_proba(rows)
    assert np.abs(softmax(head.logits(rows)) - expected).max() < TOLERANCE
    assert np.array_equal(head.logits(rows).argmax(axis=1), theirs.predict(rows))


@pytest.mark.parametrize("classes", [2, 10])
@pytest.mark.parametrize(
    ("ours", "estimator"),
    [
        (RidgeTrainer(alpha=10.0), RidgeClassifier(alpha=10.0)),
        (SvmTrainer(C=1e-3), LinearSVC(C=1e-3, dual=True, random_state=3)),
    ],
    ids=["ridge", "svm"],
)
def test_linear_decisions_are_those_of_scikit_learn(
    ours: RidgeTrainer | SvmTrainer, estimator: Any, classes: int
) -> None:
    rows, labels = digits(classes)
    head = ours.fit(rows[::2], labels[::2], classes, seed=3).head
    theirs = make_pipeline(StandardScaler(), estimator).fit(rows[::2], labels[::2])
    logits, expected = head.logits(rows), theirs.decision_function(rows)
    if classes == 2:
        logits = logits[:, 1] - logits[:, 0]
    assert np.abs(logits - expected).max() < TOLERANCE
    assert np.array_equal(head.logits(rows).argmax(axis=1), theirs.predict(rows))


def test_an_svm_that_its_fast_solver_cannot_finish_converges_all_the_same() -> None:
    rows, labels = digits(3)
    noisy = np.random.default_rng(0).permutation(labels)
    fitted = SvmTrainer(C=100.0).fit(rows, noisy, 3, seed=0)
    assert fitted.converged
    theirs = make_pipeline(StandardScaler(), LinearSVC(C=100.0, dual=False, max_iter=10_000))
    theirs.fit(rows, noisy)
    assert (fitted.head.logits(rows).argmax(axis=1) == theirs.predict(rows)).mean() > 0.995


@pytest.mark.parametrize("k", [1, 5, 10_000])
def test_neighbours_vote_as_in_scikit_learn(k: int) -> None:
    rows, labels = digits(10)
    train, test = rows[:600] + np.float32(0.01), rows[600:1200]
    head = trainer(HeadSpec("knn", {"k": k})).fit(train, labels[:600], 10, seed=0).head
    theirs = KNeighborsClassifier(min(k, 600), metric="cosine").fit(train, labels[:600])
    votes = theirs.predict_proba(test) * min(k, 600)
    ours = np.exp(head.logits(test)) * (min(k, 600) + 1) - 0.1
    assert (np.abs(ours - votes).max(axis=1) < 1e-2).mean() > 0.995
    assert (head.logits(test).argmax(axis=1) == theirs.predict(test)).mean() > 0.995


def test_the_nearest_class_mean_is_that_of_scikit_learn() -> None:
    rows, labels = digits(10)
    rows += np.random.default_rng(0).normal(size=rows.shape).astype(np.float32)
    spec = HeadSpec("centroid", {"metric": "euclidean"})
    head = trainer(spec).fit(rows[::2], labels[::2], 10, seed=0).head
    theirs = make_pipeline(StandardScaler(), NearestCentroid()).fit(rows[::2], labels[::2])
    assert np.array_equal(head.logits(rows).argmax(axis=1), theirs.predict(rows))


def test_the_cosine_of_a_class_mean_is_what_it_says() -> None:
    rows, labels = digits(4)
    head = trainer(HeadSpec("centroid", {"metric": "cosine"})).fit(rows, labels, 4, seed=0).head
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    means = np.stack([unit[labels == i].mean(axis=0) for i in range(4)])
    expected = unit @ (means / np.linalg.norm(means, axis=1, keepdims=True)).T
    assert np.abs(head.logits(rows) - expected).max() < 1e-5
