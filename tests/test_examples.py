"""What the docs show runs as they say."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import reclake


def test_the_shop_of_the_docs_gives_the_counts_that_the_docs_say(checkout: Path, tmp_path: Path) -> None:
    shutil.copytree(checkout / "examples" / "shop", tmp_path / "shop")
    lake = reclake.Lake.create(tmp_path / "lake")
    lake.add_contract(tmp_path / "shop" / "shop.avsc")
    result = lake.ingest("shop", tmp_path / "shop" / "log.csv")
    assert (result.rows, result.read, result.admitted, result.quarantined, result.duplicates) == (3, 5, 4, 1, 0)
    lake.seal()
    samples = lake.samples(tmp_path / "shop" / "bought.json", day="2024-03-01")
    assert (samples.exposures, samples.positives) == (3, {"purchase": 1})


def test_the_worked_example_of_the_two_clocks_says_what_the_page_says(checkout: Path, tmp_path: Path) -> None:
    page = (checkout / "docs" / "known-at-and-seen.md").read_text()
    lines = [line for line in page.splitlines() if line.startswith('{"event_id"')]
    assert len(lines) == 3
    (tmp_path / "day.jsonl").write_text("\n".join(lines))
    lake = reclake.Lake.create(tmp_path / "lake")
    lake.ingest("events", tmp_path / "day.jsonl")
    lake.seal(through="2024-03-02")
    assert lake.timeline(7)["event_id"].to_pylist() == ["a", "c", "b"]
    assert lake.timeline(7, before="2024-03-01T10:05:00Z")["event_id"].to_pylist() == ["a"]
    lake.samples("ctr", day="2024-03-01")
    samples = lake.catalog.table("samples/ctr").scan().sort("ordinal").collect()
    assert samples.select("event_id", "seen").rows() == [("a", 0), ("c", 1)]


def test_the_ten_lines_of_the_readme_run(checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    readme = (checkout / "README.md").read_text()
    (block,) = [text.split("```")[0] for text in readme.split("```python\n")[1:]]
    time = [datetime(2024, 3, 1, 9, minute, tzinfo=UTC) for minute in range(30)]
    kinds = ["exposure", "click", "exposure"] * 10
    columns = {"event_id": [str(n) for n in range(30)], "user_id": [n % 2 for n in range(30)], "item_id": [5] * 30}
    frame = pl.DataFrame(columns | {"event_type": kinds, "event_time": time, "available_at": time})
    frame.write_parquet(tmp_path / "day1.parquet")
    monkeypatch.chdir(tmp_path)
    exec(block, {})
    assert len(reclake.Feed("shards/", batch_size=4, seed=1)) == 5


@pytest.mark.slow
@pytest.mark.ray
def test_the_ray_train_loop_goes_on_with_another_number_of_workers(checkout: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray.train")
    pytest.importorskip("torch")

    rows = [
        {"event_id": f"{n}", "user_id": n % 3, "item_id": n % 5, "event_type": "exposure", "event_time": time}
        | {"available_at": time}
        for n, time in enumerate(f"2024-03-01T10:{minute:02}:00" for minute in range(40))
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    lake = reclake.Lake.create(tmp_path / "lake")
    lake.ingest("events", tmp_path / "a.jsonl")
    lake.seal(through="2024-03-02")
    lake.samples("ctr", day="2024-03-01")
    lake.pin("p")
    shards = lake.pack("ctr", pin="p", out=tmp_path / "shards").path

    def run(*given: str) -> dict[str, Any]:
        command = [sys.executable, str(checkout / "examples" / "ray_train.py"), str(shards)]
        command += [str(tmp_path / "results"), "--batch-size", "5", *given]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert not done.returncode, done.stderr[-3000:]
        (found,) = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
        return dict(found)

    first = run("--workers", "2", "--steps", "1")
    assert (first["feed"]["epoch"], first["feed"]["position"], first["feed"]["world_size"]) == (0, 10, 2)
    second = run("--workers", "1", "--steps", "1")
    assert (second["feed"]["epoch"], second["feed"]["position"], second["feed"]["world_size"]) == (0, 15, 1)
    batches = iter(reclake.Feed(shards, batch_size=5, seed=7))
    assert second["first"] == list(batches)[2]["sample_id"][0]
