"""Parquet files to batches, a row group or a few small ones at a time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from ...schemas.errors import SourceError
from ...schemas.failures import POLARS_FAILURES
from ..resolving.isolate import first_line
from .batch import repeated
from .pieces import Piece, sliced

_ARROW_FAILURES = (pa.ArrowException, OSError, ValueError)


def check(path: Path) -> None:
    """Read the footer.

    Raises:
        SourceError: it is no Parquet file, is damaged, or names a column twice.
    """
    with _open(path) as file:
        names = file.schema_arrow.names
    twice = repeated(names)
    if twice:
        raise SourceError("a column is there twice", where=path, expected="distinct names", got=", ".join(twice))


def pieces(path: Path, *, start_row: int, batch_rows: int) -> Iterator[Piece]:
    """Rows from `start_row` on, cut at row groups nearest below multiples of `batch_rows`, and within a larger group.
    Row groups before `start_row` are not read. Memory: `batch_rows` rows, and a row group's pages as they are read.

    Raises:
        SourceError: after all batches before it, where a page is damaged or a type is not known.
    """
    with _open(path) as file:
        for groups, first_row, rows in _group_runs(file, batch_rows):
            if first_row + rows <= start_row:
                continue
            at = first_row
            try:
                for table in _tables(file, groups, batch_rows):
                    frame = pl.from_arrow(table)
                    assert isinstance(frame, pl.DataFrame)
                    yield from sliced(frame, at, start_row=start_row, batch_rows=batch_rows)
                    at += frame.height
            except (*_ARROW_FAILURES, *POLARS_FAILURES) as error:
                raise SourceError(
                    "Parquet data that does not decode",
                    where=f"{path}, row group {groups[0]}, from row {at}",
                    expected=f"rows {at} to {first_row + rows - 1}",
                    got=first_line(error),
                    hint="rows before are read; the file is damaged or of a newer kind: fetch or write it again",
                ) from None


def _open(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path, memory_map=True)
    except _ARROW_FAILURES as error:
        raise SourceError(
            "not a readable Parquet file",
            where=path,
            expected="a Parquet file with its footer",
            got=first_line(error),
            hint="a Parquet file is readable only once it is complete: fetch or write it again",
        ) from None


def _group_runs(file: pq.ParquetFile, batch_rows: int) -> Iterator[tuple[list[int], int, int]]:
    """(row groups, first row, rows) of neighbours of together at most `batch_rows` rows, or one larger."""
    run: list[int] = []
    first_row = rows = 0
    for index in range(file.num_row_groups):
        size = file.metadata.row_group(index).num_rows
        if run and rows + size > batch_rows:
            yield run, first_row, rows
            run, first_row, rows = [], first_row + rows, 0
        run.append(index)
        rows += size
    if run:
        yield run, first_row, rows


def _tables(file: pq.ParquetFile, groups: list[int], batch_rows: int) -> Iterator[pa.Table]:
    """The rows of some row groups in tables of exactly `batch_rows`, the last of what is left."""
    waiting: list[pa.RecordBatch] = []
    rows = 0
    for batch in file.iter_batches(batch_rows, row_groups=groups):
        while rows + batch.num_rows >= batch_rows:
            waiting.append(batch.slice(0, batch_rows - rows))
            batch = batch.slice(batch_rows - rows)
            yield pa.Table.from_batches(waiting)
            waiting, rows = [], 0
        if batch.num_rows:
            waiting.append(batch)
            rows += batch.num_rows
    if waiting:
        yield pa.Table.from_batches(waiting)
