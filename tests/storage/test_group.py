"""Group commits: many threads and processes append to one table; every batch lands once, whoever is killed."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path

import duckdb
import polars as pl
import pyarrow as pa
import pytest
from deltalake import DeltaTable

import reclake
from reclake.quality import gate
from reclake.schemas.errors import CommitConflictError, PinError, StorageError
from reclake.storage import compaction, keeper, log
from reclake.storage.group import Batch, GroupWriter
from reclake.storage.log import LogTail, Needed
from reclake.storage.maintenance import vacuum
from reclake.storage.table import Commit, Layout, Table

SCHEMA = pa.schema(
    [pa.field("a", pa.int64(), nullable=False), pa.field("day", pa.date32(), nullable=False), ("s", pa.string())]
)
DAYS = [date(2024, 3, 1), date(2024, 3, 2)]


def rows(first: int, count: int = 10) -> gate.Admitted:
    values = list(range(first, first + count))
    table = pa.table({"a": values, "day": [DAYS[v % 2] for v in values], "s": [str(v) for v in values]})
    return gate.record(table.cast(SCHEMA), SCHEMA, name="t")


@pytest.fixture
def table(tmp_path: Path) -> Table:
    return Table(tmp_path / "t", "t", Layout(("day",), ("a",)))


def in_threads(work: Callable[[int], None], count: int) -> list[BaseException]:
    errors: list[BaseException] = []

    def guarded(number: int) -> None:
        try:
            work(number)
        except Exception as error:  # noqa: BLE001 - the test looks at it
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return errors


def values(table: Table) -> list[int]:
    return sorted(table.scan().collect()["a"].to_list())


def test_what_many_threads_append_lands_once_in_few_commits(table: Table) -> None:
    with GroupWriter(table) as writer:

        def produce(number: int) -> None:
            for batch in range(20):
                done = writer.put(Batch(rows((number * 20 + batch) * 10), {f"p{number}": batch}))
                assert done.batch is not None

        assert in_threads(produce, 10) == []
    assert values(table) == list(range(2000))
    assert table.version < 150
    assert {table.transaction(f"p{number}") for number in range(10)} == {19}


def test_an_append_that_returned_is_readable_by_any_delta_reader(table: Table) -> None:
    with GroupWriter(table) as writer:
        for number in range(30):  # a checkpoint is made on the way
            version = writer.put(Batch(rows(number * 10), {"p": number})).version
            opened = DeltaTable(table.uri)
            assert opened.version() >= version
            assert opened.transaction_version("p") == number
    files = ", ".join(f"'{path}'" for path in table.files())
    assert duckdb.sql(f"select count(distinct a) from read_parquet([{files}])").fetchall() == [(300,)]
    assert pl.scan_delta(table.uri).collect().height == 300


def test_a_repeated_batch_is_not_written_again(table: Table) -> None:
    with GroupWriter(table) as writer:
        first = writer.put(Batch(rows(0), {"p": 1}))
        again = writer.put(Batch(rows(0), {"p": 1}))
        assert again.batch is None
        assert again.version >= first.version
    with GroupWriter(table) as writer:
        assert writer.put(Batch(rows(0), {"p": 1})).batch is None
    assert values(table) == list(range(10))


def test_a_batch_whose_transactions_are_partly_committed_is_refused(table: Table) -> None:
    with GroupWriter(table) as writer:
        writer.put(Batch(rows(0), {"p": 1}))
        with pytest.raises(CommitConflictError, match="some of a batch's transactions"):
            writer.put(Batch(rows(10), {"p": 1, "q": 1}))
    assert values(table) == list(range(10))


def test_the_error_of_one_batch_fails_no_other(table: Table) -> None:
    other = pa.schema([pa.field("a", pa.string(), nullable=False), pa.field("day", pa.date32(), nullable=False)])
    wrong = gate.record(pa.table({"a": ["x"], "day": [DAYS[0]]}).cast(other), other, name="t")
    with GroupWriter(table) as writer:
        writer.put(Batch(rows(0)))

        def produce(number: int) -> None:
            for batch in range(5):
                writer.put(Batch(wrong if number == 3 else rows(100 + (number * 5 + batch) * 10)))

        errors = in_threads(produce, 6)
    assert [type(error) for error in errors] == [StorageError]
    assert len(values(table)) == 10 + 5 * 5 * 10


def test_a_judge_that_fails_on_one_batch_fails_that_batch(table: Table) -> None:
    def judge(batches: Sequence[Batch], tail: LogTail) -> Sequence[Batch]:
        if any(batch.admitted.rows["a"][0].as_py() == 0 for batch in batches):
            raise ValueError("no zeros")
        return batches

    with GroupWriter(table, judge=judge) as writer:
        errors = in_threads(lambda number: writer.put(Batch(rows(number * 10))) and None, 8)
    assert [str(error) for error in errors] == ["no zeros"]
    assert values(table) == list(range(10, 80))


def test_batches_of_an_old_and_a_new_schema_land_together(table: Table) -> None:
    wider = SCHEMA.append(pa.field("b", pa.int32()))

    def wide(first: int) -> gate.Admitted:
        old = rows(first).rows
        return gate.record(old.append_column("b", pa.array([1] * 10, pa.int32())), wider, name="t")

    with GroupWriter(table) as writer:
        errors = in_threads(lambda n: writer.put(Batch((wide if n % 2 else rows)(n * 10))) and None, 10)
    assert errors == []
    assert table.scan().select(pl.col("b").sum(), pl.len()).collect().row(0) == (50, 100)


def test_a_closed_writer_says_so(table: Table) -> None:
    with GroupWriter(table) as writer:
        writer.put(Batch(rows(0)))
    with pytest.raises(StorageError, match="closed"):
        writer.put(Batch(rows(10)))


def test_group_commits_and_plain_commits_of_one_table_get_on(table: Table) -> None:
    table.append(rows(0))
    with GroupWriter(table) as writer:

        def produce(number: int) -> None:
            for batch in range(10):
                first = 10 + (number * 10 + batch) * 10
                if number < 2:
                    table.append(rows(first), transactions={f"p{number}": batch})
                else:
                    writer.put(Batch(rows(first), {f"p{number}": batch}))

        assert in_threads(produce, 5) == []
    assert values(table) == list(range(510))


def test_compaction_beside_appends_loses_no_row_and_fails_no_append(table: Table) -> None:
    stop = threading.Event()
    merges = []

    def compacting() -> None:
        while not stop.is_set():
            merges.append(compaction.compact(table))

    with GroupWriter(table) as writer:
        writer.put(Batch(rows(0)))
        beside = threading.Thread(target=compacting)
        beside.start()

        def produce(number: int) -> None:
            for batch in range(25):
                writer.put(Batch(rows(10 + (number * 25 + batch) * 10), {f"p{number}": batch}))

        errors = in_threads(produce, 4)
        stop.set()
        beside.join()
    assert errors == []
    assert sum(merges) > 0
    assert values(table) == list(range(1010))
    compaction.compact(table)
    assert len(table.files()) == 2
    assert values(table) == list(range(1010))


def test_compaction_gives_way_to_whoever_removes_its_files(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    for first in (0, 10, 20):
        table.append(rows(first))
    commit = compaction._commit

    def late(table: Table, *args: object) -> bool:
        table.commit([table.stage(rows(1000, 1))], Commit(replaced={"day": DAYS[0]}))
        return commit(table, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(compaction, "_commit", late)
    compaction.compact(table, fan=3)
    assert values(table) == [*range(1, 30, 2), 1000]
    assert stored(table) == named(table)


def test_a_merge_reads_no_more_than_its_budget() -> None:
    files = pl.DataFrame({"path": [f"f{i:02}" for i in range(20)], "size_bytes": [10_000] * 20}).with_columns(
        num_records=pl.lit(100), partition=pl.lit("")
    )
    merges = compaction.plan(files, fan=8, rows=10_000, budget=50_000)
    assert [merge.bytes for merge in merges] == [50_000] * 4
    assert [len(merge.paths) for merge in compaction.plan(files, fan=8, rows=1_000)] == [10, 10]
    assert compaction.plan(files.head(7), fan=8, rows=10_000) == []
    assert compaction.plan(files.with_columns(size_bytes=pl.lit(30_000)), fan=2, rows=10_000, budget=50_000) == []
    assert compaction.plan(files, fan=2, rows=150) == []


def test_many_small_batches_leave_few_files_and_a_table_that_opens_fast(table: Table) -> None:
    with GroupWriter(table) as writer:
        for number in range(300):
            writer.put(Batch(rows(number * 10, 1), {"p": number}))
    assert table.scan().collect().height == 300
    assert len(table.files()) < 2 * 2 * compaction.FAN + 2 * keeper.COMPACT_EVERY
    folder = table.root / "_delta_log"
    checkpoints = sorted(int(path.name[:20]) for path in folder.glob("*.checkpoint.parquet"))
    assert table.version - checkpoints[-1] < 2 * log.CHECKPOINT_EVERY


def opening_s(table: Table) -> float:
    """Seconds to open the table and name its files, the best of several."""

    def once() -> float:
        began = time.perf_counter()
        DeltaTable(table.uri).file_uris()
        return time.perf_counter() - began

    return min(once() for _ in range(15))


@pytest.mark.slow
def test_a_thousand_micro_batches_leave_a_table_that_opens_as_fast_as_at_the_start(
    table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper, "CLEAN_EVERY", 100)
    monkeypatch.setattr(keeper, "LOG_HOURS", 0.0)
    with GroupWriter(table) as writer:
        for number in range(1000):
            writer.put(Batch(rows(number * 10), {"p": number}))
            if number == 20:
                start = opening_s(table)
    assert values(table) == list(range(10_000))
    assert len(table.files()) < 2 * 2 * compaction.FAN + 2 * keeper.COMPACT_EVERY
    assert opening_s(table) <= 2 * start
    assert len(list((table.root / "_delta_log").glob("*.json"))) < 250


COMPACTING = textwrap.dedent(
    """
    import resource, sys
    from pathlib import Path
    sys.path.insert(0, sys.argv[1])
    from test_group import wide, Table, Layout, GroupWriter, Batch, compaction
    table = Table(Path(sys.argv[2]), "t", Layout(("day",), ("key",)))
    for number in range(60):
        table.append(wide(number))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    compaction.compact(table)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    """
)


def wide(number: int) -> gate.Admitted:
    """100,000 rows that compress to nearly nothing and take 13 MB in memory."""
    schema = pa.schema([("key", pa.int64()), ("day", pa.date32()), *[(f"c{i}", pa.int64()) for i in range(14)]])
    columns = {f"c{i}": pa.repeat(pa.scalar(number), 100_000) for i in range(14)}
    table = pa.table({"key": range(100_000), "day": pa.repeat(pa.scalar(DAYS[0]), 100_000)} | columns).cast(schema)
    return gate.record(table, schema, name="t")


@pytest.mark.slow
def test_compaction_keeps_to_its_memory_however_well_the_rows_compress(table: Table) -> None:
    words = [sys.executable, "-c", COMPACTING, str(Path(__file__).parent), str(table.root)]
    more_kb = int(subprocess.run(words, capture_output=True, text=True, check=True).stdout)
    assert more_kb < 5 * compaction.MERGED_MEMORY // 1024
    assert table.scan().select(pl.len()).collect().item() == 6_000_000
    assert len(table.files()) < 15


def test_log_cleanup_keeps_pinned_and_young_versions_readable(table: Table) -> None:
    for number in range(30):
        table.append(rows(number * 10))
        if number % 10 == 9:
            table.checkpoint()
    folder = table.root / "_delta_log"
    for path in folder.iterdir():
        if path.name[:20].isdigit() and int(path.name[:20]) <= 22:
            os.utime(path, (1_700_000_000, 1_700_000_000))
    assert log.clean(table.root, Needed(frozenset({5, 7})), hours=24) > 10
    assert [len(table.scan(version).collect()) for version in (5, 7, 20, 25, 30)] == [50, 70, 200, 250, 300]
    assert values(table) == list(range(300))
    assert not (folder / f"{6:020d}.json").exists()
    assert log.clean(table.root, Needed(frozenset({5, 7})), hours=24) == 0
    table.append(rows(300))
    assert table.version == 31


def test_log_cleanup_leaves_all_entries_while_an_erasure_is_on_its_way(tmp_path: Path) -> None:
    lake = reclake.Lake.create(tmp_path / "lake", buckets=2)
    assert not lake.catalog.needed("events", 0).all_entries
    (lake.catalog.root / "erasures").mkdir()
    (lake.catalog.root / "erasures" / "run.json").write_text("{}")
    table = lake.catalog.table("metrics")
    for number in range(21):
        table.append(rows(number * 10))
    for path in (table.root / "_delta_log").iterdir():
        if path.name[:20].isdigit() and int(path.name[:20]) <= 20:
            os.utime(path, (1_700_000_000, 1_700_000_000))
    assert log.clean(table.root, lake.catalog.needed("metrics", 0)) == 0
    (lake.catalog.root / "erasures" / "run.json").unlink()
    assert log.clean(table.root, lake.catalog.needed("metrics", 0)) == 20
    assert len(values(table)) == 210


def test_a_pinned_version_outlives_compaction_log_cleanup_and_vacuum(tmp_path: Path) -> None:
    lake = reclake.Lake.create(tmp_path / "lake", buckets=2)
    table = lake.catalog.table("metrics")
    for number in range(5):
        table.append(rows(number * 10))
    lake.pin("then")
    pinned = table.version
    for number in range(5, 45):
        table.append(rows(number * 10))
    assert compaction.compact(table)
    for path in (table.root / "_delta_log").iterdir():
        if path.name[:20].isdigit() and int(path.name[:20]) <= 40:
            os.utime(path, (1_700_000_000, 1_700_000_000))
    assert log.clean(table.root, lake.catalog.needed("metrics", 0)) > 30
    assert vacuum(lake.catalog, retention_hours=0, dry_run=False, now_us=0)
    assert values(table) == list(range(450))
    assert sorted(table.scan(pinned).collect()["a"].to_list()) == list(range(50))
    with pytest.raises(PinError):
        table.scan(pinned + 1)
    assert vacuum(lake.catalog, retention_hours=0, dry_run=True, now_us=0)[0].held[0].files == 5


def test_a_commit_that_loses_takes_its_files_away(table: Table) -> None:
    table.append(rows(0), transactions={"p": 1})
    with pytest.raises(CommitConflictError):
        table.append(rows(10), transactions={"p": 1})
    with GroupWriter(table) as writer:

        def produce(number: int) -> None:
            for batch in range(15):
                if number < 3:
                    writer.put(Batch(rows(100 + (number * 15 + batch) * 10), {f"p{number}": batch + 2}))
                else:  # overtaken again and again
                    with contextlib.suppress(CommitConflictError):
                        table.append(rows(10_000 + batch * 10), after=table.version)

        assert in_threads(produce, 4) == []
    assert stored(table) == named(table)
    assert not list((table.root / "_delta_log").glob(".*.draft"))


def stored(table: Table) -> set[str]:
    return {str(path) for path in table.root.rglob("*.parquet") if "_delta_log" not in str(path)}


def named(table: Table) -> set[str]:
    return {path for version in range(1, table.version + 1) for path in table.files(version)}


PRODUCER = textwrap.dedent(
    """
    import sys
    from pathlib import Path
    sys.path.insert(0, sys.argv[1])
    from test_group import rows, in_threads, Table, Layout, GroupWriter, Batch
    name, batches = sys.argv[3], int(sys.argv[4])
    with GroupWriter(Table(Path(sys.argv[2]), "t", Layout(("day",), ("a",)))) as writer:
        def produce(thread):
            for batch in range(batches):
                first = ((int(name) * 2 + thread) * 1000 + batch) * 10
                writer.put(Batch(rows(first), {f"{name}/{thread}": batch}))
                print("done", flush=True)
        errors = in_threads(produce, 2)
    assert not errors, errors
    """
)


def start(table: Table, name: int, batches: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PRODUCER, str(Path(__file__).parent), str(table.root), str(name), str(batches)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_processes_append_to_one_table_and_nothing_is_lost_or_doubled(table: Table) -> None:
    table.create(SCHEMA)
    processes = [start(table, name, 30) for name in range(3)]
    for process in processes:
        process.communicate()
        assert process.returncode == 0
    expected = [
        ((p * 2 + t) * 1000 + b) * 10 + i for p in range(3) for t in range(2) for b in range(30) for i in range(10)
    ]
    assert values(table) == expected


def test_a_producer_that_is_killed_and_started_again_loses_and_doubles_nothing(table: Table) -> None:
    table.create(SCHEMA)
    for kill_after in (1, 17):
        process = start(table, 0, 40)
        assert process.stdout is not None
        for _ in range(kill_after):
            process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        acknowledged = kill_after + len(process.stdout.readlines())
        process.wait()
        process.stdout.close()
        assert len(values(table)) >= acknowledged * 10
    process = start(table, 0, 40)
    process.communicate()
    assert process.returncode == 0
    assert values(table) == [(t * 1000 + b) * 10 + i for t in range(2) for b in range(40) for i in range(10)]
