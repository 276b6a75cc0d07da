"""Law 3: killed anywhere and run again, the same rows. The kill is a real SIGKILL, around every write and commit."""

from __future__ import annotations

import shutil
from pathlib import Path

import polars as pl
import pytest
from kills import NOW, check_same, run, source, state

import reclake
from reclake.pipelines.run import Run

ROWS = 400
BATCH = 150  # three batches a file

WAY = f"""
from reclake.pipelines.ingest import ingest
from reclake.storage import parquet, table

for owner, name in [(parquet, "write"), (table.Table, "_commit"), (table.Table, "create")]:
    watch(owner, name)

lake = reclake.Lake.open(root)
ingest(lake.catalog, "events", [source], run=run("test"), batch_rows={BATCH})
lake.seal(run=run("test"))
lake.samples("ctr", day="2024-03-02", run=run("test"))
print(passed)
"""


def undisturbed(folder: Path) -> tuple[dict[str, pl.DataFrame], int, Path]:
    file = source(folder, ROWS)
    reclake.Lake.create(folder / "whole", buckets=2)
    done = run(WAY, -1, folder / "whole", file)
    assert done.returncode == 0, done.stderr
    return state(folder / "whole"), int(done.stdout), file


def check(folder: Path, points: list[int], expected: dict[str, pl.DataFrame], file: Path) -> None:
    for point in points:
        lake = folder / f"killed-{point}"
        reclake.Lake.create(lake, buckets=2)
        killed = run(WAY, point, lake, file)
        assert killed.returncode == -9, f"point {point}: {killed.stderr}"
        again = run(WAY, -1, lake, file)
        assert again.returncode == 0, f"point {point}: {again.stderr}"
        check_same(lake, expected, point)


def test_killed_at_a_few_points_and_run_again_gives_the_same_rows(tmp_path: Path) -> None:
    expected, points, file = undisturbed(tmp_path)
    events = expected["events"]
    assert events["event_id"].n_unique() == events.height
    check(tmp_path, [3, points // 2], expected, file)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_killed_around_every_write_and_commit_and_run_again_gives_the_same_rows(tmp_path: Path) -> None:
    expected, points, file = undisturbed(tmp_path)
    check(tmp_path, list(range(points)), expected, file)


def test_a_verdict_that_a_kill_kept_from_its_table_is_stored_by_the_next_run(tmp_path: Path) -> None:
    lake = reclake.Lake.create(tmp_path / "lake", buckets=2)
    file = source(tmp_path, ROWS)
    moment = Run(id="test", now_us=lambda: NOW)
    lake.ingest("events", file, run=moment)
    verdicts = lake.catalog.table("verdicts")
    whole = verdicts.scan().collect()
    shutil.rmtree(verdicts.root)
    lake.ingest("events", file, run=moment)
    assert verdicts.scan().collect().equals(whole)
