"""A media run is one partition: made by the chunk, judged and published as a whole, killed anywhere."""

from __future__ import annotations

import errno
import json
import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

pytest.importorskip("av")
pytest.importorskip("PIL")

from medias import NOW_US, content, letters, only, write

import reclake
from reclake.pipelines import forget
from reclake.pipelines.doctor import examine
from reclake.pipelines.media import on_ray as media_ray
from reclake.pipelines.media import run as media
from reclake.pipelines.media import run_media
from reclake.schemas.contract import parse
from reclake.schemas.errors import GateError, StorageError
from reclake.storage.catalog import Catalog
from reclake.storage.maintenance import vacuum
from reclake.storage.table import Table

TITLES = ["one", "", "three", "w" * 1001, "!!!", "six", "seven", "eight"]  # two that no operator reads, one too long


@pytest.fixture
def ran(in_process: None, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many items each call of the engine was given. Chunks are of three items."""
    monkeypatch.setattr(media, "CHUNK_ITEMS", 3)
    run, calls = media_ray.run, []

    def counted(table: pa.Table, *args: Any) -> pa.Table:
        calls.append(table.num_rows)
        return run(table, *args)

    monkeypatch.setattr(media_ray, "run", counted)
    return calls


def titled(path: Path, titles: list[str]) -> Path:
    return write(path, [{"item_id": n, "title": title} for n, title in enumerate(titles)])


def told(catalog: Catalog) -> list[pl.DataFrame]:
    """All rows that a run leaves, but for the names of runs."""
    tables = [catalog.table(name) for name in ("content", "dead_letters", "quarantine", "verdicts")]
    found = [table.scan().collect() if table.exists else pl.DataFrame() for table in tables]
    rows = [rows.select(pl.exclude("run_id", "verdict_id", "table_version", "contract_version")) for rows in found]
    keys = ("item_id", "input_digest", "quarantine_id", "check", "column")
    return [frame.sort([key for key in keys if key in frame.columns]) for frame in rows]


def test_a_run_is_one_partition_with_one_verdict_and_one_commit_though_it_is_made_in_chunks(
    ran: list[int], tmp_path: Path
) -> None:
    catalog = Catalog.create(tmp_path / "lake")
    known = catalog.contract("content")
    rows = {"type": "expect_table_row_count_to_equal", "kwargs": {"value": 8}, "meta": {"severity": "critical"}}
    unread = {"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "text_embedding"}}
    unread |= {"meta": {"severity": "warning"}}
    suite = dict(known.expectations) | {"expectations": [*known.expectations["expectations"], rows, unread]}
    catalog.add_contract(parse("content", known.avro_schema, suite=suite, policy={"kind": "content"}))
    done = run_media(catalog, only("text_embedding"), titled(tmp_path / "items.jsonl", TITLES), now_us=NOW_US)
    assert ran == [3, 3, 2]
    assert (done.admitted, done.quarantined, done.dead_letters) == (7, 1, 2)
    assert [one.check for one in done.findings] == [
        "expect_column_value_lengths_to_be_between",
        "expect_column_values_to_not_be_null",
    ]
    assert [entry["version"] for entry in catalog.table("content").history() if "reclake.verdict_id" in entry] == [1]
    verdicts = catalog.table("verdicts").scan().collect()
    assert verdicts["verdict_id"].n_unique() == 1
    batch = verdicts.filter(pl.col("check") == "batch")
    assert batch.select("evaluated", "admitted", "unexpected", "table_version").rows() == [(8, 7, 1, 1)]
    assert catalog.work.files() == []
    assert len(list((tmp_path / "lake/tables/content").glob("*.parquet"))) == 3  # none of what was set aside is left
    assert set(catalog.table("quarantine").scan().collect()["run_id"]) == set(verdicts["run_id"])


def test_items_without_what_the_contract_requires_are_set_aside_and_checks_of_the_run_see_them(
    ran: list[int], tmp_path: Path
) -> None:
    catalog = Catalog.create(tmp_path / "lake")
    known = catalog.contract("content")
    avro = json.loads(json.dumps(known.avro_schema))
    avro["fields"].append({"name": "shelf", "type": "long", "default": 0, "field-id": 99})
    rows = {"type": "expect_table_row_count_to_equal", "kwargs": {"value": 4}, "meta": {"severity": "critical"}}
    twice = {"type": "expect_column_values_to_be_unique", "kwargs": {"column": "title"}}
    suite = dict(known.expectations) | {"expectations": [*known.expectations["expectations"], rows, twice]}
    catalog.add_contract(parse("content", avro, suite=suite, policy={"kind": "content"}))
    items = [(1, "a", 5), (2, "b", None), (3, "c", 6), (4, "a", None)]
    lines = [{"item_id": n, "title": title, "shelf": shelf} for n, title, shelf in items]
    done = run_media(catalog, only("text_embedding"), write(tmp_path / "items.jsonl", lines), now_us=NOW_US)
    assert (ran, done.admitted, done.quarantined) == ([3, 1], 1, 3)
    assert content(catalog).select("item_id", "shelf", "contract").rows() == [(3, 6, "content/2")]
    refused = catalog.table("quarantine").scan().collect().sort("row")
    assert [[why["check"] for why in reasons] for reasons in refused["reasons"]] == [
        ["expect_column_values_to_be_unique"],
        ["schema"],
        ["schema", "expect_column_values_to_be_unique"],
    ]


@pytest.mark.parametrize("table", ["dead_letters", "quarantine", "content", "verdicts"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_anywhere_and_run_again_gives_the_same_rows_once_and_no_operator_runs_again(
    ran: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, table: str, when: str
) -> None:
    """A commit to a table is the end of the process, before or after it is done."""
    manifest, plan = titled(tmp_path / "items.jsonl", TITLES), only("text_embedding")
    whole, catalog = Catalog.create(tmp_path / "whole"), Catalog.create(tmp_path / "lake")
    run_media(whole, plan, manifest, now_us=NOW_US)
    commit = Table.commit

    def killed(self: Table, *args: Any, **options: Any) -> int:
        if self.name == table and when == "before":
            raise KeyboardInterrupt
        version = commit(self, *args, **options)
        if self.name == table:
            raise KeyboardInterrupt
        return version

    with monkeypatch.context() as patched:
        patched.setattr(Table, "commit", killed)
        patched.setattr(Table, "discard", lambda *args: None)  # who is killed takes nothing away
        with pytest.raises(KeyboardInterrupt):
            run_media(catalog, plan, manifest, now_us=NOW_US)
    visible = catalog.table("content").scan().collect().height
    assert visible == (7 if table == "verdicts" or (table, when) == ("content", "after") else 0)
    ran.clear()
    run_media(catalog, plan, manifest, now_us=NOW_US)
    assert ran == []
    assert all(mine.equals(theirs) for mine, theirs in zip(told(catalog), told(whole), strict=True))
    assert catalog.work.files() == []
    assert catalog.work.begun() is None


def test_a_run_that_was_killed_while_operators_ran_goes_on_with_the_chunks_that_are_not_made(
    ran: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest, catalog = titled(tmp_path / "items.jsonl", TITLES), Catalog.create(tmp_path / "lake")
    run = media_ray.run

    def killed(*args: Any) -> pa.Table:
        if len(ran) == 2:
            raise KeyboardInterrupt
        return run(*args)

    with monkeypatch.context() as patched:
        patched.setattr(media_ray, "run", killed)
        with pytest.raises(KeyboardInterrupt):
            run_media(catalog, only("text_embedding"), manifest, now_us=NOW_US)
    assert not catalog.table("content").exists
    # Items that came since are made as well, and those that went are not published.
    more = titled(tmp_path / "items.jsonl", [*TITLES[:7], "other", "new"])
    done = run_media(catalog, only("text_embedding"), more, now_us=NOW_US)
    assert ran == [3, 3, 3]
    assert (done.admitted, done.quarantined, done.skipped) == (8, 1, 0)
    assert content(catalog)["title"].to_list() == [*TITLES[:3], *TITLES[4:7], "other", "new"]


def test_a_run_that_is_stopped_leaves_its_verdict_and_goes_on_without_operators_once_it_may(
    ran: list[int], tmp_path: Path
) -> None:
    lake = reclake.Lake.create(tmp_path / "lake")
    catalog, known = lake.catalog, lake.catalog.contract("content")
    strict = {"kind": "content", "quarantine_limit": 0.1}  # one in eight of the run, though none of two chunks
    lake.evolve(parse("content", known.avro_schema, suite=known.expectations, policy=strict))
    manifest = titled(tmp_path / "items.jsonl", TITLES)
    with pytest.raises(GateError, match="1 of 8 rows rejected"):
        run_media(catalog, only("text_embedding"), manifest, now_us=NOW_US)
    assert catalog.table("content").scan().collect().is_empty()
    assert not list((tmp_path / "lake/tables/content").glob("*.parquet"))
    assert not catalog.table("dead_letters").exists
    assert not catalog.table("quarantine").exists
    batch = catalog.table("verdicts").scan().filter(pl.col("check") == "batch").collect()
    assert batch.select("verdict", "evaluated", "admitted", "table_version").rows() == [("stop", 8, 0, None)]
    ran.clear()
    lake.evolve(parse("content", known.avro_schema, suite=known.expectations, policy={"kind": "content"}))
    done = run_media(catalog, only("text_embedding"), manifest, now_us=NOW_US)
    assert (ran, done.admitted, done.quarantined, done.dead_letters) == ([], 7, 1, 2)


def test_what_operators_made_and_a_disk_lost_or_damaged_is_made_again(
    ran: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest, catalog = titled(tmp_path / "items.jsonl", TITLES), Catalog.create(tmp_path / "lake")
    with monkeypatch.context() as patched:
        patched.setattr(media, "publish", lambda *args: None)
        patched.setattr(media, "_ATTEMPTS", 1)
        with pytest.raises(StorageError, match="does not last"):
            run_media(catalog, only("text_embedding"), manifest, now_us=NOW_US)
    first, second, third = catalog.work.files()
    data, vectors = bytearray(first.read_bytes()), pq.read_metadata(first).row_group(0).column(2)
    data[vectors.data_page_offset + vectors.total_compressed_size // 2] ^= 1  # one bit of a vector
    first.write_bytes(data)
    second.unlink()
    third.write_bytes(third.read_bytes()[:-100])
    before = {finding.promise: finding for finding in examine(catalog)}
    assert not before["unpublished work of media is whole"].kept
    sizes = list(ran)
    run_media(catalog, only("text_embedding"), manifest, now_us=NOW_US)
    assert sum(ran) == 2 * sum(sizes)
    whole = Catalog.create(tmp_path / "whole")
    run_media(whole, only("text_embedding"), manifest, now_us=NOW_US)
    assert content(catalog).equals(content(whole))


def test_a_disk_that_is_full_while_work_is_kept_is_said_and_leaves_nothing_half_written(
    ran: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog, manifest = Catalog.create(tmp_path / "lake"), titled(tmp_path / "items.jsonl", TITLES)
    write_table = pq.write_table

    def full(rows: pa.Table, target: Any, **how: Any) -> None:
        write_table(rows, target, **how)
        if len(ran) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(pq, "write_table", full)
        with pytest.raises(StorageError, match="disk is full"):
            run_media(catalog, only("text_embedding"), manifest, now_us=NOW_US)
    assert len([path for path in catalog.work.root.rglob("*") if path.is_file()]) == 1
    assert run_media(catalog, only("text_embedding"), manifest, now_us=NOW_US).admitted == 7
    assert ran == [3, 3, 3, 2]


def test_unpublished_work_goes_with_vacuum_when_it_is_old_and_with_forget_at_once(
    ran: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake, manifest = reclake.Lake.create(tmp_path / "lake"), titled(tmp_path / "items.jsonl", TITLES)
    work = lake.catalog.work

    def leave() -> None:
        with monkeypatch.context() as patched:
            patched.setattr(media, "publish", killed)
            with pytest.raises(KeyboardInterrupt):
                run_media(lake.catalog, only("text_embedding"), manifest, now_us=NOW_US)

    def killed(*args: Any) -> None:
        raise KeyboardInterrupt

    leave()
    files = work.files()
    (found,) = [finding for finding in examine(lake.catalog) if "work" in finding.promise]
    assert found.kept
    assert found.detail.startswith("3 file(s)")
    old = files[0].stat().st_mtime - 200 * 3600
    os.utime(files[0], (old, old))
    now = time.time_ns() // 1000
    dry = vacuum(lake.catalog, retention_hours=168, dry_run=True, now_us=now)
    assert [(each.table, each.files) for each in dry if each.files] == [("(work of media)", 1)]
    assert work.files() == files
    vacuum(lake.catalog, retention_hours=168, dry_run=False, now_us=now)
    assert work.files() == files[1:]
    forget.ask(lake.catalog, [7])
    forget.carry_out(lake.catalog)
    assert work.files() == []
    assert run_media(lake.catalog, only("text_embedding"), manifest, now_us=NOW_US).admitted == 7


def test_items_that_the_lake_had_by_the_earlier_layout_are_done(ran: list[int], tmp_path: Path) -> None:
    """It published by the chunk, under transactions of chunks, and kept no work."""
    catalog, manifest = Catalog.create(tmp_path / "lake"), titled(tmp_path / "items.jsonl", TITLES)
    run_media(catalog, only("text_embedding"), manifest, now_us=NOW_US)
    shutil.rmtree(catalog.work.root)
    ran.clear()
    again = run_media(catalog, only("text_embedding"), manifest, now_us=NOW_US + 1)
    assert (ran, again.admitted, again.skipped) == ([], 0, 8)


def test_other_commits_to_content_meanwhile_undo_nothing_of_a_run(
    ran: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog, staged, stage = Catalog.create(tmp_path / "lake"), [], Table.stage

    def stage_beside_others(self: Table, *args: Any, **options: Any) -> Any:
        if self.name == "content":
            staged.append(self.mark(transactions={"another": len(staged) + 1}))
        return stage(self, *args, **options)

    monkeypatch.setattr(Table, "stage", stage_beside_others)
    done = run_media(catalog, only("text_embedding"), titled(tmp_path / "items.jsonl", TITLES), now_us=NOW_US)
    assert (done.admitted, done.quarantined, done.version) == (7, 1, 5)
    assert staged == [1, 2, 3, 4]  # three chunks, and one of them without the row that was set aside


def test_two_runs_at_once_over_items_that_overlap_write_each_item_once(ran: list[int], tmp_path: Path) -> None:
    catalog = Catalog.create(tmp_path / "lake")
    manifests = [titled(tmp_path / f"{n}.jsonl", TITLES + ["more"] * n) for n in range(4)]
    with ThreadPoolExecutor(4) as pool:
        plan = only("text_embedding")
        done = list(pool.map(lambda manifest: run_media(catalog, plan, manifest, now_us=NOW_US), manifests))
    rows = content(catalog)
    assert rows.height == rows.n_unique(["item_id", "input_digest"]) == sum(each.admitted for each in done) == 10
    assert len(letters(catalog)) == sum(each.dead_letters for each in done) == 2
    assert catalog.table("quarantine").scan().collect().height == sum(each.quarantined for each in done) == 1


def test_a_run_that_is_stopped_says_why_and_which_command_shows_more(in_process: None, tmp_path: Path) -> None:
    lake = reclake.Lake.create(tmp_path / "lake")
    known = lake.catalog.contract("content")
    strict = {"kind": "content", "quarantine_limit_rows": 0}
    lake.evolve(parse("content", known.avro_schema, suite=known.expectations, policy=strict))
    manifest = write(tmp_path / "items.jsonl", [{"item_id": 8, "title": "w" * 1001}, {"item_id": 9, "title": "fine"}])
    with pytest.raises(GateError) as caught:
        run_media(lake.catalog, only("text_embedding"), manifest, now_us=NOW_US)
    assert f"more: reclake report quality {tmp_path / 'lake'}" in str(caught.value)
    assert [(one["column"], one["rows"], one["went"]) for one in caught.value.findings] == [("title", 1, "nowhere")]
    lake.report_quality(tmp_path / "quality.html")
    assert "nothing was written" in (tmp_path / "quality.html").read_text()
