"""Checks that take their bounds from verdicts: which verdicts count, and how a lake learns."""

from __future__ import annotations

import json
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

import reclake
from reclake.pipelines.run import Run
from reclake.quality import gate
from reclake.schemas import shapes
from reclake.schemas.errors import GateError
from reclake.schemas.times import from_us, to_us
from reclake.storage.table import Table

DAY = date(2024, 4, 1)  # a Monday
COUNT = "expect_table_row_count_to_be_between"
CONTRACTS = Path(reclake.__file__).parent / "schemas" / "contracts"
NOW = Run(id="test", now_us=lambda: to_us("2024-05-01"))


@pytest.fixture
def lake(tmp_path: Path) -> reclake.Lake:
    return reclake.Lake.create(tmp_path / "lake", buckets=2)


def expect_rows(lake: reclake.Lake, folder: Path, **bounds: Any) -> None:
    """A day of timelines is to have as many rows as days have."""
    meta = {"severity": "critical", "bounds": {"from": "history", **bounds}}
    suite = {"name": "timelines", "expectations": [{"type": COUNT, "kwargs": {}, "meta": meta}]}
    (folder / "timelines.suite.json").write_text(json.dumps(suite))
    lake.add_suite(folder / "timelines.suite.json")


def ingest(lake: reclake.Lake, folder: Path, day: date, rows: int) -> None:
    at = f"{day}T12:00:00Z"
    events = [
        {"event_id": f"{day}-{n}", "user_id": n % 5, "item_id": 1, "event_type": "click", "event_time": at}
        | {"available_at": at}
        for n in range(rows)
    ]
    path = folder / f"{day}.jsonl"
    path.write_text("".join(json.dumps(event) + "\n" for event in events))
    lake.ingest("events", path, run=NOW)


def verdict(day: date, observed: float, **others: Any) -> dict[str, Any]:
    """What the check of timelines' row count said of a day."""
    row = {"verdict_id": f"v-{day}", "run_id": "r", "at": from_us(to_us(day) + 1), "table": "timelines"}
    row |= {"contract": "timelines", "contract_version": 1, "source": str(day), "event_day": day, "verdict": "pass"}
    row |= {"check": COUNT, "column": None, "severity": "warning", "success": True, "evaluated": 1, "unexpected": 0}
    return row | {"value": observed, "table_version": 1} | others


def remember(lake: reclake.Lake, *rows: dict[str, Any]) -> None:
    table = pa.Table.from_pylist(list(rows), schema=shapes.VERDICTS)
    lake.catalog.table("verdicts").append(gate.record(table, shapes.VERDICTS, name="verdicts"))


def days_before(count: int, value: float = 100.0) -> list[dict[str, Any]]:
    return [verdict(DAY - timedelta(days=n), value + n % 3) for n in range(1, count + 1)]


def judged(lake: reclake.Lake) -> dict[str, Any]:
    rows = lake.catalog.table("verdicts").scan().filter(pl.col("check") == COUNT, pl.col("run_id") == "test")
    found: dict[str, Any] = rows.sort("at", "event_day", "table_version").collect().row(-1, named=True)
    return found


def test_a_day_that_is_not_like_the_days_before_is_discarded_and_one_that_is_is_published(
    lake: reclake.Lake, tmp_path: Path
) -> None:
    expect_rows(lake, tmp_path)
    remember(lake, *days_before(20))
    ingest(lake, tmp_path, DAY, 10)
    with pytest.raises(GateError, match=r"expected rows >= .* \(20 days before 2024-04-01, of any weekday\), got 10"):
        lake.seal(run=NOW)
    assert judged(lake)["table_version"] is None
    expect_rows(lake, tmp_path, width=100)  # somebody has looked, and takes the day as it is
    assert lake.seal(run=NOW).rows == 10
    assert (judged(lake)["success"], judged(lake)["value"], judged(lake)["event_day"]) == (True, 10.0, DAY)


def test_a_lake_learns_from_its_own_verdicts_and_says_so(lake: reclake.Lake, tmp_path: Path) -> None:
    expect_rows(lake, tmp_path, last=4, least=3)
    told = []
    for n in range(5):
        ingest(lake, tmp_path, DAY + timedelta(days=n), 10 + n % 2)
        lake.seal(run=NOW)
        told.append((judged(lake)["verdict"], judged(lake)["expected"]))
    assert [verdict for verdict, _ in told] == ["warn"] * 3 + ["pass"] * 2
    assert told[2][1] == "rows as in history (learning, 2 of 3 days)"
    assert told[3][1].endswith("(3 days before 2024-04-04, of any weekday)")
    ingest(lake, tmp_path, DAY + timedelta(days=5), 500)
    with pytest.raises(GateError, match="got 500"):
        lake.seal(run=NOW)


