"""Parquet files of Delta tables: how they are written, and the statistics a Delta log keeps of them."""

from __future__ import annotations

import functools
import json
import uuid
from collections.abc import Iterable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ..schemas.shapes import CONTRACT
from .faults import translated
from .places import Place

ROW_GROUP_ROWS = 16_384  # a user's window is found by row-group statistics: small groups, little to read
CUT_ROWS = ROW_GROUP_ROWS // 2  # a file that holds fewer is not worth its footer; see docs/adr/0009
# The log keeps statistics of as many columns as Delta does by default, and of those that readers leave files out by: of
# thousands of columns they would be more than the data.
_STATISTICS_COLUMNS = 32
_ALWAYS = frozenset({"bucket", CONTRACT, "known_at", "ordinal", "user_id"})
_TRIED_ROWS = 8_192
_FILES_A_TRIAL = 16
_PASSING_ROWS = 4 * ROW_GROUP_ROWS
# Plain values are what zstd finds repetitions in: an exposure and its click, side by side, share most of theirs.
_NUMBERS = (pa.types.is_integer, pa.types.is_timestamp, pa.types.is_date, pa.types.is_floating)
_TEXTS = (pa.types.is_string, pa.types.is_large_string)
_ENCODINGS = {
    "PLAIN": (*_NUMBERS, *_TEXTS),
    "DELTA_BINARY_PACKED": _NUMBERS[:3],
    "DELTA_BYTE_ARRAY": _TEXTS,
    "DELTA_LENGTH_BYTE_ARRAY": _TEXTS,
}
_MS = {"s": (1000, 1), "ms": (1, 1), "us": (1, 1000), "ns": (1, 1_000_000)}
_COUNTED = (pa.types.is_integer, pa.types.is_timestamp, pa.types.is_date)


@dataclass(frozen=True, slots=True)
class DataFile:
    """A Parquet file below a table, before a commit makes it part of the table."""

    path: str  # relative to the table
    size: int
    partition_values: tuple[tuple[str, str | None], ...]
    stats: str
    rows: int


