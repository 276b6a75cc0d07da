"""Law 3: killed anywhere and run again, the same rows. The kill is a real SIGKILL, around every write and commit."""

from __future__ import annotations

import json
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


# Eight items in three chunks, operators in this process: one is refused, two leave dead letters.
MEDIA = """
import pyarrow as pa
from contextlib import nullcontext
from reclake.pipelines.media import on_ray, run as media, run_media
from reclake.pipelines.media.on_ray import Cluster
from reclake.pipelines.media.steps import run_steps
from reclake.schemas.plan import Plan, load
from reclake.storage import documents, parquet, table, work
from reclake.storage.blobs import Blobs

for owner, name in [
    (parquet, "write"), (table.Table, "_commit"), (table.Table, "create"), (table.Table, "delete"),
    (documents, "replace"), (work.Work, "put"), (work.Work, "remove"), (work.Work, "end"),
]:
    watch(owner, name)

made = []
def in_process(rows, works, blobs, cluster):
    made.append(rows.num_rows)
    return run_steps(rows, works, Blobs(blobs).read)

on_ray.session = lambda address: nullcontext(Cluster(cpus=2, gpus=0, memory_bytes=1 << 30, nodes=1))
on_ray.run, media.CHUNK_ITEMS = in_process, 3
whole = load("short_video")
plan = Plan(whole.name, tuple(step for step in whole.steps if step.operator == "text_embedding"))
run_media(reclake.Lake.open(root).catalog, plan, Path(source), now_us=run("test").now_us())
print(passed)
print(sum(made), file=sys.stderr)
"""


def items(folder: Path) -> Path:
    titles = ["one", "", "three", "w" * 1001, "!!!", "six", "seven", "eight"]
    rows = [{"item_id": n, "title": title} for n, title in enumerate(titles)]
    (folder / "items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*rows, {"title": "nobody's"}]))
    return folder / "items.jsonl"


def undisturbed(folder: Path, file: Path, way: str = WAY) -> tuple[dict[str, pl.DataFrame], int]:
    reclake.Lake.create(folder / "whole", buckets=2)
    done = run(way, -1, folder / "whole", file)
    assert done.returncode == 0, done.stderr
    return state(folder / "whole"), int(done.stdout)


def check(folder: Path, points: list[int], expected: dict[str, pl.DataFrame], file: Path, way: str = WAY) -> list[str]:
    """What the second runs said on stderr."""
    said = []
    for point in points:
        lake = folder / f"killed-{point}"
        reclake.Lake.create(lake, buckets=2)
        killed = run(way, point, lake, file)
        assert killed.returncode == -9, f"point {point}: {killed.stderr}"
        again = run(way, -1, lake, file)
        assert again.returncode == 0, f"point {point}: {again.stderr}"
        check_same(lake, expected, point)
        said.append(again.stderr)
    return said


def test_killed_at_a_few_points_and_run_again_gives_the_same_rows(tmp_path: Path) -> None:
    file = source(tmp_path, ROWS)
    expected, points = undisturbed(tmp_path, file)
    events = expected["events"]
    assert events["event_id"].n_unique() == events.height
    check(tmp_path, [3, points // 2], expected, file)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_killed_around_every_write_and_commit_and_run_again_gives_the_same_rows(tmp_path: Path) -> None:
    file = source(tmp_path, ROWS)
    expected, points = undisturbed(tmp_path, file)
    check(tmp_path, list(range(points)), expected, file)


def test_media_killed_while_it_is_published_gives_the_same_rows_and_runs_no_operator_again(tmp_path: Path) -> None:
    pytest.importorskip("PIL")
    file = items(tmp_path)
    expected, points = undisturbed(tmp_path, file, MEDIA)
    assert [expected[name].height for name in ("content", "dead_letters", "quarantine")] == [7, 2, 2]
    assert check(tmp_path, [points - 8], expected, file, MEDIA) == ["0\n"]


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_media_killed_around_every_write_and_commit_and_run_again_gives_the_same_rows(tmp_path: Path) -> None:
    pytest.importorskip("PIL")
    file = items(tmp_path)
    expected, points = undisturbed(tmp_path, file, MEDIA)
    made = [int(said) for said in check(tmp_path, list(range(points)), expected, file, MEDIA)]
    assert made == sorted(made, reverse=True)  # the later it was killed, the less was left to make
    assert (made[0], made[-1]) == (8, 0)
    assert all(reclake.Lake.open(lake).catalog.work.files() == [] for lake in tmp_path.glob("killed-*"))


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
