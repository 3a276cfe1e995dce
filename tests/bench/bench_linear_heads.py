"""Linear, kernel and neighbour heads against GridSearchCV at the same settings and folds.

Both have all cores: scikit-learn by its warm pool of processes, a Pipeline with StandardScaler
each; Headstart by its folds. Both fit every setting on every fold and score the rows left out.
"""

from __future__ import annotations

import statistics
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline import FeatureExtractor
from pipeline.config import usable_cores
from pipeline.dataset import load_dataset
from pipeline.evaluate import Fold, folds
from pipeline.heads import FoldRows, HeadSpec, logits_all, trainer
from pipeline.heads.threads import one_blas_thread
from tests.bench.common import Flags, flags, in_turn, ratio, report

Scores = NDArray[np.float64]
FOLDS = 5
SUMS = {
    "logistic, ridge, kNN": ("logistic", "ridge", "kNN"),
    "those and SVC": ("logistic", "ridge", "kNN", "SVC linear", "SVC rbf"),
}


@dataclass(frozen=True)
class Data:
    """Rows like pooled features: not negative, many of them nil, correlated."""

    name: str
    rows: NDArray[np.float32]
    labels: NDArray[np.int64]
    classes: int

    @classmethod
    def made(cls, n: int, d: int, classes: int) -> Data:
        rng = np.random.default_rng(0)
        labels = rng.permutation(np.arange(n) % classes)
        hidden = rng.normal(size=(n, 64)) + 0.45 * rng.normal(size=(classes, 64))[labels]
        mixed = hidden @ rng.normal(size=(64, d)) / 8 + 0.5 * rng.normal(size=(n, d)) - 0.3
        return cls(
            f"{n} x {d}, {classes} classes", np.maximum(mixed, 0).astype("f4"), labels, classes
        )

    @classmethod
    def of(cls, folder: Path, out: Path) -> Data:
        """Features of real images by efficientnet-lite0, which needs no download."""
        found = load_dataset(str(folder), out)
        rows = FeatureExtractor("efficientnet-lite0", out=out).fit_transform(found.paths)
        classes, labels = np.unique(np.array(found.labels), return_inverse=True)
        name = f"{folder.name}, {len(rows)} x {rows.shape[1]}, {len(classes)} classes"
        return cls(name, np.asarray(rows, np.float32), labels, len(classes))

    @classmethod
    def all(cls, chosen: Flags, quick: tuple[int, int, int]) -> list[Data]:
        """Make the data that the benchmarks of heads run on."""
        shapes = [quick] if chosen.quick else [(2000, 2048, 2), (5000, 2048, 10)]
        out = chosen.out / "features"
        return [
            *(cls.made(*shape) for shape in shapes),
            *(cls.of(folder, out) for folder in chosen.folders),
        ]

    @property
    def folds(self) -> list[Fold]:
        return folds(self.labels, None, FOLDS, 0)


@dataclass(frozen=True)
class Family:
    """Settings of one head, and the same ones for scikit-learn."""

    name: str
    head: str
    settings: list[dict[str, Any]]
    estimator: Callable[[], Any]
    scaled: bool = True

    @property
    def grid(self) -> list[dict[str, list[Any]]]:
        prefix = f"{type(self.estimator()).__name__.lower()}__"
        names = {"k": "n_neighbors"}
        return [
            {prefix + names.get(key, key): [value] for key, value in setting.items()}
            for setting in self.settings
        ]


def families(quick: bool, classes: int) -> list[Family]:
    """Settings; of SVC with many classes few, since scikit-learn takes minutes for each."""
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
    from sklearn.linear_model import LogisticRegression, RidgeClassifier
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.svm import SVC, LinearSVC

    def axis(name: str, values: Any) -> list[dict[str, Any]]:
        return [{name: value} for value in (values[::4] if quick else values)]

    Cs, alphas = np.geomspace(1e-4, 10, 10).tolist(), np.geomspace(1, 1e5, 10).tolist()
    few = quick or classes > 2
    gammas = (2e-4,) if few else (1e-4, 2e-4, 5e-4)
    rbf = [
        {"gamma": g, "C": C} for g in gammas for C in ((1, 10) if few else (0.1, 1, 10, 100, 1e3))
    ]
    linear = [{"C": C} for C in ((1e-4, 1e-2) if few else np.geomspace(1e-5, 1, 6).tolist())]
    return [
        Family("logistic", "logistic", axis("C", Cs), lambda: LogisticRegression(max_iter=10_000)),
        Family("ridge", "ridge", axis("alpha", alphas), RidgeClassifier),
        Family(
            "kNN",
            "knn",
            axis("k", [1, 3, 5, 7, 9, 11, 15, 25, 35, 50]),
            lambda: KNeighborsClassifier(metric="cosine"),
            scaled=False,
        ),
        Family("linear SVM", "svm", axis("C", [1e-5, 1e-4, 1e-3]), LinearSVC),
        Family(
            "LDA",
            "lda",
            axis("shrinkage", ["auto", 0.5]),
            lambda: LinearDiscriminantAnalysis(solver="lsqr"),
        ),
        Family(
            "SVC linear",
            "svc",
            [{"kernel": "linear"} | c for c in linear],
            lambda: SVC(break_ties=True),
        ),
        Family(
            "SVC rbf", "svc", [{"kernel": "rbf"} | s for s in rbf], lambda: SVC(break_ties=True)
        ),
    ]


