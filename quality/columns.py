"""Columns as checks see them: what kind they are, how their values compare, and how a value is written for a person.

A float NaN is missing, as pandas has it. Times compare as whole microseconds, UTC; a naive time means UTC.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Literal

import polars as pl
import pyarrow as pa

from ..schemas.errors import SuiteError
from ..schemas.times import TimeError, day_start_us, iso, to_us

# "mixed" is Python's objects, which only Great Expectations' engine meets: see gx/mixed.py.
Kind = Literal["int", "float", "decimal", "bool", "string", "binary", "time", "date", "list", "mixed", "other"]
Scalar = int | float | bool | str | bytes | Decimal | datetime | date

NUMBERS: frozenset[Kind] = frozenset({"int", "float", "decimal"})
ORDERED: frozenset[Kind] = NUMBERS | {"string", "time", "date"}
HASHABLE: frozenset[Kind] = ORDERED | {"bool", "binary", "mixed"}

SHOWN_CHARS_MAX = 80
_US_PER_DAY = 86_400_000_000

_KINDS: tuple[tuple[Any, Kind], ...] = (
    (pa.types.is_boolean, "bool"),
    (pa.types.is_integer, "int"),
    (pa.types.is_floating, "float"),
    (pa.types.is_decimal, "decimal"),
    (pa.types.is_string, "string"),
    (pa.types.is_large_string, "string"),
    (pa.types.is_string_view, "string"),
    (pa.types.is_timestamp, "time"),
    (pa.types.is_date, "date"),
    (pa.types.is_binary, "binary"),
    (pa.types.is_large_binary, "binary"),
    (pa.types.is_fixed_size_binary, "binary"),
    (pa.types.is_list, "list"),
    (pa.types.is_large_list, "list"),
    (pa.types.is_fixed_size_list, "list"),
)


def kind_of(type_: pa.DataType) -> Kind:
    """The kind of an Arrow type; "other" supports nothing but checks for null."""
    return next((kind for test, kind in _KINDS if test(type_)), "other")


@dataclass(frozen=True, slots=True)
class Column:
    """One column of the schema that a suite is compiled for."""

    name: str
    type: pa.DataType
    kind: Kind
    inside: pl.Expr | None = field(default=None, compare=False)  # how a nested value is reached

    @property
    def raw(self) -> pl.Expr:
        return pl.col(self.name) if self.inside is None else self.inside

    @property
    def value(self) -> pl.Expr:
        """What is compared: null where missing; float64, µs for times and days for dates, else as it is stored."""
        match self.kind:
            case "float":
                # float32 widens first, as pandas compares it: 0.1 stored as float32 is above the bound 0.1.
                wide = self.raw if self.type == pa.float64() else self.raw.cast(pl.Float64)
                return wide.fill_nan(None)
            case "time":
                if self.type == pa.timestamp("us", self.type.tz):
                    return self.raw.to_physical()
                return self.raw.cast(pl.Datetime("us", self.type.tz)).to_physical()
            case "date":
                return self.raw.cast(pl.Date).to_physical()
            case _:
                return self.raw

    @property
    def items(self) -> pl.Expr:
        """Of a column of lists, the lists, fixed in length or not."""
        return self.raw.arr.to_list() if pa.types.is_fixed_size_list(self.type) else self.raw

    @property
    def present(self) -> pl.Expr:
        return self.value.is_not_null()

    @property
    def text(self) -> pl.Expr:
        """The value as a short string, null where there is none."""
        match self.kind:
            case "string":
                long = self.raw.str.len_chars() > SHOWN_CHARS_MAX
                tail = pl.when(long).then(pl.lit('…"')).otherwise(pl.lit('"'))
                shown = pl.concat_str(pl.lit('"'), self.raw.str.head(SHOWN_CHARS_MAX), tail)
            case "binary":
                shown = pl.concat_str(self.raw.cast(pl.Binary).bin.size().cast(pl.String), pl.lit(" bytes"))
            case "list":
                shown = pl.concat_str(self.items.list.len().cast(pl.String), pl.lit(" values"))
            case "time":
                utc = self.value.cast(pl.Datetime("us"))
                shown = utc.dt.strftime("%Y-%m-%dT%H:%M:%S%.fZ")
            case "other":
                shown = pl.when(self.raw.is_not_null()).then(pl.lit(f"a value of {self.type}"))
            case _:
                shown = self.raw.cast(pl.String)
        return shown

    def literal(self, raw: Any, *, where: str) -> Any:
        """`raw` of a suite as something `value` compares with.

        Raises:
            SuiteError: it does not fit the column's type.
        """
        fitted = self.fit(raw)
        if fitted is None:
            raise SuiteError(
                f"a value that does not fit column {self.name}",
                where=where,
                expected=f"{_FITS.get(self.kind, 'nothing: such columns do not compare')} (the column is {self.type})",
                got=repr(raw),
            )
        return fitted

    def fit(self, raw: Any) -> Any:
        """`raw` as something `value` compares with; None: it does not fit the column's type."""
        match self.kind, raw:
            case ("bool", bool()) | ("string", str()):
                return raw
            case ("int" | "float" | "decimal", bool()):
                return None
            case ("decimal", int() | float()):
                return Decimal(str(raw))
            case ("int", float()) if raw.is_integer():
                return int(raw)
            case ("int" | "float", int() | float()):
                return raw
            case ("time" | "date", str() | datetime() | date()):
                return self._fit_time(raw)
            case _:
                return None

    def _fit_time(self, raw: str | datetime | date) -> int | None:
        try:
            return to_us(raw) if self.kind == "time" else day_start_us(raw) // _US_PER_DAY
        except TimeError:
            return None

    def show(self, fitted: Any) -> str:
        """A literal, or an observed value, written for a person."""
        if fitted is None:
            return "null"
        if self.kind == "time" and isinstance(fitted, int):
            return iso(fitted)
        if self.kind == "date" and isinstance(fitted, int):
            return iso(fitted * _US_PER_DAY)[:10]
        return f"{fitted:.6g}" if isinstance(fitted, float) and not fitted.is_integer() else str(fitted)


