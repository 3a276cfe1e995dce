"""MLP heads of 256 units: Headstart, Keras' fit as users write it and tuned, and the floors.

Milliseconds a head and epoch, in turn, round by round. "whole" is a fit as it comes, with Keras'
building and tracing in it, of ours the fits of a sweep (20); "steady" finds all traced. The
floors are the hidden layer's products alone and Adam's updates alone, a network a core. Then the
accuracy on new rows over runs from random seeds, by Keras and by ours, early stopping in both.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from functools import partial

from tests.bench import mlp_work
from tests.bench.common import Flags, flags, ratio, report
from tests.bench.mlp_work import Took, Work

DATA = {"d2": (2000, 2048, 2), "d10": (5000, 2048, 10)}
BATCHES = (32, 256)
OURS, PRODUCTS, ADAM = "headstart", "products alone", "Adam alone"
WAYS: dict[str, Callable[[Work], Took]] = {
    "keras fit": partial(mlp_work.keras_fit, tuned=False),
    "keras fit, steps_per_execution": partial(mlp_work.keras_fit, tuned=True),
    OURS: mlp_work.our_fits,
    PRODUCTS: mlp_work.products,
    ADAM: mlp_work.optimizer,
}


def speed(chosen: Flags) -> list[list[object]]:
    """Time every way on every data set and batch size."""
    rows: list[list[object]] = []
    epochs, members = (3, 4) if chosen.quick else (10, 20)
    for name, shape in DATA.items():
        for batch in BATCHES:
            work = Work(mlp_work.relu_features(*shape), batch, epochs, members)
            took: dict[str, list[Took]] = {way: [] for way in WAYS}
            for _ in range(chosen.rounds):
                for way, measure in WAYS.items():
                    took[way].append(measure(work))
            rows += [[name, batch, way, *_columns(took, way)] for way in WAYS]
    return rows


def _columns(took: dict[str, list[Took]], way: str) -> tuple[float, ...]:
    """Medians of whole and steady fits, and the medians of their rounds' ratios to ours."""
    whole, steady = ([t.whole for t in took[way]], [t.steady for t in took[way]])
    ours = took[OURS]
    return (
        statistics.median(whole),
        statistics.median(steady),
        ratio(whole, [t.whole for t in ours]),
        ratio(steady, [t.steady for t in ours]),
    )


def scores(chosen: Flags) -> list[list[object]]:
    """Accuracy over runs from random seeds."""
    runs = 2 if chosen.quick else 10
    rows: list[list[object]] = []
    test = mlp_work.relu_features(4000, 2048, 2, seed=1)
    for batch in BATCHES:
        work = Work(mlp_work.relu_features(*DATA["d2"]), batch, 20, runs)
        by_keras = [mlp_work.accuracy_of_keras(work, test) for _ in range(runs)]
        for name, found in (
            ("keras fit", by_keras),
            (OURS, mlp_work.our_accuracies(work, test, runs)),
        ):
            spread = statistics.stdev(found)
            rows.append(
                [batch, name, runs]
                + [f"{v:.4f}" for v in (statistics.mean(found), spread, min(found), max(found))]
            )
    return rows


def main() -> None:
    chosen = flags(__doc__)
    columns = ("data", "batch", "way", "whole ms", "steady ms", "whole / ours", "steady / ours")
    report(chosen, "mlp_heads", columns, speed(chosen))
    columns = ("batch", "who", "runs", "mean accuracy", "deviation", "least", "most")
    report(chosen, "mlp_scores", columns, scores(chosen))


if __name__ == "__main__":
    main()
