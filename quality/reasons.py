"""Why rows were rejected: every unmet check of a row, built columnar and for the rejected rows only."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

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
    """An unmet check and the rows that fail it. `got` is evaluated on those rows of the batch's frame.

    `seen` is what it gave, a text a row, where that is known.
    """

    check: str
    column: str | None
    severity: str
    expected: str
    rows: np.ndarray  # uint32 row indexes, rising
    got: pl.Expr
    seen: pl.Series | None = None

    def only(self, rows: np.ndarray) -> Failure:
        """Of these rows (one bool per row of the batch) alone."""
        kept = rows[self.rows]
        seen = None if self.seen is None else self.seen.filter(pl.Series(kept))
        return replace(self, rows=self.rows[kept], seen=seen)


def texts(frame: pl.DataFrame, got: pl.Expr, rows: np.ndarray) -> pl.Series:
    """What `got` gives in some rows of a frame, "null" where that is nothing."""
    index = pl.Series(INDEX, rows, dtype=pl.UInt32)
    # Column by column: the frame itself would ask its threads, which takes longer than they save.
    roots = [frame[name][index] for name in dict.fromkeys(got.meta.root_names())]
    # A literal, such as "null", is the same for every row.
    if not roots:
        return pl.select(got.cast(pl.String)).to_series().new_from_index(0, len(rows))
    seen = _selected(pl.DataFrame(roots), [got.alias("got")])["got"]
    return seen.fill_null("null") if seen.null_count() else seen


def collect(frame: pl.DataFrame, failures: Sequence[Failure], rejected: np.ndarray) -> pl.DataFrame:
    """One row per rejected row, in order: `index` and `reasons`, in the order of the failures.

    `rejected`: one bool per row of the batch. A row's reasons are all the failures it is in.
    """
    parts = []
    for failure in failures:
        rows = failure.rows[rejected[failure.rows]]
        if len(rows):
            parts.append(_reasons(frame, failure, rows))
    if not parts:
        return pl.DataFrame(schema=REJECTED)
    if len(parts) == 1:  # as mostly: each row has one reason, and the rows are in order
        return parts[0]
    together = pl.concat(parts).lazy().sort(INDEX, maintain_order=True)
    reasons = together.group_by(INDEX, maintain_order=True).agg(pl.col(REASONS).explode())
    return reasons.collect(engine="in-memory")


def _reasons(frame: pl.DataFrame, failure: Failure, rows: np.ndarray) -> pl.DataFrame:
    """A list of one reason for each of the rows."""
    seen = failure.seen
    if seen is None or len(rows) < len(failure.rows):
        seen = texts(frame, failure.got, rows)
    same = [failure.check, failure.column, failure.severity, failure.expected]
    told = [pa.repeat(pa.scalar(text, pa.string()), len(rows)) for text in same]
    reason = pa.StructArray.from_arrays([*told, seen.to_arrow().cast(pa.string())], fields=list(REASON))
    reasons = pa.ListArray.from_arrays(np.arange(len(rows) + 1, dtype=np.int32), reason)
    return pl.DataFrame([pl.Series(INDEX, rows, dtype=pl.UInt32), pl.Series(REASONS, reasons)])


def _selected(frame: pl.DataFrame, exprs: Sequence[pl.Expr]) -> pl.DataFrame:
    """A selection from few rows: looking for a better plan would take longer than it does."""
    return frame.lazy().select_seq(exprs).collect(engine="in-memory", optimizations=pl.QueryOptFlags.none())


def missing(batch: pa.Table, schema: pa.Schema) -> list[tuple[str, np.ndarray]]:
    """Nulls where the schema allows none: path of the field and rows of the batch (uint32, rising, each once).

    Nested fields count where what holds them is there: a null list has no items that could be missing.
    """
    found = []
    for field in schema:
        column = batch.column(field.name)
        if not (_required_within(field.type) or (column.null_count and not field.nullable)):
            continue
        array = column.combine_chunks()
        rows = np.arange(len(array), dtype=np.uint32)
        found += [(path, np.unique(at)) for path, at in _missing(array, field, field.name, rows)]
    return found


def _nested(type_: pa.DataType) -> bool:
    return bool(pa.types.is_struct(type_) or pa.types.is_list(type_) or pa.types.is_large_list(type_))


@functools.lru_cache(maxsize=4096)
def _required_within(type_: pa.DataType) -> bool:
    """Whether a record or list of this type may hold what may not be null."""
    if pa.types.is_struct(type_):
        return any(not inner.nullable or _required_within(inner.type) for inner in type_)
    if not _nested(type_):
        return False
    return not type_.value_field.nullable or _required_within(type_.value_type)


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
