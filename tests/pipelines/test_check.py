"""What a gate would say of a file, and what it says when it stops: the same short table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import reclake
from reclake.cli.main import main
from reclake.pipelines.check import check
from reclake.schemas.errors import ContractError, GateError, MappingError, SourceError

AVSC = Path(reclake.__file__).parent / "schemas" / "contracts" / "events.avsc"
ROW = {"user_id": 1, "item_id": 2, "event_type": "view", "event_time": 1, "available_at": "2024-03-01T00:00:00Z"}


def lake_of(folder: Path, severity: str, **policy: Any) -> reclake.Lake:
    lake = reclake.Lake.create(folder / "lake", buckets=2)
    (folder / "mine.avsc").write_text(AVSC.read_text())
    checks = [
        ("expect_column_values_to_be_in_set", {"column": "event_type", "value_set": ["view"]}),
        ("expect_column_values_to_be_between", {"column": "watch_ms", "min_value": 0}),
    ]
    expectations = [{"type": type_, "kwargs": kwargs, "meta": {"severity": severity}} for type_, kwargs in checks]
    (folder / "mine.suite.json").write_text(json.dumps({"name": "mine", "expectations": expectations}))
    (folder / "mine.contract.json").write_text(json.dumps(policy))
    lake.add_contract(folder / "mine.avsc")
    return lake


def file_of(folder: Path, kinds: list[str], **more: Any) -> Path:
    rows = [ROW | {"event_id": str(n), "event_type": kind} | more for n, kind in enumerate(kinds)]
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder / "rows.jsonl"


def test_a_check_and_an_ingest_find_the_same(tmp_path: Path) -> None:
    lake, path = lake_of(tmp_path, "error"), file_of(tmp_path, ["view", "swipe"])
    would = check(lake.catalog, lake.catalog.contract("mine"), [path])
    did = lake.ingest("mine", path)
    assert would.findings == did.findings
    assert [(one.column, one.rows, one.observed, one.went) for one in did.findings] == [
        ("event_type", 1, '1 of 2 rows, e.g. "swipe"', "quarantine"),
        ("watch_ms", 0, "not evaluated: the source has no column watch_ms", "table"),
    ]


def test_a_critical_check_of_a_column_that_the_source_lacks_stops_with_a_table(tmp_path: Path) -> None:
    lake, path = lake_of(tmp_path, "critical"), file_of(tmp_path, ["view"])
    assert check(lake.catalog, lake.catalog.contract("mine"), [path]).verdict == "stop"
    with pytest.raises(GateError) as caught:
        lake.ingest("mine", path)
    assert caught.value.table[1].split()[:3] == ["expect_column_values_to_be_between", "watch_ms", "critical"]
    assert "reclake contract check" in str(caught.value)
    assert str(caught.value).splitlines()[-1].endswith("nowhere")
    assert lake.ingest("mine", file_of(tmp_path, ["view"], watch_ms=1)).admitted == 1


def test_events_of_a_batch_that_would_be_stopped_are_counted_as_that(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lake, path = lake_of(tmp_path, "critical"), file_of(tmp_path, ["view", "swipe", "swipe"], watch_ms=1)
    capsys.readouterr()
    assert main(["contract", "check", str(lake.catalog.root), "mine", str(path)]) == 1
    line = "3 events = 0 would be admitted + 0 quarantined + 3 of batches that would be stopped; nothing was written"
    assert line in capsys.readouterr().out
    result = check(lake.catalog, lake.catalog.contract("mine"), [path])
    assert (result.read, result.admitted, result.quarantined, result.stopped) == (3, 0, 0, 3)


def test_more_quarantined_rows_than_the_contract_allows_stop_the_batch(tmp_path: Path) -> None:
    lake = lake_of(tmp_path, "error", quarantine_limit_rows=1)
    assert lake.catalog.contract("mine").quarantine_limit_rows == 1
    assert lake.ingest("mine", file_of(tmp_path, ["view", "swipe"])).quarantined == 1
    with pytest.raises(GateError, match="limit of 1 rows"):
        lake.ingest("mine", file_of(tmp_path, ["swipe", "swipe"]))
    (tmp_path / "mine.contract.json").write_text('{"quarantine_limit_rows": -1}')
    with pytest.raises(ContractError, match="quarantine limit in rows"):
        lake.add_contract(tmp_path / "mine.avsc")


def test_a_profile_writes_a_suite_that_the_contract_takes_and_that_admits_its_data(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lake = lake_of(tmp_path, "error")
    rows = [ROW | {"event_id": f"e{n}", "watch_ms": n, "event_type": "view"} for n in range(200)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    out, arguments = tmp_path / "new.suite.json", ["contract", "profile", str(lake.catalog.root), "mine"]
    arguments += [str(tmp_path / "rows.jsonl"), "--out", str(out)]
    assert main(arguments) == 0
    assert "never negative in 200 values" not in capsys.readouterr().out  # the contract has that check
    expectations = json.loads(out.read_text())["expectations"]
    assert [one["kwargs"]["column"] for one in expectations[:2]] == ["event_type", "watch_ms"]
    assert all(one["notes"] for one in expectations[2:])
    assert main(arguments) == 1  # what is there is not written over
    out.replace(tmp_path / "mine.suite.json")
    lake.add_contract(tmp_path / "mine.avsc")
    assert check(lake.catalog, lake.catalog.contract("mine"), [tmp_path / "rows.jsonl"]).quarantined == 0


def test_files_that_hold_nothing_of_their_kind_are_refused_in_words_of_ours(tmp_path: Path) -> None:
    names = ("event_id", "user_id", "item_id", "event_type", "event_time")
    lake = lake_of(tmp_path, "error", mapping={"emit": [{"fields": {name: name for name in names}}]})
    contract = lake.catalog.contract("mine")
    (tmp_path / "junk.csv").write_bytes(b"\x80\x81,\xfe\n1,2\n")
    with pytest.raises(SourceError, match="bytes that are no UTF-8"):
        check(lake.catalog, contract, [tmp_path / "junk.csv"])
    (tmp_path / "lists.jsonl").write_text("[1, 2]\n")
    with pytest.raises(MappingError, match="of this source no row has any"):
        check(lake.catalog, contract, [tmp_path / "lists.jsonl"])


@pytest.mark.parametrize("severity", ["critical", "warning"])
def test_a_file_without_a_row_is_an_empty_batch(tmp_path: Path, severity: str) -> None:
    lake = lake_of(tmp_path, "error")
    count = {"type": "expect_table_row_count_to_be_between", "kwargs": {"min_value": 1}, "meta": {"severity": severity}}
    (tmp_path / "mine.suite.json").write_text(json.dumps({"name": "mine", "expectations": [count]}))
    lake.add_contract(tmp_path / "mine.avsc")
    pl.DataFrame([ROW | {"event_id": "a"}]).clear().write_parquet(tmp_path / "none.parquet")
    (tmp_path / "none.csv").write_text("event_id,user_id,item_id,event_type,event_time,available_at\n")
    for name in ("none.parquet", "none.csv"):
        would = check(lake.catalog, lake.catalog.contract("mine"), [tmp_path / name])
        assert [(one.expected, one.observed) for one in would.findings] == [("rows >= 1", "0")]
        if severity == "warning":
            assert (would.verdict, lake.ingest("mine", tmp_path / name).findings) == ("warn", would.findings)
            continue
        assert would.verdict == "stop"
        with pytest.raises(GateError, match="expected rows >= 1, got 0"):
            lake.ingest("mine", tmp_path / name)
    if severity == "critical":
        verdicts = lake.catalog.table("verdicts").scan().filter(check="batch").collect()
        assert verdicts.select("verdict", "evaluated", "admitted").rows() == [("stop", 0, 0)] * 2
    assert lake.catalog.table("events").scan().collect().is_empty()
