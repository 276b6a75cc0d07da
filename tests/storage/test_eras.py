"""Merged eras: the same rows, ordinals and timelines; pins, indexes, seals and erasures go on."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest

import reclake
from reclake.pipelines import directory
from reclake.pipelines.doctor import examine
from reclake.pipelines.run import Run
from reclake.schemas.errors import CommitConflictError, ReclakeError
from reclake.schemas.times import US_PER_DAY, to_us
from reclake.storage import eras, log
from reclake.storage.index import Index
from reclake.storage.table import Table

log_snapshot = log.snapshot
START = to_us("2024-01-01")
DAYS = 40
NOW = Run(id="test", now_us=lambda: START + 400 * US_PER_DAY)


def events(first: int, last: int, users: int = 60) -> pl.DataFrame:
    """Thirty events a day; user 0 has half of them, and some of the others few in all."""
    rng = np.random.Generator(np.random.PCG64([first, last]))
    n = 30 * (last - first)
    time = START + np.sort(rng.integers(first * US_PER_DAY, last * US_PER_DAY, n))
    return pl.DataFrame(
        {
            "event_id": [f"e{first}-{i}" for i in range(n)],
            "user_id": np.where(rng.random(n) < 0.5, 0, rng.integers(0, users, n)),
            "item_id": rng.integers(0, 9, n),
            "event_type": rng.choice(["exposure", "click"], n),
            "event_time": time,
            "available_at": time,
        }
    )


def ingest(lake: reclake.Lake, folder: Path, first: int, last: int) -> None:
    events(first, last).write_parquet(folder / "events.parquet")
    lake.ingest("events", folder / "events.parquet", run=NOW)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake whose first day was sealed in parts and whose others by the day."""
    folder = tmp_path_factory.mktemp("made")
    lake = reclake.Lake.create(folder / "lake", buckets=2)
    ingest(lake, folder, 0, DAYS)
    for hour in (6, 18):
        lake.seal(through=START + hour * US_PER_DAY // 24, run=NOW)
    lake.seal(through=START + DAYS * US_PER_DAY, run=NOW)
    return folder / "lake"


@pytest.fixture
def lake(original: Path, tmp_path: Path) -> reclake.Lake:
    shutil.copytree(original, tmp_path / "lake")
    return reclake.Lake.open(tmp_path / "lake")


def rows(lake: reclake.Lake, version: int | None = None) -> pl.DataFrame:
    return lake.catalog.table("timelines").scan(version).drop("era").sort("user_id", "ordinal").collect()


def merge(lake: reclake.Lake, piece_bytes: int = eras.PIECE_BYTES) -> int:
    return sum(eras.merge_eras(lake.catalog, lake.catalog.table(name), piece_bytes=piece_bytes) for name in eras.TABLES)


def broken(lake: reclake.Lake) -> list[str]:
    return [f"{finding.promise}: {finding.detail}" for finding in examine(lake.catalog, run=NOW) if not finding.kept]


def test_timelines_are_what_they_were(lake: reclake.Lake) -> None:
    before, histories = rows(lake), {user: lake.timeline(user).drop_columns("era") for user in (0, 1, 59, 999)}
    times = [START + n * 7 * US_PER_DAY // 2 for n in range(22)]
    asked = {(t, last): lake.timeline(0, before=t, last=last).drop_columns("era") for t in times for last in (1, 40)}
    assert merge(lake) == 4
    assert rows(lake).equals(before)
    assert {user: lake.timeline(user).drop_columns("era") for user in histories} == histories
    assert {(t, n): lake.timeline(0, before=t, last=n).drop_columns("era") for t, n in asked} == asked
    names = lake.catalog.table("timelines").partition_values("era")
    assert names[:3] == [
        "20240101T000000-20240201T000000",
        "20240201T000000-20240208T000000",
        "20240208T000000-20240209T000000",
    ]
    assert names == lake.catalog.table("directory").partition_values("era")
    assert merge(lake) == 0
    assert broken(lake) == []


@pytest.mark.parametrize("piece_bytes", [1, 3_000, 20_000])
def test_an_era_larger_than_memory_is_merged_in_pieces_that_hold_whole_users(
    lake: reclake.Lake, piece_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = rows(lake)
    merge(lake, piece_bytes)
    assert rows(lake).equals(before)
    live = log.snapshot(lake.catalog.table("timelines").root).files
    january = live.filter(pl.col("era") == "20240101T000000-20240201T000000")
    assert january.group_by("bucket").len()["len"].max() > 1
    for path in january["path"]:
        file = pl.read_parquet(path, hive_partitioning=False)
        assert file.equals(file.sort("user_id", "ordinal"))
    spans = january.sort("bucket", "min.user_id").with_columns(
        pl.col("max.user_id").shift().over("bucket").alias("last")
    )
    # Two files share a user only where one user is more than a file.
    shared = spans.filter(pl.col("min.user_id") <= pl.col("last"))
    assert piece_bytes == 1 or set(shared["min.user_id"]) <= {0}
    assert lake.timeline(0, last=30)["ordinal"].to_pylist() == lake.timeline(0)["ordinal"].to_pylist()[-30:]
    assert broken(lake) == []


def test_sealing_and_indexes_go_on_where_they_were(
    lake: reclake.Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sealed_on = reclake.Lake.open(shutil.copytree(lake.catalog.root, tmp_path / "other"))
    lake.timeline(1)
    read: list[Path] = []
    follow = Index._extend

    def watched(self: Index, folder: Path, *rest: object) -> object:
        read.append(folder)
        return follow(self, folder, *rest)  # type: ignore[arg-type]

    files: list[Path] = []
    monkeypatch.setattr(Index, "_extend", watched)
    monkeypatch.setattr(
        directory, "_era_starts", lambda paths, whole=directory._era_starts: files.extend(paths) or whole(paths)
    )
    merge(lake)
    lake.timeline(1)
    assert read
    assert files == []
    for each in (lake, sealed_on):
        ingest(each, tmp_path, 40, 42)
        each.seal(through=START + 42 * US_PER_DAY, run=NOW)
    assert rows(lake).equals(rows(sealed_on))
    assert broken(lake) == []


def test_an_index_that_lags_behind_merges_and_vacuum_is_built_afresh(lake: reclake.Lake) -> None:
    assert not (lake.catalog.cache / "places").exists()
    expected = rows(lake).filter(pl.col("user_id") == 3)
    table = lake.catalog.table("directory")
    index = directory.places(lake.catalog)
    with pytest.MonkeyPatch.context() as patched:  # a look that ended after the second commit
        patched.setattr(log, "snapshot", lambda root: log.Snapshot(now.table_id, 2, now.files))
        now = log_snapshot(table.root)
        index.find(np.array([3]))
    merge(lake)
    for name in eras.TABLES:
        lake.catalog.table(name).vacuum(retention_hours=0, keep=[], dry_run=False)
    assert lake.timeline(3)["event_id"].to_pylist() == expected["event_id"].to_list()


def test_a_pinned_version_reads_as_before_through_vacuum(lake: reclake.Lake) -> None:
    from reclake.storage.maintenance import compact, vacuum

    pin = lake.pin("before")
    before = rows(lake)
    compact(lake.catalog)
    vacuum(lake.catalog, retention_hours=0, dry_run=False, now_us=NOW.now_us())
    assert rows(lake, pin.tables["timelines"]).equals(before)
    assert rows(lake).equals(before)
    assert broken(lake) == []


def test_followers_of_the_log_see_no_change_of_rows(lake: reclake.Lake) -> None:
    for name in eras.TABLES:
        table = lake.catalog.table(name)
        first = table.version + 1
        assert eras.merge_eras(lake.catalog, table)
        assert log.changes(table.root, first, table.version) == log.Changes((), False)


def test_a_field_that_came_between_eras_is_null_in_those_before(tmp_path: Path) -> None:
    lake = reclake.Lake.create(tmp_path / "lake", buckets=2)
    shipped = lake.catalog.contract("events").avro_schema
    ingest(lake, tmp_path, 0, 10)
    lake.seal(through=START + 10 * US_PER_DAY, run=NOW)
    price = {"name": "price", "type": ["null", "long"], "default": None, "field-id": 99}
    wider = dict(shipped) | {"fields": [*shipped["fields"], price]}
    (tmp_path / "events.avsc").write_text(json.dumps(wider))
    lake.add_contract(tmp_path / "events.avsc")
    events(10, 40).with_columns(pl.lit(5).alias("price")).write_parquet(tmp_path / "later.parquet")
    lake.ingest("events", tmp_path / "later.parquet", run=NOW)
    lake.seal(through=START + 40 * US_PER_DAY, run=NOW)
    before = rows(lake)
    assert before.filter(pl.col("price").is_null()).height == 300
    merge(lake)
    assert rows(lake).equals(before)
    names = {path for path in lake.catalog.table("timelines").files() if "price" not in pq.read_schema(path).names}
    assert names == set()


def test_an_erasure_beside_a_merge_brings_nobody_back(lake: reclake.Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    before = rows(lake)
    rearrange = Table.rearrange
    forgotten: list[object] = []

    def overtaken(self: Table, *rest: object) -> int:
        if not forgotten:
            forgotten.append(1)
            from reclake.storage.erasure import Doomed, erase

            erase(self, Doomed.users([0], 2), run_id="x")
        return rearrange(self, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(Table, "rearrange", overtaken)
    merge(lake)
    assert rows(lake).equals(before.filter(pl.col("user_id") != 0))
    assert unknown_files(lake) == set()


def test_two_merges_and_a_seal_at_once_lose_nothing(lake: reclake.Lake, tmp_path: Path) -> None:
    ingest(lake, tmp_path, 40, 43)
    failed: list[Exception] = []

    def work(which: int) -> None:
        try:
            own = reclake.Lake.open(lake.catalog.root)
            if which:
                merge(own)
                return
            for day in range(41, 44):
                own.seal(through=START + day * US_PER_DAY, run=NOW)
        except (ReclakeError, OSError, RuntimeError, ValueError, pl.exceptions.PolarsError) as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(which,)) for which in (0, 1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert rows(lake).height == 43 * 30
    assert broken(lake) == []
    merge(lake)
    assert unknown_files(lake) == set()


def unknown_files(lake: reclake.Lake) -> set[str]:
    """Files that no commit ever named: what a loser left."""
    table = lake.catalog.table("timelines")
    there = {str(path.relative_to(table.root)) for path in table.root.rglob("part-*.parquet")}
    dead = table.vacuum(retention_hours=0, keep=[], dry_run=True, staged_too=False)
    return there - set(table.live()["path"]) - set(dead)


VICTIM = textwrap.dedent(
    """
    import os, signal, sys
    from pathlib import Path
    from reclake.storage import parquet, eras, table
    import reclake

    point, passed = int(sys.argv[1]), 0

    def watch(function):
        def watched(*args, **kwargs):
            global passed
            for when in (0, 1):
                if passed == point:
                    os.kill(os.getpid(), signal.SIGKILL)
                passed += 1
                if not when:
                    result = function(*args, **kwargs)
            return result
        return watched

    parquet.write = watch(parquet.write)
    table.Table._commit = watch(table.Table._commit)
    lake = reclake.Lake.open(sys.argv[2])
    for name in eras.TABLES:
        eras.merge_eras(lake.catalog, lake.catalog.table(name))
    print(passed)
    """
)


def kill(point: int, lake: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", VICTIM, str(point), str(lake)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_killed_around_every_write_and_commit_and_run_again_gives_the_same_rows(original: Path, tmp_path: Path) -> None:
    before = rows(reclake.Lake.open(original))
    shutil.copytree(original, tmp_path / "done")
    done = kill(-1, tmp_path / "done")
    assert done.returncode == 0, done.stderr
    files = [sorted(reclake.Lake.open(tmp_path / "done").catalog.table(n).partition_values("era")) for n in eras.TABLES]
    for point in range(int(done.stdout)):
        shutil.copytree(original, tmp_path / "killed")
        assert kill(point, tmp_path / "killed").returncode == -9
        lake = reclake.Lake.open(tmp_path / "killed")
        assert rows(lake).equals(before), point
        assert broken(lake) == []
        assert kill(-1, tmp_path / "killed").returncode == 0
        assert rows(lake).equals(before), point
        assert [sorted(lake.catalog.table(n).partition_values("era")) for n in eras.TABLES] == files
        shutil.rmtree(tmp_path / "killed")


def test_who_gives_up_a_merge_says_so(lake: reclake.Lake, monkeypatch: pytest.MonkeyPatch) -> None:

    def never(self: Table, *rest: object) -> int:
        raise CommitConflictError("a file was rewritten meanwhile", where=self.name)

    monkeypatch.setattr(Table, "rearrange", never)
    with pytest.raises(CommitConflictError, match="others kept rewriting"):
        merge(lake)


@pytest.mark.spark
@pytest.mark.timeout(600)
def test_spark_seals_on_after_a_merge(lake: reclake.Lake, tmp_path: Path) -> None:
    merge(lake)
    ingest(lake, tmp_path, 40, 42)
    lake.seal(through=START + 41 * US_PER_DAY, engine="spark", run=NOW)
    lake.seal(through=START + 42 * US_PER_DAY, run=NOW)
    assert rows(lake).height == 42 * 30
    assert broken(lake) == []
