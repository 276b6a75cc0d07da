"""Parquet files: small by their encodings, and read by others as they were written."""

from __future__ import annotations

import random
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


def test_each_column_is_encoded_as_came_out_smallest(tmp_path: Path) -> None:
    rng = random.Random(3)
    some = [rng.randrange(2**40) for _ in range(40_000)]
    # Now and then a run of values comes again, as an exposure's do with its click: plain values show that to zstd.
    repeated = pa.array([some[n - 40 if n // 40 % 2 else n] for n in range(40_000)], pa.int64())
    rows = ROWS.append_column("item_id", repeated).append_column(
        "noise", pa.array([n * 7919 % 251 for n in range(40_000)])
    )
    chosen = parquet.encodings(rows)["column_encoding"]
    assert chosen["known_at"] == chosen["ordinal"] == "DELTA_BINARY_PACKED"
    assert chosen["item_id"] == "PLAIN"
    sizes = parquet._sizes(rows, None)
    written = pq.ParquetFile(tmp_path / parquet.write(tmp_path, rows, {}).path).metadata
    for place, name in enumerate(rows.column_names):
        size = sum(written.row_group(g).column(place).total_compressed_size for g in range(written.num_row_groups))
        assert size <= 1.1 * sizes[name], name


def test_of_few_rows_times_and_ids_are_written_as_differences_and_the_rest_by_dictionary(tmp_path: Path) -> None:
    written = parquet.write(tmp_path, ROWS.slice(0, 4_000), {})
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
