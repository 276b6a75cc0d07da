"""Manifests of media: which items there are, and where their files lie. JSON lines, Parquet or CSV.

A row has `item_id`; the columns that a plan reads (paths relative to the manifest, or texts); and, if it likes, fields
of the content contract such as `available_at`. What cannot be read as such is rejected with a reason, never dropped.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa

from ...schemas.contract import TIME
from ...schemas.errors import SourceError, SourceNotFoundError
from ...schemas.times import TimeError, to_us
from ..private import NOT_KEPT, Shield, refusal

SUFFIXES = (".jsonl", ".ndjson", ".json", ".parquet", ".csv")


@dataclass(frozen=True, slots=True)
class Line:
    """One row of a manifest: its number from 0, its values, or the reason why it has none; and what it said."""

    row: int
    values: Mapping[str, Any] | None
    reason: Mapping[str, str] | None
    format: str
    raw: bytes


@dataclass(frozen=True, slots=True)
class Manifest:
    """`rows` has `_row`, the number of the line, and one column for each field asked for; see `read`."""

    path: Path
    digest: str
    columns: tuple[str, ...]
    rows: pl.DataFrame
    rejected: tuple[Line, ...]
    lines: tuple[Line, ...]

    @property
    def read(self) -> int:
        return len(self.lines)


def columns_of(lines: Iterable[Line]) -> tuple[str, ...]:
    """Every column that any line has, in order of appearance."""
    found: dict[str, None] = {}
    for line in lines:
        found.update(dict.fromkeys(line.values or ()))
    return tuple(found)


def read_lines(path: Path) -> tuple[Line, ...]:
    """The rows of a manifest as they are.

    Raises:
        SourceNotFoundError: there is no such file.
        SourceError: it is of no known format, or unreadable as a whole.
    """
    if not path.is_file():
        raise SourceNotFoundError("no such manifest", where=path, expected="a file", hint="check the path")
    if path.suffix not in SUFFIXES:
        raise SourceError("a manifest of an unknown format", where=path, expected=", ".join(SUFFIXES), got=path.suffix)
    if path.suffix == ".parquet":
        try:
            frame = pl.read_parquet(path)
        except (pl.exceptions.PolarsError, OSError) as error:
            raise SourceError("not a Parquet file", where=path, got=str(error).splitlines()[0]) from None
        return tuple(_line(n, row, "json", _json(row)) for n, row in enumerate(frame.iter_rows(named=True)))
    data = path.read_bytes()
    return tuple(_csv_lines(data, path) if path.suffix == ".csv" else _json_lines(data))


def shielded(lines: Iterable[Line], shield: Shield) -> tuple[Line, ...]:
    """The lines as they may be seen: what they said is what is left of it, and of one that does not decode nothing."""
    made = []
    for line in lines:
        values, unfit = shield.values(line.values or {})
        if line.values is None:
            made.append(Line(line.row, None, {**(line.reason or {}), "got": NOT_KEPT}, line.format, b""))
        elif unfit is not None:
            reason = {key: str(value) for key, value in refusal(unfit, shield.columns.hashed[unfit]).items()}
            made.append(Line(line.row, None, reason, "json", b""))
        else:
            made.append(Line(line.row, values, line.reason, "json", _json(values)))
    return tuple(made)


def resolve(path: Path, lines: tuple[Line, ...], wanted: pa.Schema) -> Manifest:
    """The lines as rows of `wanted`; a column that no line has is null.

    `item_id` must be there in every row. A text stands for a number or a time if it reads as one (CSV has only
    text); times without a zone are UTC; integers are µs.
    """
    good: list[dict[str, Any]] = []
    rejected = []
    for line in lines:
        resolved = line if line.values is None else _resolved(line, wanted, good)
        if resolved.reason is not None:
            rejected.append(resolved)
    schema = {"_row": pl.Int64} | dict(pl.from_arrow(wanted.empty_table()).schema)  # type: ignore[union-attr]
    rows = pl.DataFrame(
        {name: [row[name] for row in good] for name in schema},
        schema={n: pl.Int64 if _is_time(t) else t for n, t in schema.items()},
    ).cast(schema)
    digest = hashlib.blake2b(b"".join(line.raw + b"\n" for line in lines), digest_size=16).hexdigest()
    return Manifest(path, digest, columns_of(lines), rows, tuple(rejected), lines)


def _resolved(line: Line, wanted: pa.Schema, good: list[dict[str, Any]]) -> Line:
    """The line; its values are added to `good`, or it comes back with the reason why not."""
    row: dict[str, Any] = {"_row": line.row}
    for field in wanted:
        value = (line.values or {}).get(field.name)
        value = None if value == "" and line.format == "csv" else value
        if value is None and field.name == "item_id":
            return _rejected(line, field, "nothing")
        try:
            row[field.name] = None if value is None else _CONVERT[field.type](value)
        except (TypeError, ValueError, OverflowError, TimeError):
            return _rejected(line, field, repr(value)[:80])
    good.append(row)
    return line


def _rejected(line: Line, field: pa.Field, got: str) -> Line:
    reason = {"check": "resolve", "column": field.name, "severity": "error", "expected": str(field.type), "got": got}
    return Line(line.row, None, reason, line.format, line.raw)


def _line(row: int, values: Any, format: str, raw: bytes) -> Line:
    if isinstance(values, dict):
        return Line(row, values, None, format, raw)
    return Line(row, None, _undecodable("a JSON object", type(values).__name__), format, raw)


def _undecodable(expected: str, got: str) -> dict[str, str]:
    return {"check": "decode", "column": "", "severity": "error", "expected": expected, "got": got[:200]}


def _json_lines(data: bytes) -> Iterable[Line]:
    row = 0
    for raw in data.splitlines():
        if not raw.strip():
            continue
        try:
            yield _line(row, json.loads(raw), "json", raw)
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            yield Line(row, None, _undecodable("a JSON object", str(error)), "json", raw)
        row += 1


def _csv_lines(data: bytes, path: Path) -> Iterable[Line]:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SourceError("a manifest that is not UTF-8", where=path, got=str(error)) from None
    reader = csv.reader(io.StringIO(text, newline=""))
    header = next(reader, None)
    if not header:
        raise SourceError("a manifest without a header", where=path, expected="a line of column names", got="nothing")
    for row, cells in enumerate(cells for cells in reader if cells):
        buffer = io.StringIO()
        csv.writer(buffer).writerow(cells)
        raw = buffer.getvalue().rstrip("\r\n").encode()
        if len(cells) == len(header):
            yield Line(row, dict(zip(header, cells, strict=True)), None, "csv", raw)
        else:
            yield Line(row, None, _undecodable(f"{len(header)} cells", f"{len(cells)} cells"), "csv", raw)


def _json(row: Mapping[str, Any]) -> bytes:
    return json.dumps(row, default=str, ensure_ascii=False).encode()


def _is_time(dtype: Any) -> bool:
    return isinstance(dtype, pl.Datetime)


def _to_int(value: Any) -> int:
    if isinstance(value, bool) or (isinstance(value, float) and not value.is_integer()):
        raise ValueError("not an integer")
    number = int(value)
    if not -(1 << 63) <= number < 1 << 63:
        raise OverflowError("more than 64 bits")
    return number


def _to_text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("not a text")
    return value


def _to_float(value: Any) -> float:
    number = float(value)
    if isinstance(value, bool) or not math.isfinite(number):
        raise ValueError("not a finite number")
    return number


def _to_time(value: Any) -> int:
    if isinstance(value, str) and value.lstrip("-").isdigit():
        return int(value)
    if not isinstance(value, (int, str, datetime, date)):
        raise TypeError("not a time")
    return to_us(value)


_CONVERT: dict[pa.DataType, Callable[[Any], Any]] = {
    pa.int64(): _to_int,
    pa.string(): _to_text,
    pa.float64(): _to_float,
    TIME: _to_time,
}
SCALARS = tuple(_CONVERT)  # what a manifest may hold
