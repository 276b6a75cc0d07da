"""What commands share: the lake argument, --json, times as arguments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from ..schemas.times import Time, TimeError, to_us

F = TypeVar("F", bound=Callable[..., Any])


def lake_argument(command: F) -> F:
    """LAKE, the folder of a lake."""
    return click.argument("lake", type=click.Path())(command)


def json_option(command: F) -> F:
    """--json, for machines."""
    return click.option("--json", "machine", is_flag=True, help="Print one JSON object instead of text.")(command)


class TimeParameter(click.ParamType[Time]):
    """An ISO 8601 time, or µs since 1970 as an integer."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            text = str(value)
            return to_us(int(text) if text.lstrip("-").isdigit() else text)
        except TimeError as error:
            self.fail(f"{error.what}: expected {error.expected}, got {error.got}", param, ctx)


TIME = TimeParameter()
ID = click.IntRange(-(2**63), 2**63 - 1)  # of a user
