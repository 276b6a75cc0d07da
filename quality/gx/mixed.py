"""Columns of Python's objects (`pl.Object`) that hold numbers and strings side by side, as pandas' may.

Polars computes nothing on them, so the engine's frame holds a text for each value: `n` and the number, `s` and the
string, `o` and what else there is. Equal values have equal texts; an order, or arithmetic, they have not.
"""

from __future__ import annotations

import math
from typing import Any

import polars as pl

from ..columns import Column


def key(value: Any) -> str | None:
    """The text of a value; None for a missing one."""
    match value:
        case None:
            return None
        case str():
            return "s" + value
        case int() | float():
            if isinstance(value, float) and math.isnan(value):
                return None
            whole = isinstance(value, int) or value.is_integer()
            return f"n{int(value)}" if whole else f"n{value!r}"
        case _:
            return f"o{value!s}"


def value_of(text: str | None) -> Any:
    """The value that a text stands for; of other objects, how they are written."""
    if text is None or text[0] != "n":
        return None if text is None else text[1:]
    number = float(text[1:])
    return int(number) if number.is_integer() else number


def keyed(values: pl.Series) -> pl.Series:
    return pl.Series(values.name, [key(value) for value in values.to_list()], dtype=pl.String)


def alike(frame: pl.DataFrame) -> pl.DataFrame:
    """Objects that are all strings, numbers, … become a column of that type; only what is mixed stays as it is."""
    return frame.with_columns([_typed(frame[name]) for name, type_ in frame.schema.items() if type_ == pl.Object])


def _typed(values: pl.Series) -> pl.Series:
    try:
        return pl.Series(values.name, values.to_list(), strict=True)
    except (TypeError, pl.exceptions.PolarsError, OverflowError):
        return values


def key_of(column: Column) -> pl.Expr:
    """The texts that values of another column would have."""
    value = column.value
    match column.kind:
        case "mixed":
            return value
        case "string":
            return pl.concat_str(pl.lit("s"), value)
        case "int":
            return pl.concat_str(pl.lit("n"), value.cast(pl.String))
        case "bool":
            return pl.concat_str(pl.lit("n"), value.cast(pl.Int8).cast(pl.String))
        case "float" | "decimal":
            number = value.cast(pl.Float64)
            whole = number.cast(pl.Int64, strict=False)
            text = pl.when(number == whole).then(whole.cast(pl.String)).otherwise(number.cast(pl.String))
            return pl.concat_str(pl.lit("n"), text)
        case _:
            return pl.lit(None, dtype=pl.String)