_FITS: Mapping[Kind, str] = {
    "int": "a number",
    "float": "a number",
    "decimal": "a number",
    "bool": "true or false",
    "string": "a string",
    "time": "an ISO 8601 time such as 2022-05-02T00:00:00Z",
    "date": "an ISO 8601 day such as 2022-05-02",
}


def columns_of(schema: pa.Schema) -> dict[str, Column]:
    """The schema's columns by name, in its order."""
    return {field.name: Column(field.name, field.type, kind_of(field.type)) for field in schema}


def find(columns: Mapping[str, Column], name: str) -> Column | None:
    """A column, or what is inside one: `context.surface` of structs, `history[].item_id` of lists of structs.

    What is inside a list is a list. None: there is no such thing.
    """
    if name in columns:
        return columns[name]
    first, *path = name.split(".")
    root = columns.get(first.removesuffix("[]"))
    if root is None or not path:
        return None
    opened, type_, value = None, root.type, root.raw
    for place, part in enumerate((first, *path)):
        if place:
            names = [child.name for child in type_] if pa.types.is_struct(type_) else []
            if part.removesuffix("[]") not in names:
                return None
            type_, value = type_.field(part.removesuffix("[]")).type, value.struct.field(part.removesuffix("[]"))
        if part.endswith("[]"):
            if opened is not None or kind_of(type_) != "list":
                return None
            opened = value.arr.to_list() if pa.types.is_fixed_size_list(type_) else value
            type_, value = type_.value_type, pl.element()
    if opened is not None:
        type_, value = pa.list_(type_), opened.list.eval(value)
    return type(root)(name, type_, kind_of(type_), value)


def comparable(a: Column, b: Column) -> bool:
    """Whether the values of two columns can be compared with each other."""
    return a.kind in HASHABLE and (a.kind == b.kind or {a.kind, b.kind} <= NUMBERS)


def short(items: list[str], *, items_max: int = 8) -> str:
    """A list for a message: the first few, and how many more."""
    more = len(items) - items_max
    return ", ".join(items[:items_max]) + (f" and {more} more" if more > 0 else "")
