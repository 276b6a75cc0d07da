"""What a metric asks of a frame, and what becomes of the answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import polars as pl


@dataclass(frozen=True, slots=True)
class Plan:
    """One value from one pass: each of `asked` gives one row (lists imploded); `finish` is given their values."""

    asked: tuple[pl.Expr, ...]
    finish: Callable[..., Any]


def of(expr: pl.Expr) -> Plan:
    """The value of the expression itself."""
    return Plan((expr,), lambda value: value)
