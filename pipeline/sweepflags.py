"""The choices of a sweep file, as defaults of the command line's flags."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from pipeline.errors import UsageError
from pipeline.text import nearest

if TYPE_CHECKING:
    from pipeline.sweepfile import SweepFile


def take_choices(context: click.Context, _: click.Parameter, name: str | None) -> SweepFile | None:
    """Read the sweep file, whose choices become the defaults of the flags: so flags beat it.

    Parameters
    ----------
    context
        Of a command whose flags have the names of the file's keys.
    name
        File or preset; None for neither.

    Raises
    ------
    UsageError
        As :func:`pipeline.sweepfile.read_sweepfile`; or a flag could not have that value.
    """
    if name is None:
        return None
    from pipeline.sweepfile import read_sweepfile

    file = read_sweepfile(name)
    flags = {flag.name: flag for flag in context.command.params}
    defaults = {}
    for key, value in file.choices.items():
        with file.toml.at(key):
            defaults[key] = value if isinstance(value, bool) else str(value)
            _check_flag(context, flags[key], defaults[key])
    context.default_map = defaults
    return file


def _check_flag(context: click.Context, flag: click.Parameter, value: object) -> None:
    """Refuse what the flag would refuse, before it does without knowing the line."""
    try:
        flag.type_cast_value(context, value)
    except click.BadParameter as error:
        hint = ""
        if isinstance(flag.type, click.Choice):
            hint = nearest(str(value), list(flag.type.choices))
        raise UsageError(f"{flag.name}: {error.message.rstrip('.')}{hint}") from error
