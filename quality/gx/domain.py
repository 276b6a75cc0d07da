"""What a metric looks at: columns of a frame as GX names them, and the rows that its conditions keep."""

from __future__ import annotations

import operator
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import polars as pl
import pyarrow as pa
from dateutil.parser import ParserError, parse
from great_expectations.exceptions import ValidationError
from great_expectations.expectations.metrics.util import get_dbms_compatible_column_names
from great_expectations.expectations.row_conditions import Condition

from ...schemas.errors import SuiteError
from ..columns import Column, find, kind_of
from ..conditions import compile_condition
from . import mixed

PAIR_MISSING = ("both_values_are_missing", "either_value_is_missing", "neither")
WIDE = (pl.Int128, pl.UInt128)
RECORD_MISSING = ("all_values_are_missing", "any_value_is_missing", "never")


class LooseColumn(Column):
    """A column that compares with all that pandas lets it compare with: times in any wording, numbers of any make."""

    __slots__ = ()

    def fit(self, raw: Any) -> Any:
        if hasattr(raw, "item"):  # a NumPy scalar
            raw = raw.item()
        if self.kind == "mixed":
            return mixed.key(raw)
        if self.kind in ("time", "date") and isinstance(raw, str):
            try:
                raw = parse(raw)
            except (ParserError, OverflowError):
                return None
        if self.kind in ("int", "float") and isinstance(raw, bool | Decimal):
            raw = int(raw) if isinstance(raw, bool) else float(raw)
        if self.kind == "bool" and isinstance(raw, int | float) and raw in (0, 1):
            raw = bool(raw)
        return super().fit(raw)

    def literal(self, raw: Any, *, where: str) -> Any:
        """None for what the column cannot hold: equal to nothing in it, as pandas has it."""
        return self.fit(raw)

    def listed(self, values: pl.Series) -> list[Any]:
        """Values of the column as Python's; durations in words, as they cannot be written as JSON."""
        found = values.to_list()
        if self.kind == "mixed":
            return [mixed.value_of(text) for text in found]
        return [value and str(value) for value in found] if pa.types.is_duration(self.type) else found


def columns_of(frame: pl.LazyFrame, objects: Collection[str]) -> dict[str, LooseColumn]:
    """The frame's columns; `objects` are those that hold texts of Python's objects."""
    # Arrow has no integers of 128 bits: to checks they are whole numbers like others.
    plain = {name: pl.Int64 if type_ in WIDE else type_ for name, type_ in frame.collect_schema().items()}
    types = pl.DataFrame(schema=plain).to_arrow().schema
    kinds = {field.name: "mixed" if field.name in objects else kind_of(field.type) for field in types}
    return {field.name: LooseColumn(field.name, field.type, kinds[field.name]) for field in types}


def condition_of(raw: Any, parser: Any, columns: Mapping[str, LooseColumn]) -> pl.Expr:
    """
    Raises:
        ValidationError: a row condition that has no meaning here.
    """
    try:
        return compile_condition(raw, parser, columns, where="expectation")
    except SuiteError as error:
        raise ValidationError(f"{error.what}: expected {error.expected}, got {error.got}") from None


