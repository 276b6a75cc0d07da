"""CSV files (RFC 4180, comma, a header) to batches. Every column is read as text and cast strictly later."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.csv as pacsv

from ...schemas.avro import AvroType
from ...schemas.contract import Contract
from ...schemas.errors import SourceError
from ..resolving.casts import utf8
from ..resolving.isolate import first_line
from .batch import Rows, SourceBatch, Undecodable, decode_reason, repeated
from .quotes import MARK, Quotes
from .stray import STRAY, Stray, restored
from .text_stream import GZIP_FAILURES, open_text
from .text_types import HEAD_ROWS, apply_types, declared_types, infer_types, keeps_empty_text

_BLOCK_BYTES = 8 << 20
_HEAD_BYTES = 1 << 20
_LONGEST_HEADER_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Plan:
    """`columns` as the header names them; `types`: casts that belong to decoding; `empty_is_null`: columns in which an
    empty field is an absent value, those whose field is not text.
    """

    columns: tuple[str, ...]
    types: dict[str, AvroType]
    empty_is_null: frozenset[str]


def check(path: Path, contract: Contract) -> Plan:
    """Read the header and, for a mapping that leaves types open, the first rows.

    Raises:
        SourceError: it is empty, its header is not text or names a column twice, or fields are not split by commas.
    """
    columns = _header(path)
    types = declared_types(contract)
    if contract.mapping is not None:
        everything = frozenset(columns)
        head = next(batches(path, Plan(columns, {}, everything), start_row=0, batch_rows=HEAD_ROWS, head=True), None)
        if head is not None:
            types = infer_types(head.frame) | types
    by_name = {name: f.avro for f in contract.fields for name in (*f.aliases, f.name)}
    known = types if contract.mapping is not None else by_name
    absent = frozenset(name for name in columns if name in known and not keeps_empty_text(known[name]))
    return Plan(columns, types, absent)


def _header(path: Path) -> tuple[str, ...]:
    with open_text(path) as file:
        start = file.read(_LONGEST_HEADER_BYTES)
    try:
        text = start.decode("utf-8", errors="ignore" if len(start) == _LONGEST_HEADER_BYTES else "surrogateescape")
        columns = tuple(next((row for row in csv.reader(io.StringIO(text, newline=""), strict=True) if row), []))
        "".join(columns).encode()
    except (csv.Error, UnicodeEncodeError) as error:
        # Python speaks of surrogates, which are what it made of the bytes.
        why = "bytes that are no UTF-8" if isinstance(error, UnicodeEncodeError) else first_line(error)
        raise SourceError(
            "a header that cannot be read", where=path, expected="UTF-8 names between commas", got=why
        ) from None
    twice = repeated(columns)
    if twice or not columns:
        raise SourceError(
            "not a CSV header",
            where=path,
            expected="distinct names separated by commas",
            got=f"twice: {', '.join(repr(name) for name in twice)}" if twice else "no names",
        )
    other = next((mark for mark in (";", "\t", "|") if len(columns) == 1 and mark in columns[0]), None)
    if other is not None:
        raise SourceError(
            "fields are not separated by commas",
            where=path,
            expected="a comma between fields",
            got=f"{other!r} in the header {columns[0][:100]!r}",
            hint="write it with commas",
        )
    return columns


class _Tail(io.RawIOBase):
    """Passes bytes on as UTF-8, text behind closing quotes marked; ends the last line if it has no end, and remembers
    the last byte that ends no line.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.last = self.very_last = b""
        self.quotes = Quotes()
        self.stray = Stray()
        self._ready = bytearray()
        self._ended = False

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        """As many bytes as asked for until the end: a reader takes a shorter piece for a whole block."""
        while not self._ended and (size < 0 or len(self._ready) < size):
            data = self.file.read(size)
            self._ended = size < 0 or len(data) < size
            if self._ended and (data[-1:] or self.very_last) not in (b"\n", b"\r"):
                data += b"\n"
            self.last = data.rstrip(b"\r\n")[-1:] or self.last
            self.very_last = data[-1:] or self.very_last
            self._ready += self.quotes.mark(self.stray.text(data, final=self._ended))
        given = bytes(self._ready if size < 0 else self._ready[:size])
        del self._ready[: len(given)]
        return given


