"""Avro bytes to columns in a writer's wire layout: by Polars, and what Polars cannot do by fastavro."""

from __future__ import annotations

import io
from dataclasses import dataclass

import fastavro
import polars as pl
import pyarrow as pa

from ..avro import AvroType
from ..avro_blocks import container
from ..errors import ContractError, SourceError
from ..failures import POLARS_FAILURES
from .types import Record, as_row, label, parse
from .wire import Wire, wire

CODECS = ("null", "deflate", "snappy", "bzip2", "xz", "zstandard", "lz4")
_POLARS_CODECS = ("null", "deflate", "snappy")
_FASTAVRO_FAILURES = (ValueError, EOFError, IndexError, KeyError, TypeError, OverflowError, OSError, pa.ArrowException)


@dataclass(frozen=True, slots=True)
class Layout:
    """A record, or the row of what is none, and its wire form."""

    record: Record
    wire: Wire


def record_of(schema: AvroType, *, where: str) -> Record:
    """The record a parsed schema describes.

    Raises:
        ContractError: it is no Avro schema, or one of something else than records.
    """
    type_ = parse(schema, where=where)
    if not isinstance(type_, Record):
        raise ContractError(
            "rows are records", where=where, expected='{"type": "record", "fields": [...]}', got=label(type_)
        )
    return type_


def row_of(schema: AvroType, *, where: str) -> Record:
    """The row a parsed schema describes; see `as_row`.

    Raises:
        ContractError: it is no Avro schema.
    """
    return as_row(parse(schema, where=where))


def layout_of(record: Record, *, where: str) -> Layout:
    """The wire form of a record.

    Raises:
        ContractError: it contains itself.
    """
    return Layout(record, wire(record, where=where))


def decode(blocks: bytes, rows: int, told: Wire, *, codec: str, sync: bytes, where: str) -> pa.StructArray:
    """Whole blocks as they stand in a container, together of `rows` rows, laid out as `told.arrow`.

    Raises:
        SourceError: they do not decode, or not to that many rows.
    """
    frame = frame_of(blocks, rows, told, codec=codec, sync=sync)
    if frame is not None:
        table = frame.to_arrow(compat_level=pl.CompatLevel.oldest())
        try:
            columns = [a.combine_chunks().cast(field.type) for a, field in zip(table.columns, told.arrow, strict=True)]
            return pa.StructArray.from_arrays(columns, fields=list(told.arrow))
        except pa.ArrowException:  # fastavro says what is wrong, or reads it
            pass
    return _by_fastavro(container(told.schema, codec, sync) + blocks, rows, told.arrow, where)


def frame_of(blocks: bytes, rows: int, told: Wire, *, codec: str, sync: bytes) -> pl.DataFrame | None:
    """The same as a frame of the wire schema's columns, in Polars' own layout; None where only fastavro can tell."""
    if not told.columnar or codec not in _POLARS_CODECS:
        return None
    try:
        frame = pl.read_avro(io.BytesIO(container(told.schema, codec, sync) + blocks))
    except POLARS_FAILURES:
        return None
    return frame if frame.height == rows else None


def _by_fastavro(file: bytes, rows: int, arrow: pa.StructType, where: str) -> pa.StructArray:
    records = []
    try:
        for record in fastavro.reader(io.BytesIO(file)):
            records.append(record)
        found = pa.array(records, arrow)
    except _FASTAVRO_FAILURES as error:
        missing = "need to install" in str(error)
        raise SourceError(
            "a codec that is not installed" if missing else "an Avro block that does not decode",
            where=where,
            expected=f"{rows} rows of the writer's schema",
            got=f"{type(error).__name__} after {len(records)} rows: {str(error).partition(chr(10))[0]}",
            hint=None if missing else "the file is damaged: fetch it again",
        ) from None
    if len(found) != rows:
        raise SourceError(
            "an Avro block that does not decode", where=where, expected=f"{rows} rows", got=f"{len(found)}"
        )
    return found
