"""Pins keep what they name readable through compaction and vacuum, until they expire."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

import reclake
from reclake.pipelines.run import Run
from reclake.schemas.errors import PinError
from reclake.schemas.times import to_us
from reclake.storage.maintenance import compact, vacuum
from reclake.storage.table import Table

NOW = to_us("2024-03-10")
RUN = Run(id="test", now_us=lambda: NOW)


def add(lake: reclake.Lake, folder: Path, number: int) -> None:
    """A file of events of one user, so that tables have many small files."""
    time = to_us("2024-03-01") + number * 60_000_000
    row = {"event_id": f"e{number}", "user_id": number % 3, "item_id": 1, "event_type": "exposure", "event_time": time}
    path = folder / f"{number}.jsonl"
    path.write_text(json.dumps(row | {"available_at": time}) + "\n" + "{broken\n")
    lake.ingest("events", path, run=RUN)


@pytest.fixture
def lake(tmp_path: Path) -> reclake.Lake:
    lake = reclake.Lake.create(tmp_path / "lake", buckets=2)
    for number in range(4):
        add(lake, tmp_path, number)
    return lake


def held(lake: reclake.Lake, pin: str) -> dict[str, pl.DataFrame]:
    named = lake.catalog.pin(pin)
    return {name: lake.catalog.table(name).scan(version).collect() for name, version in named.tables.items()}


def test_a_pin_that_is_made_while_a_seal_ends_holds_all_of_the_seal(
    lake: reclake.Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    version, asked = Table.version.fget, list[str]()  # type: ignore[attr-defined]

    def sealed_in_between(table: Table) -> int:
        """The seal is committed after the directory was looked at, before the timelines are."""
        if table.name == "timelines" and not asked:
            asked.append(table.name)
            lake.seal(through="2024-03-02", run=RUN)
        return int(version(table))

    lake.seal(through="2024-03-01T00:02", run=RUN)
    with monkeypatch.context() as patched:
        patched.setattr(Table, "version", property(sealed_in_between))
        pin = lake.pin("one")
    assert asked
    assert pin.sealed_through_us == lake.catalog.sealed_through_us
    assert pin.tables == {name: lake.catalog.table(name).version for name in lake.catalog.table_names()}


def test_every_pinned_version_reads_the_same_after_compaction_and_a_vacuum_that_keeps_nothing_else(
    lake: reclake.Lake, tmp_path: Path
) -> None:
    lake.pin("one")
    first = held(lake, "one")
    compact(lake.catalog)
    add(lake, tmp_path, 4)
    lake.seal(through="2024-03-02", run=RUN)
    lake.pin("two")
    second = held(lake, "two")
    add(lake, tmp_path, 5)
    compact(lake.catalog)
    for _ in range(2):
        deleted = vacuum(lake.catalog, retention_hours=0, dry_run=False, now_us=NOW)
    assert {name: rows for name, rows in held(lake, "one").items() if not rows.equals(first[name])} == {}
    assert {name: rows for name, rows in held(lake, "two").items() if not rows.equals(second[name])} == {}
    assert sum(table.files for table in deleted) == 0
    lake.unpin("one")
    lake.unpin("two")
    assert sum(t.files for t in vacuum(lake.catalog, retention_hours=0, dry_run=False, now_us=NOW)) > 0
    assert lake.catalog.table("events").scan().collect().height == 6


def test_a_dry_run_says_which_pin_holds_how_much_of_what_and_until_when(lake: reclake.Lake) -> None:
    lake.pin("one", until="2024-04-01")
    compact(lake.catalog)
    found = {table.table: table for table in vacuum(lake.catalog, retention_hours=0, dry_run=True, now_us=NOW)}
    (mine,) = found["events"].held
    assert (mine.pin, mine.files, mine.until_us) == ("one", 4, to_us("2024-04-01"))
    assert mine.bytes > 0
    assert found["events"].files == 0
    # Expired, it holds nothing.
    later = vacuum(lake.catalog, retention_hours=0, dry_run=True, now_us=to_us("2024-04-01"))
    assert {table.table: table.files for table in later}["events"] == 4
    assert all(table.held == () for table in later)


def test_an_expired_pin_fails_at_open_with_its_name_and_date(lake: reclake.Lake, tmp_path: Path) -> None:
    lake.pin("spring", until="2024-04-01")
    late = Run(id="late", now_us=lambda: to_us("2024-04-01"))
    for use in (
        lambda: lake.pack("ctr", pin="spring", out=tmp_path / "out", run=late),
        lambda: lake.report(tmp_path / "report.html", pin="spring", run=late),
    ):
        with pytest.raises(PinError, match=r"(?s)expired.*spring.*2024-04-01"):
            use()
    lake.report(tmp_path / "report.html", pin="spring", run=RUN)


def test_commands_pin_until_a_time_say_what_is_held_and_forget_with_a_receipt(
    lake: reclake.Lake, tmp_path: Path
) -> None:
    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "reclake", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    root = lake.catalog.root
    assert run("pin", root, "p", "--until", "2999-01-01").returncode == 0
    (tmp_path / "users.txt").write_text("1\n2\n")
    blocked = run("forget", root, "--users", tmp_path / "users.txt")
    assert blocked.returncode == 1
    assert "p (until 2999-01-01" in blocked.stderr
    compact(lake.catalog)
    assert "kept until 2001-01-01T00:00:00Z: expired" in run("pin", root, "old", "--until", "2001-01-01").stdout
    assert "expired" in run("pins", root).stdout
    dry = run("vacuum", root, "--retention-hours", 0, "--dry-run")
    assert "2999-01-01" in dry.stdout
    assert "old" not in dry.stdout
    assert run("unpin", root, "p").returncode == 0
    done = json.loads(run("forget", root, "--json").stdout)
    assert done["receipt"]["users"] == 2
    assert Path(done["path"]).is_file()
    assert set(lake.catalog.table("events").scan().collect()["user_id"]) == {0}
    assert run("doctor", root).returncode == 0
