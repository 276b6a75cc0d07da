"""Why rows were rejected: every unmet check of a row, built columnar and for the rejected rows only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from ..schemas.shapes import REASON

INDEX = "index"
REASONS = "reasons"
_REASON = {field.name: pl.String() for field in REASON}
REJECTED: dict[str, pl.DataType] = {INDEX: pl.UInt32(), REASONS: pl.List(pl.Struct(_REASON))}


@dataclass(frozen=True, slots=True)
class Failure:
    """An unmet check and the rows that fail it. `got` is evaluated on those rows of the batch's frame."""

    check: str
    column: str | None
    severity: str
    expected: str
    rows: np.ndarray  # uint32 row indexes, rising
    got: pl.Expr


def collect(frame: pl.DataFrame, failures: Sequence[Failure], rejected: np.ndarray) -> pl.DataFrame:
    """One row per rejected row, in order: `index` and `reasons`, in the order of the failures.

    `rejected`: one bool per row of the batch. A row's reasons are all the failures it is in.
    """
    parts = []
    for failure in failures:
        rows = failure.rows[rejected[failure.rows]]
        if not len(rows):
            continue
        index = pl.Series(INDEX, rows, dtype=pl.UInt32)
        got = frame[index].select(got=failure.got)
        if got.height != len(rows):  # a literal: the same for every row
            got = pl.DataFrame({"got": got["got"].extend_constant(got["got"][0], len(rows) - 1)})
        reason = pl.struct(
            check=pl.lit(failure.check),
            column=pl.lit(failure.column, dtype=pl.String),
            severity=pl.lit(failure.severity),
            expected=pl.lit(failure.expected),
            got=pl.col("got"),
        )
        parts.append(got.select(index, reason.alias(REASONS)))
    if not parts:
        return pl.DataFrame(schema=REJECTED)
    together = pl.concat(parts).sort(INDEX, maintain_order=True)
    return together.group_by(INDEX, maintain_order=True).agg(REASONS)


def missing(batch: pa.Table, schema: pa.Schema) -> list[tuple[str, np.ndarray]]:
    """Nulls where the schema allows none: path of the field and rows of the batch (uint32, rising, each once).

    Nested fields count where what holds them is there: a null list has no items that could be missing.
    """
    found = []
    for field in schema:
        column = batch.column(field.name)
        if column.null_count == 0 and not _nested(field.type):
            continue
        array = column.combine_chunks()
        rows = np.arange(len(array), dtype=np.uint32)
        found += [(path, np.unique(at)) for path, at in _missing(array, field, field.name, rows)]
    return found


def _nested(type_: pa.DataType) -> bool:
    return bool(pa.types.is_struct(type_) or pa.types.is_list(type_) or pa.types.is_large_list(type_))


def _missing(array: pa.Array, field: pa.Field, path: str, rows: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """`rows`: the batch's row that each value of `array` belongs to."""
    if not field.nullable and array.null_count:
        yield path, rows[array.is_null().to_numpy(zero_copy_only=False)]
    if not _nested(field.type):
        return
    there = array.drop_null()
    rows = rows[array.is_valid().to_numpy(zero_copy_only=False)]
    if pa.types.is_struct(field.type):
        for child, inner in zip(there.flatten(), field.type, strict=True):
            yield from _missing(child, inner, f"{path}.{inner.name}", rows)
    else:
        owners = pc.list_parent_indices(there).to_numpy(zero_copy_only=False)
        yield from _missing(pc.list_flatten(there), field.type.value_field, f"{path}[]", rows[owners])
