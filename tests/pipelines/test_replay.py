"""Replay: after a contract or the data was mended, quarantined rows come in, each once, and all are accounted for."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl

import reclake
from reclake.pipelines.replay import outcomes, outstanding

AVSC = Path(reclake.__file__).parent / "schemas" / "contracts" / "events.avsc"
ROW = {"user_id": 1, "item_id": 2, "event_type": "view", "event_time": 1, "available_at": "2024-03-01T00:00:00Z"}


def contract(folder: Path, allowed: list[str]) -> Path:
    (folder / "mine.avsc").write_text(AVSC.read_text())
    check = {"type": "expect_column_values_to_be_in_set", "kwargs": {"column": "event_type", "value_set": allowed}}
    (folder / "mine.suite.json").write_text(json.dumps({"name": "mine", "expectations": [check]}))
    return folder / "mine.avsc"


def test_rows_come_in_once_after_the_contract_was_mended(tmp_path: Path) -> None:
    lake = reclake.Lake.create(tmp_path / "lake", buckets=2)
    lake.add_contract(contract(tmp_path, ["click"]))
    kinds = ["click", "view", "swipe", "view"]
    rows = [ROW | {"event_id": str(n % 3), "event_type": kind} for n, kind in enumerate(kinds)]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n{broken\n")
    first = lake.ingest("mine", tmp_path / "a.jsonl")
    assert (first.read, first.admitted, first.quarantined) == (5, 1, 4)

    lake.add_contract(contract(tmp_path, ["click", "view"]))
    again = lake.replay("mine")
    # Event 0 came twice, as a click and as a view; 1 is new; the swipe and the broken line stay out.
    assert (again.read, again.admitted, again.duplicates, again.quarantined) == (4, 1, 1, 2)
    assert lake.replay("mine").read == 2
    assert outstanding(lake.catalog).height == 2
    assert sorted(lake.catalog.table("events").scan().collect()["event_id"]) == ["0", "1"]
    replayed = (pl.col("source") == "quarantine") & (pl.col("check") == "batch")
    verdicts = lake.catalog.table("verdicts").scan().filter(replayed)
    counts = verdicts.select("evaluated", "admitted", "unexpected", "duplicates").collect().rows()
    assert sorted(counts) == [(2, 0, 2, 0), (4, 1, 2, 1)]


def test_a_row_that_is_rejected_in_part_stays_out_as_a_whole() -> None:
    ids = pl.Series(["a", "b", "c", "d"])
    placed = pl.DataFrame({"_row": [0, 0, 1], "_outcome": ["admitted", "duplicate", "admitted"]})
    found = outcomes(ids, np.array([0, 2, 3]), placed, pl.Series([1]))
    assert found["outcome"].to_list() == ["admitted", "quarantined", "quarantined", "quarantined"]
