"""The doctor finds a healthy lake healthy, and says which promise a damaged one broke."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake

from reclake.pipelines import doctor
from reclake.pipelines.doctor import examine
from reclake.pipelines.lake import Lake
from reclake.quality import gate
from reclake.schemas import shapes
from reclake.schemas.errors import StorageError
from reclake.storage.catalog import SEAL


def lake_of(folder: Path) -> Lake:
    lake = Lake.create(folder / "lake", buckets=2)
    row = {"item_id": 1, "event_type": "exposure", "event_time": "2024-03-01", "available_at": "2024-03-01"}
    lines = [json.dumps(row | {"event_id": str(n), "user_id": n % 3}) for n in range(9)]
    (folder / "a.jsonl").write_text("\n".join(lines))
    lake.ingest("events", folder / "a.jsonl")
    lake.seal(through="2024-03-02")
    return lake


def test_a_healthy_lake_keeps_every_promise(tmp_path: Path) -> None:
    lake = lake_of(tmp_path)
    lake.pin("x")
    findings = examine(lake.catalog)
    assert all(finding.kept for finding in findings)
    assert len(findings) > 10


def test_a_directory_that_counts_too_much_is_found(tmp_path: Path) -> None:
    lake = lake_of(tmp_path)
    entry = {
        "era": ["20240301T000000-20240302T000000"],
        "bucket": [0],
        "user_id": [1],
        "first_ordinal": [3],
        "count": [5],
    }
    rows = gate.record(pa.table(entry).cast(shapes.DIRECTORY), shapes.DIRECTORY, name="directory")
    lake.catalog.table("directory").append(rows, transactions={SEAL: 2**60})
    broken = [finding.promise for finding in examine(lake.catalog) if not finding.kept]
    assert broken == ["the directory agrees with the timelines"]


def test_a_table_whose_log_is_damaged_is_found_and_refused_with_a_message(tmp_path: Path) -> None:
    lake = lake_of(tmp_path)
    (lake.catalog.table("timelines").root / "_delta_log" / "00000000000000000000.json").unlink()
    broken = [finding.promise for finding in examine(lake.catalog) if not finding.kept]
    assert broken == ["table timelines opens"]
    # A handle that is open already knows what the log said; one opened afresh, here by another thread, does not.
    with ThreadPoolExecutor(1) as afresh, pytest.raises(StorageError, match="cannot be opened"):
        afresh.submit(lake.timeline, 1).result()


USER = pl.col("user_id") == 1  # events 1, 4 and 7, all known at one time
LAST = USER & (pl.col("ordinal") == 2)
ID, PLACE, KNOWN = "every event_id is there once", "ordinals are 0, 1, 2 …", "timelines are in known_at order"
EARLY, HELD = "nothing is known before it happened or arrived", "every sealed event is in a timeline"
DIRECTORY = "the directory agrees with the timelines"


def one_named_otherwise(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.with_columns(pl.col("event_id").replace("4", "5"))


def one_known_too_early(rows: pl.DataFrame) -> pl.DataFrame:
    early = pl.col("known_at") - pl.duration(hours=1)
    return rows.with_columns(pl.when(pl.col("event_id") == "4").then(early).otherwise("known_at").alias("known_at"))


def one_place_further(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.with_columns(pl.col("ordinal") + LAST.cast(pl.Int64))


def two_in_one_place(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.with_columns(pl.col("ordinal") - LAST.cast(pl.Int64))


def none_at_the_first_place(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.with_columns(pl.col("ordinal") + USER.cast(pl.Int64))


def known_before_the_one_before(rows: pl.DataFrame) -> pl.DataFrame:
    before = pl.col("known_at") - pl.duration(seconds=1)
    return rows.with_columns(pl.when(LAST).then(before).otherwise("known_at").alias("known_at"))


def without_its_last(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.filter(~LAST)


def without_a_user(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.filter(~USER)


@pytest.mark.parametrize("at_once", [1, 2_000_000])
@pytest.mark.parametrize(
    ("table", "change", "broken"),
    [
        ("events", one_named_otherwise, {ID}),
        ("events", one_known_too_early, {EARLY}),
        ("timelines", one_place_further, {PLACE}),
        ("timelines", two_in_one_place, {PLACE}),
        ("timelines", none_at_the_first_place, {PLACE}),
        ("timelines", known_before_the_one_before, {KNOWN}),
        ("timelines", without_its_last, {DIRECTORY, HELD}),
        ("timelines", without_a_user, {DIRECTORY, HELD}),
        ("directory", without_a_user, {DIRECTORY}),
    ],
)
def test_a_planted_fault_is_found_however_much_is_looked_at_at_once(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    table: str,
    change: Callable[[pl.DataFrame], pl.DataFrame],
    broken: set[str],
    at_once: int,
) -> None:
    monkeypatch.setattr(doctor, "ROWS_AT_ONCE", at_once)
    monkeypatch.setattr(doctor, "DIGESTS_AT_ONCE", at_once)
    lake = lake_of(tmp_path)
    uri = lake.tables()[table]
    rows = change(pl.read_delta(uri)).to_arrow()
    parts = DeltaTable(uri).metadata().partition_columns
    sealed = CommitProperties(app_transactions=[Transaction(SEAL, lake.catalog.table(table).transaction(SEAL) or 0)])
    write_deltalake(uri, rows, mode="overwrite", partition_by=parts, schema_mode="overwrite", commit_properties=sealed)
    findings = examine(Lake.open(lake.catalog.root).catalog)
    assert {finding.promise for finding in findings if not finding.kept} == broken
