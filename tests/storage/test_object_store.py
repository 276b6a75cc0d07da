"""Lakes in an object store: the same rows as on a disk, and no commit lost or doubled however the store fails."""

from __future__ import annotations

import contextlib
import json
import threading
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from small_batches import in_threads

import reclake
from reclake.pipelines.doctor import examine
from reclake.pipelines.run import Run
from reclake.quality import gate
from reclake.schemas.errors import CommitConflictError, LakeNotFoundError, StorageError, UnknownOutcomeError
from reclake.schemas.times import to_us
from reclake.storage import compaction, objects, places
from reclake.storage.group import Batch, GroupWriter
from reclake.storage.maintenance import compact, vacuum
from reclake.storage.table import Commit, Layout, Table

NOW = to_us("2024-03-05")
SCHEMA = pa.schema([pa.field("a", pa.int64(), nullable=False), pa.field("day", pa.date32(), nullable=False)])
DAYS = [date(2024, 3, 1), date(2024, 3, 2)]


def rows(first: int, count: int = 10) -> gate.Admitted:
    numbers = list(range(first, first + count))
    table = pa.table({"a": numbers, "day": [DAYS[n % 2] for n in numbers]})
    return gate.record(table.cast(SCHEMA), SCHEMA, name="t")


def values(table: Table) -> list[int]:
    return sorted(table.scan().collect()["a"].to_list())


def table_of(store: Any, address: str | None = None) -> Table:
    return Table(store.place(address), "t", Layout(("day",), ("a",)))


def test_a_table_is_appended_to_replaced_compacted_and_read_at_any_version(store: Any) -> None:
    table = table_of(store)
    assert (table.exists, table.version) == (False, -1)
    for number in range(4):
        version = table.append(rows(number * 10), transactions={"p": number})
    with pytest.raises(CommitConflictError, match="committed already"):
        table.append(rows(0), transactions={"p": 3})
    assert table.commit([table.stage(rows(1001, 1))], Commit(replaced={"day": DAYS[1]})) == version + 1
    assert values(table) == [*range(0, 40, 2), 1001]
    assert compaction.compact(table) == 1
    assert len(table.files()) == 2
    assert values(table) == [*range(0, 40, 2), 1001]
    assert sorted(table.scan(version).collect()["a"].to_list()) == list(range(40))
    assert table.scan_partition({"day": DAYS[1]}).collect()["a"].to_list() == [1001]
    table.checkpoint()
    assert values(table) == [*range(0, 40, 2), 1001]


def test_what_many_threads_and_writers_append_lands_once(store: Any) -> None:
    table = table_of(store)
    with GroupWriter(table) as writer, GroupWriter(table_of(store)) as another:

        def produce(number: int) -> None:
            for batch in range(5):
                first = (number * 5 + batch) * 10
                (writer if number % 2 else another).put(Batch(rows(first), {f"p{number}": batch}))

        assert in_threads(produce, 4) == []
    assert values(table) == list(range(200))


@pytest.mark.parametrize("fault", ["lost answer", "hung after", "cut"])
def test_a_commit_that_was_taken_without_an_answer_is_recognised_as_ours(store: Any, fault: str) -> None:
    table_of(store).append(rows(0))
    with store.failing(store.first(fault, "PUT", "_delta_log/")) as (address, did):
        version = table_of(store, address).append(rows(10))  # without any transaction that could tell
        assert did[fault] == 1
    assert values(table_of(store)) == list(range(20))
    assert table_of(store).version == version


@pytest.mark.parametrize("fault", ["refused", "hung", "slow"])
def test_a_commit_that_was_not_taken_at_first_is_made_once(store: Any, fault: str) -> None:
    table_of(store).append(rows(0))
    with store.failing(store.first(fault, "PUT", "_delta_log/", times=2)) as (address, did):
        table_of(store, address).append(rows(10))
        assert did[fault] == (1 if fault == "slow" else 2)
    assert values(table_of(store)) == list(range(20))


def test_a_commit_that_another_overtook_while_the_store_was_silent_goes_behind_it(store: Any) -> None:
    table_of(store).append(rows(0))
    asked, overtaken = [], []

    def plan(method: str, path: str) -> str | None:
        if method == "PUT" and "_delta_log/" in path and not asked:
            asked.append(path)
            overtaken.append(table_of(store).append(rows(100)))
            return "refused"
        return None

    with store.failing(plan) as (address, _):
        assert table_of(store, address).append(rows(10)) == 3
    assert overtaken == [2]
    assert values(table_of(store)) == [*range(20), *range(100, 110)]


