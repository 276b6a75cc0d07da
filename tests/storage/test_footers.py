"""Narrow footers: a few columns of a wide file, equal to what pyarrow reads, without its whole footer."""

from __future__ import annotations

import datetime
import os
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reclake.quality import gate
from reclake.schemas.errors import StorageError
from reclake.storage import footers, thrift, wide
from reclake.storage.footers import narrow
from reclake.storage.table import Layout, Table

ROWS = 50
MIXED = pa.table(
    {
        "id": list(range(ROWS)),
        "flag": [n % 3 == 0 if n % 5 else None for n in range(ROWS)],
        "name": [None if n % 7 == 0 else f"ü{n}" * (n % 4) for n in range(ROWS)],
        "at": pa.array([n * 1_000_001 for n in range(ROWS)], pa.timestamp("us", "UTC")),
        "local": pa.array(list(range(ROWS)), pa.timestamp("ms")),
        "day": [datetime.date(2024, 1, 1 + n % 28) for n in range(ROWS)],
        "small": pa.array([n % 100 - 50 for n in range(ROWS)], pa.int8()),
        "price": pa.array([None if n % 9 == 0 else n for n in range(ROWS)], pa.decimal128(9, 2)),
        "raw": [bytes([n]) * n for n in range(ROWS)],
        "score": [n / 3 for n in range(ROWS)],
        "tags": [None if n % 11 == 0 else [f"t{n}"] * (n % 3) for n in range(ROWS)],
        "deep": [{"x": n, "y": [{"z": str(n)}] * (n % 2)} for n in range(ROWS)],
        "map": pa.array([[("k", n)] for n in range(ROWS)], pa.map_(pa.string(), pa.int64())),
    }
)


def read(path: Path, columns: Sequence[str], cache: Path | None = None) -> pa.Table:
    with narrow(path, columns, cache) as file:
        return file.read()


@settings(max_examples=40)
@given(
    st.lists(st.sampled_from(MIXED.column_names), unique=True),
    st.sampled_from([1, 7, 16, 50, 100]),
    st.sampled_from(["snappy", "zstd", "none"]),
    st.sampled_from(["1.0", "2.6"]),
    st.booleans(),
)
def test_any_columns_of_any_types_are_what_pyarrow_reads(
    tmp_path_factory: pytest.TempPathFactory, columns: list[str], group: int, codec: str, version: str, index: bool
) -> None:
    path = tmp_path_factory.getbasetemp() / f"{os.urandom(8).hex()}.parquet"
    table = MIXED if version == "2.6" else MIXED.drop_columns(["local", "at"])
    pq.write_table(
        table, path, row_group_size=group, compression=codec, version=version, write_page_index=index,
        data_page_version="2.0" if index else "1.0",
    )  # fmt: skip
    some = [name for name in columns if name in table.column_names]
    found = read(path, some)
    assert found.num_rows == ROWS
    assert found.equals(pq.ParquetFile(path).read(columns=some).select(some))


@pytest.mark.parametrize("writer", ["polars", "duckdb"])
def test_files_of_other_writers_are_read_too(tmp_path: Path, writer: str) -> None:
    path = tmp_path / "other.parquet"
    frame = pl.DataFrame(MIXED.drop_columns(["map"]))
    if writer == "polars":
        frame.write_parquet(path, row_group_size=20)
    else:
        duckdb = pytest.importorskip("duckdb")
        duckdb.sql(f"copy frame to '{path}' (format parquet)")
    found = read(path, ["deep", "id", "at", "tags"])
    expected = pq.ParquetFile(path).read().select(["deep", "id", "at", "tags"])
    assert pl.DataFrame(found).equals(pl.DataFrame(expected))


