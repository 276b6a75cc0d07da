"""Following a folder: files come in once they are at rest, and sealing waits for the watermark."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from reclake.pipelines.follow import follow
from reclake.pipelines.ingest import IngestResult
from reclake.pipelines.lake import Lake
from reclake.pipelines.run import Run
from reclake.schemas.errors import SourceNotFoundError


def row(name: str) -> str:
    event = {"event_id": name, "user_id": 1, "item_id": 1, "event_type": "view", "event_time": "2024-03-01"}
    return json.dumps(event) + "\n"


def test_files_come_in_once_they_are_at_rest(tmp_path: Path) -> None:
    lake, inbox = Lake.create(tmp_path / "lake", buckets=2), tmp_path / "inbox"
    inbox.mkdir()
    (inbox / "a.jsonl").write_text(row("a"))
    (inbox / "_b.jsonl").write_text(row("b"))
    results: list[IngestResult] = []
    looks: list[int] = []
    watermarks: list[int] = []

    def stop() -> bool:
        looks.append(len(results))
        watermarks.extend(source.watermark_us for source in lake.catalog.followed())
        if len(looks) == 2:
            (inbox / "c.jsonl").write_text(row("c"))  # between two looks: not at rest in the next one
        if len(looks) == 4:
            (inbox / "c.jsonl").write_text(row("c") + row("d"))
        return len(looks) > 12

    clock = iter(range(1_800_000_000_000_000, 1_900_000_000_000_000, 1_000_000))
    run = Run(id="test", now_us=lambda: next(clock))
    follow(lake.catalog, "events", inbox, run=run, on_ingest=results.append, stop=stop, poll_seconds=0.0)
    assert sorted(lake.catalog.table("events").scan().collect()["event_id"]) == ["a", "c", "d"]
    assert sum(result.admitted for result in results) == 3
    assert watermarks == sorted(watermarks)
    assert watermarks[-1] > 1_800_000_000_000_000
    assert lake.catalog.followed() == []


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    lake = Lake.create(tmp_path / "lake")
    with pytest.raises(SourceNotFoundError, match="not a folder"):
        follow(lake.catalog, "events", tmp_path / "no", run=Run(), on_ingest=print, stop=lambda: True)