@dataclass(frozen=True, slots=True)
class Domain:
    """GX's `metric_domain_kwargs` for a frame. `condition` is the row condition, null-free; None: all rows."""

    columns: Mapping[str, LooseColumn]
    kwargs: Mapping[str, Any]
    condition: pl.Expr | None

    @classmethod
    def of(cls, columns: Mapping[str, LooseColumn], kwargs: Mapping[str, Any]) -> Domain:
        raw = kwargs.get("row_condition")
        if raw is None or raw == "":
            return cls(columns, kwargs, None)
        given = raw.dict() if isinstance(raw, Condition) else raw
        return cls(columns, kwargs, condition_of(given, kwargs.get("condition_parser"), columns))

    def named(self, name: str) -> LooseColumn:
        """
        Raises:
            InvalidMetricAccessorDomainKwargsKeyError: there is no such column.
        """
        found = find(self.columns, name)
        return found if isinstance(found, LooseColumn) else self.columns[_spelt(name, self.columns)]

    @property
    def column(self) -> LooseColumn:
        return self.named(self.kwargs["column"])

    @property
    def pair(self) -> tuple[LooseColumn, LooseColumn]:
        return self.named(self.kwargs["column_A"]), self.named(self.kwargs["column_B"])

    @property
    def record(self) -> list[LooseColumn]:
        return [self.named(name) for name in self.kwargs["column_list"]]

    @property
    def all(self) -> list[LooseColumn]:
        """The columns that the metric is about."""
        if "column" in self.kwargs:
            return [self.column]
        if "column_A" in self.kwargs:
            return list(self.pair)
        return self.record if "column_list" in self.kwargs else []

    def rows(self, *, skip_missing: bool) -> pl.Expr:
        """The rows that are looked at, null-free: the row condition keeps them, and nothing that is missing."""
        kept: list[pl.Expr] = [] if self.condition is None else [self.condition]
        ignored = self.kwargs.get("ignore_row_if", "never")
        if ignored not in (*PAIR_MISSING, *RECORD_MISSING):
            raise ValueError(f'Unrecognized value of ignore_row_if ("{ignored}").')
        present = [column.present for column in self.all]
        if "column" in self.kwargs:
            kept += present if skip_missing else []
        elif ignored in ("both_values_are_missing", "all_values_are_missing"):
            kept.append(pl.any_horizontal(present))
        elif ignored in ("either_value_is_missing", "any_value_is_missing"):
            kept.append(pl.all_horizontal(present))
        return pl.all_horizontal(kept) if kept else pl.repeat(True, pl.len(), dtype=pl.Boolean)

    @property
    def count(self) -> pl.Expr:
        """How many rows the row condition keeps."""
        return pl.len() if self.condition is None else self.condition.sum()

    @property
    def values(self) -> pl.Expr:
        """The column's own values that are there, as they are stored; decimals as float64, as GX takes them.

        Raises:
            TypeError: they are Python's objects, of which only counts are known.
        """
        if self.column.kind == "mixed":
            raise TypeError(f"Column {self.column.name} holds Python's objects: cast it to a type of its own.")
        return self.present

    @property
    def present(self) -> pl.Expr:
        """As `values`, to be counted."""
        column = self.column
        raw = column.raw.fill_nan(None) if column.kind == "float" else column.raw
        kept = (raw if self.condition is None else raw.filter(self.condition)).drop_nulls()
        return kept.cast(pl.Float64) if column.kind == "decimal" else kept


def _spelt(name: str, columns: Mapping[str, LooseColumn]) -> str:
    return str(get_dbms_compatible_column_names(name, list(columns)))


def fitted(column: LooseColumn, raw: Sequence[Any] | set[Any]) -> list[Any]:
    """Those of the values that the column could hold, as `column.value` compares."""
    fits = [column.fit(item) for item in raw if item is not None]
    fits = [float(fit) if column.kind == "float" and fit is not None else fit for fit in fits]
    return list(dict.fromkeys(fit for fit in fits if fit is not None))


def literal(column: LooseColumn, raw: Any) -> Any:
    """`raw` as something that `column.value` compares with.

    Raises:
        TypeError: it is of another kind; with GX's words.
    """
    fit = column.fit(raw)
    if fit is None or column.kind == "mixed":
        raise TypeError("Column values, min_value, and max_value must either be None or of the same type.")
    return fit


def text(column: LooseColumn) -> pl.Expr:
    """The values as strings, as Python writes them."""
    match column.kind:
        case "string":
            return column.raw
        case "int":
            return column.raw.cast(pl.String)
        case "mixed":
            return column.raw.str.slice(1)
        case _:
            return column.raw.map_batches(_written, return_dtype=pl.String, is_elementwise=True)


def _written(values: pl.Series) -> pl.Series:
    distinct = values.drop_nulls() if values.dtype.is_nested() else values.drop_nulls().unique()
    words = pl.Series([str(value) for value in distinct.to_list()], dtype=pl.String)
    if values.dtype.is_nested():
        return words.gather(pl.select(pl.lit(values.is_not_null()).cum_sum() - 1).to_series()) if len(words) else words
    if words.is_empty():
        return pl.Series(values.name, [None] * len(values), dtype=pl.String)
    return values.replace_strict(distinct, words, return_dtype=pl.String)


def by_value(column: LooseColumn, test: Callable[[str], bool], *, asked_by: str) -> pl.Expr:
    """A Python function of a string, asked once for each distinct value.

    Raises:
        TypeError: the column is not one of strings; with GX's words.
    """
    if column.kind != "string":
        raise TypeError(
            f"Values passed to {asked_by} must be of type string.\nIf you want to validate a column of dates or"
            " timestamps, please call the expectation before converting from string format."
        )

    def meets(values: pl.Series) -> pl.Series:
        distinct = values.drop_nulls().unique()
        good = [value for value in distinct.to_list() if test(value)]
        return values.is_in(pl.Series(good, dtype=pl.String).implode())

    return column.raw.map_batches(meets, return_dtype=pl.Boolean, is_elementwise=True)


def joined(parts: Sequence[pl.Expr], how: Callable[[Any, Any], Any] = operator.or_) -> pl.Expr:
    result = parts[0]
    for part in parts[1:]:
        result = how(result, part)
    return result
