"""The flags of the command line, and the configurations they make."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any, get_args

import click

from pipeline.bnflags import bn_config, bn_options, doctor_own
from pipeline.config import BackboneConfig, DoctorConfig, FeaturesConfig, HeadsConfig, Metric
from pipeline.errors import UsageError
from pipeline.flags import option, together
from pipeline.sweepflags import take_choices
from pipeline.text import seconds_of
from pipeline.viewflags import tta, views_options
from pipeline.workshard import WorkShard

COUNT = click.IntRange(1, 4096)
PATH = click.Path(path_type=Path)


out = option("--out", "Folder that everything is written to.", type=PATH, default="runs")
converted = option(
    "--out", "Folder of the cache, where converted networks are kept.", type=PATH, default="runs"
)
as_json = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object on standard output."
)
shard = option(
    "--shard",
    "Work on part I of N alone, such as 1/4, for machines that share the folder of --out.",
    metavar="I/N",
    callback=lambda _, __, text: None if text is None else WorkShard.parse(text),
)
strict = click.option(
    "--strict", is_flag=True, help="Exit with 2 where an image could not be used."
)


def _count_or_auto(text: str) -> int | None:
    return None if text == "auto" else COUNT(text)


batch_size = option(
    "--batch-size",
    "Images that go through the network at once; auto: what is fast and fits into memory.",
    type=_count_or_auto,
    metavar="auto|N",
    default="auto",
)


engine = option(
    "--engine",
    "What runs the network; auto takes the fastest that is installed and can.",
    type=click.Choice(["auto", "keras", "openvino"]),
    default="auto",
)


def _several(each: Any) -> Callable[[str], tuple[Any, ...]]:
    """Make a type of options: values of the type `each` between commas, a tuple of them."""

    def several(text: str) -> tuple[Any, ...]:
        parts = [part.strip() for part in text.split(",")]
        if not all(parts):
            raise click.BadParameter(f"{text!r} has an empty place between its commas")
        return tuple(each(part) for part in parts)

    return several


backbone_options = together(
    option(
        "--backbone",
        "resnet50, efficientnet-lite0 or another of keras.applications.  [default: resnet50]",
        type=_several(click.STRING),
        metavar="NAME,...",
    ),
    option(
        "--weights", "imagenet, random (for tests only), or a weight file.  [default: imagenet]"
    ),
    option("--seed", "Seed of every random choice.", type=click.IntRange(0, 2**32 - 1), default=0),
    option(
        "--size",
        "Side of the square input.  [default: the backbone's own]",
        type=_several(COUNT),
        metavar="PIXELS,...",
    ),
    option(
        "--resize",
        "How an image becomes a square.",
        type=click.Choice(["stretch", "crop", "pad"]),
        default="stretch",
    ),
    option(
        "--layer",
        "Layer whose feature map is taken; top is the last.",
        type=_several(click.STRING),
        metavar="NAME,...",
        default="top",
    ),
    option(
        "--pooling",
        "How a feature map becomes a row: avg, max, avgmax or flatten.",
        type=_several(click.Choice(["avg", "max", "avgmax", "flatten"])),
        metavar="NAME,...",
        default="avg",
    ),
    option(
        "--precision",
        "What the network computes in; auto takes bfloat16 where the processor has it and the"
        " backbone's heads do not notice.",
        type=click.Choice(["auto", "float32", "bfloat16", "float16"]),
        default="auto",
    ),
    batch_size,
)


features_options = together(
    out,
    backbone_options,
    bn_options,
    engine,
    option(
        "--commit-seconds",
        "Computed rows are made durable at the latest after this long.",
        type=click.FloatRange(0),
        default=30.0,
    ),
    strict,
    as_json,
)

doctor_options = together(out, backbone_options, doctor_own, as_json)

verify_options = together(
    out,
    click.option("--repair", is_flag=True, help="Move damaged shards to their store's quarantine."),
    option(
        "--recompute",
        "Compute so many random rows of DATA again and compare; the flags of features say which.",
        type=click.IntRange(0),
        default=0,
    ),
    backbone_options,
    as_json,
)


def _span(text: str) -> float:
    try:
        return seconds_of(text)
    except ValueError as error:
        raise click.BadParameter(
            f"{text!r} is no time: 90s, 10m, 1h30m, or a number of seconds"
        ) from error


heads_options = together(
    option(
        "--config",
        "A sweep file, such as headstart init writes, or the name of one that comes with the"
        " package: question. Flags beat it.",
        metavar="FILE|NAME",
        callback=take_choices,
        is_eager=True,
    ),
    features_options,
    views_options,
    tta,
    option(
        "--metric",
        "Score that heads are ranked by.",
        type=click.Choice(get_args(Metric)),
        default="accuracy",
    ),
    option(
        "--folds",
        "Stratified folds; a val split replaces them.",
        type=click.IntRange(2, 100),
        default=5,
    ),
    option(
        "--heads",
        "Train these alone, such as logistic,mlp.  [default: all]",
        callback=lambda _, __, names: (
            tuple(name.strip() for name in names.split(",")) if names else ()
        ),
    ),
    option(
        "--holdout/--no-holdout",
        "Set images aside for one last look at the best head.",
        default=True,
    ),
    option(
        "--groups/--no-groups",
        "Keep groups and duplicates on one side of every fold; without, scores flatter.",
        default=True,
    ),
    option("--repeats", "Draw the folds so often.", type=click.IntRange(1, 100), default=1),
    option(
        "--nested/--no-nested",
        "Score the choice of the best head by cross-validation around it.",
        default=False,
    ),
    option(
        "--calibrate/--no-calibrate",
        "Fit a temperature for the probabilities of every head, on out-of-fold predictions.",
        default=False,
    ),
    option(
        "--budget",
        "Begin no further fit after this long: 90s, 10m, 2h, or seconds.",
        type=_span,
        metavar="TIME",
    ),
)


_OWN_OF_STAGE_ONE = ("strict", "commit_seconds", "shard", "views", "augment", "augment_seed")


def features_config(flags: dict[str, Any]) -> FeaturesConfig:
    """Make the configuration of stage one from its flags."""
    first, *also = _backbones(flags)
    return FeaturesConfig(
        data=flags["data"],
        out=flags["out"],
        **{name: flags[name] for name in _OWN_OF_STAGE_ONE if name in flags},
        backbone=first,
        also=tuple(also),
        bn=bn_config(flags),
    )


def doctor_config(flags: dict[str, Any]) -> DoctorConfig:
    """Make the configuration of the doctor from its flags."""
    own = ("images", "model", "preprocessing")
    return DoctorConfig(features=features_config(flags), **{name: flags[name] for name in own})


def _backbones(flags: dict[str, Any]) -> list[BackboneConfig]:
    """Make the product of all that was listed, the networks before what is taken from each."""
    listed = ("backbone", "size", "layer", "pooling")
    rest = {
        name: flags[name]
        for name in BackboneConfig.__dataclass_fields__
        if name not in listed and name in flags
    }
    values = product(*(flags[name] or (None,) for name in listed))
    return [BackboneConfig(**rest, **dict(zip(listed, each, strict=True))) for each in values]


def heads_config(flags: dict[str, Any]) -> HeadsConfig:
    """Make the configuration of stage two from its flags and its sweep file.

    Raises
    ------
    UsageError
        Neither of them names the data; or means of views are asked for and no views.
    """
    if flags["data"] is None:
        raise UsageError(
            "no data: name them, as in headstart heads photos, or in the file of --config, "
            'as in data = "photos"'
        )
    if flags["tta"] and flags["views"] == 1:
        raise UsageError("--tta takes the mean of views: say how many with --views, such as 8")
    own = HeadsConfig.__dataclass_fields__.keys() - {"features", "entries"}
    return HeadsConfig(
        features=features_config(flags),
        entries=flags["config"].entries if flags["config"] else (),
        **{name: flags[name] for name in own},
    )