def test_a_column_that_the_file_lacks_is_left_out_and_minima_still_prune(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(MIXED, path, row_group_size=10)
    assert read(path, ["nothing", "id"]).column_names == ["id"]
    with narrow(path, ["id"], None) as file:
        known = file.metadata.row_group(2).column(0).statistics
        assert (known.min, known.max) == (20, 29)


def test_the_walk_is_remembered_and_a_damaged_or_absent_cache_is_walked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, cache = tmp_path / "a.parquet", tmp_path / "cache"
    pq.write_table(MIXED, path)
    walked: list[int] = []
    monkeypatch.setattr(footers, "walk", lambda *args, whole=footers.walk: walked.append(1) or whole(*args))
    for _ in range(3):
        footers._index.cache_clear()
        assert read(path, ["id"], cache)["id"].equals(MIXED["id"])
    assert walked == [1]
    next(cache.iterdir()).write_bytes(b"half")
    footers._index.cache_clear()
    assert read(path, ["id"], cache)["id"].equals(MIXED["id"])
    assert walked == [1, 1]


@pytest.mark.parametrize(
    "content", [b"", b"PAR1", b"x" * 100, b"PAR1" + b"\xff" * 40 + (40).to_bytes(4, "little") + b"PAR1"]
)
def test_what_is_no_parquet_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.parquet"
    path.write_bytes(content)
    with pytest.raises(StorageError, match="Parquet"):
        narrow(path, ["id"], None)


@given(st.integers(-(2**63), 2**63 - 1), st.integers(1, 15))
def test_integers_are_written_as_they_are_read(value: int, step: int) -> None:
    cursor = thrift.Cursor(thrift.put_integer(step, thrift.I64, value) + b"\0")
    assert [(number, cursor.signed()) for number in cursor.fields()] == [(step, value)]


def wide_table(folder: Path, columns: int = 600) -> tuple[Table, list[pl.DataFrame]]:
    """A table of many columns in three commits, the last with one column more, and the rows."""
    rng = random.Random(1)
    table = Table(folder / "lake" / "wide", "wide", Layout(("part",), ("id",)), folder / "cache")
    frames = []
    for commit in range(3):
        schema = pa.schema(
            [pa.field("id", pa.int64()), pa.field("part", pa.int32())]
            + [pa.field(f"f{n}", pa.float64()) for n in range(columns)]
            + [pa.field("more", pa.string())] * (commit == 2)
        )
        values: dict[str, Any] = {"id": list(range(20)), "part": [n % 2 for n in range(20)], "more": ["x"] * 20}
        values |= {f"f{n}": [rng.random() for _ in range(20)] for n in range(columns)}
        rows = pa.table({name: values[name] for name in schema.names}, schema=schema)
        table.append(gate.record(rows, schema, name="wide"))
        frames.append(pl.DataFrame(rows))
    return table, frames


def test_a_scan_of_a_few_columns_of_a_wide_table_is_the_scan_of_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, frames = wide_table(tmp_path)
    columns = ["more", "f7", "part", "id"]
    whole = pl.concat(frames, how="diagonal").select(columns)
    opened: list[str] = []
    monkeypatch.setattr(wide, "narrow", lambda path, *rest: opened.append(str(path)) or narrow(path, *rest))
    scan = table.scan(columns=columns)
    assert scan.collect().sort(columns).equals(whole.sort(columns))
    assert len(opened) == 6
    assert scan.collect().equals(scan.collect())
    picked = pl.col("id").is_between(3, 11) & (pl.col("part") == 1)
    assert (
        scan.filter(picked)
        .select("f7", "id")
        .collect()
        .sort("f7")
        .equals(whole.filter(picked).select("f7", "id").sort("f7"))
    )
    assert scan.head(5).collect().height == 5
    assert scan.select(pl.len()).collect().item() == 60
    opened.clear()
    assert table.scan(columns=["id"], partition={"part": 1}).collect().height == 30
    assert len(opened) == 3
    assert table.scan(0, columns=["id"]).collect().height == 0
    assert table.scan(1, columns=["f7"]).collect().height == 20
    assert (
        table.scan(columns=["id", "f1"], partition={"part": 0})
        .collect()
        .sort("id", "f1")
        .equals(pl.concat(frames, how="diagonal").filter(pl.col("part") == 0).select("id", "f1").sort("id", "f1"))
    )


def test_two_columns_of_a_wide_file_are_read_without_the_rest_of_its_footer(tmp_path: Path) -> None:
    """Counted: bytes asked of the file system, against the footer's size."""
    path = tmp_path / "wide.parquet"
    rows = pa.table({f"f{n}": np.arange(10) for n in range(10_000)})
    pq.write_table(rows, path)
    read(path, ["f1"], tmp_path / "cache")
    before = _bytes_read()
    assert read(path, ["f17", "f9000"], tmp_path / "cache").equals(rows.select(["f17", "f9000"]))
    footer = int.from_bytes(path.read_bytes()[-8:-4], "little")
    assert footer > 900_000
    after_reading_the_file_once = path.stat().st_size
    assert _bytes_read() - before - after_reading_the_file_once < 20_000


def _bytes_read() -> int:
    counters = Path("/proc/self/io")
    if not counters.exists():
        pytest.skip("this system does not count what a process reads")
    return int(counters.read_text().split("rchar: ")[1].split()[0])