@pytest.mark.parametrize(
    "others",
    [
        {"event_day": DAY},
        {"event_day": DAY + timedelta(days=3)},
        {"event_day": DAY - timedelta(days=29)},
        {"event_day": None},
        {"table_version": None, "verdict": "stop"},
        {"table": "samples/ctr", "contract": "samples/ctr"},
        {"column": "user_id"},
        {"check": "expect_column_mean_to_be_between"},
        {"value": None},
    ],
)
def test_only_what_was_published_of_earlier_days_by_the_same_check_counts(
    lake: reclake.Lake, tmp_path: Path, others: dict[str, Any]
) -> None:
    expect_rows(lake, tmp_path, least=4)
    remember(lake, *days_before(3), verdict(DAY - timedelta(days=9), 1.0, **others))
    ingest(lake, tmp_path, DAY, 10)
    lake.seal(run=NOW)
    assert judged(lake)["expected"] == "rows as in history (learning, 3 of 4 days)"


def test_a_partition_that_was_made_again_counts_once_as_it_is_now(lake: reclake.Lake, tmp_path: Path) -> None:
    expect_rows(lake, tmp_path, least=3)
    again = [row | {"at": from_us(to_us(DAY)), "value": 10.0, "verdict_id": "again"} for row in days_before(3)]
    remember(lake, *again)
    remember(lake, *days_before(3, 1_000.0))  # written later, but made before
    ingest(lake, tmp_path, DAY, 10)
    assert lake.seal(run=NOW).rows == 10
    assert judged(lake)["expected"].startswith("rows >= 10 and <= 10 (3 days")


def test_a_day_judged_again_is_judged_by_its_past_and_not_by_what_came_since(
    lake: reclake.Lake, tmp_path: Path
) -> None:
    suite = {"expectations": [{"type": COUNT, "kwargs": {}, "meta": {"bounds": {"from": "history", "least": 3}}}]}
    (tmp_path / "ctr.suite.json").write_text(json.dumps(suite))
    lake.add_suite(tmp_path / "ctr.suite.json")
    for row in days_before(3):
        remember(lake, row | {"table": "samples/ctr", "contract": "samples/ctr"})
    ingest(lake, tmp_path, DAY, 10)
    lake.seal(through=str(DAY + timedelta(days=1)), run=NOW)
    lake.samples("ctr", day=str(DAY), run=NOW)
    first = judged(lake)["expected"]
    for n in range(1, 20):
        later = verdict(DAY + timedelta(days=n), 1e6)
        remember(lake, later | {"table": "samples/ctr", "contract": "samples/ctr"})
    lake.seal(through=str(DAY + timedelta(days=3)), run=NOW)  # labels are final now: the day is made again
    assert not lake.samples("ctr", day=str(DAY), run=NOW).made_before
    assert judged(lake)["expected"] == first
    assert "3 days before 2024-04-01" in first


def test_batches_of_sources_learn_by_the_day_too_whichever_way_they_come(lake: reclake.Lake, tmp_path: Path) -> None:
    meta = {"severity": "critical", "bounds": {"from": "history", "least": 3}}
    (tmp_path / "mine.avsc").write_text((CONTRACTS / "events.avsc").read_text())
    suite = {"name": "mine", "expectations": [{"type": COUNT, "kwargs": {}, "meta": meta}]}
    (tmp_path / "mine.suite.json").write_text(json.dumps(suite))
    lake.add_contract(tmp_path / "mine.avsc")
    rows = [row | {"table": "events", "contract": "mine"} for row in days_before(3, 9.0)]
    remember(lake, *rows, *[row | {"verdict_id": "second", "value": 11.0} for row in rows])
    at = to_us(DAY)
    batch = pl.DataFrame({"event_id": ["a", "b"], "user_id": [1, 1], "item_id": [1, 1], "event_type": ["click"] * 2})
    batch = batch.with_columns(pl.lit(at).alias("event_time"), pl.lit(at).alias("available_at"))
    batch.write_parquet(tmp_path / "batch.parquet")
    with pytest.raises(GateError, match="3 days before 2024-04-01"):
        lake.ingest("mine", tmp_path / "batch.parquet", run=NOW)
    with lake.writer("mine", run=NOW) as writer, pytest.raises(GateError, match="3 days before 2024-04-01"):
        writer.append(batch, producer="p", number=1)


def test_a_suite_that_learns_nothing_reads_no_verdicts_and_one_that_does_opens_no_older_file(
    lake: reclake.Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    verdicts, read, scan = lake.catalog.table("verdicts"), [], Table.scan

    def counted(table: Table, *args: Any, **options: Any) -> pl.LazyFrame:
        read.append(table.name)
        return scan(table, *args, **options)

    remember(lake, *(row for row in days_before(60) if (DAY - row["event_day"]).days > 28))
    old = verdicts.files()
    remember(lake, *days_before(28))
    monkeypatch.setattr(Table, "scan", counted)
    ingest(lake, tmp_path, DAY, 10)
    lake.seal(run=NOW)
    assert "verdicts" not in read
    expect_rows(lake, tmp_path)
    for path in old:
        Path(path).unlink()
    ingest(lake, tmp_path, DAY + timedelta(days=1), 100)
    assert lake.seal(run=NOW).rows == 100
    assert read.count("verdicts") == 1
