"""Rows by partition and in their order, as files hold them: pure functions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

_WHOLE = (pa.types.is_signed_integer, pa.types.is_timestamp, pa.types.is_date32)
_BITS = 63  # of a packed key
_FEW = 4  # values of a partition column


def partitions(
    rows: pa.Table, partition_by: Sequence[str], sort_by: Sequence[str]
) -> Iterator[tuple[dict[str, Any], pa.Table]]:
    """Kernel: the rows of each partition in their order, without its columns, and the values of those."""
    by = list(partition_by)
    if not sort_by and (apart := _apart(rows, by)):
        yield from apart
        return
    ordered = _ordered(rows, [*by, *sort_by])
    if not by:
        yield {}, ordered
        return
    runs = pl.DataFrame(ordered.select(by)).with_row_index("start").group_by(by, maintain_order=True)
    for run in runs.agg(pl.col("start").min(), pl.len().alias("rows")).iter_rows(named=True):
        yield {name: run[name] for name in by}, ordered.slice(run["start"], run["rows"]).drop_columns(by)


def _apart(rows: pa.Table, by: list[str]) -> list[tuple[dict[str, Any], pa.Table]]:
    """The rows of each partition as they come; none where there are more than a few: sorting them is faster then."""
    if not by:
        return [({}, rows)]
    column = rows[by[0]]
    values = pc.unique(column).sort()
    if len(values) > _FEW or values.null_count:
        return []
    parts = []
    for value in values:
        mine = rows if len(values) == 1 else rows.filter(pc.equal(column, value))
        inner = _apart(mine.drop_columns(by[:1]), by[1:])
        if not inner:
            return []
        parts += [({by[0]: value.as_py(), **others}, part) for others, part in inner]
    return parts


def _ordered(rows: pa.Table, names: Sequence[str]) -> pa.Table:
    order = order_of(rows.select(names))
    # Column by column, so that no more than one of them is in memory three times. One of nulls is in any order.
    columns = [
        column if column.null_count == len(column) else pc.take(column.combine_chunks(), order, boundscheck=False)
        for column in rows.columns
    ]
    return pa.Table.from_arrays(columns, schema=rows.schema)


def order_of(keys: pa.Table) -> pa.Array:
    """Kernel: the places of rows in the order of all columns, the first one first, nulls last; equal rows as they are.

    Leading whole numbers and times are packed into one number a row, as many as fit, which sorts in half the time that
    a sort column by column takes.
    """
    packed, count = _packed(keys)
    if not count:
        return _by_columns(keys.combine_chunks())
    order = np.argsort(packed)
    along = packed[order]
    same = along[1:] == along[:-1]
    tied = np.flatnonzero(np.append(same, False) | np.insert(same, 0, False))
    if len(tied):
        among = order[tied]
        rest = keys.select(keys.column_names[count:]).take(pa.array(among)).combine_chunks().columns
        finer = pa.table([pa.array(along[tied]), *rest, pa.array(among)], [str(i) for i in range(len(rest) + 2)])
        order[tied] = among[_by_columns(finer).to_numpy()]
    return pa.array(order)


def _by_columns(keys: pa.Table) -> pa.Array:
    return pc.sort_indices(keys, sort_keys=[(name, "ascending") for name in keys.column_names])


def _packed(keys: pa.Table) -> tuple[npt.NDArray[np.int64], int]:
    """The leading columns in one number a row, and how many they are."""
    packed, bits, count = np.zeros(keys.num_rows, np.int64), 0, 0
    for column in keys.columns:
        if not any(is_type(column.type) for is_type in _WHOLE) or column.null_count or not keys.num_rows:
            break
        whole = column.cast(pa.int32()) if pa.types.is_date32(column.type) else column
        values = whole.cast(pa.int64()).to_numpy()
        low, high = int(values.min()), int(values.max())
        bits += (high - low).bit_length()
        if bits > _BITS:
            break
        packed = packed << (high - low).bit_length() | (values - low)
        count += 1
    return packed, count
