"""Law 3: killed anywhere and run again, the same rows. The kill is a real SIGKILL, around every write and commit."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import polars as pl
import pytest

import reclake
from reclake.pipelines.run import Run
from reclake.schemas.times import to_us

NOW = to_us("2024-03-05")
ROWS = 400
BATCH = 150  # three batches a file

# Counts the writes and commits of a process and kills it just before or just after one of them.
VICTIM = textwrap.dedent(
    """
    import os, signal, sys
    from reclake.storage import parquet, table
    from reclake.pipelines.run import Run
    import reclake

    point, lake, source = int(sys.argv[1]), sys.argv[2], sys.argv[3]
    passed = 0

    def watch(function):
        def watched(*args, **kwargs):
            global passed
            if passed == point:
                os.kill(os.getpid(), signal.SIGKILL)
            passed += 1
            result = function(*args, **kwargs)
            if passed == point:
                os.kill(os.getpid(), signal.SIGKILL)
            passed += 1
            return result
        return watched

    parquet.write = watch(parquet.write)
    table.Table._commit = watch(table.Table._commit)
    table.Table.create = watch(table.Table.create)

    from reclake.pipelines.ingest import ingest
    run = Run(id="test", now_us=lambda: %(now)d)
    opened = reclake.Lake.open(lake)
    ingest(opened.catalog, "events", [source], run=run, batch_rows=%(batch)d)
    opened.seal(run=run)
    opened.samples("ctr", day="2024-03-02", run=run)
    print(passed)
    """
) % {"now": NOW, "batch": BATCH}


def source(folder: Path) -> Path:
    """Two days of events, some twice, some malformed."""
    path = folder / "events.jsonl"
    with path.open("w") as file:
        for n in range(ROWS):
            time = to_us("2024-03-02") + n * 200_000_000
            kind = "click" if n % 3 == 1 else "exposure"
            row: dict[str, object] = {
                "event_id": f"e{n % 380}",
                "user_id": n % 7,
                "item_id": n % 380 // 3 % 20,
                "event_type": kind,
            }
            row |= {"event_time": time if n < 380 else to_us("2024-03-02"), "available_at": time + 1_000_000}
            if n % 50 == 49:
                row["user_id"] = "nobody"
            file.write("{broken\n" if n % 97 == 96 else json.dumps(row) + "\n")
    return path


def state(lake: Path) -> dict[str, pl.DataFrame]:
    """Every table's rows, but for when and by whom they were written."""
    catalog = reclake.Lake.open(lake).catalog
    found = {}
    for name in catalog.table_names():
        rows = catalog.table(name).scan().collect()
        if name == "verdicts":
            rows = rows.filter(pl.col("table") == "events")
        found[name] = rows.select(pl.all().exclude("run_id")).sort(pl.all().exclude("reasons"))
    return found


def run(point: int, lake: Path, file: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", VICTIM, str(point), str(lake), str(file)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def undisturbed(folder: Path) -> tuple[dict[str, pl.DataFrame], int, Path]:
    file = source(folder)
    reclake.Lake.create(folder / "whole", buckets=2)
    done = run(-1, folder / "whole", file)
    assert done.returncode == 0, done.stderr
    return state(folder / "whole"), int(done.stdout), file


def check(folder: Path, points: list[int], expected: dict[str, pl.DataFrame], file: Path) -> None:
    for point in points:
        lake = folder / f"killed-{point}"
        reclake.Lake.create(lake, buckets=2)
        killed = run(point, lake, file)
        assert killed.returncode == -9, f"point {point}: {killed.stderr}"
        again = run(-1, lake, file)
        assert again.returncode == 0, f"point {point}: {again.stderr}"
        found = state(lake)
        assert found.keys() == expected.keys()
        for name, rows in expected.items():
            assert found[name].equals(rows), f"killed at point {point}, table {name} differs"


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
    file = source(tmp_path)
    moment = Run(id="test", now_us=lambda: NOW)
    lake.ingest("events", file, run=moment)
    verdicts = lake.catalog.table("verdicts")
    whole = verdicts.scan().collect()
    import shutil

    shutil.rmtree(verdicts.root)
    lake.ingest("events", file, run=moment)
    assert verdicts.scan().collect().equals(whole)
