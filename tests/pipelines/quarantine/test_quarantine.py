"""Quarantine: rows keep their history, are shown as they read, and leave for good with a line on the ledger."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import reclake
from reclake.cli.main import main
from reclake.pipelines.quarantine.decoded import decoded
from reclake.pipelines.quarantine.replay import outstanding
from reclake.pipelines.quarantine.retention import Expired, expire
from reclake.pipelines.run import Run
from reclake.schemas.errors import LakeBusyError
from reclake.schemas.times import US_PER_DAY
from reclake.storage.locks import deriving
from reclake.storage.quarantine import history_of

AVSC = Path(reclake.__file__).parent / "schemas" / "contracts" / "events.avsc"
ROW = {"user_id": 1, "item_id": 2, "event_type": "view", "event_time": 1, "available_at": "2024-03-01T00:00:00Z"}
DAYS = 19_800  # since 1970: in March 2024


def evolve(lake: reclake.Lake, folder: Path, allowed: list[str], watch_ms_max: int | None = None) -> None:
    (folder / "mine.avsc").write_text(AVSC.read_text())
    checks: list[tuple[str, dict[str, Any]]] = [
        ("expect_column_values_to_be_in_set", {"column": "event_type", "value_set": allowed})
    ]
    if watch_ms_max is not None:
        checks.append(("expect_column_values_to_be_between", {"column": "watch_ms", "max_value": watch_ms_max}))
    expectations = [{"type": type_, "kwargs": kwargs} for type_, kwargs in checks]
    (folder / "mine.suite.json").write_text(json.dumps({"name": "mine", "expectations": expectations}))
    lake.add_contract(folder / "mine.avsc")


def on_day(day: int) -> Run:
    return Run(now_us=lambda: (DAYS + day) * US_PER_DAY)


@pytest.fixture
def lake(tmp_path: Path) -> reclake.Lake:
    """Two events in quarantine since day 0 (from a.jsonl), and a line that is no JSON since day 2 (from b.jsonl)."""
    lake = reclake.Lake.create(tmp_path / "lake", buckets=2)
    evolve(lake, tmp_path, ["click"])
    rows = [ROW | {"event_id": str(n), "event_type": kind, "watch_ms": n} for n, kind in enumerate(["view", "swipe"])]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "b.jsonl").write_text("{broken\n")
    lake.ingest("mine", tmp_path / "a.jsonl", run=on_day(0))
    lake.ingest("mine", tmp_path / "b.jsonl", run=on_day(2))
    return lake


def test_a_row_that_is_rejected_again_keeps_its_history(lake: reclake.Lake, tmp_path: Path) -> None:
    row = outstanding(lake.catalog)["quarantine_id"][1]
    lake.replay("mine", run=on_day(3))
    assert history_of(lake.catalog, row).is_empty()  # the same again is no news
    evolve(lake, tmp_path, ["click", "view"])
    for day in (4, 5):
        lake.replay("mine", run=on_day(day))
    evolve(lake, tmp_path, ["click", "view"], watch_ms_max=0)
    lake.replay("mine", run=on_day(6))
    evolve(lake, tmp_path, ["click", "view", "swipe"])
    lake.replay("mine", run=on_day(7))
    told = history_of(lake.catalog, row)
    assert told["outcome"].to_list() == ["quarantined", "quarantined", "admitted"]
    assert told["contract_version"].to_list() == [2, 3, 4]
    assert [[r["column"] for r in reasons] for reasons in told["reasons"][:2]] == [
        ["event_type"],
        ["event_type", "watch_ms"],
    ]
    assert {r["got"] for reasons in told["reasons"][:2] for r in reasons} == {None}
    assert sorted(lake.catalog.table("events").scan().collect()["event_id"]) == ["0", "1"]
    assert outstanding(lake.catalog).height == 1  # the broken line


def test_rows_are_shown_as_they_read(lake: reclake.Lake, tmp_path: Path) -> None:
    first, _, broken = decoded(lake.catalog, outstanding(lake.catalog))
    assert broken is None
    assert first is not None
    assert {name: first[name] for name in ("event_id", "event_type", "watch_ms")} == {
        "event_id": "0",
        "event_type": "view",
        "watch_ms": 0,
    }


def test_old_rows_leave_and_every_one_stays_accounted_for(lake: reclake.Lake, tmp_path: Path) -> None:
    evolve(lake, tmp_path, ["click", "view"])
    lake.replay("mine", run=on_day(3))
    before = (DAYS + 1) * US_PER_DAY
    with deriving(lake.catalog.root), pytest.raises(LakeBusyError):
        expire(lake.catalog, before_us=before, run=on_day(5))
    assert expire(lake.catalog, before_us=before, contract="mine", run=on_day(5)) == Expired(waiting=1, settled=1)
    assert expire(lake.catalog, before_us=before, run=on_day(6)) == Expired(0, 0)
    assert outstanding(lake.catalog)["source"].str.ends_with("b.jsonl").to_list() == [True]
    assert lake.catalog.table("quarantine").scan().collect().height == 1
    gone = lake.catalog.table("replays").scan().filter(pl.col("outcome") != "quarantined").collect()
    assert sorted(gone["outcome"]) == ["admitted", "expired"]


def test_an_expiry_that_was_killed_before_the_bytes_went_is_finished(
    lake: reclake.Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    before = (DAYS + 1) * US_PER_DAY
    with monkeypatch.context() as patch:
        patch.setattr("reclake.pipelines.quarantine.retention.erase", killed)
        with pytest.raises(KeyboardInterrupt):
            expire(lake.catalog, before_us=before, run=on_day(5))
    assert outstanding(lake.catalog).height == 1
    expire(lake.catalog, before_us=before, run=on_day(5))
    assert lake.catalog.table("quarantine").scan().collect().height == 1
    assert lake.catalog.table("replays").scan().collect().height == 2


def test_the_list_is_narrowed_by_reason_source_and_day(lake: reclake.Lake, capsys: pytest.CaptureFixture[str]) -> None:
    def listed(*options: str) -> int:
        capsys.readouterr()
        assert main(["quarantine", "list", str(lake.catalog.root), *options, "--json"]) == 0
        rows: int = json.loads(capsys.readouterr().out)["rows"]
        return rows

    row = outstanding(lake.catalog).row(0, named=True)
    assert listed() == 3
    assert listed("--reason", "event_type") == listed("--source", row["source"]) == 2
    assert listed("--reason", "decode") == listed("--day", str(row["quarantined_at"].date()), "--source", "x") + 1 == 1
    assert listed("--day", str(row["quarantined_at"].date())) == 2
    assert main(["quarantine", "show", str(lake.catalog.root), row["quarantine_id"]]) == 0
    assert "decoded: event_id = 0" in capsys.readouterr().out


def test_a_verdict_names_the_version_of_its_rows_and_the_commit_its_verdict(lake: reclake.Lake, tmp_path: Path) -> None:
    evolve(lake, tmp_path, ["click", "view"])
    lake.replay("mine", run=on_day(3))
    with lake.writer("mine") as writer:
        written = writer.append(pl.DataFrame([ROW | {"event_id": "w"}]), producer="me", number=1)
    verdicts = lake.catalog.table("verdicts").scan().filter(pl.col("check") == "batch").collect()
    commits = {entry["version"]: entry for entry in lake.catalog.table("events").history()}
    assert verdicts.height == 4
    for verdict_id, version in verdicts.select("verdict_id", "table_version").iter_rows():
        said = commits[version]
        assert said.get("reclake.verdict_id") == verdict_id or f"reclake.verdict/{verdict_id}" in said
    assert written.version in verdicts["table_version"]


def test_a_replay_says_why_rows_are_still_out(
    lake: reclake.Lake, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evolve(lake, tmp_path, ["click", "view"])
    capsys.readouterr()
    assert main(["quarantine", "replay", str(lake.catalog.root), "mine"]) == 0
    told = capsys.readouterr().out
    assert "1 admitted + 2 still quarantined" in told
    assert "one of click, view" in told
    assert "swipe" in told
    assert f"more: reclake quarantine list {lake.catalog.root} --contract mine" in told
    (finding,) = lake.replay("mine").findings
    assert (finding.column, finding.rows, finding.went) == ("event_type", 1, "quarantine")


def test_the_list_names_one_of_its_rows(lake: reclake.Lake, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["quarantine", "list", str(lake.catalog.root), "--json"]) == 0
    one = json.loads(capsys.readouterr().out)["one_of_them"]
    assert main(["quarantine", "show", str(lake.catalog.root), one, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"][0]["quarantine_id"] == one
