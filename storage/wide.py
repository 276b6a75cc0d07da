"""Scanning a few columns of a table of thousands: each file by a footer of those columns alone (see footers.py)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import polars as pl
import pyarrow as pa
from polars.io.plugins import register_io_source

from . import parquet
from .footers import narrow
from .log import Snapshot
from .places import Place, beside, parquet_file

COLUMNS = 500  # of a table from which on its footers cost more than a few columns of its data


def scan(
    root: Place, snapshot: Snapshot, schema: pa.Schema, columns: Sequence[str], cache: Path | None
) -> pl.LazyFrame:
    """Some columns of the files of a snapshot, lazily, as the table's schema has them.

    Args:
        root: of the table. Of files in an object store the whole footer is read.
        schema: of the whole table.
        cache: where footers that were walked are remembered; None: in this process alone.
    """
    wanted = pa.schema([schema.field(name) for name in columns])

    def read(
        with_columns: list[str] | None, predicate: pl.Expr | None, n_rows: int | None, batch_size: int | None
    ) -> Iterator[pl.DataFrame]:
        # Polars may want fewer columns than were asked for, and may leave the filter to the source.
        some = wanted if with_columns is None else pa.schema([wanted.field(name) for name in with_columns])
        left = n_rows
        for file in snapshot.files.iter_rows(named=True):
            rows = pl.DataFrame(_read(beside(root, file["path"]), file, some, cache))
            if predicate is not None:
                rows = rows.filter(predicate)
            if left is not None:
                rows = rows.head(left)
                left -= rows.height
            yield rows
            if left == 0:
                return

    return register_io_source(read, schema=pl.DataFrame(wanted.empty_table()).schema)


def _read(path: Place, file: Mapping[str, object], schema: pa.Schema, cache: Path | None) -> pa.Table:
    """A file's columns as the table has them: partition columns filled in, columns it lacks null."""
    names = [name for name in schema.names if name not in file]
    with narrow(path, names, cache) if isinstance(path, Path) else parquet_file(path) as part:
        stored, rows = part.read(columns=names), part.metadata.num_rows
    columns = []
    for field in parquet.stored(schema):
        if field.name in file:
            columns.append(pa.repeat(pa.scalar(file[field.name], field.type), rows))
        elif field.name in stored.column_names:
            columns.append(stored[field.name].cast(field.type))
        else:
            columns.append(pa.nulls(rows, field.type))
    return pa.Table.from_arrays(columns, schema=parquet.stored(schema))
