"""Duplicates: told exactly, by fingerprints, whatever the ids look like and however they came into the table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

import reclake
from reclake.pipelines.duplicates import fingerprints, held
from reclake.quality import gate
from reclake.schemas.times import to_us
from reclake.storage.compaction import compact


def ingest(lake: reclake.Lake, folder: Path, name: str, ids: list[str]) -> reclake.pipelines.ingest.IngestResult:
    times = [to_us("2024-03-01") + n for n in range(len(ids))]
    rows = {"event_id": ids, "user_id": [1] * len(ids), "item_id": [2] * len(ids), "event_type": ["click"] * len(ids)}
    pl.DataFrame(rows | {"event_time": times, "available_at": times}).write_parquet(folder / f"{name}.parquet")
    return lake.ingest("events", folder / f"{name}.parquet")


def test_an_event_is_a_duplicate_within_a_batch_and_of_every_earlier_one(tmp_path: Path) -> None:
    lake = reclake.Lake.create(tmp_path / "lake", buckets=2)
    first = ingest(lake, tmp_path, "a", ["x", "y", "x"])
    assert (first.admitted, first.duplicates) == (2, 1)
    second = ingest(lake, tmp_path, "b", ["z", "y", "z", "w"])
    assert (second.admitted, second.duplicates) == (2, 2)
    compact(lake.catalog.table("events"))
    third = ingest(lake, tmp_path, "c", ["w", "x", "v"])
    assert (third.admitted, third.duplicates) == (1, 2)


def test_an_event_that_was_deleted_may_come_again(tmp_path: Path) -> None:
    lake = reclake.Lake.create(tmp_path / "lake", buckets=2)
    ingest(lake, tmp_path, "a", ["x", "y"])
    assert held(lake.catalog, "events", pl.Series(["x", "y"])).to_list() == [True, True]
    lake.catalog.table("events").delete("event_id = 'x'")
    assert ingest(lake, tmp_path, "b", ["x", "y", "z"]).admitted == 2


def test_files_of_a_contract_before_and_after_a_change_are_looked_at_together(tmp_path: Path) -> None:
    lake = reclake.Lake.create(tmp_path / "lake", buckets=2)
    ingest(lake, tmp_path, "a", ["w"])
    assert held(lake.catalog, "events", pl.Series(["w"])).to_list() == [True]
    table = lake.catalog.table("events")
    for name, more in (("x", {}), ("y", {"tab": 1}), ("z", {})):
        row = pl.DataFrame(table.schema().empty_table()).clear(1).with_columns(event_id=pl.lit(name), known_day=1)
        row = row.with_columns(**{key: pl.lit(value) for key, value in more.items()})
        rows = row.cast({"known_day": pl.Date}).to_arrow()
        table.create(rows.schema)
        table.append(gate.record(rows, rows.schema, name="events"))
    assert held(lake.catalog, "events", pl.Series(["v", "x", "y", "z"])).to_list() == [False, True, True, True]


@pytest.mark.parametrize(
    "pattern", ["e{}", "{}", "2024-03-01T00:00:00.{:09d}Z-user-0001", "{:032x}", "{:x}" + "é" * 20]
)
def test_ids_that_look_alike_have_fingerprints_that_do_not(pattern: str) -> None:
    """Even the halves: of 300,000 ids, two share one with a chance of 2.4e-9."""
    ids = pl.Series([pattern.format(n) for n in range(300_000)])
    halves = fingerprints(ids)
    for half in halves:
        assert len(np.unique(half)) == len(ids)
        bits = np.unpackbits(half.view(np.uint8)).reshape(-1, 64).mean(axis=0)
        assert np.abs(bits - 0.5).max() < 0.01
    assert abs(np.corrcoef(*[half.astype(float) for half in halves])[0, 1]) < 0.01
