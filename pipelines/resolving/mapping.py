"""A contract's mapping: SQL expressions over the columns of a source row. Pure, and row by row: no value depends on
which other rows are in the batch, nor on the clock.

Whole numbers are computed in 128 bits, so that `time_s * 1000000` cannot wrap round: what does not fit the field in
the end is rejected when it is cast.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import polars as pl

from ...schemas.contract import Emit
from ...schemas.errors import MappingError
from ...schemas.failures import POLARS_FAILURES
from .isolate import first_line, isolate
from .suggest import did_you_mean

_PLACE = "\0row"
_NOT_BY_ROW = re.compile(r"\bover\s*\(|\b(?:now|random|rand)\s*\(|\bcurrent_(?:timestamp|date|time)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Evaluated:
    """`rows`: a column for each mapped field; `places`: the frame's row of each, Int64; `failed`: reasons of rows whose
    expressions could not be evaluated, as columns `_row` and those of shapes.REASON; `read`: source columns read.
    """

    rows: pl.DataFrame
    places: pl.Series
    failed: list[pl.DataFrame]
    read: frozenset[str]


@dataclass(frozen=True, slots=True)
class Expression:
    """`target` is a contract field, or "when"."""

    target: str
    text: str
    parsed: pl.Expr
    columns: frozenset[str]


def evaluate(frame: pl.DataFrame, emit: Emit, *, where: str) -> Evaluated:
    """The mapped columns of the rows for which `when` is true.

    Raises:
        MappingError: an expression is not SQL, names a column the frame does not have, has operands of the wrong
            types, or is not a function of one row.
    """
    when = None if emit.when is None else _parse("when", emit.when, frame.columns, where)
    fields = [_parse(name, text, frame.columns, where) for name, text in emit.fields]
    expressions = fields if when is None else [when, *fields]
    wide = _widened(frame, expressions, where)
    wide = wide.with_columns(pl.int_range(pl.len(), dtype=pl.Int64).alias(_PLACE))

    def attempt(start: int, stop: int) -> pl.DataFrame:
        part = wide.slice(start, stop - start)
        if when is not None:
            part = part.filter(when.parsed)
        return part.select(_PLACE, *[field.parsed.alias(field.target) for field in fields])

    found = isolate(frame.height, attempt)
    rows = [rows for _, _, rows in found.pieces] or [attempt(0, 0)]
    failed = [_failure(wide.slice(start, 1), start, expressions) for start, _, _ in found.failed]
    read = frozenset[str]().union(*[expression.columns for expression in expressions])
    evaluated = pl.concat(rows)
    return Evaluated(evaluated.drop(_PLACE), evaluated[_PLACE], failed, read)


def columns_read(emits: Sequence[Emit]) -> frozenset[str]:
    """The source columns that expressions name; of those that are not SQL, none."""
    named: set[str] = set()
    for emit in emits:
        for text in (*[text for _, text in emit.fields], *([] if emit.when is None else [emit.when])):
            with suppress(*POLARS_FAILURES):
                named.update(pl.sql_expr(text).meta.root_names())
    return frozenset(named)


def _parse(target: str, text: str, columns: list[str], where: str) -> Expression:
    at = f"{where}, {target}"
    try:
        parsed = pl.sql_expr(text)
        named = frozenset(parsed.meta.root_names())
    except POLARS_FAILURES as error:
        raise MappingError(
            "an expression that is not SQL",
            where=at,
            expected="one SQL expression over the source's columns",
            got=f"{text} ({first_line(error)})",
        ) from None
    for name in sorted(named - set(columns)):
        raise MappingError(
            f"an expression reads a column that the source does not have: {name}",
            where=f"{at}: {text}",
            expected="one of the columns " + ", ".join(columns)
            if columns
            else "columns: of this source no row has any",
            got=name,
            hint=did_you_mean(name, columns)
            + 'text is quoted with single quotes, a column with spaces with double quotes: "Customer ID"; a column'
            " that only later rows have is to be declared in the mapping's `columns`",
        )
    if _NOT_BY_ROW.search(re.sub(r"'(?:[^']|'')*'|\"[^\"]*\"", "", text)):
        raise _not_by_row(at, text)
    return Expression(target, text, parsed, named)


def _not_by_row(at: str, text: str) -> MappingError:
    return MappingError(
        "an expression that does not depend on its row alone",
        where=at,
        expected="a function of one source row: no aggregates, windows, clocks or random numbers",
        got=text,
    )


def _widened(frame: pl.DataFrame, expressions: list[Expression], where: str) -> pl.DataFrame:
    """The columns that are read, whole numbers in 128 bits where the expressions work on those (a few functions do
    not), and each expression tried on no rows, which finds what is wrong with it whatever the data.
    """
    read = {name for expression in expressions for name in expression.columns}
    narrow = frame.select([name for name in frame.columns if name in read] or pl.lit(None).alias("\0none"))
    if narrow.height != frame.height:
        narrow = pl.select(pl.repeat(None, frame.height).alias("\0none"))
    wide = narrow.cast({name: pl.Int128() for name, dtype in narrow.schema.items() if dtype.is_integer()})
    for expression in expressions:
        try:
            wide.clear().select(expression.parsed)
        except POLARS_FAILURES:
            wide = narrow
    for expression in expressions:
        at = f"{where}, {expression.target}"
        try:
            empty = wide.clear().select(expression.parsed)
        except POLARS_FAILURES as error:
            types = ", ".join(f"{name} {frame.schema[name]}" for name in sorted(expression.columns))
            raise MappingError(
                "an expression that does not fit its columns",
                where=at,
                expected=f"SQL that works on {types or 'no column'}",
                got=f"{expression.text} ({first_line(error)})",
                hint="an untyped source's columns can be given types in the mapping's columns",
            ) from None
        if empty.height and expression.columns:
            raise _not_by_row(at, expression.text)
        if expression.target == "when" and empty.dtypes != [pl.Boolean()]:
            raise MappingError(
                "a condition that is not true or false",
                where=at,
                expected="a comparison, such as is_click = 1",
                got=f"{expression.text} ({empty.dtypes[0]})",
            )
    return wide


def _failure(row: pl.DataFrame, place: int, expressions: list[Expression]) -> pl.DataFrame:
    """The reasons of one row: every expression that cannot be evaluated on it."""
    reasons = []
    for expression in expressions:
        try:
            row.select(expression.parsed)
        except POLARS_FAILURES as error:
            reasons.append((expression.target, expression.text, first_line(error)[:200]))
    return pl.DataFrame(
        {
            "_row": pl.Series([place] * len(reasons), dtype=pl.Int64),
            "check": ["resolve"] * len(reasons),
            "column": [target for target, _, _ in reasons],
            "severity": ["error"] * len(reasons),
            "expected": [f"{text} to have a value" for _, text, _ in reasons],
            "got": [got for _, _, got in reasons],
        }
    )
