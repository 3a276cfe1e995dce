"""The default sweep as a whole, against the same one by GridSearchCV and a loop of Keras fits.

Both have all cores. Headstart's time is all of `pipeline.sweep.sweep`: fits, scores, intervals,
corrections, the learning curve and the best head's last fit. The other's is the fits and scores of
the same settings on the same folds alone. Then a second run of the same sweep, and one with one
more value of C, whose finished fits are kept.
"""

from __future__ import annotations

import statistics
import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.backbones.quiet import import_keras
from pipeline.config import usable_cores
from pipeline.evaluate import folds
from pipeline.heads import HeadSpec, default_specs
from pipeline.heads.registry import settings_of
from pipeline.sweep import SweepConfig, SweepData, SweepResult, sweep
from pipeline.sweep.kept import KeptFits, Rows
from tests.bench.bench_linear_heads import Data, timed
from tests.bench.common import flags, in_turn, ratio, report

FOLDS = 5
_MORE = HeadSpec("logistic", {"C": 0.3})


def rows_of(data: Data) -> SweepData:
    keys = np.random.default_rng(1).integers(0, 256, (len(data.labels), 32), np.uint8)
    names = tuple(map(str, range(data.classes)))
    return SweepData(data.rows, data.labels, names, rows_named=Rows("bench", keys))


def peer_specs() -> list[HeadSpec]:
    """Settings of the default sweep that scikit-learn and Keras have as well."""
    return [s for s in default_specs() if s.settings.get("metric") != "cosine"]


def estimator(spec: HeadSpec) -> Any:
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
    from sklearn.linear_model import LogisticRegression, RidgeClassifier
    from sklearn.neighbors import KNeighborsClassifier, NearestCentroid
    from sklearn.svm import SVC, LinearSVC

    made: dict[str, Callable[..., Any]] = {
        "logistic": lambda **s: LogisticRegression(max_iter=10_000, **s),
        "ridge": RidgeClassifier,
        "svm": LinearSVC,
        "svc": SVC,
        "lda": lambda **s: LinearDiscriminantAnalysis(solver="lsqr", **s),
        "knn": lambda k: KNeighborsClassifier(k, metric="cosine"),
        "centroid": lambda metric: NearestCentroid(metric=metric),
    }
    return made[spec.head](**spec.settings)


def theirs(data: Data) -> dict[str, NDArray[np.float64]]:
    """Accuracy on each fold, by the name of head and setting."""
    plan = folds(data.labels, None, FOLDS, 0)
    specs = peer_specs()
    found = _searched([spec for spec in specs if spec.head != "mlp"], data, plan)
    for spec in specs:
        if spec.head == "mlp":
            found[spec.name] = np.array([_keras(spec, data, *part) for part in plan])
    return found


