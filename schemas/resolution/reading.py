"""An Avro container as an Arrow table of a reader's schema."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa

from ..avro import AvroType
from ..avro_blocks import Block, Bytes, Header, read_header, walk
from ..contract import read_json
from ..errors import ReclakeError, SourceError, SourceNotFoundError
from . import columns, defaults
from .decoding import CODECS, Layout, decode, layout_of, row_of
from .types import Record, is_value
from .wire import wire

RUN_ROWS, RUN_BYTES = 250_000, 64 << 20
READER = "the reader's schema"


def read(file: str | Path | BinaryIO, reader: AvroType | Path) -> pa.Table:
    """The rows of an Avro container file as the reader's schema has them: its fields, names, types and defaults.
    Where it is no record, they have one column, `value`.

    `file` is a path, or a file opened for reading bytes; `reader` a schema, parsed or as JSON text, or the path of an
    .avsc. Runs of blocks are decoded and resolved as columns, one after the other; types become Arrow types as
    `columns.arrow_type` says.

    Raises:
        ContractError: the schemas do not resolve, or one has no columnar form (it contains itself).
        SourceError: the file is no container, is damaged, or holds a value that the reader's schema has no place for.
        SourceNotFoundError: there is no such file.
    """
    wanted = reader_of(reader)
    if not isinstance(file, str | Path):
        return _read(file.read(), wanted, "the file")
    path = Path(file)
    if not path.is_file():
        raise SourceNotFoundError("file not found", where=path, hint="check the path")
    if not path.stat().st_size:
        return _read(b"", wanted, path)
    with path.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return _read(data, wanted, path)


def _read(data: Bytes, wanted: Record, place: object) -> pa.Table:
    """A container's bytes; `place` is what errors call it."""
    if not len(data):
        raise SourceError("not an Avro container file", where=place, expected="a header", got="an empty file")
    header = read_header(data, where=place)
    if header.codec not in CODECS:
        raise SourceError("an unknown Avro codec", where=place, expected=", ".join(CODECS), got=header.codec)
    try:
        writer = _writer_of(header.schema, wanted)
        arrays = [resolved(pa.array([], writer.wire.arrow), writer, wanted)]
    except ReclakeError as error:
        raise error.within(place) from None
    for run in _runs(data, header, place):
        arrays += _run(data, header, run, writer, wanted, place)
    return table(arrays)


def reader_of(schema: AvroType | Path) -> Record:
    """A reader's row, its defaults looked at and every type known to have a columnar form.

    Raises:
        ContractError: it is no Avro schema, or has no columnar form.
    """
    where = READER
    if isinstance(schema, Path) or (isinstance(schema, str) and schema.endswith(".avsc")):
        where, schema = str(schema), read_json(Path(schema))
    record = row_of(schema, where=where)
    defaults.check(record, where=where)
    wire(record, where=where)
    columns.arrow_type(record, where)
    return record


def resolved(decoded: pa.StructArray, writer: Layout, reader: Record) -> pa.StructArray:
    """Decoded rows as the reader has them."""
    if is_value(writer.record) and not is_value(reader):  # such as a union of records
        return columns.column(decoded.field(0), writer.record.fields[0].type, reader, "the row")
    if is_value(reader) and not is_value(writer.record):
        values = columns.column(decoded, writer.record, reader.fields[0].type, "the row")
        return pa.StructArray.from_arrays([values], fields=list(columns.arrow_type(reader, "")))
    if not reader.answers_to(writer.record):
        return columns.column(decoded, writer.record, reader, "")
    return columns.record(decoded, writer.record, reader, "")


def table(arrays: list[pa.StructArray]) -> pa.Table:
    """Rows as a table of their fields."""
    return pa.Table.from_batches([pa.RecordBatch.from_struct_array(array) for array in arrays])


def _writer_of(schema: AvroType, reader: Record) -> Layout:
    """A file's own schema; a record without a name, as Polars writes them, goes by the reader's."""
    where = "the writer's schema"
    if isinstance(schema, dict) and schema.get("type") == "record" and not schema.get("name"):
        schema = schema | {"name": reader.name}
    return layout_of(row_of(schema, where=where), where=where)


def _runs(data: Bytes, header: Header, place: object) -> Iterator[list[Block]]:
    """Neighbouring blocks of together at most RUN_ROWS rows and RUN_BYTES bytes, or one that is larger."""
    run: list[Block] = []
    for block in walk(data, header, where=place):
        if run and (block.end_row - run[0].first_row > RUN_ROWS or block.end - run[0].offset > RUN_BYTES):
            yield run
            run = []
        run.append(block)
    if run:
        yield run


def _run(
    data: Bytes, header: Header, run: list[Block], writer: Layout, reader: Record, place: object
) -> Iterator[pa.StructArray]:
    """A run resolved; block by block where that fails, so that an error names its block."""
    first, last = run[0], run[-1]
    blocks, rows = bytes(data[first.offset : last.end]), last.end_row - first.first_row
    where = f"{place}, block {first.index}, byte {first.offset}"
    try:
        decoded = decode(blocks, rows, writer.wire, codec=header.codec, sync=header.sync, where=where)
    except SourceError:
        if len(run) == 1:
            raise
        for block in run:
            yield from _run(data, header, [block], writer, reader, place)
        return
    try:
        yield resolved(decoded, writer, reader)
    except ReclakeError as error:
        raise error.within(f"{place}, rows {first.first_row} to {last.end_row - 1}") from None
