"""Avro containers to batches: runs of blocks to columns of the file's own schema (see schemas.resolution)."""

from __future__ import annotations

import json
import mmap
from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl

from ...schemas.avro_blocks import Block, Bytes, Header, read_header, walk
from ...schemas.errors import ContractError, SourceError
from ...schemas.resolution import decoding
from ...schemas.resolution.own import own_record
from ...schemas.resolution.reading import resolved, table
from ...schemas.resolution.types import Primitive, Record, Union
from .pieces import Piece, sliced

_CLOCKS: dict[str, pl.DataType] = {
    "date": pl.Date(),
    "timestamp-millis": pl.Datetime("ms", "UTC"),
    "timestamp-micros": pl.Datetime("us", "UTC"),
    "timestamp-nanos": pl.Datetime("ns", "UTC"),
    "local-timestamp-millis": pl.Datetime("ms"),
    "local-timestamp-micros": pl.Datetime("us"),
    "local-timestamp-nanos": pl.Datetime("ns"),
}


def check(path: Path) -> None:
    """Read the header.

    Raises:
        SourceError: it is no Avro container of records, or is compressed with a codec nobody here knows.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        header = read_header(data, where=path)
    if header.codec not in decoding.CODECS:
        raise SourceError("an unknown Avro codec", where=path, expected=", ".join(decoding.CODECS), got=header.codec)
    if not isinstance(header.schema, dict) or header.schema.get("type") != "record":
        raise SourceError(
            "not a container of records", where=path, expected="a record schema", got=json.dumps(header.schema)[:100]
        )
    _layout(header, path)


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
    """How runs of this container are decoded: by its own schema, whole columns at a time. A field of several types
    becomes text, cast strictly afterwards.
    """
    layout = _layout(header, path)
    reader, flat = own_record(layout.record), _flat(layout.record)

    def decode(data: Bytes, run: list[Block]) -> pl.DataFrame:
        first, last = run[0], run[-1]
        rows, where = last.end_row - first.first_row, f"{path}, block {first.index}, byte {first.offset}"
        blocks = bytes(data[first.offset : last.end])
        if flat is not None:
            frame = decoding.frame_of(blocks, rows, layout.wire, codec=header.codec, sync=header.sync)
            if frame is not None:
                return frame.select(flat)
        decoded = decoding.decode(blocks, rows, layout.wire, codec=header.codec, sync=header.sync, where=where)
        try:
            frame = pl.DataFrame(table([resolved(decoded, layout, reader)]))
        except SourceError as error:
            raise error.within(where) from None
        return frame if frame.width else pl.select(pl.repeat(None, rows).alias("\0none")).drop("\0none")

    return decode


def _flat(record: Record) -> list[pl.Expr] | None:
    """The fields as columns of the wire layout, where each is there as it is but for its name or the clock it counts
    for: no detour by Arrow then.
    """
    columns = []
    for place, field in enumerate(record.fields):
        values = field.type.values if isinstance(field.type, Union) else (field.type,)
        if len(values) != 1 or not isinstance(values[0], Primitive) or values[0].kind == "null":
            return None
        dtype = _CLOCKS.get(str(values[0].logical))
        if dtype is None and values[0].logical not in (None, "uuid"):
            return None
        column = pl.col(f"f{place}")
        columns.append((column if dtype is None else column.cast(dtype)).alias(field.name))
    return columns or None


def _layout(header: Header, path: Path) -> decoding.Layout:
    """The file's schema, which Polars writes without a name.

    Raises:
        SourceError: it is malformed, or a type of it contains itself.
    """
    where = f"{path}, the file's schema"
    try:
        schema = header.schema if header.schema.get("name") else header.schema | {"name": "record"}
        return decoding.layout_of(decoding.record_of(schema, where=where), where=where)
    except ContractError as error:
        raise SourceError(
            error.what, where=error.where, expected=error.expected, got=error.got, hint=error.hint
        ) from None
