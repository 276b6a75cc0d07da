"""Resolve: source columns become contract rows, each value exactly, or its row is rejected with every reason. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace

import polars as pl

from ...quality.expectation import PERSONAL
from ...schemas import shapes
from ...schemas.contract import Contract, Field
from ...schemas.errors import SourceError
from . import mapping
from .casts import cast, constant, default_of, describe, polars_type, type_name
from .suggest import did_you_mean

ROW, EMIT = "_row", "_emit"


@dataclass(frozen=True, slots=True)
class Resolved:
    """Contract rows of one source batch.

    `rows`: the contract's columns in its order and exact types, `_row` (Int64, the frame's row) and `_emit` (Int32,
    which event of that row), ordered by both. `rejected`: `_row`, `_emit`, `reasons` (a list of shapes.REASON), one
    row for each event that did not resolve. `ignored`: source columns that nobody reads. `absent`: fields for which
    the source has no column, so that all rows have the default, or null.
    """

    rows: pl.DataFrame
    rejected: pl.DataFrame
    ignored: tuple[str, ...]
    absent: frozenset[str]


def resolve(frame: pl.DataFrame, contract: Contract) -> Resolved:
    """The events of a decoded batch, by the contract's mapping if it has one, else by column name and alias.

    A missing column gives the field's default, or null. A null in a field that is neither nullable nor has a default,
    a value of another type, out of range or not among an enum's symbols rejects the event; all its reasons are kept.

    Raises:
        SourceError: a required field's column is missing altogether.
        MappingError: an expression is not SQL, or reads a column that is not there.
    """
    if contract.mapping is None:
        columns, ignored = _by_name(frame, contract)
        places = pl.int_range(frame.height, eager=True)
        parts, given = [_conform(columns, places, 0, contract)], set(columns)
    else:
        parts, read, given = [], set[str](), set[str]()
        dropped = {field.name for field in contract.fields if field.pii == "drop"}
        for number, declared in enumerate(contract.mapping.emits):
            emit = replace(declared, fields=tuple(pair for pair in declared.fields if pair[0] not in dropped))
            evaluated = mapping.evaluate(frame, emit, where=f"contract {contract.name}, mapping, emit {number}")
            read |= evaluated.read
            columns = {name: evaluated.rows[name] for name, _ in emit.fields}
            given |= columns.keys()
            parts.append(_conform(columns, evaluated.places, number, contract))
            parts.append((parts[-1][0].clear(), _rejected(evaluated.failed, number)))
        ignored = tuple(name for name in frame.columns if name not in read)
    rows = pl.concat([rows for rows, _ in parts])
    rejected = pl.concat([refused for _, refused in parts])
    if len(parts) > 1:
        rows, rejected = rows.sort(ROW, EMIT), rejected.sort(ROW, EMIT)
    # What a source does not say of when a row was available is filled in when the row is stamped.
    absent = frozenset(field.name for field in contract.fields) - given - {"available_at"}
    return Resolved(rows, rejected, ignored, absent)


def _by_name(frame: pl.DataFrame, contract: Contract) -> tuple[dict[str, pl.Series], tuple[str, ...]]:
    """The column of each field, by its name or else an alias, and the columns that are none."""
    sources: dict[str, str] = {}
    have = set(frame.columns)
    for field in contract.fields:
        found = next((name for name in (field.name, *field.aliases) if name in have), None)
        if found is not None:
            sources[field.name] = found
        elif field.required:
            others = have - {f.name for f in contract.fields}
            raise SourceError(
                f"no column for the required field {field.name}",
                where=f"contract {contract.name}",
                expected=f"{field.name}: {type_name(field.avro)}",
                got="columns " + (", ".join(frame.columns) or "(none)"),
                hint=did_you_mean(field.name, others)
                + "rename the column, give the field an alias, or map it in the contract's mapping",
            )
    read = set(sources.values())
    columns = {name: frame[source] for name, source in sources.items()}
    return columns, tuple(name for name in frame.columns if name not in read)


def _conform(
    columns: dict[str, pl.Series], places: pl.Series, emit: int, contract: Contract
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Cast every column to its field; (rows that fit, rejected rows). `places` are the frame's rows, Int64."""
    fits = constant(True, len(places), pl.Boolean())
    out, reasons = [], []
    for field in contract.fields:
        if field.name not in columns:
            out.append(constant(None, len(places), polars_type(field.avro)).alias(field.name))
            if field.has_default:
                out[-1] = _with_default(out[-1], field, contract)
            continue
        source = columns[field.name]
        done = cast(source, field.avro)
        values, bad = done.values, done.bad
        if not field.nullable:
            if field.has_default:
                values = pl.select(pl.when(~bad).then(_with_default(values, field, contract))).to_series()
            elif source.null_count():
                bad = bad | source.is_null()
        if bad.any():
            fits = fits & ~bad
            got = describe(source.filter(bad))
            if field.pii == "keep":
                got = constant(PERSONAL, len(got), pl.String())
            reasons.append(_reasons(places.filter(bad), got, field.name, type_name(field.avro)))
        out.append(values.alias(field.name))
    out.append(places.cast(pl.Int64).alias(ROW))
    out.append(constant(emit, len(places), pl.Int32()).alias(EMIT))
    rows = pl.DataFrame(out)
    return rows if fits.all() else rows.filter(fits), _rejected(reasons, emit)


def _reasons(places: pl.Series, got: pl.Series, column: str, expected: str) -> pl.DataFrame:
    return pl.DataFrame(
        {
            ROW: places.cast(pl.Int64),
            "check": constant("resolve", len(places), pl.String()),
            "column": constant(column, len(places), pl.String()),
            "severity": constant("error", len(places), pl.String()),
            "expected": constant(expected, len(places), pl.String()),
            "got": got,
        }
    )


def _rejected(reasons: list[pl.DataFrame], emit: int) -> pl.DataFrame:
    """One row for each event with all of its reasons."""
    struct = pl.Struct({field.name: pl.String() for field in shapes.REASON})
    if not reasons:
        return pl.DataFrame(schema={ROW: pl.Int64, EMIT: pl.Int32, "reasons": pl.List(struct)})
    return (
        pl.concat(reasons)
        .select(ROW, pl.struct([field.name for field in shapes.REASON]).alias("reasons"))
        .group_by(ROW, maintain_order=True)
        .agg("reasons")
        .sort(ROW)
        .select(ROW, pl.lit(emit, dtype=pl.Int32).alias(EMIT), "reasons")
    )


def _with_default(values: pl.Series, field: Field, contract: Contract) -> pl.Series:
    """Nulls replaced by the field's default, as Avro writes defaults in JSON."""
    if field.default is None:
        return values
    one = default_of(field.default, field.avro, where=f"contract {contract.name}, field {field.name}")
    return pl.select(pl.when(values.is_not_null()).then(values).otherwise(one.cast(values.dtype))).to_series()
