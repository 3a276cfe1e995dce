"""The flags of augmented views."""

from __future__ import annotations

import click

from pipeline.config import DEFAULT_AUGMENT, MOST_VIEWS
from pipeline.errors import UsageError
from pipeline.flags import option, together


def _policy(text: str) -> str:
    """Write a policy of views as it is always written."""
    from pipeline.images.augment import Policy

    try:
        return Policy.parse(text).text
    except UsageError as error:
        raise click.BadParameter(str(error)) from error


views_options = together(
    option(
        "--views",
        "Rows of each image: its own, and those of N - 1 augmented views of it.",
        type=click.IntRange(1, MOST_VIEWS),
        metavar="N",
        default=1,
    ),
    option(
        "--augment",
        "How views are made: flip, rotate90, rotate, scale, crop, color, or question, which is"
        " flip,rotate.",
        type=_policy,
        metavar="NAME,...",
        default=DEFAULT_AUGMENT,
    ),
    option(
        "--augment-seed",
        "Another seed draws other views.",
        type=click.IntRange(0, 2**32 - 1),
        default=0,
    ),
)
tta = option(
    "--tta/--no-tta",
    "Score and label images by the mean of their views, not by the plain ones alone.",
    default=False,
)