def ours(data: Data, chosen: list[Family]) -> dict[str, Scores]:
    """Accuracy (settings, folds) of each family, all of them from the same rows of a fold."""

    def fold(part: Fold) -> list[list[float]]:
        fit, out = part
        rows = FoldRows(data.rows[fit], data.labels[fit], data.classes)
        scores = []
        for family in chosen:
            trainers = [trainer(HeadSpec(family.head, own)) for own in family.settings]
            fits = type(trainers[0]).fit_all(trainers, rows, [0] * len(trainers))
            heads = [fitted.head for fitted in fits]
            scored = logits_all(heads, data.rows[out])
            scores.append([float((s.argmax(axis=1) == data.labels[out]).mean()) for s in scored])
        return scores

    with one_blas_thread(), ThreadPoolExecutor(usable_cores()) as pool:
        found = list(pool.map(fold, data.folds))
    names = [family.name for family in chosen]
    return {name: np.array([part[i] for part in found]).T for i, name in enumerate(names)}


def theirs(data: Data, family: Family) -> Scores:
    """Accuracy (settings, folds) by GridSearchCV."""
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    steps = [StandardScaler(), family.estimator()] if family.scaled else [family.estimator()]
    search = GridSearchCV(
        make_pipeline(*steps), family.grid, cv=data.folds, n_jobs=usable_cores(), refit=False
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of solvers that stop at their limit
        found = search.fit(data.rows, data.labels).cv_results_
    return np.stack([found[f"split{i}_test_score"] for i in range(FOLDS)], axis=1)


def timed(work: Callable[[], Any], kept: dict[str, Any], name: str) -> Callable[[], float]:
    def measure() -> float:
        began = time.perf_counter()
        kept[name] = work()
        return time.perf_counter() - began

    return measure


def compare(data: Data, chosen: list[Family], rounds: int) -> list[list[Any]]:
    """One row a family, and one for each sum of families, which Headstart fits in one go."""
    theirs(data, chosen[0])  # warms the pool
    ours(data, chosen[:1])
    rows = []
    peers: dict[str, tuple[float, ...]] = {}
    for family in chosen:
        kept: dict[str, Any] = {}
        seconds = in_turn(
            {
                "theirs": timed(lambda f=family: theirs(data, f), kept, "theirs"),
                "ours": timed(lambda f=family: ours(data, [f])[f.name], kept, "ours"),
            },
            rounds,
        )
        peers[family.name] = seconds["theirs"]
        far = float(np.abs(kept["theirs"] - kept["ours"]).max())
        fits = len(family.settings) * FOLDS
        rows.append(_row(data, family.name, fits, seconds["theirs"], seconds["ours"], far))
        print(*rows[-1], flush=True)
    for name in SUMS:
        some = [family for family in chosen if family.name in SUMS[name]]
        own = in_turn({"ours": timed(lambda s=some: ours(data, s), {}, "ours")}, rounds)["ours"]
        sums = tuple(sum(peers[f.name][i] for f in some) for i in range(rounds))
        fits = sum(len(f.settings) for f in some) * FOLDS
        rows.append(_row(data, name, fits, sums, own, None))
    return rows


def _row(
    data: Data,
    name: str,
    fits: int,
    peer: tuple[float, ...],
    own: tuple[float, ...],
    far: float | None,
) -> list[Any]:
    medians = statistics.median(peer), statistics.median(own)
    differ = None if far is None else f"{far:.4f}"
    return [data.name, name, fits, *medians, ratio(peer, own), differ]


def main() -> None:
    chosen = flags(__doc__)
    rows = []
    for data in Data.all(chosen, quick=(400, 512, 2)):
        rows += compare(data, families(chosen.quick, data.classes), chosen.rounds)
    columns = ("data", "head", "fits", "GridSearchCV s", "Headstart s", "ratio", "scores differ by")
    report(chosen, "linear_heads", columns, rows)


if __name__ == "__main__":
    main()
