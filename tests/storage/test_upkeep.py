"""Upkeep beside writers: compaction, checkpoints and log clean-up lose nothing and fail nobody."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
import small_batches
from deltalake import DeltaTable
from small_batches import DAYS, in_threads, named, rows, stored, values

import reclake
from reclake.schemas.errors import PinError
from reclake.storage import compaction, keeper, log
from reclake.storage.group import Batch, GroupWriter
from reclake.storage.log import Needed, handles, tail
from reclake.storage.maintenance import vacuum
from reclake.storage.table import Commit, Layout, Table


@pytest.fixture
def table(tmp_path: Path) -> Table:
    return Table(tmp_path / "t", "t", Layout(("day",), ("a",)))


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
    read = compaction._read

    def late(table: Table, *args: object) -> pa.Table:
        table.commit([table.stage(rows(1000, 1))], Commit(replaced={"day": DAYS[0]}))
        return read(table, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(compaction, "_read", late)
    compaction.compact(table, fan=3)
    assert values(table) == [*range(1, 30, 2), 1000]
    assert stored(table) == named(table)


def test_what_was_just_written_is_merged_without_being_read(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[str] = []
    read = compaction._read
    monkeypatch.setattr(compaction, "_read", lambda table, path, *args: reads.append(path) or read(table, path, *args))
    with GroupWriter(table) as writer:
        for number in range(30):
            writer.put(Batch(rows(number * 10), {"p": number}))
    assert values(table) == list(range(300))
    assert len(table.files()) < 30
    assert reads == []
    for number in range(30, 30 + compaction.FAN):  # as if another process had written them
        table.append(rows(number * 10))
    compaction.compact(table)
    assert len(reads) > 0
    assert values(table) == list(range(300 + 10 * compaction.FAN))


def test_rows_are_kept_for_merging_within_a_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = rows(0).rows
    days = {str(DAYS[0]), str(DAYS[1])}
    monkeypatch.setattr(compaction, "WRITTEN_MEMORY", 2 * kept.get_total_buffer_size())
    written = compaction.Written()
    for number in range(3):
        written.put([f"day={day}/{number}" for day in sorted(days)], kept)
    assert [written.take(f"day={DAYS[0]}/{number}", {"day": str(DAYS[0])}) is None for number in range(3)] == [
        True,
        False,
        False,
    ]
    assert written.take(f"day={DAYS[0]}/2", {"day": str(DAYS[0])}) is None
    odd = written.take(f"day={DAYS[1]}/2", {"day": str(DAYS[1])})
    assert odd is not None
    assert odd["a"].to_pylist() == [1, 3, 5, 7, 9]


def test_a_checkpoint_waits_for_the_last_one_to_have_rested_unless_the_writer_closes(
    table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []
    monkeypatch.setattr(Table, "checkpoint", lambda self: made.append(self.version))
    monkeypatch.setattr(keeper, "CHECKPOINT_REST_S", 3600.0)
    with GroupWriter(table) as writer:
        for number in range(200):
            writer.put(Batch(rows(number * 10, 1), {"p": number}))
        assert len(made) <= 1
    assert len(made) == 2
    assert made[-1] >= 200


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
    from small_batches import wide
    from reclake.storage import compaction
    from reclake.storage.table import Layout, Table
    table = Table(Path(sys.argv[2]), "t", Layout(("day",), ("key",)))
    for number in range(60):
        table.append(wide(number))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    compaction.compact(table)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    """
)


@pytest.mark.slow
def test_compaction_keeps_to_its_memory_however_well_the_rows_compress(table: Table) -> None:
    words = [sys.executable, "-c", COMPACTING, str(Path(small_batches.__file__).parent), str(table.root)]
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


def test_who_rested_at_a_pinned_version_while_all_behind_it_was_cleaned_up_commits_behind_the_newest(
    table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    with GroupWriter(table) as writer:
        writer.put(Batch(rows(0), {"p": 0}))
        pinned = table.version

        def others(_: int) -> None:
            for number in range(1, 8):
                table.append(rows(number * 10))
            table.checkpoint()
            for path in (table.root / "_delta_log").iterdir():
                if path.name[:20].isdigit():
                    os.utime(path, (1_700_000_000, 1_700_000_000))
            table.append(rows(80))
            assert log.clean(table.root, Needed(frozenset({pinned}))) > 5

        assert in_threads(others, 1) == []
        kept = [(table.root / "_delta_log" / f"{version:020d}.json").exists() for version in (pinned, pinned + 1)]
        assert kept == [True, False]
        for module in (handles, tail):
            monkeypatch.setattr(module, "now_s", lambda: time.time() + 24 * 3600)
        assert writer.put(Batch(rows(90), {"p": 1})).version == pinned + 9
        assert table.append(rows(100)) == pinned + 10  # this thread has rested there, too
    assert values(table) == list(range(110))


def test_a_group_whose_making_took_so_long_that_the_log_may_have_been_cleaned_up_looks_again(
    table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[None] = []
    advance, stage = log.LogTail.advance, GroupWriter.stage

    def counted(followed: log.LogTail) -> Any:
        looks.append(None)
        return advance(followed)

    def asleep(*given: Any) -> Any:
        looks.clear()
        for module in (handles, tail):
            monkeypatch.setattr(module, "now_s", lambda: time.time() + 24 * 3600)
        return stage(*given)

    with GroupWriter(table) as writer:
        writer.put(Batch(rows(0), {"p": 0}))
        monkeypatch.setattr(log.LogTail, "advance", counted)
        monkeypatch.setattr(GroupWriter, "stage", asleep)
        assert writer.put(Batch(rows(10), {"p": 1})).version == 2
    assert len(looks) == 1
    assert values(table) == list(range(20))


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
