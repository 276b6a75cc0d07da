"""Strict casts of a column to an Avro type: a value arrives exactly, or its row is marked bad. Pure; no row is dropped.

Promotions are those of the Avro specification 1.12, "Schema Resolution" (int → long → float → double,
string ↔ bytes), and what untyped text needs: numbers, booleans and times written as text. Beyond it, whole numbers
become strings (an id is often a number at its source), and integral floats become integers (pandas writes nullable
integers as floats). A time finer than its field (nanoseconds into microseconds) loses the finer digits, rounded down.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import polars as pl
import pyarrow as pa

from ...schemas.avro import AvroType, split_nullable, to_arrow
from ...schemas.changes import type_told
from ...schemas.errors import ContractError
from .isolate import isolate
from .read_times import parse_times, within_calendar

_TRUTH = {"true": True, "false": False, "1": True, "0": False}
_WRITTEN_NON_FINITE = r"^[+-]?(?i:inf|infinity|nan)$"
_UUID = r"^(?i)[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"


@dataclass(frozen=True, slots=True)
class Cast:
    """`values`: of the target's type, null where the source is null or bad. `bad`: Boolean, where it did not fit."""

    values: pl.Series
    bad: pl.Series


def polars_type(avro: AvroType) -> pl.DataType:
    """The Polars type that holds values of an Avro type."""
    return _primitive_type(avro) if isinstance(avro, str) else _type(avro)


@functools.cache
def _primitive_type(avro: str) -> pl.DataType:
    return _type(avro)


def _type(avro: AvroType) -> pl.DataType:
    empty = pl.from_arrow(pa.array([], to_arrow(avro, where="a type")))
    assert isinstance(empty, pl.Series)
    return empty.dtype


def type_name(avro: AvroType) -> str:
    """How a reason names what a field holds: `long`, `enum of A, B`, `array of record of (id: long, price: float)`."""
    return type_told(split_nullable(avro)[0])


def cast(values: pl.Series, avro: AvroType) -> Cast:
    """`values` as the Avro type. Nulls stay null and are not bad here: whether null may be is the caller's question,
    but inside arrays, maps and records a null where the type has none is bad.
    """
    avro, _ = split_nullable(avro)
    target = polars_type(avro)
    if values.dtype == pl.Null:
        return Cast(pl.Series(values.name, [None] * len(values), target), _constant(False, len(values)))
    schema = avro if isinstance(avro, dict) else {"type": avro}
    if values.dtype == target and schema["type"] in _ANY_VALUE and "logicalType" not in schema:
        # Of thousands of columns most are what they are to be, and every look at a column costs.
        return Cast(values, _constant(False, len(values)))
    out, fits = _caster(schema)(values, schema, target)
    if not fits.null_count() and fits.all() and out.null_count() == values.null_count():
        return Cast(out.alias(values.name), _constant(False, len(values)))
    bad = values.is_not_null() & (out.is_null() | ~fits.fill_null(False))
    if bad.any():
        out = pl.select(pl.when(~bad).then(out)).to_series()
    return Cast(out.alias(values.name), bad.alias("bad"))


def cannot(values: pl.Series, target: pl.DataType) -> tuple[pl.Series, pl.Series]:
    """No value of this column fits."""
    return pl.Series([None] * len(values), dtype=target), _constant(False, len(values))


def describe(values: pl.Series) -> pl.Series:
    """How a reason shows values: text quoted, the rest as it prints; at most 200 characters; `null` for null."""
    if values.dtype == pl.String:
        shown = pl.select("'" + values.str.head(200) + "'").to_series()
    elif values.dtype == pl.Binary:
        shown = pl.select("0x" + values.bin.encode("hex").str.head(200)).to_series()
    elif values.dtype.is_nested() or values.dtype in (pl.Object, pl.Null):
        shown = pl.Series([None if v is None else repr(v)[:200] for v in values.to_list()], dtype=pl.String)
    else:
        shown = values.cast(pl.String)
    return shown.fill_null("null").alias("got")


