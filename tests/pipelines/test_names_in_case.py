"""Fields whose names differ in case alone: to Delta tables, and many who read them, a column has one spelling."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import duckdb
import polars as pl

from reclake.pipelines.lake import Lake
from reclake.schemas import contract as contracts


def contract(name: str, *fields: str) -> contracts.Contract:
    events = contracts.shipped("events").avro_schema
    more = [{"name": field, "type": "int", "default": 0, "field-id": 50 + n} for n, field in enumerate(fields)]
    return contracts.parse(name, events | {"fields": [*events["fields"][:6], *more]})


def test_names_that_differ_in_case_alone_have_columns_of_their_own(tmp_path: Path) -> None:
    lake = Lake.create(tmp_path / "lake", buckets=1)
    lake.evolve(contract("mine", "tab", "n"))
    lake.evolve(contract("mine", "tab", "n", "TAB", "Tab", "Bucket"))
    lake.evolve(contract("other", "N"))
    row: dict[str, Any] = {"event_id": "a", "user_id": 1, "item_id": 2, "event_type": "view", "event_time": 10}
    given = {"mine": {"tab": 1, "TAB": 2, "Tab": 3, "Bucket": 4}, "other": {"event_id": "b", "N": 5}}
    for name, fields in given.items():
        (tmp_path / f"{name}.jsonl").write_text(json.dumps(row | fields))
        assert lake.ingest(name, tmp_path / f"{name}.jsonl").admitted == 1
    rows = lake.scan("events").sort("event_id").select("tab", "TAB", "Tab", "Bucket", "N").collect()
    assert rows.rows() == [(1, 2, 3, 4, None), (None, None, None, None, 5)]
    files = [str(path) for path in lake.catalog.table("events").files()]
    assert len(duckdb.sql(f"select * from read_parquet({files!r}, union_by_name = true)").fetchall()) == 2
    assert pl.read_delta(str(tmp_path / "lake" / "tables" / "events")).height == 2
