"""What is kept of a table's log, brought up to date entry by entry, is what opening the table afresh gives."""

from __future__ import annotations

import datetime
import os
import random
import threading
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest

from reclake.quality import gate
from reclake.schemas.errors import StorageError
from reclake.storage import log
from reclake.storage.table import Commit, Layout, Table

SCHEMA = pa.schema(
    [
        pa.field("user_id", pa.int64(), nullable=False),
        pa.field("name", pa.string()),
        pa.field("bucket", pa.int32(), nullable=False),
        pa.field("day", pa.date32(), nullable=False),
    ]
)


def append(table: Table, rng: random.Random, schema: pa.Schema = SCHEMA, **kwargs: int) -> None:
    n = rng.randrange(1, 5)
    columns = {
        "user_id": [rng.randrange(-100, 100) for _ in range(n)],
        "name": [rng.choice(["a b", "ü/%", None]) for _ in range(n)],
        "bucket": [rng.randrange(3) for _ in range(n)],
        "day": [datetime.date(2024, 1, rng.randrange(1, 4)) for _ in range(n)],
        "more": [1] * n,
    }
    rows = pa.table({name: columns[name] for name in schema.names}, schema=schema)
    table.append(gate.record(rows, schema, name="t"), transactions=kwargs)


@pytest.mark.parametrize("partition_by", [(), ("day", "bucket")])
def test_a_table_followed_through_commits_is_what_a_fresh_look_sees(
    tmp_path: Path, partition_by: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    from reclake.storage.compaction import compact
    from reclake.storage.log import handles

    monkeypatch.setattr(handles, "_CHUNKS", 5)
    rng = random.Random(3)
    table = Table(tmp_path / "t", "t", Layout(partition_by, ("user_id",)))
    table.create(SCHEMA)
    log.snapshot(table.root)
    for number in range(45):
        append(table, rng, **{f"source-{number % 3}": number})
        if number == 10:
            compact(table)
        if number == 20:
            table.delete("user_id > 50")
        if number == 30:
            append(table, rng, pa.schema([*SCHEMA, pa.field("more", pa.int64())]))
        if number == 40:
            table.rearrange([], [], Commit())
        kept = log.snapshot(table.root)
        source = log.transaction(table.root, "source-0"), log.transaction(table.root, "none")
        schema = log.schema(table.root)
        monkeypatch.setattr(handles, "_KEPT", type(handles._KEPT)())
        fresh = log.snapshot(table.root)
        assert kept.files.sort("path").equals(fresh.files.sort("path")), number
        assert kept.files.schema == fresh.files.schema
        assert (kept.version, kept.table_id) == (fresh.version, fresh.table_id)
        assert source == (number - number % 3, None)
        assert source == (log.transaction(table.root, "source-0"), log.transaction(table.root, "none"))
        assert schema == log.schema(table.root)
        monkeypatch.undo()
        monkeypatch.setattr(handles, "_CHUNKS", 5)
    assert pl.DataFrame(log.snapshot(table.root).files).height > 2


def test_a_look_after_a_commit_parses_that_commit_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from reclake.storage.log import entries, handles

    rng = random.Random(5)
    table = Table(tmp_path / "t", "t", Layout())
    for _ in range(7):
        append(table, rng)
    log.snapshot(table.root)
    opened, parsed = [], []
    monkeypatch.setattr(handles, "open_table", lambda *args, whole=handles.open_table: opened.append(1) or whole(*args))
    monkeypatch.setattr(entries, "parse", lambda *args, whole=entries.parse: parsed.append(args[0]) or whole(*args))
    for version in (8, 9):
        append(table, rng)
        log.snapshot(table.root)
        assert parsed == [version]
        parsed.clear()
    assert opened == []


def test_drafts_of_killed_writers_are_removed_and_those_that_get_their_name_meanwhile_are_in_nobodys_way(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "_delta_log"
    folder.mkdir()
    for name in (".killed.draft", ".young.draft"):
        (folder / name).touch()
    (folder / ".named.draft").symlink_to(folder / "gone")  # listed, and gone when it is looked at
    os.utime(folder / ".killed.draft", (1, 1))
    assert log.discard_staged(tmp_path, before_s=1000) == 1
    assert sorted(path.name for path in folder.glob(".*.draft")) == [".named.draft", ".young.draft"]


def test_an_entry_that_one_listing_of_the_log_missed_is_seen_by_the_next(tmp_path: Path) -> None:
    table = Table(tmp_path / "t", "t", Layout((), ("user_id",)))
    table.create(SCHEMA)
    for _ in range(4):
        append(table, random.Random(1))
    entry, aside = table.root / "_delta_log" / f"{2:020}.json", tmp_path / "aside"
    entry.rename(aside)
    back = threading.Timer(0.03, aside.rename, [entry])
    back.start()
    assert log.open_table(table.root).version() == 4
    back.join()
    entry.unlink()
    with pytest.raises(StorageError, match="whole log"):
        log.open_table(table.root)