def default_of(default: Any, avro: AvroType, *, where: str) -> pl.Series:
    """A default, as Avro writes it in JSON, as a column of one value.

    Raises:
        ContractError: the field cannot hold it.
    """
    try:
        one = pl.from_arrow(pa.array([_default(default, avro)], to_arrow(avro, where=where)))
    except (pa.ArrowInvalid, pa.ArrowTypeError, TypeError, ValueError, KeyError) as error:
        raise ContractError(
            "a default that its field cannot hold", where=where, expected=type_name(avro), got=f"{default!r} ({error})"
        ) from None
    assert isinstance(one, pl.Series)
    return one


def _default(value: Any, avro: AvroType) -> Any:
    """A default in Avro's JSON form as Arrow takes it: bytes are text of code points 0-255, maps are pairs."""
    avro, _ = split_nullable(avro)
    kind = avro["type"] if isinstance(avro, dict) else avro
    match kind:
        case "bytes" | "fixed":
            return value.encode("latin-1")
        case "array":
            return [_default(item, avro["items"]) for item in value]
        case "map":
            return [(key, _default(item, avro["values"])) for key, item in value.items()]
        case "record":
            return {f["name"]: _default(value.get(f["name"], f.get("default")), f["type"]) for f in avro["fields"]}
        case _:
            return value


def constant(value: Any, length: int, dtype: pl.DataType) -> pl.Series:
    """One value, so many times."""
    return pl.Series([value], dtype=dtype).new_from_index(0, length)


def _constant(value: bool, length: int) -> pl.Series:
    return constant(value, length, pl.Boolean())


_Caster = Callable[[pl.Series, dict[str, Any], pl.DataType], tuple[pl.Series, pl.Series]]


def _caster(schema: dict[str, Any]) -> _Caster:
    kind, logical = schema["type"], schema.get("logicalType")
    if not isinstance(kind, str):
        inner, _ = split_nullable(kind)
        return _caster(inner if isinstance(inner, dict) else {"type": inner})
    return _LOGICAL.get((kind, str(logical))) or _KINDS[kind]


def _integers(values: pl.Series, schema: dict[str, Any], target: pl.DataType) -> tuple[pl.Series, pl.Series]:
    dtype = values.dtype
    if dtype.is_integer() or dtype == pl.String:
        return values.cast(target, strict=False), _constant(True, len(values))
    if dtype.is_float() or dtype.is_decimal():
        out = values.cast(target, strict=False)
        return out, out.cast(dtype, strict=False) == values
    return cannot(values, target)


def _floats(values: pl.Series, schema: dict[str, Any], target: pl.DataType) -> tuple[pl.Series, pl.Series]:
    if values.dtype.is_integer():
        out = values.cast(target)
        return out, out.cast(pl.Int128, strict=False) == values.cast(pl.Int128)
    if values.dtype.is_decimal():
        return values.cast(target), _constant(True, len(values))
    if values.dtype.is_float():
        out = values.cast(target)
        return out, (out.cast(pl.Float64) == values.cast(pl.Float64)) | values.is_nan()
    if values.dtype == pl.String:
        out = values.cast(pl.Float64, strict=False).cast(target)
        fits = out.is_finite()
        if not fits.all():  # a number too large turns into infinity; only the word may
            fits = fits | values.str.contains(_WRITTEN_NON_FINITE)
        return out, fits
    return cannot(values, target)


def _booleans(values: pl.Series, schema: dict[str, Any], target: pl.DataType) -> tuple[pl.Series, pl.Series]:
    if values.dtype == pl.Boolean:
        return values, _constant(True, len(values))
    if values.dtype == pl.String:
        return values.str.to_lowercase().replace_strict(_TRUTH, default=None, return_dtype=pl.Boolean), _constant(
            True, len(values)
        )
    if values.dtype.is_numeric():
        return values == 1, (values == 0) | (values == 1)
    return cannot(values, target)


def _strings(values: pl.Series, schema: dict[str, Any], target: pl.DataType) -> tuple[pl.Series, pl.Series]:
    if values.dtype == pl.String:
        return values, _constant(True, len(values))
    if values.dtype.is_integer() or isinstance(values.dtype, pl.Categorical | pl.Enum):
        return values.cast(pl.String), _constant(True, len(values))
    if values.dtype == pl.Binary:
        return utf8(values), _constant(True, len(values))
    return cannot(values, target)


