"""The columns of a shard as NumPy arrays, straight from the pages of its file, by a compiled loop (`_pages.c`).

Arrow reads the same, and is asked where this was not compiled, or where a file is not as `shard_writer` writes them.
It puts lists together for any nesting, level by level, and that took longer than all else it did. numpy and pyarrow
only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from .shard_arrays import Array, Int64s, Lists, Rows, Values, equally_long, null_value
from .shard_layout import leaf_name
from .shard_manifest import Column

try:
    from ._pages import join_bytes, list_levels, page
except ImportError:  # installed where there was no compiler
    page = None  # type: ignore[assignment]

# By struct column how many elements its lists hold, and the fields that are wanted.
Structs = Mapping[str, tuple[int, Sequence[Column]]]

# As the footer and as pyarrow's codecs name them.
_CODECS = {"LZ4": "lz4_raw", "ZSTD": "zstd"}
_ENCODINGS = {"BYTE_STREAM_SPLIT", "PLAIN", "RLE"}
# Greatest levels of repetition and definition: a plain column, and lists of elements that may not, or may, be null.
_LEVELS = {(0, 0), (1, 1), (1, 2)}
# As parquet.thrift counts encodings.
_PLAIN, _SPLIT = 0, 9

_USER = Column("user_id", "int64")
_FIRST = Column("first_ordinal", "int64")


class _OtherPagesError(Exception):
    """Pages that are not as they are written."""


@dataclass(frozen=True, slots=True)
class Pages:
    """How the columns of a file are read: its codec, and by leaf the column's place and its greatest level."""

    codec: pa.Codec
    leaves: Mapping[str, tuple[int, int]]

    @classmethod
    def of(cls, footer: pq.FileMetaData) -> Self | None:
        """None where Arrow must be asked."""
        if page is None or footer.num_row_groups == 0:
            return None
        columns = [footer.row_group(0).column(place) for place in range(footer.num_columns)]
        leaves = [footer.schema.column(place) for place in range(footer.num_columns)]
        codecs = {column.compression for column in columns}
        levels = [(leaf.max_repetition_level, leaf.max_definition_level) for leaf in leaves]
        encoded = all(_ENCODINGS.issuperset(column.encodings) for column in columns)
        if not encoded or len(codecs) != 1 or not codecs < _CODECS.keys() or not _LEVELS.issuperset(levels):
            return None
        places = {leaf.path: (place, leaf.max_definition_level) for place, leaf in enumerate(leaves)}
        return cls(pa.Codec(_CODECS[codecs.pop()]), places)

    def rows(self, chunk: ChunkBytes, structs: Structs, into: Mapping[str, Array], where: str) -> Rows | None:
        """The rows of a chunk; None where its pages are not as they are written.

        Args:
            structs: by struct column how many elements its lists hold, and the fields that are wanted.
            into: by leaf where its values go.

        Raises:
            ShardError: lists of one row differ in length.
        """

        def read(leaf: str, column: Column, count: int) -> tuple[Int64s, Values]:
            place, full = self.leaves[leaf]
            return _read(chunk.column(place), self.codec, column, full, chunk.rows, count, into.get(leaf))

        def lists(struct: str, count: int, columns: Sequence[Column]) -> Lists:
            found = [read(leaf_name(struct, column.name), column, count) for column in columns]
            equally_long([offsets for offsets, _ in found], f"{where}, {struct}")
            offsets = found[0][0] if found else np.zeros(chunk.rows + 1, dtype=np.int64)
            return offsets, {column.name: values for column, (_, values) in zip(columns, found, strict=True)}

        try:
            return Rows(
                user_id=read("user_id", _USER, chunk.rows)[1].array,
                first_ordinal=read("first_ordinal", _FIRST, chunk.rows)[1].array,
                lists={struct: lists(struct, count, columns) for struct, (count, columns) in structs.items()},
            )
        except _OtherPagesError:
            return None


@dataclass(frozen=True, slots=True)
class ChunkBytes:
    """A chunk in its file: how many rows it has, and where its columns lie (columns, 2)."""

    data: pa.Buffer
    ranges: Int64s
    rows: int

    def column(self, place: int) -> pa.Buffer:
        begin, length = self.ranges[place].tolist()
        return self.data.slice(begin, length)


def _read(
    pages: pa.Buffer, codec: pa.Codec, column: Column, full: int, rows: int, count: int, out: Array | None
) -> tuple[Int64s, Values]:
    """Offsets (R+1,) and values of a column of `rows` lists of `count` elements in all, or of so many plain values."""
    stored = _stored(column)
    values = out if out is not None and out.dtype == stored and not column.nulls else np.empty(count, stored)
    valid = np.empty(count, dtype=np.bool_) if column.nulls else None
    starts = np.empty(rows + 1, dtype=np.int64)
    at = lists = elements = present = 0
    try:
        while at < pages.size:
            told = page(pages, at)
            if told is None:
                raise _OtherPagesError
            begin, packed, plain, levels, encoding = told
            body, here, first = codec.decompress(pages.slice(begin, packed), plain), levels, 0
            if full:
                lists, elements, here, first = list_levels(body, levels, full, starts[:-1], lists, elements, valid)
            _decode(body, first, here, encoding, values, present)
            present, at = present + here, begin + packed
    except (ValueError, OSError, pa.ArrowException) as error:
        raise _OtherPagesError from error
    if (lists, elements) != ((rows, count) if full else (0, 0)) or (present != count and valid is None):
        raise _OtherPagesError
    starts[-1] = count
    if valid is not None:
        spread = np.full(count, null_value(stored))
        spread[valid] = values[:present]
        values = spread
    values = values.astype(column.dtype, copy=False)
    if out is not None and values is not out:
        out[:] = values
        values = out
    return starts, Values(values, valid)


def _stored(column: Column) -> np.dtype[Any]:
    """The type that a page holds the values as: small integers stand in four bytes."""
    small = column.dtype.kind in "iu" and column.dtype.itemsize < 4
    return np.dtype(np.int32) if small else column.dtype


def _decode(body: pa.Buffer, first: int, count: int, encoding: int, out: Array, to: int) -> None:
    """The values of a page, which begin at byte `first` of it, into out from `to` on."""
    if out.dtype == np.bool_:
        if encoding != _PLAIN:
            raise _OtherPagesError
        bits = np.frombuffer(body, dtype=np.uint8, offset=first)
        out[to : to + count] = np.unpackbits(bits, count=count, bitorder="little")
    elif encoding == _SPLIT:
        join_bytes(body, first, count, out.itemsize, out, to)
    else:
        raise _OtherPagesError