def write(root: Place, rows: pa.Table, partition: dict[str, Any], encoded: Mapping[str, Any] | None = None) -> DataFile:
    """Write `rows` (partition columns already dropped, in their order) as one file below `root`.

    `encoded` is what `encodings` says of rows like these, where it is known, or `passing`.
    """
    relative = _name(partition, "part")
    target = root / relative
    how = {"row_group_size": ROW_GROUP_ROWS, **(encodings(rows) if encoded is None else encoded)}
    with translated(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(target, Path):
            # What cannot be written whole it takes away again.
            pq.write_table(rows, target, **how)
            size = target.stat().st_size
        else:
            sink = pa.BufferOutputStream()
            pq.write_table(rows, sink, **how)
            size = target.write_bytes(sink.getvalue().to_pybytes())
    return _data_file(relative, size, partition, statistics(rows), rows.num_rows)


def passing(schema: pa.Schema) -> dict[str, Any]:
    """How a file is encoded that is soon merged with others: in a quarter of the time, and 2.7 times as large.

    Its rows are in no order, so that bounds of its row groups would leave none of them out.
    """
    return {
        "compression": {c.name: "none" if any(is_type(c.type) for is_type in _NUMBERS) else "lz4" for c in schema},
        "use_dictionary": False,
        "write_statistics": False,
        "row_group_size": _PASSING_ROWS,
    }


def write_parts(
    root: Path, parts: Iterable[pa.Table], partition: Mapping[str, Any], encoded: Mapping[str, Any], mark: str
) -> DataFile:
    """Write one file of rows that come part by part (at least one), with no more than a part of them in memory.

    Its name begins with `mark`. What fails leaves no file.
    """
    relative = _name(partition, mark)
    target = root / relative
    known = _Known()
    try:
        with ExitStack() as stack:
            stack.enter_context(translated(target))
            target.parent.mkdir(parents=True, exist_ok=True)
            writer: pq.ParquetWriter | None = None
            for rows in parts:
                if writer is None:
                    opened = pq.ParquetWriter(target, rows.schema, **encoded)
                    writer = stack.enter_context(opened)
                writer.write_table(rows, row_group_size=ROW_GROUP_ROWS)
                known.add(rows)
    except BaseException:
        with suppress(OSError):  # where nothing can be written there is nothing to take away
            target.unlink(missing_ok=True)
        raise
    return _data_file(relative, target.stat().st_size, partition, known.stats(), known.rows)


def _name(partition: Mapping[str, Any], mark: str) -> str:
    folder = "".join(f"{key}={_partition_text(value)}/" for key, value in partition.items())
    return f"{folder}{mark}-{uuid.uuid4().hex}.parquet"


def _data_file(path: str, size: int, partition: Mapping[str, Any], stats: str, rows: int) -> DataFile:
    values = tuple((key, _partition_text(value)) for key, value in partition.items())
    return DataFile(path=path, size=size, partition_values=values, stats=stats, rows=rows)


def stored(schema: pa.Schema) -> pa.Schema:
    """The schema that delta-rs gives, without the view types that Parquet does not know."""
    plain = {pa.string_view(): pa.string(), pa.large_string(): pa.string(), pa.binary_view(): pa.binary()}
    return pa.schema([field.with_type(plain.get(field.type, field.type)) for field in schema])


def encodings(rows: pa.Table) -> dict[str, Any]:
    """How pyarrow is to encode and compress flat, sorted rows. See docs/adr/0008.

    Each column as it came out smallest in a trial on an eighth of the rows. Of few rows a trial would cost more than it
    saves: times as differences there, strings that hardly repeat (event ids) as differences of their ends, the rest by
    dictionary.
    """
    if any(pa.types.is_nested(column.type) for column in rows.schema):
        return {"compression": "zstd", "use_dictionary": True}
    chosen = _tried(rows) if rows.num_rows >= _TRIED_ROWS else _guessed(rows)
    return {
        "compression": "zstd",
        "use_dictionary": [name for name in rows.column_names if name not in chosen],
        "column_encoding": chosen,
        # Rows are in the order of numbers and times: bounds of texts would leave no row group out.
        "write_statistics": [c.name for c in rows.schema if not any(is_type(c.type) for is_type in _TEXTS)],
    }


class Trials:
    """What a trial on many rows has found, for the next few files of the same columns."""

    def __init__(self) -> None:
        self._found: dict[pa.Schema, tuple[int, dict[str, Any]]] = {}  # for how many files more, and what

    def encodings(self, rows: pa.Table) -> dict[str, Any]:
        """See `encodings`."""
        if rows.num_rows < _TRIED_ROWS:
            return encodings(rows)
        left, found = self._found.get(rows.schema, (0, {}))
        if not left:
            left, found = _FILES_A_TRIAL, encodings(rows)
        self._found[rows.schema] = left - 1, found
        return found


def _guessed(rows: pa.Table) -> dict[str, str]:
    chosen = {}
    for column in rows.schema:
        if pa.types.is_timestamp(column.type) or column.name == "ordinal":
            chosen[column.name] = "DELTA_BINARY_PACKED"
        elif pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
            some = rows[column.name].slice(0, ROW_GROUP_ROWS)
            if pc.count_distinct(some).as_py() > len(some) // 2:
                chosen[column.name] = "DELTA_BYTE_ARRAY"
    return chosen


def _tried(rows: pa.Table) -> dict[str, str]:
    """The encodings that made some rows from the middle smallest, of columns that are not best by dictionary."""
    count = min(rows.num_rows // 8, ROW_GROUP_ROWS)
    some = rows.slice((rows.num_rows - count) // 2, count)
    sizes = _sizes(some, None)
    chosen: dict[str, str] = {}
    for encoding, suits in _ENCODINGS.items():
        names = [column.name for column in some.schema if any(is_type(column.type) for is_type in suits)]
        for name, size in _sizes(some.select(names), encoding).items():
            if size < sizes[name]:
                sizes[name], chosen[name] = size, encoding
    return chosen


def _sizes(rows: pa.Table, encoding: str | None) -> dict[str, int]:
    """Compressed bytes of each column, all encoded alike; None: by dictionary."""
    if not rows.column_names:
        return {}
    sink = pa.BufferOutputStream()
    how = {"use_dictionary": True} if encoding is None else {"use_dictionary": False, "column_encoding": encoding}
    pq.write_table(rows, sink, compression="zstd", write_statistics=False, store_schema=False, **how)
    group = pq.read_metadata(pa.BufferReader(sink.getvalue())).row_group(0)
    return {name: group.column(place).total_compressed_size for place, name in enumerate(rows.column_names)}


def statistics(rows: pa.Table) -> str:
    """Delta's per-file statistics (JSON) of integer, date and timestamp columns, and of the contracts of rows.

    The log holds milliseconds, the data microseconds: minima are rounded down and maxima up, so that no reader skips
    a file that holds what it looks for.
    """
    known = _Known()
    known.add(rows)
    return known.stats()


@functools.lru_cache(maxsize=256)
def _counted(schema: pa.Schema) -> list[str]:
    """The columns of which the log keeps statistics."""
    return [
        field.name
        for place, field in enumerate(schema)
        if (place < _STATISTICS_COLUMNS or field.name in _ALWAYS)
        and (any(is_type(field.type) for is_type in _COUNTED) or field.name == CONTRACT)
    ]


class _Known:
    """What is known of rows that were seen part by part."""

    def __init__(self) -> None:
        self.rows = 0
        self._nulls: dict[str, int] = {}
        self._extremes: dict[str, list[pa.Scalar]] = {}

    def add(self, rows: pa.Table) -> None:
        self.rows += rows.num_rows
        for name in _counted(rows.schema):
            column = rows[name]
            self._nulls[name] = self._nulls.get(name, 0) + column.null_count
            if column.null_count < len(column):
                found = pc.min_max(column)
                self._extremes.setdefault(name, []).extend([found["min"], found["max"]])

    def stats(self) -> str:
        minima: dict[str, Any] = {}
        maxima: dict[str, Any] = {}
        for name, extremes in self._extremes.items():
            whole = pc.min_max(pa.array(extremes, extremes[0].type)) if len(extremes) > 2 else None
            low, high = (whole["min"], whole["max"]) if whole is not None else extremes
            minima[name] = _stat(low, low.type, up=False)
            maxima[name] = _stat(high, high.type, up=True)
        return json.dumps({"numRecords": self.rows, "minValues": minima, "maxValues": maxima, "nullCount": self._nulls})


def _stat(value: pa.Scalar, type_: pa.DataType, *, up: bool) -> Any:
    if pa.types.is_date(type_):
        return value.as_py().isoformat()
    if not pa.types.is_timestamp(type_):
        return value.as_py()
    times, per = _MS[type_.unit]
    ms = -(-value.value * times // per) if up else value.value * times // per
    at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ms)
    return at.strftime("%Y-%m-%dT%H:%M:%S.") + f"{ms % 1000:03d}Z"


def _partition_text(value: Any) -> str:
    return value.isoformat() if isinstance(value, date) else str(value)
