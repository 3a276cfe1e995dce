"""How lucky the best of many heads is, what BBC-CV leaves of it, and what 90 % intervals hold.

Heads whose true accuracy is known: simulated ones, right or wrong on a row by a threshold on a
normal variable, part of which (the row's difficulty) all heads share, and part of that all rows of
a group; and ridge classifiers that are really trained, on Gaussian classes. Then the trap: labels
drawn at random for patients with many near-identical rows, split carelessly and by patient.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri
from sklearn.neighbors import KNeighborsClassifier

from pipeline.evaluate import (
    Interval,
    OutOfFold,
    bbc,
    bootstrap,
    folds,
    in_rows,
    intervals,
)
from pipeline.evaluate.bbc import out_of_bag
from tests.bench.common import flags, report

HEADS = 50
WITHIN = 0.5
"""Correlation of the latent variables of two rows of one group."""

Reals = NDArray[np.float64]
Sizes = NDArray[np.int64]
Drawn = tuple[OutOfFold, Reals]


@dataclass(frozen=True)
class Case:
    """A name, and what draws out-of-fold predictions with the true accuracies."""

    name: str
    draw: Callable[[np.random.Generator], Drawn]


def simulated(true: Reals, sizes: Sizes, shared: float) -> Callable[..., Drawn]:
    """Draw heads that are right with probability `true`, alike on a row by `shared`."""
    of_row = np.repeat(np.arange(len(sizes)), sizes)
    labels = np.arange(len(of_row)) % 2

    def latent(rng: np.random.Generator, heads: int) -> Reals:
        own = rng.normal(size=(heads, len(of_row)))
        common = rng.normal(size=(heads, len(sizes)))[:, of_row]
        return WITHIN**0.5 * common + (1 - WITHIN) ** 0.5 * own

    def draw(rng: np.random.Generator) -> Drawn:
        mixed = shared**0.5 * latent(rng, 1) + (1 - shared) ** 0.5 * latent(rng, len(true))
        right = mixed < ndtri(true)[:, None]
        logits = [np.eye(2)[np.where(of_head, labels, 1 - labels)] for of_head in right]
        return OutOfFold(labels, logits, of_row), true

    return draw


def trained(apart: float, n: int = 150, dims: int = 40) -> Callable[..., Drawn]:
    """Train ridge classifiers on parts of the features; the truth is of those fitted on all rows.

    Two Gaussian classes whose means differ by `apart` along each of the first ten features.
    """
    labels = np.arange(n) % 2
    mean = np.where(np.arange(dims) < 10, apart / 2, 0.0)
    settings = [(used, alpha) for used in (5, 10, 20, 30, 40) for alpha in np.logspace(-2, 4, 10)]

    def fit(rows: Reals, own: Reals, used: int, alpha: float) -> Reals:
        kept = rows[:, :used]
        weights = np.linalg.solve(kept.T @ kept + alpha * np.eye(used), kept.T @ (2 * own - 1))
        return np.concatenate([weights, np.zeros(dims - used)])

    def draw(rng: np.random.Generator) -> Drawn:
        rows = rng.normal(size=(n, dims)) + np.where(labels[:, None], mean, -mean)
        plan = folds(labels, None, 5, int(rng.integers(2**31)))
        logits, true = [], []
        for used, alpha in settings:
            parts = [rows[out] @ fit(rows[own], labels[own], used, alpha) for own, out in plan]
            both = [np.stack([-margin, margin], axis=1) for margin in parts]
            logits.append(in_rows([plan], [both], n))
            weights = fit(rows, labels, used, alpha)
            true.append(ndtr(weights @ mean / np.linalg.norm(weights)))
        return OutOfFold(labels, logits), np.array(true)

    return draw


def cases() -> Iterator[Case]:
    equal = np.full(HEADS, 0.8)
    near = np.linspace(0.78, 0.84, HEADS)
    winner = np.append(np.linspace(0.70, 0.80, HEADS - 1), 0.9)
    grouped = {
        "300 rows": np.ones(300, int),
        "40 groups of 25": np.full(40, 25),
        "60 groups of 1 to 30": np.arange(60) // 2 + 1,
    }
    for name, true in (("equal", equal), ("near", near), ("a winner", winner)):
        for shared in (0.5, 0.8):
            for rows, sizes in grouped.items():
                yield Case(f"{name}, {rows}, shared {shared}", simulated(true, sizes, shared))
    yield Case("ridge trained on noise, 150 rows", trained(0.0))
    yield Case("ridge trained on signal, 150 rows", trained(0.6))


def holds(found: Interval | None, true: float) -> bool:
    return found is not None and found.low - 1e-12 <= true <= found.high + 1e-12


def measured(case: Case, repetitions: int) -> list[object]:
    """Bias in points of accuracy, and shares of intervals that hold the truth."""
    kept = []
    for i in range(repetitions):
        oof, true = case.draw(np.random.default_rng(i))
        scored = bootstrap("accuracy", oof, seed=i)
        found = bbc(scored)
        assert found is not None
        own = true[found.winner]
        each = zip(intervals(scored), true, strict=True)
        percentiles = Interval(*np.nanquantile(out_of_bag(scored), (0.05, 0.95)))
        kept.append(
            (
                100 * (scored.scores[found.winner] - own),
                100 * (found.score - own),
                100 * np.mean([holds(*pair) for pair in each]),
                100 * holds(percentiles, own),
                100 * holds(found.interval, own),
            )
        )
    return [case.name, *np.mean(kept, axis=0).tolist()]


def leak(careless: bool, repetitions: int) -> list[object]:
    """Score nearest neighbours on noise: 40 patients of 25 rows, a label at random for each."""
    kept = []
    for i in range(repetitions):
        rng = np.random.default_rng(i)
        groups = np.repeat(np.arange(40), 25)
        rows = rng.normal(size=(40, 32))[groups] + 0.05 * rng.normal(size=(1000, 32))
        labels = rng.permutation(np.arange(40) % 2)[groups]
        known = None if careless else groups
        plan = folds(labels, known, 5, seed=i)
        heads = []
        for k in (1, 5, 15):
            fitted = [KNeighborsClassifier(k).fit(rows[own], labels[own]) for own, _ in plan]
            parts = [h.predict_proba(rows[out]) for h, (_, out) in zip(fitted, plan, strict=True)]
            heads.append(in_rows([plan], [[np.log(np.maximum(p, 1e-9)) for p in parts]], 1000))
        scored = bootstrap("accuracy", OutOfFold(labels, heads, known), seed=i)
        found = bbc(scored)
        assert found is not None
        kept.append((scored.scores.max(), found.score, 100.0 * holds(found.interval, 0.5)))
    return ["careless" if careless else "by patient", *np.mean(kept, axis=0).tolist()]


def main() -> None:
    chosen = flags(__doc__)
    repetitions = 20 if chosen.quick else max(300, chosen.rounds)
    columns = (
        f"{HEADS} heads, {repetitions} repetitions",
        "bias of the best, points",
        "of BBC-CV",
        "a head's interval holds, %",
        "BBC percentiles hold",
        "the winner's interval holds",
    )
    report(chosen, "bias", columns, [measured(case, repetitions) for case in cases()])
    columns = ("noise, split", "best score", "BBC-CV", "its interval holds chance, %")
    few = 3 if chosen.quick else 20
    report(chosen, "leak", columns, [leak(careless, few) for careless in (True, False)])


if __name__ == "__main__":
    main()
