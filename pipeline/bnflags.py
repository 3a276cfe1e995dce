"""The flags about BatchNorm, and the choices they make."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from pipeline.config import BatchNormConfig

F = TypeVar("F", bound=Callable[..., Any])

_ADAPTING = (
    click.option(
        "--bn",
        type=click.Choice(["stored", "adapt"]),
        default="stored",
        show_default=True,
        help="BatchNorm statistics: as stored with the weights, or re-estimated on the images that"
        " are in neither test nor holdout, then frozen.",
    ),
    click.option(
        "--bn-images",
        type=click.IntRange(2, 4096),
        default=512,
        show_default=True,
        help="On how many of them, at most; chosen by key, once.",
    ),
    click.option(
        "--bn-mix",
        type=click.FloatRange(0, 1),
        default=1.0,
        show_default=True,
        help="Share of theirs in the statistics used: 0 as stored, 1 as re-estimated.",
    ),
    click.option("--bn-refresh", is_flag=True, help="Choose the images to adapt to anew."),
)

_EXAMINING = (
    click.option(
        "--images",
        type=click.IntRange(2, 4096),
        default=256,
        show_default=True,
        help="Images to look at, chosen by key; they are kept in memory.",
    ),
    click.option(
        "--model",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="A .keras file of your own to examine in place of the backbone; no code in it is run.",
    ),
    click.option(
        "--preprocessing",
        type=click.Choice(["none", "caffe", "tf", "torch", "lite"]),
        default="none",
        show_default=True,
        help="What that model's input needs done to pixels of 0 to 255.",
    ),
)


def bn_options(function: F) -> F:
    """Add the flags of ``--bn adapt`` to a command."""
    return _with(_ADAPTING, function)


def doctor_own(function: F) -> F:
    """Add the flags that the doctor alone has."""
    return _with(_EXAMINING, function)


def _with(options: tuple[Callable[[F], F], ...], function: F) -> F:
    for option in reversed(options):
        function = option(function)
    return function


def bn_config(flags: dict[str, Any]) -> BatchNormConfig | None:
    """Make the configuration of an adaptation from its flags; None where none was asked for.

    A mix of 0 is what is stored, and needs neither images nor a store of its own.
    """
    if flags.get("bn", "stored") == "stored" or flags["bn_mix"] == 0:
        return None
    return BatchNormConfig(
        images=flags["bn_images"], mix=flags["bn_mix"], refresh=flags["bn_refresh"]
    )
