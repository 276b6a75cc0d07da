"""Avro containers to batches. Polars decodes runs of blocks; what it cannot do, fastavro does."""

from __future__ import annotations

import io
import json
import mmap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fastavro
import polars as pl
import pyarrow as pa

from ...schemas.avro import PRIMITIVES, AvroType, record_field, split_nullable
from ...schemas.avro_blocks import Block, Bytes, Header, read_header, walk
from ...schemas.errors import ContractError, SourceError
from ..resolving.isolate import POLARS_FAILURES, first_line
from .pieces import Piece, sliced

_POLARS_CODECS = ("null", "deflate", "snappy")
_CODECS = (*_POLARS_CODECS, "bzip2", "xz", "zstandard", "lz4")


def check(path: Path) -> None:
    """Read the header.

    Raises:
        SourceError: it is no Avro container of records, or is compressed with a codec nobody here knows.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        header = read_header(data, where=path)
    if header.codec not in _CODECS:
        raise SourceError("an unknown Avro codec", where=path, expected=", ".join(_CODECS), got=header.codec)
    if not isinstance(header.schema, dict) or header.schema.get("type") != "record":
        raise SourceError(
            "not a container of records", where=path, expected="a record schema", got=json.dumps(header.schema)[:100]
        )


def pieces(path: Path, *, start_row: int, batch_rows: int) -> Iterator[Piece]:
    """Decoded rows from `start_row` on, cut at block boundaries nearest below multiples of `batch_rows`, and within a
    block that is larger. Memory: one run of blocks, of about `batch_rows` rows.

    Raises:
        SourceError: after all rows before it, at a block that is damaged or does not decode.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        header = read_header(data, where=path)
        decode = _decoder(header, path)
        for run, damage in _runs(data, header, batch_rows, path):
            if run and run[-1].end_row > start_row:
                yield from _run(data, run, decode, start_row, batch_rows)
            if damage is not None:
                raise damage


def _runs(data: Bytes, header: Header, batch_rows: int, path: Path) -> Iterator[tuple[list[Block], SourceError | None]]:
    """Neighbouring blocks of together at most `batch_rows` rows (or one larger), from the file's beginning; the last
    with the damage that ended the walk, if any.
    """
    run: list[Block] = []
    try:
        for block in walk(data, header, where=path):
            if run and block.end_row - run[0].first_row > batch_rows:
                yield run, None
                run = []
            run.append(block)
    except SourceError as damage:
        yield run, damage
        return
    yield run, None


def _run(data: Bytes, run: list[Block], decode: _Decode, start_row: int, batch_rows: int) -> Iterator[Piece]:
    """The rows of a run; block by block where it does not decode as a whole, so that those before a bad one come."""
    try:
        frame = decode(data, run)
    except SourceError:
        if len(run) == 1:
            raise
        for block in run:
            yield from _run(data, [block], decode, start_row, batch_rows)
        return
    yield from sliced(frame, run[0].first_row, start_row=start_row, batch_rows=batch_rows)


_Decode = Callable[[Bytes, list[Block]], pl.DataFrame]


def _decoder(header: Header, path: Path) -> _Decode:
    """How runs of this container are decoded: by Polars where it knows schema and codec, else, or where it fails, by
    fastavro.
    """
    fast = header.codec in _POLARS_CODECS and all(_polars_reads(f["type"]) for f in header.schema["fields"])
    types = None if fast else _arrow_fields(header.schema, path)

    def decode(data: Bytes, run: list[Block]) -> pl.DataFrame:
        nonlocal types
        rows = run[-1].end_row - run[0].first_row
        container = header.raw + bytes(data[run[0].offset : run[-1].end])
        if fast:
            try:
                frame = pl.read_avro(io.BytesIO(container))
            except POLARS_FAILURES:  # a panic of its reader included: fastavro says what is wrong, or reads it
                frame = None
            if frame is not None and frame.height == rows:
                return frame
        types = types or _arrow_fields(header.schema, path)
        return _by_fastavro(container, types, run, path)

    return decode


def _by_fastavro(container: bytes, types: list[pa.Field | None], run: list[Block], path: Path) -> pl.DataFrame:
    """Decode record by record. A field of several types (None) becomes JSON text, cast strictly afterwards.

    Raises:
        SourceError: a record does not decode, naming the first block of the run.
    """
    block, rows = run[0], run[-1].end_row - run[0].first_row
    where = f"{path}, block {block.index}, byte {block.offset}"
    done = 0
    try:
        reader = fastavro.reader(io.BytesIO(container))
        records: list[dict[str, Any]] = []
        for record in reader:
            records.append(record)  # type: ignore[arg-type]
            done += 1
    except (ValueError, EOFError, IndexError, KeyError, TypeError, OverflowError, OSError) as error:
        missing = "need to install" in str(error)
        raise SourceError(
            "a codec that is not installed" if missing else "an Avro block that does not decode",
            where=where,
            expected=f"{rows} rows of the file's schema",
            got=f"{type(error).__name__} after {done} rows: {first_line(error)}",
            hint=None if missing else "rows before this block are read; the file is damaged: fetch it again",
        ) from None
    if done != rows:
        raise SourceError(
            "an Avro block that does not decode", where=where, expected=f"{rows} rows", got=f"{done} rows"
        )
    names = [field["name"] for field in reader.writer_schema["fields"]]  # type: ignore[index,call-overload]
    columns = [
        _column(name, type_, [record[name] for record in records]) for name, type_ in zip(names, types, strict=True)
    ]
    return pl.DataFrame(columns)


def _column(name: str, field: pa.Field | None, values: list[Any]) -> pl.Series:
    if field is not None and field.type == pa.string():
        values = [None if value is None else str(value) for value in values]  # a uuid comes as an object
    if field is not None:
        try:
            array = pl.from_arrow(pa.array(values, field.type))
        except (pa.ArrowInvalid, pa.ArrowTypeError):  # a uuid within a record: as text then
            field = None
        else:
            assert isinstance(array, pl.Series)
            return array.alias(name)
    text = [value if isinstance(value, str) or value is None else _json(value) for value in values]
    return pl.Series(name, text, dtype=pl.String)


def _json(value: Any) -> str:
    return json.dumps(value, default=lambda one: one.decode("latin-1") if isinstance(one, bytes) else str(one))


def _arrow_fields(schema: dict[str, Any], path: Path) -> list[pa.Field | None]:
    """The Arrow field of each column, None where a type has no columnar form."""
    expanded: Any = fastavro.schema.expand_schema(schema)
    fields: list[pa.Field | None] = []
    for field in expanded["fields"]:
        try:
            fields.append(record_field(field, where=f"{path}, {field['name']}"))
        except ContractError:
            fields.append(None)
    return fields


def _polars_reads(avro: AvroType) -> bool:
    """Whether Polars 2.1's Avro reader knows a type. What it does not know it may meet with a panic, so it is asked
    only for what it was seen to read: no maps, null, named references, unions but with null, nullable enums and fixed.
    """
    inner, nullable = split_nullable(avro)
    if isinstance(avro, list) and not (nullable and len(avro) == 2):
        return False
    if isinstance(inner, str):
        return inner in PRIMITIVES and inner != "null"
    if not isinstance(inner, dict):
        return False
    match inner.get("type"):
        case "enum" | "fixed":
            return not nullable and "logicalType" not in inner
        case "array":
            return _polars_reads(inner["items"])
        case "record":
            return all(_polars_reads(field["type"]) for field in inner["fields"])
        case kind if isinstance(kind, str):
            return kind in PRIMITIVES and kind != "null" and inner.get("logicalType") != "decimal"
        case _:
            return False
