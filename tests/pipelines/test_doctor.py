"""The doctor finds a healthy lake healthy, and says which promise a damaged one broke."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pytest

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
