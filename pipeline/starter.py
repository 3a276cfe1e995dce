"""The command ``init``: a commented sweep file that says what happens without one."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path

from pipeline.config import DEFAULT_BACKBONE, HeadsConfig
from pipeline.errors import UsageError
from pipeline.heads import HeadSpec, default_specs
from pipeline.heads.registry import REQUIRED, settings_of
from pipeline.sweepfile import NOTHING
from pipeline.text import one_line

FILE_NAME = "heads.toml"

COMMENTS = {
    "logistic": "Multinomial logistic regression; a small C is a strong L2 penalty.",
    "ridge": "Least squares on the classes; a large alpha is a strong L2 penalty.",
    "svm": "Linear support vector machine; a small C is a wide margin.",
    "svc": "Support vector machine with a kernel, which finds curved borders as well.",
    "lda": "Gaussian classes of one covariance; shrinkage 1 keeps its mean variance alone.",
    "knn": "The k nearest training images vote; the head keeps them all.",
    "centroid": "The nearest class mean: the simplest head there is.",
    "mlp": 'Dense layers with dropout; "512+256" is two layers, one after the other.',
}
"""What a head is, in one line."""

_OPENING = """\
# What headstart heads compares. Every key may be left out, and then is as it stands here.
# Flags of the command line beat this file: headstart heads photos --config {name} --folds 10

# Class folders, or a CSV or Parquet file. A relative path starts at the folder you are in.
# data = "photos"
# out = {out}

# Of the features: what makes an image a row.
# backbone = {backbone}
# pooling = {pooling}
# Heads are trained on so many views of each training image: 1 is the plain picture alone. How the
# others are made: flip, rotate90, rotate, scale, crop, color, or question, which is flip,rotate.
# views = {views}
# augment = {augment}
# augment_seed = {augment_seed}
# Whether images are scored and labelled by the mean of their views, not by the plain picture.
# tta = {tta}

# accuracy, balanced_accuracy, macro_f1, roc_auc or log_loss
metric = {metric}
# Stratified folds; a val split of the data takes their place.
folds = {folds}
# 20 % of the images are kept for one last look at the best head; a test split takes their place.
holdout = {holdout}
# Groups and duplicates stay on one side of every fold; without, scores flatter.
groups = {groups}
# How often the folds are drawn, and whether the choice of the best head is cross-validated as well.
repeats = {repeats}
nested = {nested}
# A temperature for every head, and not for those alone that were not trained to give probabilities.
calibrate = {calibrate}
# No fit is begun after this long; the same command goes on from there.
# budget = "10m"
# Seed of every random choice.
seed = {seed}

# Each [[heads]] is one kind of head, tried at every combination of its settings: a value, or a list
# of values. A line that begins with # is a setting that is not varied, at the value it has anyway.
"""


def write_starter(place: Path) -> Path:
    """Write the default sweep as a file, ``heads.toml`` where `place` is a folder.

    Raises
    ------
    UsageError
        It is there already (nothing is ever overwritten), or cannot be written.
    """
    path = place / FILE_NAME if place.is_dir() else place
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(starter_toml(path.name))
    except FileExistsError as error:
        raise UsageError(
            f"{path} is there already, and is not overwritten: name another file"
        ) from error
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}") from error
    return path


def starter_toml(name: str = FILE_NAME) -> str:
    """Make a sweep file that, read back, is the default sweep."""
    usual = HeadsConfig()
    opening = _OPENING.format(
        name=one_line(name),
        backbone=_toml(DEFAULT_BACKBONE),
        out=_toml(str(usual.features.out)),
        pooling=_toml(usual.features.backbone.pooling),
        views=usual.features.views,
        augment=_toml(usual.features.augment),
        augment_seed=usual.features.augment_seed,
        tta=_toml(usual.tta),
        metric=_toml(usual.metric),
        folds=_toml(usual.folds),
        holdout=_toml(usual.holdout),
        groups=_toml(usual.groups),
        repeats=usual.repeats,
        nested=_toml(usual.nested),
        calibrate=_toml(usual.calibrate),
        seed=_toml(usual.features.backbone.seed),
    )
    return "\n".join((opening, *map(_table, _grids(default_specs()))))


def _grids(specs: Sequence[HeadSpec]) -> Iterator[Sequence[HeadSpec]]:
    """Divide a sweep into as few runs of it as are whole grids, in its order."""
    while specs:
        length = next(n for n in range(len(specs), 0, -1) if _is_grid(specs[:n]))
        yield specs[:length]
        specs = specs[length:]


def _is_grid(specs: Sequence[HeadSpec]) -> bool:
    axes = _axes(specs)
    alike = all(s.head == specs[0].head and [*s.settings] == [*axes] for s in specs)
    points = [tuple(spec.settings.values()) for spec in specs]
    return alike and points == list(product(*axes.values()))


def _axes(specs: Sequence[HeadSpec]) -> dict[str, list[object]]:
    """List the values that each setting takes, in the order of their first appearance."""
    axes: dict[str, list[object]] = {}
    for spec in specs:
        for name, value in spec.settings.items():
            if value not in axes.setdefault(name, []):
                axes[name].append(value)
    return axes


def _table(specs: Sequence[HeadSpec]) -> str:
    """Write one grid, and as comments the settings that it leaves alone."""
    head, axes = specs[0].head, _axes(specs)
    lines = [f"# {COMMENTS[head]}", "[[heads]]", f"head = {_toml(head)}"]
    for name, values in axes.items():
        written = ", ".join(_setting(name, value) for value in values)
        lines.append(f"{name} = {written}" if len(values) == 1 else f"{name} = [{written}]")
    lines += (
        f"# {name} = {_setting(name, value)}"
        for name, value in settings_of(head).items()
        if name not in axes and value is not REQUIRED
    )
    return "\n".join(lines) + "\n"


def _setting(name: str, value: object) -> str:
    return _toml(NOTHING[name] if value is None else value)


def _toml(value: object) -> str:
    """Write a value as TOML; layers as text, since a list would be an axis."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, tuple)):
        value = "+".join(map(str, value))
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)
