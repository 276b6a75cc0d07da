"""References: a suite holds a batch against ids and distributions of the lake's tables, pinned or as they are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import reclake
from reclake.pipelines.check import check
from reclake.schemas.errors import PinError, SuiteError

AVSC = Path(reclake.__file__).parent / "schemas" / "contracts" / "events.avsc"
IN_REFERENCE, DRIFT = "expect_column_values_to_be_in_reference", "expect_column_drift_to_be_less_than"
SEEN = {"table": "events", "column": "item_id"}


def register(lake: reclake.Lake, folder: Path, *checks: tuple[str, dict[str, Any]]) -> None:
    (folder / "mine.avsc").write_text(AVSC.read_text())
    expectations = [{"type": type_, "kwargs": kwargs} for type_, kwargs in checks]
    (folder / "mine.suite.json").write_text(json.dumps({"name": "mine", "expectations": expectations}))
    lake.add_contract(folder / "mine.avsc")


def file_of(folder: Path, items: list[int], day: int = 1) -> Path:
    row = {"user_id": 1, "event_type": "view", "event_time": 1, "available_at": f"2024-03-0{day}T00:00:00Z"}
    name = folder / f"{'-'.join(map(str, items[:9]))}.jsonl"
    lines = [json.dumps(row | {"event_id": f"{name.stem} {n}", "item_id": item}) for n, item in enumerate(items)]
    name.write_text("\n".join(lines))
    return name


@pytest.fixture
def lake(tmp_path: Path) -> reclake.Lake:
    """A lake with events about items 1, 2 and 3, pinned as `then`, and about item 4 since."""
    lake = reclake.Lake.create(tmp_path / "lake", buckets=2)
    register(lake, tmp_path)
    lake.ingest("mine", file_of(tmp_path, [1, 2, 3, 3]))
    lake.seal(through="2024-03-02T00:00:00Z")
    lake.pin("then")
    lake.ingest("mine", file_of(tmp_path, [4], day=2))
    return lake


def test_ids_that_another_table_does_not_know_are_quarantined(lake: reclake.Lake, tmp_path: Path) -> None:
    register(lake, tmp_path, (IN_REFERENCE, {"column": "item_id", "reference": SEEN | {"pin": "then"}}))
    result = lake.ingest("mine", file_of(tmp_path, [1, 3, 4, 5]))
    assert (result.admitted, result.quarantined) == (2, 2)
    (finding,) = result.findings
    assert (finding.expected, finding.rows) == ("one of 3 values of events.item_id at pin then", 2)


def test_without_a_pin_the_table_is_read_as_it_is_when_a_run_begins(lake: reclake.Lake, tmp_path: Path) -> None:
    register(lake, tmp_path, (IN_REFERENCE, {"column": "item_id", "reference": SEEN}))
    path = file_of(tmp_path, [1, 4, 5])
    assert check(lake.catalog, lake.catalog.contract("mine"), [path]).quarantined == 1
    register(lake, tmp_path)
    lake.ingest("mine", file_of(tmp_path, [5]))
    register(lake, tmp_path, (IN_REFERENCE, {"column": "item_id", "reference": SEEN}))
    assert lake.ingest("mine", path).admitted == 3


def test_drift_is_measured_against_a_pinned_table(lake: reclake.Lake, tmp_path: Path) -> None:
    lake.unpin("then")
    lake.ingest("mine", file_of(tmp_path, [n % 10 for n in range(200)]))
    lake.pin("week")
    reference = {"table": "events", "column": "item_id", "pin": "week"}
    register(lake, tmp_path, (DRIFT, {"column": "item_id", "threshold": 0.25, "reference": reference}))
    contract = lake.catalog.contract("mine")
    assert check(lake.catalog, contract, [file_of(tmp_path, list(range(10)) * 20)]).verdict == "pass"
    (finding,) = check(lake.catalog, contract, [file_of(tmp_path, [9] * 200)]).findings
    assert finding.expected == "psi < 0.25"


def test_drift_is_measured_against_the_last_days(lake: reclake.Lake, tmp_path: Path) -> None:
    for day, items in ((3, [5] * 200), (4, [6] * 100), (5, [7] * 100)):
        lake.ingest("mine", file_of(tmp_path, items, day=day))
    reference = {"table": "events", "column": "item_id", "days": 2}
    register(lake, tmp_path, (DRIFT, {"column": "item_id", "threshold": 0.25, "reference": reference}))
    contract, days = lake.catalog.contract("mine"), file_of(tmp_path, [6, 7] * 100, day=6)
    assert check(lake.catalog, contract, [days]).verdict == "pass"
    lake.ingest("mine", file_of(tmp_path, [8] * 400, day=6))
    (finding,) = check(lake.catalog, contract, [days]).findings
    assert finding.expected == "psi < 0.25"


def test_a_suite_of_a_table_that_is_published_may_have_references(lake: reclake.Lake, tmp_path: Path) -> None:
    expectation = {"type": IN_REFERENCE, "kwargs": {"column": "item_id", "reference": SEEN | {"pin": "then"}}}
    path = tmp_path / "timelines.suite.json"
    path.write_text(
        json.dumps({"name": "timelines", "expectations": [expectation | {"meta": {"severity": "warning"}}]})
    )
    lake.add_suite(path)
    lake.seal(through="2024-03-03T00:00:00Z")
    verdicts = lake.catalog.table("verdicts").scan().collect()
    (failed,) = verdicts.filter(verdicts["check"] == IN_REFERENCE)["unexpected"].to_list()
    assert failed == 1


@pytest.mark.parametrize(
    ("reference", "told"),
    [
        ({"table": "evnts", "column": "item_id"}, "a table that is not there"),
        ({"table": "events", "column": "itm"}, "a column that does not exist"),
        ({"table": "events"}, "not a reference to a table"),
        ({"table": "events", "column": "item_id", "version": 3}, "not a reference to a table"),
        ({"table": "events", "column": "item_id", "days": 0}, "not a reference to a table"),
        ({"table": "directory", "column": "user_id", "days": 7}, "does not say when"),
        ({"table": "events", "column": "event_type"}, "not a reference for column item_id"),
    ],
    ids=str,
)
def test_a_reference_that_leads_nowhere_is_refused_when_it_is_registered(
    lake: reclake.Lake, tmp_path: Path, reference: dict[str, Any], told: str
) -> None:
    with pytest.raises(SuiteError, match=told):
        register(lake, tmp_path, (IN_REFERENCE, {"column": "item_id", "reference": reference}))


def test_a_pin_that_is_not_there_is_named(lake: reclake.Lake, tmp_path: Path) -> None:
    with pytest.raises(PinError, match="unknown pin"):
        register(lake, tmp_path, (IN_REFERENCE, {"column": "item_id", "reference": SEEN | {"pin": "nowhen"}}))
