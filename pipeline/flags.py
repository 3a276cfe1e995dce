"""How flags of the command line are made, and put on a command together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


def option(name: str, help_text: str, **settings: Any) -> Callable[[F], F]:
    """Make a flag, whose default is shown where it has one."""
    shown = settings.get("default") is not None
    return click.option(name, help=help_text, show_default=shown, **settings)


def together(*options: Callable[[F], F]) -> Callable[[F], F]:
    """Put flags on a command, in the order in which its help lists them."""

    def decorate(function: F) -> F:
        for one in reversed(options):
            function = one(function)
        return function

    return decorate
