"""How far a board can be trusted, and what its best head does wrong: JSON, words, files."""

from __future__ import annotations

import csv
import math
from dataclasses import asdict
from typing import Any

import numpy as np

from pipeline.evaluate import Interval
from pipeline.stage_two import Heads
from pipeline.text import one_line, plural

PREDICTIONS, HARD = "out_of_fold.npz", "hard.csv"
"""Names of the files in a run's folder."""

MOST_HARD = 50
_WEAKEST = 3


def judgement_json(heads: Heads) -> dict[str, Any]:
    """Return what ``heads --json`` tells beside the leaderboard."""
    result = heads.result
    judged, classes = result.judgement, heads.classes
    chosen = result.leaderboard[judged.recommended]
    return {
        "recommended": {"head": chosen.spec.head, "settings": chosen.spec.plain()},
        "corrected": None if judged.corrected is None else asdict(judged.corrected),
        "nested": None if result.nested is None else asdict(result.nested),
        "baseline": {"majority": judged.majority, "random": result.random},
        "curve": [
            {
                "rows": p.rows,
                "score": _number(p.score),
                "interval": p.interval and asdict(p.interval),
            }
            for p in result.curve
        ],
        "calibration": {
            "before": judged.calibration.before.error,
            "after": judged.calibration.after.error,
            "table": [asdict(line) for line in judged.calibration.before.table],
        },
        "per_class": {
            name: {
                "precision": _number(judged.classes.precision[i]),
                "recall": _number(judged.classes.recall[i]),
                "f1": _number(judged.classes.f1[i]),
                "support": int(judged.classes.support[i]),
                "given": dict(zip(classes, judged.classes.confusion[i].tolist(), strict=True)),
            }
            for i, name in enumerate(classes)
        },
        "hard": [dict(zip(_COLUMNS, line, strict=True)) for line in _hard(heads)[:MOST_HARD]],
    }


def judgement_lines(heads: Heads) -> list[str]:
    """Return the lines of the summary that stand below the table of heads."""
    result = heads.result
    judged, board = result.judgement, result.leaderboard
    advised = board[judged.recommended]
    lines = []
    if judged.recommended:
        lines.append(
            f"recommended  {advised.spec.name}: {advised.score:.3f}, the smallest head within one "
            "standard error of the best"
        )
    if judged.corrected is not None:
        told = _between(judged.corrected.interval)
        lines.append(
            f"corrected    {judged.corrected.score:.3f}{told} is what the best of "
            f"{plural(len(board), 'head')} can be expected to score: being chosen flatters it"
        )
    if result.nested is not None:
        told = _between(result.nested.interval)
        lines.append(f"nested       {result.nested.score:.3f}{told}, the choice made in each fold")
    lines.append(
        f"baselines    {_shown(judged.majority)} by the sizes of the classes, "
        f"{_shown(result.random)} by random numbers that are equal for pictures that are alike"
    )
    lines += [_curve(heads)] if len(result.curve) > 1 else []
    lines += [_weakest(heads), _calibration(heads)]
    if judged.hard:
        lines.append(
            f"hard         {plural(len(judged.hard), 'image')} that most heads get wrong, worst "
            f"first in {HARD} beside the head file: look at their labels"
        )
    return lines


def write_judgement(heads: Heads) -> None:
    """Write what each head said of each image that it had not seen, and the hardest images.

    ``out_of_fold.npz`` has, of the n images scored: ``path``, ``key`` (SHA-256 in hexadecimal) and
    ``label`` (n), ``head`` (heads), ``predicted`` (heads, n; positions in ``class``),
    and of the best head ``probability`` (n, classes), float32.
    """
    judged, features = heads.result.judgement, heads.features
    at = heads.roles.used[judged.rows]
    arrays = {
        "path": np.array([str(features.dataset.paths[i]) for i in at]),
        "key": np.array([features.keys[i].tobytes().hex() for i in at]),
        "label": np.array([_label(heads, i) for i in at]),
        "head": np.array([entry.spec.name for entry in heads.result.leaderboard]),
        "class": np.array(heads.classes),
        "predicted": judged.predicted.astype(np.int32),
        "probability": judged.probabilities,
    }
    np.savez(heads.folder / PREDICTIONS, **arrays)  # type: ignore[arg-type]
    with (heads.folder / HARD).open(
        "w", encoding="utf-8", errors="surrogateescape", newline=""
    ) as file:
        table = csv.writer(file)
        table.writerow(_COLUMNS)
        table.writerows(_hard(heads))


_COLUMNS = ("path", "label", "given", "wrong")


def _hard(heads: Heads) -> list[tuple[str, str, str, float]]:
    """Path, label, the label that most heads give instead, and the share of heads wrong."""
    at = heads.roles.used
    return [
        (
            str(heads.features.dataset.paths[at[row.row]]),
            _label(heads, int(at[row.row])),
            heads.classes[row.given],
            round(row.share, 4),
        )
        for row in heads.result.judgement.hard
    ]


def _label(heads: Heads, position: int) -> str:
    assert heads.features.dataset.labels is not None
    return heads.features.dataset.labels[position]


def _curve(heads: Heads) -> str:
    points = heads.result.curve
    told = ", ".join(f"{p.score:.3f} with {p.rows}" for p in points)
    *_, before, last = points
    if last.interval is None:
        return f"more data    {told} training images"
    better = abs(last.score - before.score) > (last.interval.high - last.interval.low) / 2
    verdict = "more images should help" if better else "twice as many change little"
    return f"more data    {told} training images: {verdict}"


def _weakest(heads: Heads) -> str:
    table = heads.result.judgement.classes
    recall = np.nan_to_num(table.recall, nan=2.0)
    told = []
    for i in np.argsort(recall, kind="stable")[:_WEAKEST].tolist():
        if recall[i] > 1:
            continue
        others = table.confusion[i].copy()
        others[i] = 0
        taken = ""
        if others.max() > 0:
            other = heads.classes[int(others.argmax())]
            taken = f", mostly taken for {one_line(other)}"
        told.append(f"{one_line(heads.classes[i])} {recall[i]:.2f}{taken}")
    return f"recall       lowest: {'; '.join(told)}"


def _calibration(heads: Heads) -> str:
    found, entry = heads.result.judgement.calibration, heads.result.leaderboard[0]
    scaled = "" if entry.temperature == 1.0 else " as predict gives them, with its temperature"
    error = found.after.error if scaled else found.before.error
    other = f", {found.after.error:.3f} if a temperature were fitted" if not scaled else ""
    return f"calibration  probabilities are off by {error:.3f} on average{scaled}{other}"


def _between(interval: Interval | None) -> str:
    return "" if interval is None else f" ({interval.low:.3f} to {interval.high:.3f})"


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _shown(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"