@dataclass(slots=True)
class _Gathered:
    """Pieces that come in any size, and are cut at row numbers."""

    first_row: int = 0
    pieces: list[tuple[pl.DataFrame, Rows]] = field(default_factory=list)
    ragged: list[Undecodable] = field(default_factory=list)

    def add(self, batch: pa.RecordBatch, next_row: int) -> int:
        """Number the rows of a batch from `next_row` on, past those that were ragged; the number after them."""
        frame = pl.from_arrow(batch)
        assert isinstance(frame, pl.DataFrame)
        skipped = [bad.row for bad in self.ragged if bad.row >= next_row]
        numbers = np.setdiff1d(np.arange(next_row, next_row + frame.height + len(skipped)), skipped)[: frame.height]
        self.pieces.append((frame, numbers))
        return int(numbers[-1]) + 1 if frame.height else next_row

    def cut(self, end_row: int) -> tuple[pl.DataFrame | None, Rows, list[Undecodable]]:
        """What there is before `end_row`; the rest stays."""
        taken, kept = [], []
        for frame, rows in self.pieces:
            at = int(np.searchsorted(rows, end_row))
            taken.append((frame[:at], rows[:at]))
            if at < len(rows):
                kept.append((frame[at:], rows[at:]))
        ragged = [bad for bad in self.ragged if bad.row < end_row]
        self.pieces, self.first_row = kept, end_row
        self.ragged = [bad for bad in self.ragged if bad.row >= end_row]
        if not taken:
            return None, np.zeros(0, np.int64), ragged
        return pl.concat([frame for frame, _ in taken]), np.concatenate([rows for _, rows in taken]), ragged


def batches(path: Path, how: Plan, *, start_row: int, batch_rows: int, head: bool = False) -> Iterator[SourceBatch]:
    """Rows from `start_row` on, cut at multiples of `batch_rows`. A row's number counts records behind the header, from
    0, blank lines left out. Quoted fields may hold line ends, so a resume reads from the beginning and drops rows.

    Raises:
        SourceError: after all rows before it, where the file cannot be split into records.
    """
    gathered, seen = _Gathered(), 0

    def ragged(row: pacsv.InvalidRow) -> str:
        reason = decode_reason(f"{row.expected_columns} fields", f"{row.actual_columns} fields")
        raw = restored(row.text.encode()).replace(MARK, b"")
        gathered.ragged.append(Undecodable(row.number - 2, raw, "csv", reason))
        return "skip"

    with open_text(path) as file:
        tail = _Tail(file)
        damage: BaseException | None = None
        last: bytes | None = None
        try:
            for batch in _reader(tail, how, ragged, _HEAD_BYTES if head else _BLOCK_BYTES):
                seen = gathered.add(batch, seen)
                last = batch.column(batch.num_columns - 1)[-1].as_py() if batch.num_rows else last
                while seen >= (end := gathered.first_row + batch_rows):
                    yield from _batch(gathered, how, end, start_row, tail)
        except (pa.ArrowInvalid, pa.ArrowKeyError) as error:
            damage = _unsplittable(path, seen, first_line(error))
        except GZIP_FAILURES as error:
            damage = error
        if damage is None and last is not None and last.endswith((b"\n", b"\r")) and tail.last != b'"':
            seen -= 1
            damage = _unsplittable(path, seen, "a quote that is never closed")
        rows = seen if damage else max([seen, *(bad.row + 1 for bad in gathered.ragged)])
        while gathered.first_row < rows:
            yield from _batch(gathered, how, min(gathered.first_row + batch_rows, rows), start_row, tail)
        if damage is not None:
            raise damage


