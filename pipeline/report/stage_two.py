"""The leaderboard, as JSON, as a table, and as the files of a run."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from pipeline.evaluate import METRICS, Interval
from pipeline.heads import training_bytes
from pipeline.heads.registry import settings_of
from pipeline.report.answer import answer_text
from pipeline.report.effects import Board, Line
from pipeline.report.groups import groups_json, groups_line, write_duplicates
from pipeline.report.judgement import judgement_json, judgement_lines, write_judgement
from pipeline.report.stage_one import features_json, features_text
from pipeline.report.views import views_json, views_lines
from pipeline.stage_two import Heads
from pipeline.sweep import Entry, SweepResult
from pipeline.text import human_bytes, plural

UNBALANCED = 1.5
"""Images of the largest class for each of the smallest from which balanced accuracy is shown."""


def heads_json(heads: Heads) -> dict[str, Any]:
    """Return the object that ``heads --json`` prints and ``leaderboard.json`` holds."""
    result, roles = heads.result, heads.roles
    judged = result.judgement
    leaderboard = [
        entry.plain()
        | {
            "training_bytes": training_bytes(entry.spec, entry.parameters),
            "interval": interval and dataclasses.asdict(interval),
            "balanced_accuracy": balanced,
        }
        for entry, interval, balanced in zip(
            result.leaderboard, judged.intervals, judged.balanced, strict=True
        )
    ]
    return {
        "metric": result.metric,
        "leaderboard": leaderboard,
        "best": leaderboard[0],
        "head_file": str(heads.head_file),
        "holdout": dataclasses.asdict(result.holdout) | {"looks": heads.looks}
        if result.holdout
        else None,
        "scheme": result.scheme,
        "folds": result.folds,
        "fits": result.fits,
        "fits_reused": result.fits_reused,
        "seed": result.seed,
        "classes": list(heads.classes),
        "images": {
            "train": roles.count("train"),
            "val": roles.count("val"),
            "test": roles.count("test"),
            "left_out": roles.count(""),
        },
        "views": views_json(heads),
        "groups": groups_json(heads),
        **judgement_json(heads),
        "asides": [{"pooling": a.pooling} | a.entry.plain() for a in heads.asides],
        "created": heads.created,
        "features": features_json(heads.features),
    }


def heads_text(heads: Heads, program: str) -> str:
    """Return the summary of stage one, the table of heads, and what to make of it.

    Parameters
    ----------
    program
        How the command was called, for the line that tells what to type next.
    """
    result, roles = heads.result, heads.roles
    tied = sum(entry.tied for entry in result.leaderboard)
    lines = [features_text(heads.features), "", *_table(heads), ""]
    if tied > 1:
        others = plural(tied - 1, "other head")
        lines.append(f"=  {others} cannot be told from the best: differences within noise at 5 %")
    trained = plural(roles.count("train"), "image")
    if result.scheme == "val":
        lines.append(f"scored on {plural(roles.count('val'), 'val image')}, trained on {trained}")
    else:
        lines.append(f"scored on {trained} in {result.folds} stratified folds")
    lines += views_lines(heads)
    lines.append(_fits_line(result))
    lines.append(groups_line(heads))
    if not METRICS[result.metric].greater_is_better:
        lines.append(f"{result.metric.replace('_', ' ')}: the lower the better")
    lines += judgement_lines(heads)
    lines.append(_holdout_line(heads))
    lines += _answer(heads)
    lines.append(
        f"head file    {heads.head_file} ({human_bytes(heads.head_file.stat().st_size)}): "
        f"{result.leaderboard[0].spec.name}"
    )
    lines.append(f"use it       {program} predict {heads.head_file} IMAGE...")
    return "\n".join(lines)


def write_run(heads: Heads) -> None:
    """Write leaderboard, duplicates, configuration and environment into the run's folder."""
    _write(heads.folder / "leaderboard.json", heads_json(heads))
    write_duplicates(heads)
    write_judgement(heads)
    _write(heads.folder / "config.json", _config(heads))
    _write(heads.folder / "environment.json", heads.environment)


def _config(heads: Heads) -> dict[str, Any]:
    """Return what was asked for, and what it came to."""
    entries = heads.result.leaderboard
    return {
        "asked": dataclasses.asdict(heads.config),
        "recipe": json.loads(heads.features.assembly.recipe.canonical()),
        "weights": heads.features.assembly.weights.source,
        "heads": [{"head": e.spec.head, "settings": e.spec.plain()} for e in entries],
    }


