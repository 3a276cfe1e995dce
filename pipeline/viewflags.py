"""The flags of augmented views."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from pipeline.config import DEFAULT_AUGMENT, MOST_VIEWS
from pipeline.errors import UsageError

F = TypeVar("F", bound=Callable[..., Any])


def _policy(text: str) -> str:
    """Write a policy of views as it is always written."""
    from pipeline.images.augment import Policy

    try:
        return Policy.parse(text).text
    except UsageError as error:
        raise click.BadParameter(str(error)) from error


_VIEWS = click.option(
    "--views",
    help="Rows of each image: its own, and those of N - 1 augmented views of it.",
    type=click.IntRange(1, MOST_VIEWS),
    metavar="N",
    default=1,
    show_default=True,
)
_AUGMENT = click.option(
    "--augment",
    help="How views are made: flip, rotate90, rotate, scale, crop, color, or question, which is"
    " flip,rotate.",
    type=_policy,
    metavar="NAME,...",
    default=DEFAULT_AUGMENT,
    show_default=True,
)
_SEED = click.option(
    "--augment-seed",
    help="Another seed draws other views.",
    type=click.IntRange(0, 2**32 - 1),
    default=0,
    show_default=True,
)
tta = click.option(
    "--tta/--no-tta",
    help="Score and label images by the mean of their views, not by the plain ones alone.",
    default=False,
    show_default=True,
)


def views_options(command: F) -> F:
    """Add the flags that say which views there are."""
    for option in (_SEED, _AUGMENT, _VIEWS):
        command = option(command)
    return command
