"""Delta tables that take admitted rows only and commit each application transaction once."""

from __future__ import annotations

import json
import threading
from datetime import date
from itertools import pairwise
from pathlib import Path

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from reclake.quality import gate
from reclake.schemas.errors import CommitConflictError, ReclakeError, StorageError
from reclake.storage import compaction, parquet
from reclake.storage.table import Commit, Layout, Table

SCHEMA = pa.schema(
    [
        pa.field("a", pa.int64(), nullable=False),
        pa.field("day", pa.date32(), nullable=False),
        pa.field("t", pa.timestamp("us", "UTC")),
    ]
)


def rows(values: list[int], day: date = date(2024, 3, 1)) -> gate.Admitted:
    table = pa.table({"a": values, "day": [day] * len(values), "t": [1_700_000_000_000_001 + v for v in values]})
    return gate.record(table.cast(SCHEMA), SCHEMA, name="t")


@pytest.fixture
def table(tmp_path: Path) -> Table:
    return Table(tmp_path / "t", "t", Layout(("day",), ("a",)))


def test_append_takes_nothing_but_admitted_rows(table: Table) -> None:
    with pytest.raises(AttributeError):
        table.append(pa.table({"a": [1]}))  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        gate.Admitted(pa.table({"a": [1]}), "c", 1, "v", object())


def test_rows_come_back_from_any_delta_reader(table: Table) -> None:
    table.append(rows([3, 1, 2]))
    assert table.scan().collect()["a"].to_list() == [1, 2, 3]
    files = ", ".join(f"'{path}'" for path in table.files())
    assert duckdb.sql(f"select sum(a) from read_parquet([{files}])").fetchall() == [(6,)]
    assert pl.scan_delta(table.uri).collect().height == 3


def test_a_transaction_is_committed_once(table: Table) -> None:
    table.append(rows([1]), transactions={"source": 10})
    with pytest.raises(CommitConflictError, match="committed already"):
        table.append(rows([1]), transactions={"source": 10})
    assert table.transaction("source") == 10
    assert table.scan().collect().height == 1


def test_a_commit_that_relies_on_a_version_fails_when_the_table_moved_on(table: Table) -> None:
    table.append(rows([1]))
    version = table.version
    table.append(rows([2]))
    with pytest.raises(CommitConflictError, match="moved on"):
        table.append(rows([3]), after=version)
    assert sorted(table.scan().collect()["a"]) == [1, 2]


def test_staged_rows_are_invisible_until_they_are_committed(table: Table) -> None:
    table.append(rows([1]))
    staged = table.stage(rows([2]))
    assert table.scan().collect()["a"].to_list() == [1]
    from reclake.storage.table import Commit

    table.commit([staged], Commit({"x": 1}))
    assert sorted(table.scan().collect()["a"]) == [1, 2]


def test_concurrent_appends_all_land(table: Table) -> None:
    table.create(SCHEMA)
    errors: list[ReclakeError] = []

    def work(start: int) -> None:
        try:
            for value in range(start, start + 5):
                table.append(rows([value]), transactions={f"source {start}": value + 1})
        except ReclakeError as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(start,)) for start in (0, 100, 200, 300)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert table.scan().collect()["a"].n_unique() == 20


def test_a_partition_is_replaced_and_older_versions_keep_the_old_rows(table: Table) -> None:
    old = table.append(rows([1, 2]))
    table.append(rows([9], date(2024, 3, 2)))
    table.commit([table.stage(rows([5]))], Commit(replaced={"day": date(2024, 3, 1)}))
    assert sorted(table.scan().collect()["a"]) == [5, 9]
    assert sorted(table.scan(old).collect()["a"]) == [1, 2]


def test_new_columns_are_added_and_old_rows_read_null(table: Table) -> None:
    table.append(rows([1]))
    wider = SCHEMA.append(pa.field("b", pa.string()))
    more = pa.table({"a": [2], "day": [date(2024, 3, 1)], "t": [0], "b": ["x"]}).cast(wider)
    table.append(gate.record(more, wider, name="t"))
    assert table.scan().sort("a").collect()["b"].to_list() == [None, "x"]