def _write(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=1, default=str) + "\n", encoding="utf-8")


def _table(heads: Heads) -> list[str]:
    judged = heads.result.judgement
    balanced = _is_unbalanced(heads)
    metric = heads.result.metric.replace("_", " ")
    columns = ["", "head", metric, "90 % interval", *(["balanced"] if balanced else [])]
    lines = [[*columns, "training", "parameters", "size", "fit time", ""]]
    for entry, interval, also in zip(
        heads.result.leaderboard, judged.intervals, judged.balanced, strict=True
    ):
        scores = [f"{entry.score:.3f}", _between(interval), *([f"{also:.3f}"] if balanced else [])]
        lines.append(["=" * entry.tied, entry.spec.name, *scores, *_costs(entry)])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    texts = {0: "<", 1: "<", len(widths) - 1: "<"}
    return [
        "  ".join(f"{cell:{texts.get(k, '>')}{widths[k]}}" for k, cell in enumerate(line)).rstrip()
        for line in lines
    ]


def _between(interval: Interval | None) -> str:
    return "" if interval is None else f"{interval.low:.3f}-{interval.high:.3f}"


def _is_unbalanced(heads: Heads) -> bool:
    """Whether accuracy hides how rare classes fare."""
    support = heads.result.judgement.classes.support
    told = heads.result.metric == "balanced_accuracy"
    return not told and bool(support.max() >= UNBALANCED * support.min())


def _costs(entry: Entry) -> list[str]:
    """Score in training, what the head weighs, how long its fits took, and what there is to say."""
    in_training = training_bytes(entry.spec, entry.parameters)
    notes = [
        "" if in_training is None else f"{human_bytes(in_training)} with Adam's state",
        "" if entry.converged else "stopped at its limit",
    ]
    return [
        f"{entry.train_score:.3f}",
        str(entry.parameters),
        human_bytes(entry.bytes),
        f"{entry.seconds:.1f} s",
        ", ".join(filter(None, notes)),
    ]


def _answer(heads: Heads) -> list[str]:
    """Answer the question of the sweep file's own head, where there is one beside the board."""
    if not any(entry.pooling or entry.only_first_fold for entry in heads.config.entries):
        return []
    return ["", answer_text(board_of(heads)), ""]


def board_of(heads: Heads) -> Board:
    """Put the board and what stands beside it together, for the answer."""
    result, features = heads.result, heads.features
    pooling = features.assembly.recipe.pooling
    lines = (
        *(Line.of(entry, pooling) for entry in result.leaderboard),
        *(Line.of(aside.entry, aside.pooling) for aside in heads.asides),
    )
    file = features.assembly.weights.path
    rows = heads.roles.count("train")
    held = heads.roles.count("val") if result.scheme == "val" else rows // result.folds
    return Board(
        lines=lines,
        metric=result.metric,
        rows=rows,
        scored=held,
        batch=_batch(heads),
        backbone=features.assembly.backbone.name,
        backbone_bytes=file.stat().st_size if file else None,
    )


def _batch(heads: Heads) -> int:
    """Images at once in the training of most networks that were asked for."""
    sizes = [
        int(e.settings["batch_size"]) for e in heads.config.entries if "batch_size" in e.settings
    ]
    return max(set(sizes), key=sizes.count) if sizes else settings_of("mlp")["batch_size"]


def _fits_line(result: SweepResult) -> str:
    kept = f", {result.fits_reused} of them kept from earlier runs" if result.fits_reused else ""
    return f"{plural(result.fits, 'fit')}{kept}"


def _holdout_line(heads: Heads) -> str:
    holdout = heads.result.holdout
    if holdout is None:
        return (
            "NO HOLDOUT: the best head was chosen by the scores above, which therefore flatter it; "
            "no images were kept back to check it on"
        )
    source = "test split" if "test" in (heads.features.dataset.splits or ()) else "holdout"
    shown = "undefined" if holdout.score is None else f"{holdout.score:.3f}"
    again = (
        f"; it was looked at {heads.looks} times now: choose by the scores above, not by it"
        if heads.looks > 1
        else ""
    )
    return (
        f"{source:<12} {holdout.metric.replace('_', ' ')} {shown} on {plural(holdout.n, 'image')} "
        f"that no head had seen, looked at once in this run, by the best head alone{again}"
    )
