"""Parquet files: small by their encodings, and read by others as they were written."""

from __future__ import annotations

from pathlib import Path

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from reclake.storage import parquet

ROWS = pa.table(
    {
        "event_id": [f"2024-{n:06d}" for n in range(40_000)],
        "event_type": ["click", "exposure"] * 20_000,
        "known_at": pa.array(range(0, 40_000_000_000, 1_000_000), pa.timestamp("us", "UTC")),
        "ordinal": pa.array(range(40_000), pa.int64()),
    }
)


def test_times_and_ids_are_written_as_differences_and_the_rest_by_dictionary(tmp_path: Path) -> None:
    written = parquet.write(tmp_path, ROWS, {})
    group = pq.ParquetFile(tmp_path / written.path).metadata.row_group(0)
    encodings = {name: group.column(n).encodings for n, name in enumerate(ROWS.column_names)}
    assert "DELTA_BYTE_ARRAY" in encodings["event_id"]
    assert "RLE_DICTIONARY" in encodings["event_type"]
    assert "DELTA_BINARY_PACKED" in encodings["known_at"]
    assert "DELTA_BINARY_PACKED" in encodings["ordinal"]


def test_other_readers_read_what_was_written(tmp_path: Path) -> None:
    path = tmp_path / parquet.write(tmp_path, ROWS, {}).path
    expected = pl.DataFrame(ROWS)
    assert pl.read_parquet(path).equals(expected)
    query = f"SELECT count(*), count(DISTINCT event_id), sum(ordinal) FROM '{path}'"
    found = duckdb.connect().execute(query).fetchone()
    assert found == (40_000, 40_000, sum(range(40_000)))
