"""The columns of a shard as NumPy arrays, out of Arrow's. numpy and pyarrow only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ..schemas.errors import ShardError
from .shard_manifest import Column

Array = npt.NDArray[Any]
Int64s = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Values:
    """Values as NumPy, nulls filled with 0 or NaN; `valid` tells them apart where the set has any, else None."""

    array: Array
    valid: npt.NDArray[np.bool_] | None


# The lists of a struct column, all equally long: offsets (R+1,), and the flat values of each field.
Lists = tuple[Int64s, dict[str, Values]]


@dataclass(frozen=True, slots=True)
class Rows:
    """R rows of a shard, of which some columns were read."""

    user_id: Int64s
    first_ordinal: Int64s
    lists: Mapping[str, Lists]


def rows_of(table: pa.Table, structs: Mapping[str, Sequence[Column]], where: str) -> Rows:
    """Rows that Arrow read.

    Args:
        structs: the fields that are wanted of each struct column.
    """
    return Rows(
        user_id=as_numpy(table["user_id"]),
        first_ordinal=as_numpy(table["first_ordinal"]),
        lists={name: _lists(table, name, columns, where) for name, columns in structs.items()},
    )


def equally_long(offsets: Sequence[Int64s], where: str) -> None:
    """All lists of a row have one length.

    Raises:
        ShardError: they do not.
    """
    if any(not np.array_equal(own, offsets[0]) for own in offsets[1:]):
        raise ShardError("lists of one row differ in length", where=where)


def _lists(table: pa.Table, struct: str, columns: Sequence[Column], where: str) -> Lists:
    if not columns:
        return np.zeros(table.num_rows + 1, dtype=np.int64), {}
    rows = _whole(table[struct])
    offsets: list[Int64s] = []
    values = {}
    for column in columns:
        lists = rows.field(column.name)
        own = as_numpy(lists.offsets)
        offsets.append(own - own[0])
        values[column.name] = _values(lists.values.slice(own[0], own[-1] - own[0]), column)
    equally_long(offsets, f"{where}, {struct}")
    return offsets[0], values


def _whole(column: pa.ChunkedArray) -> pa.Array:
    """The column in one piece. Arrow's combine_chunks copies even what is in one."""
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def joined(parts: Sequence[tuple[Any, Values]], out: Array | None = None) -> Values:
    """The values of one field from all tiers, each at its places; in `out` where that is given."""
    [(_, first), *more] = parts
    if not more and (out is None or out is first.array):
        return first
    count = sum(len(values.array) for _, values in parts)
    array = np.empty(count, dtype=first.array.dtype) if out is None else out
    valid = None if first.valid is None else np.empty(count, dtype=np.bool_)
    for places, values in parts:
        array[places] = values.array
        if valid is not None and values.valid is not None:
            valid[places] = values.valid
    return Values(array, valid)


def _values(array: pa.Array, column: Column) -> Values:
    values, valid = as_numpy(array), as_numpy(array.is_valid()) if column.nulls else None
    if array.null_count:
        # What lies under a null is undefined; the same input must give the same bytes.
        values = np.where(as_numpy(array.is_valid()), values, null_value(values.dtype))
    return Values(values, valid)


def null_value(dtype: np.dtype[Any]) -> Any:
    """What a null reads as."""
    return dtype.type(np.nan if dtype.kind == "f" else 0)


def as_numpy(array: pa.Array | pa.ChunkedArray) -> Array:
    """The values of an Arrow array, undefined where it is null; times as integers. Copies booleans only.

    Arrow's own to_numpy (and pa.scalar) imports pandas wherever that is installed: half a second for every process.
    """
    if isinstance(array, pa.ChunkedArray):
        array = _whole(array)
    data, first = array.buffers()[1], array.offset
    if pa.types.is_boolean(array.type):
        bits = np.unpackbits(np.frombuffer(data, dtype=np.uint8), count=first + len(array), bitorder="little")
        return bits[first:].view(np.bool_)
    dtype = Column("", str(array.type)).dtype
    if len(array) == 0:
        return np.empty(0, dtype=dtype)
    return np.frombuffer(data, dtype=dtype, count=len(array), offset=first * dtype.itemsize)