def test_where_the_store_stays_silent_the_outcome_is_said_to_be_unknown_and_a_repetition_doubles_nothing(
    store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objects, "ATTEMPTS", 2)
    table_of(store).append(rows(0))
    plan = store.first("lost answer", "PUT", "_delta_log/", times=2)
    silent = []

    def then_nothing(method: str, path: str) -> str | None:
        fault: str | None = "refused" if silent else plan(method, path)
        if fault == "lost answer":
            silent.append(fault)
        return fault

    with store.failing(then_nothing) as (address, _), GroupWriter(table_of(store, address)) as writer:
        with pytest.raises(UnknownOutcomeError):
            writer.put(Batch(rows(10), {"p": 1}))
        silent.clear()
        monkeypatch.undo()
        assert writer.put(Batch(rows(10), {"p": 1})).batch is None  # it was there
    assert values(table_of(store)) == list(range(20))


def test_beside_faults_of_every_kind_no_append_fails_and_nothing_is_lost_or_doubled(store: Any) -> None:
    table_of(store).create(SCHEMA)
    with store.failing(store.at_random(0.15, seed=5)) as (address, did):
        table = table_of(store, address)
        with GroupWriter(table) as writer:

            def produce(number: int) -> None:
                for batch in range(3):
                    first = (number * 3 + batch) * 10
                    if number == 0:
                        table.append(rows(first))  # nothing in it says that it was there before
                    else:
                        writer.put(Batch(rows(first), {f"p{number}": batch}))

            assert in_threads(produce, 4) == []
        assert values(table) == list(range(120))
    assert values(table_of(store)) == list(range(120))
    assert sum(did[fault] for fault in did if fault != "none") > 5


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", range(2))
def test_beside_faults_for_a_long_time_compaction_included_nothing_is_lost_or_doubled(store: Any, seed: int) -> None:
    table_of(store).create(SCHEMA)
    with (
        store.failing(store.at_random(0.07, seed=seed)) as (address, did),
        GroupWriter(table_of(store, address)) as writer,
        GroupWriter(table_of(store, address)) as another,
    ):

        def produce(number: int) -> None:
            for batch in range(15):
                first = (number * 15 + batch) * 10
                (writer if number % 2 else another).put(Batch(rows(first), {f"p{number}": batch}))
                if batch % 5 == 4:
                    compaction.compact(table_of(store, address))

        assert in_threads(produce, 4) == []
    assert values(table_of(store)) == list(range(600))
    assert sum(did[fault] for fault in did if fault != "none") > 20


def events(folder: Path) -> Path:
    path = folder / "events.jsonl"
    with path.open("w") as file:
        for n in range(200):
            at = to_us("2024-03-02") + n * 400_000_000
            row: dict[str, object] = {"event_id": f"e{n % 190}", "user_id": n % 7, "item_id": n % 20}
            row |= {"event_type": "click" if n % 3 == 1 else "exposure", "event_time": at, "available_at": at + 1}
            if n % 50 == 49:
                row["user_id"] = "nobody"
            file.write("{broken\n" if n % 97 == 96 else json.dumps(row) + "\n")
    return path


def go_the_way(lake: reclake.Lake, folder: Path, file: Path) -> str:
    run = Run(id="test", now_us=lambda: NOW)
    assert lake.ingest("events", file, run=run, batch_rows=70).rows == 200
    assert lake.ingest("events", file, run=run, batch_rows=70).rows == 0
    with lake.writer("events", run=run) as writer:
        more = pl.DataFrame({"event_id": ["m"], "user_id": [3], "item_id": [1], "event_type": ["click"]})
        more = more.with_columns(event_time=pl.lit(to_us("2024-03-02")), available_at=pl.lit(to_us("2024-03-02")))
        assert writer.append(more, producer="p", number=1).admitted == 1
        assert writer.append(more, producer="p", number=1).repeated
    lake.seal(run=run)
    lake.samples("ctr", day="2024-03-02", run=run)
    lake.pin("p")
    compact(lake.catalog)
    lake.report(folder / "report.html", pin="p", run=run)
    vacuum(lake.catalog, retention_hours=0, dry_run=False, now_us=NOW)
    return lake.pack("ctr", pin="p", out=folder / "shards", run=run).fingerprint