def test_a_column_of_another_type_is_refused(table: Table) -> None:
    table.append(rows([1]))
    other = pa.schema([pa.field("a", pa.string()), pa.field("day", pa.date32())])
    with pytest.raises(StorageError, match="another type"):
        table.append(gate.record(pa.table({"a": ["x"], "day": [date(2024, 3, 1)]}).cast(other), other, name="t"))


def test_compaction_keeps_the_rows_and_merges_the_files(table: Table) -> None:
    for value in range(5):
        table.append(rows([value]))
    assert len(table.files()) == 5
    compaction.compact(table)
    assert len(table.files()) == 1
    assert table.scan().collect()["a"].to_list() == [0, 1, 2, 3, 4]


def test_large_writes_and_compaction_cut_files_between_values_and_small_writes_stay_one_file(tmp_path: Path) -> None:
    table = Table(tmp_path / "t", "t", Layout(("day",), ("a", "t"), "a"))
    many = rows(sorted([value for value in range(16) for _ in range(2_000)], key=lambda value: value % 5))
    table.append(many)
    spans = table.live().sort("min.a").select("min.a", "max.a", "num_records").rows()
    assert spans == [(0, 4, 10_000), (5, 9, 10_000), (10, 14, 10_000), (15, 15, 2_000)]
    compaction.compact(table)
    assert table.version == 1
    table.append(rows([3, 15, 15]))
    assert len(table.files()) == 5
    compaction.compact(table)
    spans = table.live().sort("min.a").select("min.a", "max.a", "num_records").rows()
    assert spans == [(0, 4, 10_001), (5, 9, 10_000), (10, 14, 10_000), (15, 15, 2_002)]
    version = table.version
    compaction.compact(table)
    assert table.version == version


def test_compaction_of_any_mixture_of_cut_and_uncut_files_ends_with_files_that_share_no_value(tmp_path: Path) -> None:
    table = Table(tmp_path / "t", "t", Layout(("day",), ("a", "t"), "a"))
    table.create(SCHEMA)
    random = np.random.default_rng(7)
    for number, many in enumerate((30_000, 50, 20_000, 1, 9_000, 40_000, 3)):
        part = rows(random.integers(0, 12, many).tolist())
        layout = table.layout.uncut if number % 2 else table.layout
        table.commit([table.stage(part, layout)], Commit())
    before = table.scan().collect()
    compaction.compact(table, budget=400_000)
    spans = table.live().sort("min.a").select("min.a", "max.a").rows()
    assert all(high < low for (_, high), (low, _) in pairwise(spans)), spans
    assert table.scan().collect().sort("a", "t").equals(before.sort("a", "t"))
    version = table.version
    assert compaction.compact(table, fan=2) == compaction.compact(table, fan=8) == 0
    assert table.version == version


def test_vacuum_keeps_what_a_kept_version_needs(table: Table) -> None:
    old = table.append(rows([1]))
    table.commit([table.stage(rows([2]))], Commit(replaced={"day": date(2024, 3, 1)}))
    table.vacuum(retention_hours=0, keep=[old], dry_run=False)
    assert table.scan(old).collect()["a"].to_list() == [1]
    assert table.vacuum(retention_hours=0, keep=[], dry_run=True)


def test_statistics_round_outwards_to_milliseconds() -> None:
    table = pa.table({"t": pa.array([1_500, 2_500], pa.timestamp("us", "UTC")), "s": ["a", "b"]})
    stats = json.loads(parquet.statistics(table))
    assert stats["minValues"]["t"] == "1970-01-01T00:00:00.001Z"
    assert stats["maxValues"]["t"] == "1970-01-01T00:00:00.003Z"
    assert "s" not in stats["minValues"]


def test_an_empty_table_says_so(table: Table) -> None:
    assert table.version == -1
    assert not table.exists
    with pytest.raises(StorageError, match="nothing was ever written"):
        table.scan()
