"""The flags about BatchNorm, and the choices they make."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from pipeline.config import BatchNormConfig
from pipeline.flags import option, together

bn_options = together(
    option(
        "--bn",
        "BatchNorm statistics: as stored with the weights, or re-estimated on the images that"
        " are in neither test nor holdout, then frozen.",
        type=click.Choice(["stored", "adapt"]),
        default="stored",
    ),
    option(
        "--bn-images",
        "On how many of them, at most; chosen by key, once.",
        type=click.IntRange(2, 4096),
        default=512,
    ),
    option(
        "--bn-mix",
        "Share of theirs in the statistics used: 0 as stored, 1 as re-estimated.",
        type=click.FloatRange(0, 1),
        default=1.0,
    ),
    click.option("--bn-refresh", is_flag=True, help="Choose the images to adapt to anew."),
)

doctor_own = together(
    option(
        "--images",
        "Images to look at, chosen by key; they are kept in memory.",
        type=click.IntRange(2, 4096),
        default=256,
    ),
    option(
        "--model",
        "A .keras file of your own to examine in place of the backbone; no code in it is run.",
        type=click.Path(path_type=Path),
        metavar="FILE",
    ),
    option(
        "--preprocessing",
        "What that model's input needs done to pixels of 0 to 255.",
        type=click.Choice(["none", "caffe", "tf", "torch", "lite"]),
        default="none",
    ),
)


def bn_config(flags: dict[str, Any]) -> BatchNormConfig | None:
    """Make the configuration of an adaptation from its flags; None where none was asked for.

    A mix of 0 is what is stored, and needs neither images nor a store of its own.
    """
    if flags.get("bn", "stored") == "stored" or flags["bn_mix"] == 0:
        return None
    return BatchNormConfig(
        images=flags["bn_images"], mix=flags["bn_mix"], refresh=flags["bn_refresh"]
    )