def _searched(
    specs: Sequence[HeadSpec], data: Data, plan: Sequence[Any]
) -> dict[str, NDArray[np.float64]]:
    """One GridSearchCV over all estimators: one pool, no pause between families."""
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import StandardScaler

    grid = [
        {"scale": ["passthrough" if spec.head == "knn" else StandardScaler()],
         "head": [estimator(spec)]}
        for spec in specs
    ]  # fmt: skip
    steps = Pipeline([("scale", StandardScaler()), ("head", estimator(specs[0]))])
    search = GridSearchCV(steps, grid, cv=plan, n_jobs=usable_cores(), refit=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of solvers that stop at their limit
        results = search.fit(data.rows, data.labels).cv_results_
    scores = np.stack([results[f"split{i}_test_score"] for i in range(FOLDS)], axis=1)
    return {spec.name: own for spec, own in zip(specs, scores, strict=True)}


def _keras(spec: HeadSpec, data: Data, train: NDArray[np.int64], out: NDArray[np.int64]) -> float:
    """Fit as users write it: early stopping on an eighth of the rows, best weights restored."""
    from sklearn.preprocessing import StandardScaler

    keras, chosen = import_keras(), settings_of("mlp") | dict(spec.settings)
    scaler = StandardScaler().fit(data.rows[train])
    rows = scaler.transform(data.rows[train])
    layers: list[Any] = [keras.Input((rows.shape[1],))]
    for units in chosen["hidden"]:
        layers += [keras.layers.Dense(units, "relu"), keras.layers.Dropout(chosen["dropout"])]
    model = keras.Sequential([*layers, keras.layers.Dense(data.classes)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(chosen["learning_rate"]), loss)
    held = len(rows) // 8
    stopping = keras.callbacks.EarlyStopping(patience=chosen["patience"], restore_best_weights=True)
    model.fit(
        rows[held:],
        data.labels[train][held:],
        batch_size=chosen["batch_size"],
        epochs=chosen["epochs"],
        validation_data=(rows[:held], data.labels[train][:held]),
        callbacks=[stopping],
        verbose=0,
    )
    given = model.predict(scaler.transform(data.rows[out]), verbose=0).argmax(axis=1)
    keras.backend.clear_session()
    return float((given == data.labels[out]).mean())


def compare(data: Data, rounds: int) -> tuple[list[list[object]], list[list[object]]]:
    """Times of both, of a second run and of one more value; and the scores side by side."""
    rows, kept = rows_of(data), dict[str, Any]()
    config = SweepConfig(folds=FOLDS)
    import_keras()
    with tempfile.TemporaryDirectory() as place:
        number = iter(range(rounds))

        def first() -> SweepResult:
            with KeptFits(Path(place) / f"{next(number)}.sqlite") as memory:
                return sweep(rows, config, memory=memory)

        def again(specs: Sequence[HeadSpec]) -> SweepResult:
            with KeptFits(Path(place) / "0.sqlite") as memory:
                return sweep(rows, replace(config, specs=tuple(specs)), memory=memory)

        works = {
            "theirs": timed(lambda: theirs(data), kept, "theirs"),
            "ours": timed(first, kept, "ours"),
        }
        took = in_turn(works, rounds)
        second = timed(lambda: again(config.specs), kept, "again")()
        more = timed(lambda: again((*config.specs, _MORE)), kept, "more")()
    result: SweepResult = kept["ours"]
    times: list[list[object]] = [
        [data.name, "GridSearchCV and Keras fit", None, statistics.median(took["theirs"]), None],
        [data.name, "headstart", result.fits, statistics.median(took["ours"]),
         ratio(took["theirs"], took["ours"])],
        [data.name, "headstart, the same again", kept["again"].fits_reused, second, None],
        [data.name, "headstart, one more value of C", kept["more"].fits_reused, more, None],
    ]  # fmt: skip
    return times, _scores(data, result, kept["theirs"])


def _scores(
    data: Data, result: SweepResult, peer: dict[str, NDArray[np.float64]]
) -> list[list[object]]:
    lines: list[list[object]] = []
    for entry in result.leaderboard:
        other = peer.get(entry.spec.name)
        if other is not None:
            apart = entry.score - float(other.mean())
            spread = f"{entry.std:.3f}"
            line = (f"{entry.score:.3f}", f"{other.mean():.3f}", f"{apart:+.4f}", spread)
            lines.append([data.name, entry.spec.name, *line])
    return lines


def main() -> None:
    chosen = flags(__doc__)
    times, scores = [], []
    for data in Data.all(chosen, quick=(300, 128, 2)):
        of_times, of_scores = compare(data, chosen.rounds)
        print(*of_times, sep="\n", flush=True)
        times += of_times
        scores += of_scores
    report(chosen, "sweep", ("data", "who", "fits", "seconds", "ratio"), times)
    columns = ("data", "head", "headstart", "theirs", "difference", "deviation of folds")
    report(chosen, "sweep_scores", columns, scores)


if __name__ == "__main__":
    main()