def _reader(file: _Tail, how: Plan, ragged: object, block_bytes: int) -> pacsv.CSVStreamingReader:
    return pacsv.open_csv(
        pa.PythonFile(file, mode="r"),
        read_options=pacsv.ReadOptions(use_threads=False, block_size=block_bytes),
        parse_options=pacsv.ParseOptions(newlines_in_values=True, invalid_row_handler=ragged),
        convert_options=pacsv.ConvertOptions(
            column_types=dict.fromkeys(how.columns, pa.binary()),
            strings_can_be_null=False,
            quoted_strings_can_be_null=False,
            check_utf8=False,
        ),
    )


def _unsplittable(path: Path, row: int, got: str) -> SourceError:
    return SourceError(
        "CSV that cannot be split into rows",
        where=f"{path}, row {row}",
        expected="records as RFC 4180 has them, quotes closed and doubled within",
        got=got,
        hint="rows before are read; mend the quotes from this row on",
    )


def _batch(gathered: _Gathered, how: Plan, end_row: int, start_row: int, tail: _Tail) -> Iterator[SourceBatch]:
    """Rows up to `end_row`: bytes to text, empty fields to null, text to the mapping's types; rows in which that fails
    are undecodable. Nothing where all of it was before `start_row`.
    """
    first_row = max(gathered.first_row, start_row)
    found, rows, undecodable = gathered.cut(end_row)
    if end_row <= start_row:
        return
    binary = pl.DataFrame(schema=dict.fromkeys(how.columns, pl.Binary())) if found is None else found
    keep = rows >= start_row
    if not keep.all():
        binary, rows = binary.filter(keep), rows[keep]
    undecodable = [bad for bad in undecodable if bad.row >= start_row]
    binary = _restored(binary) if tail.stray.found else binary
    texts = [utf8(column).alias(column.name) for column in binary.get_columns()]
    reasons: dict[int, dict[str, str | None]] = _behind_quotes(binary) if tail.quotes.marked else {}
    for text, column in zip(texts, binary.get_columns(), strict=True):
        if text.null_count():
            for place in text.is_null().arg_true():
                got = repr(column[place][:100])
                reasons.setdefault(place, decode_reason("UTF-8 text", got, column=column.name))
    frame = pl.DataFrame(texts)
    frame = frame.with_columns(
        pl.when(pl.col(name) != "").then(pl.col(name)) for name in frame.columns if name in how.empty_is_null
    )
    typed = apply_types(frame, how.types)
    for place, reason in typed.bad:
        reasons.setdefault(place, reason)
    frame = typed.frame
    if reasons:
        undecodable += [
            Undecodable(int(rows[place]), _record(binary.row(place)), "csv", reason)
            for place, reason in reasons.items()
        ]
        good = np.setdiff1d(np.arange(frame.height), list(reasons))
        frame, rows = frame[good], rows[good]
    ordered = tuple(sorted(undecodable, key=lambda bad: bad.row))
    yield SourceBatch(frame, rows, first_row, end_row, ordered)


def _restored(binary: pl.DataFrame) -> pl.DataFrame:
    """The fields as the file has them, stray bytes and all."""
    columns = []
    for column in binary.get_columns():
        places = column.bin.contains(STRAY).arg_true()
        columns.append(column.scatter(places, list(map(restored, column[places]))) if len(places) else column)
    return pl.DataFrame(columns)


def _behind_quotes(binary: pl.DataFrame) -> dict[int, dict[str, str | None]]:
    """The rows in which a field goes on behind its closing quote, with the reason."""
    reasons: dict[int, dict[str, str | None]] = {}
    for column in binary.get_columns():
        for place in column.bin.contains(MARK).arg_true():
            got = _field(column[place]).decode(errors="backslashreplace")[:100]
            expected = "a comma or the record's end behind a closing quote"
            reasons.setdefault(place, decode_reason(expected, got, column=column.name))
    return reasons


def _record(values: tuple[bytes, ...]) -> bytes:
    """A CSV record of these fields."""
    return b",".join(map(_field, values))


def _field(value: bytes) -> bytes:
    """A CSV field: quoted where it must be, and where it was with more behind it, so again."""
    text, mark, behind = value.partition(MARK)
    quoted = mark or any(byte in text for byte in b'",\r\n')
    return (b'"' + text.replace(b'"', b'""') + b'"' if quoted else text) + behind
