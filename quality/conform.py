"""Rows and the schema they are to conform to: the same columns, types that mean the same, and one layout."""

from __future__ import annotations

import functools

import polars as pl
import pyarrow as pa

from ..schemas.errors import GateError


@functools.lru_cache(maxsize=4096)
def _logical(type_: pa.DataType) -> pl.DataType:
    """What a type means, apart from how it is laid out: string and large_string are one."""
    empty = pl.from_arrow(pa.table({"": pa.array([], type=type_)}))
    return pl.DataFrame(empty).dtypes[0]


def same(a: pa.DataType, b: pa.DataType) -> bool:
    """Whether two types mean the same, however they are laid out.

    That is more than two columns of a table may differ by (`placing.same_type`): what a source has as nanoseconds of a
    day, or as lists of 64-bit offsets, is cast before it is written.
    """
    return bool(a == b) or _logical(a) == _logical(b)


def check_shape(batch: pa.Table, schema: pa.Schema, name: str) -> None:
    """Refuse rows with other columns, or other types, than a schema.

    Raises:
        GateError: they have.
    """
    if batch.schema.equals(schema):
        return
    have, want = batch.column_names, schema.names
    if sorted(have) != sorted(want):
        absent, more = [n for n in want if n not in have], [n for n in have if n not in want]
        raise GateError(
            "rows with other columns than the schema",
            where=name,
            expected="the columns " + ", ".join(want),
            got="; ".join([f"missing {', '.join(absent)}"] * bool(absent) + [f"more: {', '.join(more)}"] * bool(more))
            or "a column twice: " + ", ".join(have),
        )
    for field in schema:
        got = batch.schema.field(field.name).type
        if not same(got, field.type):
            raise GateError(
                "a column of another type than the schema",
                where=f"{name}, column {field.name}",
                expected=field.type,
                got=got,
            )


def exactly(rows: pa.Table, schema: pa.Schema, name: str) -> pa.Table:
    """The same values in the schema's order, layout and nullability.

    Within records and lists everything may be null: a record that is null has nothing within. That nothing is missing
    in one that is there, `missing` has seen to.
    """
    schema = _laid_out(schema)
    if rows.schema.equals(schema):
        return rows
    columns = []
    for field in schema:
        column = rows.column(field.name)
        try:
            columns.append(column if column.type == field.type else column.cast(field.type))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise GateError(
                "values that do not fit their type",
                where=f"{name}, column {field.name}",
                expected=field.type,
                got=f"{column.type}: {error}",
            ) from None
    return pa.Table.from_arrays(columns, schema=schema)


@functools.lru_cache(maxsize=256)
def _laid_out(schema: pa.Schema) -> pa.Schema:
    return pa.schema([field.with_type(_nullable_within(field.type)) for field in schema])


def _nullable_within(type_: pa.DataType) -> pa.DataType:
    if pa.types.is_struct(type_):
        return pa.struct([pa.field(f.name, _nullable_within(f.type)) for f in type_])
    if pa.types.is_list(type_):
        return pa.list_(_nullable_within(type_.value_type))
    if pa.types.is_map(type_):
        return pa.map_(type_.key_type, _nullable_within(type_.item_type))
    return type_