def utf8(values: pl.Series) -> pl.Series:
    """Bytes as text; null where they are not UTF-8."""
    found = isolate(len(values), lambda start, stop: values.slice(start, stop - start).cast(pl.String))
    parts = [(start, text) for start, _, text in found.pieces]
    parts += [(start, pl.Series([None], dtype=pl.String)) for start, _, _ in found.failed]
    ordered = [text.alias("") for _, text in sorted(parts, key=lambda part: part[0])]
    return pl.concat(ordered) if ordered else pl.Series([], dtype=pl.String)


def _uuids(values: pl.Series, schema: dict[str, Any], target: pl.DataType) -> tuple[pl.Series, pl.Series]:
    out, fits = _strings(values, schema, target)
    return out, fits & out.str.contains(_UUID)


def _enums(values: pl.Series, schema: dict[str, Any], target: pl.DataType) -> tuple[pl.Series, pl.Series]:
    if values.dtype.is_integer():
        return cannot(values, target)
    out, fits = _strings(values, schema, target)
    known = out.is_in(schema["symbols"])
    if "default" in schema:  # Avro 1.12: an unknown symbol reads as the enum's default, where it has one
        return pl.select(
            pl.when(known | out.is_null()).then(out).otherwise(pl.lit(schema["default"]))
        ).to_series(), fits
    return out, fits & known


def _bytes(values: pl.Series, schema: dict[str, Any], target: pl.DataType) -> tuple[pl.Series, pl.Series]:
    if values.dtype not in (pl.Binary, pl.String):
        return cannot(values, target)
    out = values.cast(pl.Binary)
    if schema["type"] == "fixed":
        return out, out.bin.size() == schema["size"]
    return out, _constant(True, len(values))


def _instants(values: pl.Series, schema: dict[str, Any], target: pl.DataType) -> tuple[pl.Series, pl.Series]:
    """Timestamps: numbers are in the field's own unit, naive times are UTC, text is ISO 8601 or such a number."""
    assert isinstance(target, pl.Datetime)
    local = target.time_zone is None
    if values.dtype == pl.String:
        numbers = values.cast(pl.Int64, strict=False)
        written = values.filter(numbers.is_null() & values.is_not_null())
        out = within_calendar(numbers, target)
        if len(written):
            places = (numbers.is_null() & values.is_not_null()).arg_true()
            out = out.scatter(places, parse_times(written, target))
        return out, _constant(True, len(values))
    if values.dtype.is_numeric():
        whole, fits = _integers(values, {"type": "long"}, pl.Int64())
        return within_calendar(whole, target), fits
    if isinstance(values.dtype, pl.Datetime):
        if local and values.dtype.time_zone is not None:
            return cannot(values, target)
        # What a time zone says of an instant is how it is shown; its count is that of UTC.
        out = within_calendar(values.to_physical(), pl.Datetime(values.dtype.time_unit, "UTC"))
        if values.dtype.time_unit != target.time_unit:
            out = out.dt.cast_time_unit(target.time_unit)
        return (out.dt.replace_time_zone(None) if local else out), _constant(True, len(values))
    if values.dtype == pl.Date:
        out = within_calendar(values.to_physical().cast(pl.Int64) * 86_400_000, pl.Datetime("ms", target.time_zone))
        return out.dt.cast_time_unit(target.time_unit), _constant(True, len(values))
    return cannot(values, target)


def _dates(values: pl.Series, schema: dict[str, Any], target: pl.DataType) -> tuple[pl.Series, pl.Series]:
    if values.dtype == pl.Date:
        return values, _constant(True, len(values))
    if values.dtype.is_integer():
        return values.cast(pl.Int32, strict=False).cast(pl.Date), _constant(True, len(values))
    if isinstance(values.dtype, pl.Datetime):
        out = values.dt.date()
        return out, out.cast(values.dtype) == values
    if values.dtype == pl.String:
        out = values.str.to_date("%Y-%m-%d", strict=False)
        return out, values.str.contains(r"^\d{4}-\d{2}-\d{2}$")
    return cannot(values, target)


