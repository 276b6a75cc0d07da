"""Replay: after a contract or the data was mended, quarantined rows come in, each once, and all are accounted for."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import reclake
from reclake.pipelines.quarantine.replay import ReplayResult, outcomes, outstanding, replay
from reclake.pipelines.run import Run
from reclake.schemas import contract as contracts
from reclake.schemas.contract import Contract
from reclake.storage import parquet
from reclake.storage.table import Table

AVSC = Path(reclake.__file__).parent / "schemas" / "contracts" / "events.avsc"
ROW = {"user_id": 1, "item_id": 2, "event_type": "view", "event_time": 1, "available_at": "2024-03-01T00:00:00Z"}


def contract(folder: Path, allowed: list[str]) -> Path:
    (folder / "mine.avsc").write_text(AVSC.read_text())
    check = {"type": "expect_column_values_to_be_in_set", "kwargs": {"column": "event_type", "value_set": allowed}}
    (folder / "mine.suite.json").write_text(json.dumps({"name": "mine", "expectations": [check]}))
    return folder / "mine.avsc"


def test_rows_come_in_once_after_the_contract_was_mended(tmp_path: Path) -> None:
    lake = reclake.Lake.create(tmp_path / "lake", buckets=2)
    lake.add_contract(contract(tmp_path, ["click"]))
    kinds = ["click", "view", "swipe", "view"]
    rows = [ROW | {"event_id": str(n % 3), "event_type": kind} for n, kind in enumerate(kinds)]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n{broken\n")
    first = lake.ingest("mine", tmp_path / "a.jsonl")
    assert (first.read, first.admitted, first.quarantined) == (5, 1, 4)

    lake.add_contract(contract(tmp_path, ["click", "view"]))
    again = lake.replay("mine")
    # Event 0 came twice, as a click and as a view; 1 is new; the swipe and the broken line stay out.
    assert (again.read, again.admitted, again.duplicates, again.quarantined) == (4, 1, 1, 2)
    assert lake.replay("mine").read == 2
    assert outstanding(lake.catalog).height == 2
    assert sorted(lake.catalog.table("events").scan().collect()["event_id"]) == ["0", "1"]
    replayed = (pl.col("source") == "quarantine") & (pl.col("check") == "batch")
    verdicts = lake.catalog.table("verdicts").scan().filter(replayed)
    counts = verdicts.select("evaluated", "admitted", "unexpected", "duplicates").collect().rows()
    assert sorted(counts) == [(2, 0, 2, 0), (4, 1, 2, 1)]


def test_a_budget_bounds_what_comes_in_and_holds_back_no_row_that_was_mended(tmp_path: Path) -> None:
    lake = reclake.Lake.create(tmp_path / "lake", buckets=2)
    (tmp_path / "mine.contract.json").write_text('{"quarantine_limit": 0.5, "quarantine_limit_rows": 1}')
    lake.add_contract(contract(tmp_path, ["click"]))
    for n, kind in enumerate(["view", "swipe", "swipe"]):
        rows = [ROW | {"event_id": f"{n}{m}", "event_type": k} for m, k in enumerate(["click", kind])]
        (tmp_path / f"{n}.jsonl").write_text("\n".join(map(json.dumps, rows)))
        assert lake.ingest("mine", tmp_path / f"{n}.jsonl").quarantined == 1
    lake.add_contract(contract(tmp_path, ["click", "view"]))
    again = lake.replay("mine")
    assert (again.read, again.admitted, again.quarantined) == (3, 1, 2)


def test_rows_whose_source_was_mended_and_read_again_are_duplicates_whatever_is_wrong_with_them(tmp_path: Path) -> None:
    lake = reclake.Lake.create(tmp_path / "lake", buckets=2)
    lake.add_contract(contract(tmp_path, ["click"]))
    kinds = ["click", "vieww", "swipe"]
    rows = [ROW | {"event_id": str(n), "event_type": kind} for n, kind in enumerate(kinds)]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert lake.ingest("mine", tmp_path / "a.jsonl").quarantined == 2
    rows[1]["event_type"] = "click"
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows[:2])))
    mended = lake.ingest("mine", tmp_path / "a.jsonl")
    assert (mended.admitted, mended.duplicates) == (1, 1)
    first, second = lake.replay("mine"), lake.replay("mine")
    assert (first.read, first.admitted, first.quarantined, first.duplicates) == (2, 0, 1, 1)
    assert [(one.column, one.rows, one.evaluated) for one in first.findings] == [("event_type", 1, 1)]
    assert (second.read, second.quarantined) == (1, 1)
    events = lake.catalog.table("events").scan().select("event_id", "event_type").sort("event_id").collect()
    assert events.rows() == [("0", "click"), ("1", "click")]


@pytest.mark.parametrize("bounds", [{}, {"meta": {"severity": "critical", "bounds": {"from": "history", "least": 3}}}])
def test_a_check_of_a_whole_batch_is_recorded_of_a_replay_and_holds_back_no_row_that_was_mended(
    tmp_path: Path, bounds: dict[str, Any]
) -> None:
    def add(allowed: list[str]) -> None:
        path = contract(tmp_path, allowed)
        suite = json.loads((tmp_path / "mine.suite.json").read_text())
        count = {"type": "expect_table_row_count_to_be_between", "kwargs": {"min_value": 3}}
        suite["expectations"].append(count | {"meta": {"severity": "critical"}} | bounds)
        (tmp_path / "mine.suite.json").write_text(json.dumps(suite))
        lake.add_contract(path)

    lake = reclake.Lake.create(tmp_path / "lake", buckets=2)
    add(["click"])
    rows = [
        ROW | {"event_id": str(n), "event_type": kind} for n, kind in enumerate(["click", "click", "click", "view"])
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert lake.ingest("mine", tmp_path / "a.jsonl").quarantined == 1
    add(["click", "view"])
    again = lake.replay("mine")
    assert (again.read, again.admitted) == (1, 1)
    (finding,) = again.findings
    assert (finding.severity, finding.observed, finding.went) == ("warning", "1", "table")
    verdict = lake.catalog.table("verdicts").scan().filter(pl.col("source") == "quarantine").collect()
    assert set(verdict["verdict"]) == {"warn"}
    assert verdict.filter(pl.col("check") == finding.check)["severity"].to_list() == ["warning"]


def test_a_verdict_has_an_id_of_its_own_however_often_nothing_came_of_it(tmp_path: Path) -> None:
    lake = reclake.Lake.create(tmp_path / "lake", buckets=2)
    lake.add_contract(contract(tmp_path, ["click"]))
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps(ROW | {"event_id": str(n)}) for n in range(2)))
    lake.ingest("mine", tmp_path / "a.jsonl")
    for day in (1, 2, 3):
        assert lake.replay("mine", run=Run(now_us=lambda day=day: day)).quarantined == 2
    lake.add_contract(contract(tmp_path, ["view"]))
    assert lake.replay("mine").admitted == 2
    batches = (
        lake.catalog.table("verdicts").scan().filter(pl.col("check") == "batch").sort("at", "table_version").collect()
    )
    assert batches["verdict_id"].n_unique() == batches.height == 5
    without = batches.filter(pl.col("table_version").is_null())
    assert without["verdict_id"].to_list() == [f"replay/mine-1-at-{day}" for day in (1, 2, 3)]


def test_rows_that_a_critical_check_keeps_out_of_a_replay_are_in_no_version(tmp_path: Path) -> None:
    lake = reclake.Lake.create(tmp_path / "lake", buckets=2)
    lake.add_contract(contract(tmp_path, ["click"]))
    (tmp_path / "a.jsonl").write_text(json.dumps(ROW | {"event_id": "a"}))
    lake.ingest("mine", tmp_path / "a.jsonl")
    path = contract(tmp_path, ["click"])
    suite = json.loads((tmp_path / "mine.suite.json").read_text())
    suite["expectations"][0]["meta"] = {"severity": "critical"}
    (tmp_path / "mine.suite.json").write_text(json.dumps(suite))
    lake.add_contract(path)
    again = lake.replay("mine")
    assert (again.read, again.admitted, again.quarantined) == (1, 0, 1)
    verdict = lake.catalog.table("verdicts").scan().filter(pl.col("source") == "quarantine").collect()
    assert set(verdict["verdict"]) == {"stop"}
    assert verdict["table_version"].null_count() == verdict.height


def test_a_row_that_is_rejected_in_part_stays_out_as_a_whole() -> None:
    ids = pl.Series(["a", "b", "c", "d"])
    placed = pl.DataFrame({"_row": [0, 0, 1], "_outcome": ["admitted", "duplicate", "admitted"]})
    found = outcomes(ids, np.array([0, 2, 3]), placed, pl.Series([1]))
    assert found["outcome"].to_list() == ["admitted", "quarantined", "quarantined", "quarantined"]


class Killed(BaseException):
    """The process ends here."""


def watch(monkeypatch: pytest.MonkeyPatch, step: Callable[[], None]) -> None:
    """`step()` before and after every file written and every commit made."""

    def watched(function: Callable[..., Any]) -> Callable[..., Any]:
        def around(*args: Any, **options: Any) -> Any:
            step()
            result = function(*args, **options)
            step()
            return result

        return around

    monkeypatch.setattr(parquet, "write", watched(parquet.write))
    monkeypatch.setattr(Table, "_commit", watched(Table._commit))


def refused(folder: Path, events: int = 20) -> reclake.Lake:
    """A lake with a quarantine that the contract as it is now would mostly admit; some rows repeat an event."""
    lake = reclake.Lake.create(folder / "lake", buckets=2)
    lake.add_contract(contract(folder, ["click"]))
    rows = [ROW | {"event_id": str(n % (events - 5)), "event_type": "view"} for n in range(events)]
    rows += [ROW | {"event_id": "a swipe", "event_type": "swipe"}]
    (folder / "a.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n{broken\n")
    assert lake.ingest("mine", folder / "a.jsonl").quarantined == events + 2
    lake.add_contract(contract(folder, ["click", "view"]))
    return lake


def books(lake: reclake.Lake) -> dict[str, Any]:
    """What the lake says of its replays, but for when and in which runs they were."""
    catalog = lake.catalog
    replayed = catalog.table("verdicts").scan().filter(pl.col("source") == "quarantine", pl.col("check") == "batch")
    sums = replayed.select(pl.col("evaluated", "admitted", "unexpected", "duplicates").sum())
    ledger = catalog.table("replays").scan().select("quarantine_id", "outcome")
    return {
        "events": sorted(catalog.table("events").scan().collect()["event_id"]),
        "ledger": sorted(ledger.collect().rows()),
        "verdicts": sums.collect().rows(),
        "waiting": sorted(outstanding(catalog)["quarantine_id"]),
    }


@pytest.mark.parametrize("batch_rows", [100, pytest.param(9, marks=pytest.mark.slow)])
def test_a_replay_that_is_killed_anywhere_and_run_again_settles_every_row_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch_rows: int
) -> None:
    moment = Run(id="test", now_us=lambda: 1_800_000_000_000_000)
    whole = refused(tmp_path)
    shutil.copytree(whole.catalog.root, tmp_path / "before")
    passed = 0

    def count() -> None:
        nonlocal passed
        passed += 1

    with monkeypatch.context() as watched:
        watch(watched, count)
        result = replay(whole.catalog, "mine", run=moment, batch_rows=batch_rows)
    assert (result.read, result.admitted, result.duplicates, result.quarantined) == (22, 15, 5, 2)
    expected = books(whole)
    assert expected["verdicts"] == [(22, 15, 2, 5)]
    for point in range(passed):
        shutil.rmtree(tmp_path / "lake")
        shutil.copytree(tmp_path / "before", tmp_path / "lake")
        lake, left = reclake.Lake.open(tmp_path / "lake"), point

        def kill() -> None:
            nonlocal left
            if left == 0:
                raise Killed
            left -= 1

        with monkeypatch.context() as watched:
            watch(watched, kill)
            with pytest.raises(Killed):
                replay(lake.catalog, "mine", run=moment, batch_rows=batch_rows)
        replay(lake.catalog, "mine", run=moment, batch_rows=batch_rows)
        assert books(lake) | {"verdicts": None} == expected | {"verdicts": None}, point
        # Whatever was read twice was found to be still refused: what came in and what was a duplicate is counted once.
        ((read, admitted, still, duplicates),) = books(lake)["verdicts"]
        assert (admitted, duplicates) == (15, 5), point
        assert read == admitted + still + duplicates


def test_two_replays_at_once_settle_every_row_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lake = refused(tmp_path)
    others: list[ReplayResult] = []

    def other() -> None:
        if not others:
            others.append(ReplayResult(0, 0, 0, 0, 0))
            others.append(lake.replay("mine"))

    with monkeypatch.context() as watched:
        watch(watched, other)
        mine = lake.replay("mine")
    assert (mine.admitted + others[1].admitted, mine.duplicates + others[1].duplicates) == (15, 5)
    ledger = books(lake)["ledger"]
    assert ledger == sorted(set(ledger))
    # Another version than the first rejected the two that stay, which is a line of their history.
    assert [outcome for _, outcome in ledger].count("quarantined") == 2
    assert len(ledger) == 22


def test_the_same_replay_again_changes_nothing_but_the_number_of_verdicts(tmp_path: Path) -> None:
    lake = refused(tmp_path)
    lake.replay("mine")
    before, version = books(lake), lake.catalog.table("events").version
    again = lake.replay("mine")
    assert (again.read, again.admitted, again.duplicates, again.quarantined) == (2, 0, 0, 2)
    assert books(lake) | {"verdicts": None} == before | {"verdicts": None}
    assert lake.catalog.table("events").version == version


def test_rows_that_have_nothing_of_what_a_mapping_reads_stay_out_and_hold_nothing_up(tmp_path: Path) -> None:
    fields = {"event_id": "concat(u, '-', t)", "user_id": "u", "item_id": "u", "event_type": "kind"}
    fields |= {"event_time": "t * 1000000", "available_at": "t * 1000000"}
    (tmp_path / "mine.avsc").write_text(AVSC.read_text())
    (tmp_path / "mine.contract.json").write_text(json.dumps({"mapping": {"emit": [{"fields": fields}]}}))
    lake = reclake.Lake.create(tmp_path / "lake", buckets=2)
    lake.add_contract(tmp_path / "mine.avsc")
    rows: list[dict[str, Any]] = [
        {"u": 1, "t": 1_709_251_200, "kind": "a"},
        {"x": 1},
        {"u": "one", "t": 1, "kind": "a"},
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert lake.ingest("mine", tmp_path / "a.jsonl").quarantined == 2
    for batch_rows in (1, 100):
        again = replay(lake.catalog, "mine", batch_rows=batch_rows)
        assert (again.read, again.quarantined) == (2, 2)


def several(allowed: list[str], *emits: tuple[str, str, str]) -> Contract:
    """A contract whose rows `{"s", "t", "p"}` are an event an entry: (its id's ending, its type, its condition)."""
    made = [
        {
            "when": when,
            "fields": {"event_id": f"concat(s, '-{end}')", "user_id": "t", "item_id": "t", "event_type": f"'{kind}'"}
            | {"event_time": "t", "available_at": "t"},
        }
        for end, kind, when in emits
    ]
    check = {"type": "expect_column_values_to_be_in_set", "kwargs": {"column": "event_type", "value_set": allowed}}
    suite = {"name": "mine", "expectations": [check]}
    return contracts.parse("mine", json.loads(AVSC.read_text()), suite=suite, policy={"mapping": {"emit": made}})


@pytest.mark.parametrize(
    ("later", "came", "left"),
    [
        ([("l", "like", "t > 0"), ("x", "view", "t > 0"), ("p", "buy", "p = 1")], "p", 0),  # others before it
        ([("p", "buy", "p = 1"), ("x", "view", "t > 0")], "p", 0),  # another order
        ([("x", "view", "t > 0"), ("p", "bought", "p = 1")], "p", 0),  # another type
        ([("l", "like", "t > 0"), ("x", "view", "t > 0"), ("q", "buy", "p = 1")], "q", 0),  # another id
        ([("l", "like", "t > 0"), ("x", "view", "t > 0")], "", 1),  # gone
        ([("p", "buy", "p = 1")], "p", 0),  # alone
    ],
)
def test_a_rejected_event_comes_in_wherever_the_mapping_has_it_by_now(
    tmp_path: Path, later: list[tuple[str, str, str]], came: str, left: int
) -> None:
    lake = reclake.Lake.create(tmp_path / "lake", buckets=2)
    lake.evolve(several(["view"], ("x", "view", "t > 0"), ("p", "buy", "p = 1")))
    rows = [{"s": "a", "t": 1, "p": 0}, {"s": "b", "t": 2, "p": 1}]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert lake.ingest("mine", tmp_path / "a.jsonl").quarantined == 1
    lake.evolve(several(["view", "buy", "bought", "like"], *later))
    again = lake.replay("mine")
    assert (again.read, again.admitted, again.quarantined) == (1, 1 - left, left)
    assert outstanding(lake.catalog).height == left
    ids = sorted(lake.scan("events").collect()["event_id"])
    assert ids == sorted(["a-x", "b-x", *([f"b-{came}"] if came else [])])


def test_a_row_that_could_give_one_event_gives_all_that_the_mapping_makes_of_it_now(tmp_path: Path) -> None:
    lake = reclake.Lake.create(tmp_path / "lake", buckets=2)
    lake.evolve(several(["view"], ("p", "buy", "p = 1")))
    (tmp_path / "a.jsonl").write_text(json.dumps({"s": "b", "t": 2, "p": 1}))
    assert lake.ingest("mine", tmp_path / "a.jsonl").quarantined == 1
    lake.evolve(several(["view", "buy"], ("x", "view", "t > 0"), ("p", "buy", "p = 1")))
    again = lake.replay("mine")
    assert (again.read, again.admitted, again.quarantined) == (1, 1, 0)
    assert sorted(lake.scan("events").collect()["event_id"]) == ["b-p", "b-x"]