@pytest.mark.slow
def test_the_whole_way_in_an_object_store_gives_what_it_gives_on_a_disk(
    store: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    file = events(tmp_path)
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    here = reclake.Lake.create(tmp_path / "lake", buckets=2)
    there = reclake.Lake.create(store.uri, buckets=2, storage_options=store.options())
    assert go_the_way(there, tmp_path / "there", file) == go_the_way(here, tmp_path / "here", file)
    there = reclake.Lake.open(store.uri, storage_options=store.options())
    assert there.catalog.table_names() == here.catalog.table_names()
    for name in here.catalog.table_names():
        parts = [lake.catalog.table(name).scan().collect().drop("run_id", strict=False) for lake in (here, there)]
        ordered = [part.sort(pl.all().exclude("reasons")) for part in parts]
        assert ordered[0].equals(ordered[1]), name
    assert there.timeline(3, last=5).equals(here.timeline(3, last=5))
    assert [finding for finding in examine(there.catalog) if not finding.kept] == []
    for verb in (lambda: there.forget([3]), lambda: there.catalog.blobs, lambda: there.seal(engine="spark")):
        with pytest.raises(StorageError, match="cannot be done with a lake in an object store"):
            verb()
    assert there.catalog.table("events").scan().collect().height == here.catalog.table("events").scan().collect().height


def test_a_lake_that_is_not_there_and_storage_of_another_kind_are_said(store: Any, tmp_path: Path) -> None:
    with pytest.raises(LakeNotFoundError, match="no lake here"):
        reclake.Lake.open(store.uri, storage_options=store.options())
    with pytest.raises(StorageError, match="kind of storage"):
        reclake.Lake.open("gs://bucket/lake")
    with pytest.raises(StorageError, match="takes no storage options"):
        reclake.Lake.open(tmp_path, storage_options={"aws_region": "here"})
    with pytest.raises(StorageError, match="does not know"):
        places.place("s3://bucket/lake", store.options() | {"aws_colour": "red"}).exists()
    with pytest.raises(StorageError, match="no such bucket"):
        reclake.Lake.create("s3://no-such-bucket/lake", storage_options=store.options())


@pytest.mark.parametrize("out", ["s3://bucket/out", Path("s3://bucket/out"), "gs://bucket/out"])
def test_shards_and_reports_are_not_written_to_a_folder_called_s3(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, out: str | Path
) -> None:
    monkeypatch.chdir(tmp_path)
    lake = reclake.Lake.create("lake", buckets=2)
    lake.pin("p")
    for verb in (
        lambda: lake.pack("ctr", pin="p", out=out),
        lambda: lake.report(out),
        lambda: lake.report_quality(out),
    ):
        with pytest.raises(StorageError, match="written to a file system"):
            verb()
    assert [path.name for path in tmp_path.iterdir()] == ["lake"]


def test_of_two_that_put_one_object_at_once_one_is_told_that_it_is_there(
    store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from moto.s3.models import S3Backend

    both, put = threading.Barrier(2), S3Backend.put_object

    def wait_for_the_other(*given: Any, **named: Any) -> Any:
        with contextlib.suppress(threading.BrokenBarrierError):
            both.wait(0.3)  # here moto has looked: it met both where nothing kept them apart
        return put(*given, **named)

    monkeypatch.setattr(S3Backend, "put_object", wait_for_the_other)
    target, told = store.place() / "00000000000000000001.json", {}

    def create(number: int) -> None:
        told[number] = places.create(target, b"%d" % number)

    assert in_threads(create, 2) == []
    assert sorted(told.values()) == [False, True]
    assert told[int(target.read_text())]


def test_no_lake_is_made_in_a_store_that_ignores_the_condition_of_a_put(store: Any) -> None:
    refused = pytest.raises(StorageError, match="knows no conditional puts")
    with store.failing(lambda method, path: "unconditional") as (address, _), refused:
        reclake.Lake.create(store.uri, storage_options=store.options(address))
    assert places.names(store.place()) == []
    reclake.Lake.create(store.uri, storage_options=store.options())
    assert [name for name in places.names(store.place()) if name.startswith(".")] == []


def test_an_object_is_a_path_by_name(store: Any) -> None:
    root = store.place()
    for name in ("b.json", "a.json", "below/c.parquet"):
        assert places.create(root / name, name.encode())
    assert not places.create(root / "a.json", b"other")
    assert [path.name for path in root.iterdir()] == ["a.json", "b.json", "below"]
    assert [path.stem for path in root.glob("*.json")] == ["a", "b"]
    assert places.names(root / "nothing") == []
    assert (root / "below").is_dir()
    assert not (root / "below").is_file()
    file = root / "below/c.parquet"
    assert (file.suffix, file.parent, str(file)) == (".parquet", root / "below", f"{store.uri}/below/c.parquet")
    with file.open() as opened:
        opened.seek(-7, 2)
        assert opened.read() == b"parquet"
    file.unlink()
    file.unlink(missing_ok=True)
    assert not file.exists()
    with pytest.raises(FileNotFoundError):
        file.read_bytes()
    assert "secret" not in repr(root)