def _clock_times(values: pl.Series, schema: dict[str, Any], target: pl.DataType) -> tuple[pl.Series, pl.Series]:
    if values.dtype == pl.Time:
        return values, _constant(True, len(values))
    if values.dtype.is_integer():
        unit_ns = 1_000_000 if schema["logicalType"] == "time-millis" else 1_000
        whole = values.cast(pl.Int64, strict=False)
        fits = (whole >= 0) & (whole < 86_400_000_000_000 // unit_ns)
        return pl.select(pl.when(fits).then(whole * unit_ns)).to_series().cast(pl.Time), fits
    if values.dtype == pl.String:
        return values.str.to_time("%H:%M:%S%.f", strict=False), values.str.contains(r"^\d{2}:\d{2}:\d{2}(\.\d+)?$")
    return cannot(values, target)


def _decimals(values: pl.Series, schema: dict[str, Any], target: pl.DataType) -> tuple[pl.Series, pl.Series]:
    assert isinstance(target, pl.Decimal)
    if values.dtype == pl.String:
        out = values.cast(target, strict=False)
        return out, values.str.contains(rf"^[+-]?\d+(\.\d{{0,{target.scale}}}0*)?$")
    if values.dtype.is_integer() or values.dtype.is_decimal():
        out = values.cast(target, strict=False)
        return out, out.cast(values.dtype, strict=False) == values
    return cannot(values, target)


def _lists(values: pl.Series, schema: dict[str, Any], target: pl.DataType) -> tuple[pl.Series, pl.Series]:
    if values.dtype == pl.String:
        values = from_json_text(values, pl.List(_as_text(schema["items"])))
    if not isinstance(values.dtype, pl.List | pl.Array):
        return cannot(values, target)
    values = values.cast(pl.List(values.dtype.inner))
    inner = cast(values.explode(empty_as_null=False, keep_nulls=False), schema["items"])
    return _regroup(values, inner, schema["items"], target)


def _maps(values: pl.Series, schema: dict[str, Any], target: pl.DataType) -> tuple[pl.Series, pl.Series]:
    if values.dtype == pl.String:
        values = from_json_text(values, pl.Map(pl.String(), _as_text(schema["values"])))
    if not isinstance(values.dtype, pl.Map) or values.dtype.key != pl.String:
        return cannot(values, target)
    entries = values.cast(pl.List(pl.Struct({"key": pl.String(), "value": values.dtype.value})))
    flat = entries.explode(empty_as_null=False, keep_nulls=False)
    inner = cast(flat.struct.field("value"), schema["values"])
    pairs = pl.DataFrame([flat.struct.field("key"), inner.values.alias("value")]).to_struct("pairs")
    wide = pl.List(pl.Struct({"key": pl.String(), "value": inner.values.dtype}))
    out, fits = _regroup(entries, Cast(pairs, inner.bad | _missing(inner.values, schema["values"])), "null", wide)
    return out.cast(target), fits


def _missing(values: pl.Series, avro: AvroType) -> pl.Series:
    """Where nothing is that must be something."""
    return _constant(False, len(values)) if split_nullable(avro)[1] else values.is_null()


def _regroup(lists: pl.Series, inner: Cast, items: AvroType, target: pl.DataType) -> tuple[pl.Series, pl.Series]:
    """The cast items in the lists they came from; a list fits where all of its items do."""
    bad = inner.bad if split_nullable(items)[1] else inner.bad | inner.values.is_null()
    lengths = lists.list.len().fill_null(0)
    owner = pl.int_range(len(lists), eager=True).repeat_by(lengths).explode(empty_as_null=False, keep_nulls=False)
    fits = ~pl.int_range(len(lists), eager=True).is_in(owner.filter(bad).implode())
    offsets = pa.concat_arrays([pa.array([0], pa.int64()), lengths.cast(pl.Int64).cum_sum().to_arrow()])
    grouped = pl.from_arrow(pa.LargeListArray.from_arrays(offsets, inner.values.to_arrow()))
    assert isinstance(grouped, pl.Series)
    out = pl.select(pl.when(lists.is_not_null()).then(grouped.cast(target))).to_series()
    return out, fits


def _records(values: pl.Series, schema: dict[str, Any], target: pl.DataType) -> tuple[pl.Series, pl.Series]:
    if values.dtype == pl.String:
        values = from_json_text(values, _as_text(schema))
    if not isinstance(values.dtype, pl.Struct):
        return cannot(values, target)
    have = {field.name for field in values.dtype.fields}
    fits, parts = _constant(True, len(values)), []
    for field in schema["fields"]:
        names = [name for name in (field["name"], *field.get("aliases", ())) if name in have]
        if names:  # each record names its own fields: there may be some of old writers and some of new ones
            found = [cast(values.struct.field(name), field["type"]) for name in names]
            made = pl.select(pl.coalesce([one.values for one in found])).to_series()
            bad = functools.reduce(operator.or_, [one.bad for one in found])
        elif "default" in field or split_nullable(field["type"])[1]:
            made, bad = cast(pl.Series([None] * len(values), dtype=pl.Null), field["type"]).values, ~fits & False
        else:
            return cannot(values, target)
        if field.get("default") is not None and not (names and split_nullable(field["type"])[1]):
            default = default_of(field["default"], field["type"], where=field["name"]).cast(made.dtype)
            made = pl.select(pl.when(pl.lit(made).is_null() & ~pl.lit(bad)).then(default).otherwise(made)).to_series()
        fits = fits & ~bad & ~_missing(made, field["type"])
        parts.append(made.alias(field["name"]))
    out = pl.DataFrame(parts).to_struct("out")
    return pl.select(pl.when(values.is_not_null()).then(out)).to_series(), fits


def _as_text(avro: AvroType) -> pl.DataType:
    """The type in which JSON text of an Avro type is first read: every leaf as text, cast strictly afterwards."""
    avro, _ = split_nullable(avro)
    if isinstance(avro, dict) and avro.get("type") == "array":
        return pl.List(_as_text(avro["items"]))
    if isinstance(avro, dict) and avro.get("type") == "record":
        names = [(name, f["type"]) for f in avro["fields"] for name in (f["name"], *f.get("aliases", ()))]
        return pl.Struct({name: _as_text(type_) for name, type_ in names})
    if isinstance(avro, dict) and avro.get("type") == "map":
        return pl.Map(pl.String(), _as_text(avro["values"]))
    return pl.String()


def from_json_text(values: pl.Series, dtype: pl.DataType) -> pl.Series:
    """JSON text as nested values; null where it is not such a value."""
    found = isolate(len(values), lambda start, stop: values.slice(start, stop - start).str.json_decode(dtype))
    parts = [(start, part) for start, _, part in found.pieces]
    parts += [(start, pl.Series([None], dtype=dtype)) for start, _, _ in found.failed]
    ordered = [part.alias("") for _, part in sorted(parts, key=lambda part: part[0])]
    return pl.concat(ordered) if ordered else pl.Series([], dtype=dtype)


# Every value of their Arrow type is one of theirs.
_ANY_VALUE = ("boolean", "int", "long", "float", "double", "string", "bytes")

_KINDS: dict[str, _Caster] = {
    "null": lambda values, schema, target: cannot(values, target),
    "boolean": _booleans,
    "int": _integers,
    "long": _integers,
    "float": _floats,
    "double": _floats,
    "string": _strings,
    "enum": _enums,
    "bytes": _bytes,
    "fixed": _bytes,
    "array": _lists,
    "map": _maps,
    "record": _records,
}

_LOGICAL: dict[tuple[str, str], _Caster] = {
    ("int", "date"): _dates,
    ("int", "time-millis"): _clock_times,
    ("long", "time-micros"): _clock_times,
    ("long", "timestamp-millis"): _instants,
    ("long", "timestamp-micros"): _instants,
    ("long", "local-timestamp-millis"): _instants,
    ("long", "local-timestamp-micros"): _instants,
    ("string", "uuid"): _uuids,
    ("bytes", "decimal"): _decimals,
    ("fixed", "decimal"): _decimals,
}
