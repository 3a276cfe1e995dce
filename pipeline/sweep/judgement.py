"""What the predictions out of folds tell besides the scores: luck, uncertainty, and what fails."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluate import (
    Calibrated,
    Corrected,
    Cost,
    Floats,
    Fold,
    HardRow,
    Interval,
    Labels,
    OutOfFold,
    PerClass,
    bbc,
    bootstrap,
    calibrated,
    gathered,
    hard_rows,
    intervals,
    majority_score,
    per_class,
    recommended,
    scorer_of_all,
    softmax,
)


@dataclass(frozen=True)
class Judgement:
    """How far a board can be trusted, and what the best head does wrong.

    Attributes
    ----------
    rows
        ``(n,)`` ascending positions of the rows that were scored.
    predicted
        int64 ``(heads, n)``: the label that each head gave to each of them, in the first repeat.
    probabilities
        float32 ``(n, c)``: softmax of the best head's logits at its temperature, likewise.
    scores, intervals
        Of each head on all rows together, where the board has means over folds, and its 90 %
        interval; NaN and None where there is none.
    balanced
        Balanced accuracy of each head, likewise: what accuracy hides where a class is rare.
    corrected
        What the best of so many heads scores without the luck of having been chosen.
    recommended
        The smallest head within one standard error of the best one; its place on the board.
    majority
        Score of the classes' frequencies.
    classes
        What becomes of each class under the best head.
    calibration
        Of the best head, as it is and with temperatures fitted on other rows.
    hard
        Rows that most heads get wrong, worst first; their positions are those among all rows.
    """

    rows: NDArray[np.int64]
    predicted: NDArray[np.int64]
    probabilities: NDArray[np.float32]
    scores: tuple[float, ...]
    intervals: tuple[Interval | None, ...]
    balanced: tuple[float, ...]
    corrected: Corrected | None
    recommended: int
    majority: float | None
    classes: PerClass
    calibration: Calibrated
    hard: tuple[HardRow, ...]


@dataclass(frozen=True)
class Candidate:
    """A head of the board: what it costs, and its logits of the rows scored, part by part.

    Attributes
    ----------
    logits, raw
        As they were scored, and as the head gave them; the temperature divides the latter.
    """

    cost: Cost
    logits: Sequence[Floats]
    raw: Sequence[Floats]
    temperature: float


def judge(
    metric: str,
    candidates: Sequence[Candidate],
    labels: Labels,
    groups: Labels | None,
    repeats: Sequence[Sequence[Fold]],
    n_classes: int,
    seed: int,
) -> Judgement:
    """Judge a board.

    Parameters
    ----------
    candidates
        Best first.
    labels, groups
        ``(m,)`` integers of all rows; groups may be None.
    repeats
        Pairs of rows trained on and rows scored, as often as the folds were drawn; each repeat
        scores the same rows, each once.
    seed
        Of the resamples.
    """
    rows, oof = gathered(labels, groups, repeats, [c.logits for c in candidates])
    scored = bootstrap(metric, oof, seed)
    best = candidates[0]
    first = list(best.raw[: len(repeats[0])])
    _, raw = gathered(labels, groups, repeats, [best.raw])
    return Judgement(
        rows=rows,
        predicted=np.stack([each[0].argmax(axis=1) for each in oof.logits]),
        probabilities=softmax(raw.logits[0][0] / best.temperature).astype(np.float32),
        scores=tuple(scored.scores.tolist()),
        intervals=tuple(intervals(scored)),
        balanced=tuple(_on_all_rows("balanced_accuracy", oof)),
        corrected=bbc(scored),
        recommended=recommended(scored, [c.cost for c in candidates]),
        majority=majority_score(metric, labels, repeats[0], n_classes),
        classes=per_class(oof.labels, oof.logits[0]),
        calibration=calibrated(first, [labels[out] for _, out in repeats[0]]),
        hard=tuple(replace(row, row=int(rows[row.row])) for row in hard_rows(oof)),
    )


def _on_all_rows(metric: str, oof: OutOfFold) -> list[float]:
    found: list[float] = scorer_of_all(metric, oof)(np.ones((len(oof.labels), 1)))[:, 0].tolist()
    return found
