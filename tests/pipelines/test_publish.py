"""Write, audit, publish: a partition is judged as a whole while nobody can see it, and then seen at once or never."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from deltalake import DeltaTable

import reclake
from reclake.cli.main import main
from reclake.pipelines import ordinals, publish, seal
from reclake.pipelines.doctor import examine
from reclake.pipelines.run import Run
from reclake.quality import gate
from reclake.quality.audit import Audit
from reclake.quality.suite import compile_suite
from reclake.schemas.errors import GateError, SuiteError
from reclake.schemas.times import US_PER_DAY, to_us
from reclake.storage.table import Commit, Staged, Table

START = to_us("2024-03-01")
NOW = Run(id="test", now_us=lambda: START + 10 * US_PER_DAY)
ROWS, DAYS = 600, 2

Check = tuple[str, dict[str, Any], str]


@pytest.fixture
def lake(tmp_path: Path) -> reclake.Lake:
    """300 events a day, one in three a click, of 30 users in four buckets."""
    made = reclake.Lake.create(tmp_path / "lake", buckets=4)
    place = pl.int_range(ROWS, eager=True)
    time = START + place * (DAYS * US_PER_DAY // ROWS)
    frame = pl.DataFrame({"event_id": place, "user_id": place % 30, "item_id": place % 7, "event_time": time})
    frame = frame.with_columns(
        pl.format("e{}", "event_id").alias("event_id"),
        pl.when(place % 3 == 1).then(pl.lit("click")).otherwise(pl.lit("exposure")).alias("event_type"),
        pl.col("event_time").alias("available_at"),
    )
    frame.write_parquet(tmp_path / "events.parquet")
    made.ingest("events", tmp_path / "events.parquet", run=NOW)
    return made


@pytest.fixture
def in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every bucket is a part of its own."""
    monkeypatch.setattr(seal, "ROWS_AT_ONCE", 1)


def expect(lake: reclake.Lake, folder: Path, name: str, *checks: Check) -> int:
    """Register a suite for a derived table; its version."""
    expectations = [{"type": t, "kwargs": k, "meta": {"severity": s}} for t, k, s in checks]
    path = folder / f"{name}.suite.json"
    path.write_text(json.dumps({"name": name, "expectations": expectations}))
    return lake.add_suite(path)[1]


def verdicts(lake: reclake.Lake, table: str) -> pl.DataFrame:
    return lake.catalog.table("verdicts").scan().filter(pl.col("table") == table).sort("source", "check").collect()


def files(table: Table) -> set[str]:
    """The data files that lie below a table, whether or not anybody can read them."""
    return {str(path) for path in Path(table.uri).rglob("*.parquet") if "_delta_log" not in path.parts}


def rows_between(low: int, high: int) -> Check:
    return "expect_table_row_count_to_be_between", {"min_value": low, "max_value": high}, "critical"


def test_a_check_of_the_batch_looks_at_all_rows_of_an_era_and_not_at_each_part(
    lake: reclake.Lake, in_parts: None, tmp_path: Path
) -> None:
    mean = "expect_column_mean_to_be_between", {"column": "item_id", "min_value": 2.9, "max_value": 3.1}, "critical"
    assert expect(lake, tmp_path, "timelines", rows_between(300, 300), mean) == 2
    assert lake.seal(run=NOW).rows == ROWS
    assert len(files(lake.catalog.table("timelines"))) == 2 * 4
    found = verdicts(lake, "timelines").filter(pl.col("check") == "expect_table_row_count_to_be_between")
    assert found["value"].to_list() == [300.0, 300.0]
    assert found["contract_version"].to_list() == [2, 2]


def test_rows_of_two_parts_are_compared_with_each_other(lake: reclake.Lake, in_parts: None, tmp_path: Path) -> None:
    # Every user has each ordinal once, so it is the parts' users together that have it twice.
    unique = "expect_column_values_to_be_unique", {"column": "ordinal"}, "error"
    expect(lake, tmp_path, "timelines", unique)
    with pytest.raises(
        GateError, match="expect_column_values_to_be_unique of ordinal: expected unique, got 300 of 300"
    ):
        lake.seal(run=NOW)


def test_what_a_part_can_answer_is_counted_over_all_parts(lake: reclake.Lake, in_parts: None, tmp_path: Path) -> None:
    clicks = "expect_column_values_to_be_in_set", {"column": "event_type", "value_set": ["exposure"]}, "warning"
    expect(lake, tmp_path, "timelines", clicks)
    lake.seal(run=NOW)
    found = verdicts(lake, "timelines").filter(pl.col("check") == clicks[0])
    assert found.select("evaluated", "unexpected", "success", "verdict").rows() == [(300, 100, False, "warn")] * 2
    assert found["observed"].to_list() == ['100 of 300 rows, e.g. "click"'] * 2


def test_an_era_that_is_not_as_expected_is_discarded_with_its_verdict_and_sealed_once_it_is(
    lake: reclake.Lake, in_parts: None, tmp_path: Path
) -> None:
    timelines, directory = lake.catalog.table("timelines"), lake.catalog.table("directory")
    expect(lake, tmp_path, "timelines", rows_between(1_000, 2_000))
    with pytest.raises(GateError, match="it was discarded") as refused:
        lake.seal(run=NOW)
    assert any("expect_table_row_count_to_be_between" in line for line in refused.value.table)
    assert files(timelines) == set()
    assert (lake.catalog.sealed_through_us, directory.exists) == (None, False)
    told = verdicts(lake, "timelines")
    assert told.select("verdict", "table_version").unique().rows() == [("stop", None)]
    assert told.filter(pl.col("check") == "batch").select("evaluated", "admitted").rows() == [(300, 0)]
    assert expect(lake, tmp_path, "timelines", rows_between(100, 2_000)) == 3
    assert lake.seal(run=NOW).rows == ROWS
    assert [finding for finding in examine(lake.catalog) if not finding.kept] == []


def test_samples_that_are_not_as_expected_leave_those_that_were_there(lake: reclake.Lake, tmp_path: Path) -> None:
    lake.seal(through="2024-03-02", run=NOW)
    table = lake.catalog.table("samples/ctr")
    expect(lake, tmp_path, "ctr", rows_between(1_000, 2_000))
    with pytest.raises(GateError, match="it was discarded"):
        lake.samples("ctr", day="2024-03-01", run=NOW)
    assert not table.exists
    assert files(table) == set()
    expect(lake, tmp_path, "ctr", rows_between(1, 2_000))
    first = lake.samples("ctr", day="2024-03-01", run=NOW)
    lake.seal(run=NOW)  # labels of the first day are final now, so it would be made again
    expect(lake, tmp_path, "ctr", rows_between(1_000, 2_000))
    with pytest.raises(GateError, match="it was discarded"):
        lake.samples("ctr", day="2024-03-01", run=NOW)
    assert table.version == first.version
    assert table.scan().collect().height == first.rows


def test_rows_of_a_part_go_into_a_table_with_the_gates_answer_for_the_whole_and_no_other_way(
    lake: reclake.Lake,
) -> None:
    table = lake.catalog.table("events")
    schema, before = table.schema(), table.scan().collect()
    asked = {"type": "expect_table_row_count_to_equal", "kwargs": {"value": 9_999}, "meta": {"severity": "critical"}}
    audit = Audit.of(compile_suite({"expectations": [asked]}, schema, name="t"), apart=None)
    held, seen = audit.look(before.head(3).select(schema.names).to_arrow(), schema, name="t")
    with pytest.raises(TypeError, match="only the gate"):
        gate.Held(held.rows)
    answer = audit.judge([seen], pl.LazyFrame(), schema, contract="t", contract_version=1, verdict_id="v")
    staged = [table.stage(held)]
    with pytest.raises(TypeError, match="held are published"):
        table.commit(staged, Commit())
    with pytest.raises(GateError, match="stopped"):
        table.publish(staged, answer, Commit())
    assert table.scan().collect().equals(before)


def test_the_suite_beside_a_recipe_is_registered_with_it(lake: reclake.Lake, tmp_path: Path) -> None:
    lake.seal(run=NOW)
    recipe = {"name": "mine", "exposure": "exposure", "labels": {"click": {"event_type": "click", "window": "1h"}}}
    (tmp_path / "mine.json").write_text(json.dumps(recipe))
    check = {"type": "expect_column_mean_to_be_between", "kwargs": {"column": "click", "max_value": 1}}
    suite = {"name": "mine", "expectations": [check]}
    (tmp_path / "mine.suite.json").write_text(json.dumps(suite))
    lake.samples(tmp_path / "mine.json", day="2024-03-01", run=NOW)
    assert check["type"] in verdicts(lake, "samples/mine")["check"]
    check["kwargs"] = {"column": "nothing", "max_value": 1}
    (tmp_path / "mine.suite.json").write_text(json.dumps(suite))
    with pytest.raises(SuiteError, match="a column that does not exist"):
        lake.samples(tmp_path / "mine.json", day="2024-03-02", run=NOW)


def test_a_suite_of_a_derived_table_is_added_by_the_command_and_one_of_no_table_is_refused(
    lake: reclake.Lake, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    expect(lake, tmp_path, "timelines", rows_between(1, 1_000))
    root = str(lake.catalog.root)
    assert main(["contract", "add", root, str(tmp_path / "timelines.suite.json")]) == 0
    assert "suite of timelines, version 2" in capsys.readouterr().out
    (tmp_path / "events.suite.json").write_text(json.dumps({"name": "events", "expectations": []}))
    assert main(["contract", "add", root, str(tmp_path / "events.suite.json")]) != 0
    assert "registered with it" in capsys.readouterr().err


def test_warnings_of_a_partition_that_is_published_all_the_same_are_printed_and_told_machines(
    lake: reclake.Lake, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clicks = "expect_column_values_to_be_in_set", {"column": "event_type", "value_set": ["exposure"]}, "warning"
    expect(lake, tmp_path, "timelines", clicks)
    expect(lake, tmp_path, "ctr", ("expect_table_row_count_to_equal", {"value": 1}, "warning"))
    root = str(lake.catalog.root)
    assert main(["seal", root, "--through", "2024-03-02"]) == 0
    out = capsys.readouterr().out
    assert all(told in out for told in ("not as expected", "event_type", "100 of 300 rows", "reclake report quality"))
    assert main(["seal", root, "--through", "2024-03-03", "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["findings"]
    assert {key: found[key] for key in ("check", "column", "rows", "went")} == {
        "check": clicks[0],
        "column": "event_type",
        "rows": 100,
        "went": "table",
    }
    assert main(["samples", root, "ctr", "--day", "2024-03-01"]) == 0
    assert "expect_table_row_count_to_equal" in capsys.readouterr().out
    assert [one.observed for one in lake.samples("ctr", day="2024-03-02", run=NOW).findings] == ["200"]
    assert lake.seal(run=NOW).findings == ()


def test_readers_see_a_whole_era_or_nothing_of_it(
    lake: reclake.Lake, in_parts: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Threads read as delta-rs and Polars do; publishing waits until each has looked while all parts are staged."""
    uri, stop = lake.catalog.table("timelines").uri, threading.Event()
    seen: list[list[int]] = [[], []]
    looked = [threading.Event(), threading.Event()]

    def with_delta() -> int:
        return int(DeltaTable(uri).count())

    def with_polars() -> int:
        return int(pl.scan_delta(uri).select(pl.len()).collect().item())

    def read(reader: int, count: Callable[[], int]) -> None:
        while not stop.is_set():
            if DeltaTable.is_deltatable(uri):
                seen[reader].append(count())
            looked[reader].set()

    staged: list[int] = []
    commit = Table.commit

    def late(table: Table, parts: Sequence[Staged], what: Commit) -> int:
        if table.name == "timelines":
            staged.append(len(files(table)))
            for event in looked * 2:
                event.clear()
                assert event.wait(30)
        return commit(table, parts, what)

    monkeypatch.setattr(Table, "commit", late)
    threads = [threading.Thread(target=read, args=one) for one in enumerate((with_delta, with_polars))]
    for thread in threads:
        thread.start()
    try:
        lake.seal(run=NOW)
        for event in looked * 2:
            event.clear()
            assert event.wait(30)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert staged == [4, 8]  # the files were there
    assert {*seen[0]} == {*seen[1]} == {0, 300, 600}
    assert [list(counts) for counts in seen] == [sorted(counts) for counts in seen]


def test_every_published_write_has_verdicts_that_name_its_version_and_a_commit_that_names_them(
    lake: reclake.Lake, tmp_path: Path
) -> None:
    lake.seal(run=NOW)
    lake.samples("ctr", day="2024-03-01", run=NOW)
    row = {"item_id": 1, "plan": "p", "input_digest": "d"}
    (tmp_path / "content.jsonl").write_text(json.dumps(row) + "\n")
    lake.ingest("content", tmp_path / "content.jsonl", run=NOW)
    told = lake.catalog.table("verdicts").scan().collect()
    assert set(told["table"]) == {"events", "timelines", "samples/ctr", "content"}
    assert told["table_version"].null_count() == 0
    for name, verdict_id, version in told.select("table", "verdict_id", "table_version").unique().rows():
        commit = next(c for c in lake.catalog.table(name).history() if c["version"] == version)
        assert any(verdict_id in (value, key.partition("/")[2]) for key, value in commit.items()), commit
    assert told.filter(pl.col("table") == "timelines")["verdict_id"].n_unique() == 2  # one for an era


class Killed(BaseException):
    """Nothing catches it, as nothing catches a kill."""


@pytest.mark.parametrize("point", ["stage", "audited", "settle"])
def test_killed_between_any_two_steps_nothing_is_visible_and_the_next_run_ends_the_same(
    lake: reclake.Lake, in_parts: None, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    timelines = lake.catalog.table("timelines")

    def killed(*args: object, **options: object) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(publish, point, killed)
        patched.setattr(ordinals, point, killed, raising=False)
        patched.setattr(seal, point, killed, raising=False)
        patched.setattr(Table, "discard", lambda *args: None)  # who is killed takes nothing away
        with pytest.raises(Killed):
            lake.seal(through="2024-03-02", run=NOW)
    visible = 300 if point == "settle" else 0  # it was killed right after its commit
    assert timelines.scan().collect().height == visible
    lake.seal(run=NOW)
    assert timelines.scan().collect().height == ROWS
    batches = verdicts(lake, "timelines").filter(pl.col("check") == "batch")
    assert batches.select("evaluated", "admitted").rows() == [(300, 300)] * 2
    assert batches["table_version"].null_count() == 0
    assert [finding for finding in examine(lake.catalog) if not finding.kept] == []
    made = lake.samples("ctr", day="2024-03-01", run=NOW)
    assert lake.samples("ctr", day="2024-03-01", run=NOW).made_before
    assert made.rows == 200


def test_the_verdict_of_the_last_era_is_stored_by_a_seal_that_has_nothing_to_do(
    lake: reclake.Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    settle, calls = publish.settle, []

    def killed(*args: Any) -> None:
        calls.append(args)
        if len(calls) == DAYS:
            raise Killed
        settle(*args)

    with monkeypatch.context() as patched:
        patched.setattr(publish, "settle", killed)
        with pytest.raises(Killed):
            lake.seal(run=NOW)
    assert verdicts(lake, "timelines")["source"].n_unique() == 1
    assert lake.seal(run=NOW).eras == ()
    assert verdicts(lake, "timelines")["source"].n_unique() == DAYS


def test_the_verdict_of_samples_that_a_kill_kept_from_its_table_is_stored_by_the_next_run(
    lake: reclake.Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake.seal(run=NOW)

    def killed(*args: object) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(publish, "settle", killed)
        with pytest.raises(Killed):
            lake.samples("ctr", day="2024-03-01", run=NOW)
    assert verdicts(lake, "samples/ctr").is_empty()
    made = lake.samples("ctr", day="2024-03-01", run=NOW)
    assert made.made_before
    assert set(verdicts(lake, "samples/ctr")["table_version"]) == {made.version}


def test_two_who_seal_at_once_leave_one_verdict_an_era(
    lake: reclake.Lake, in_parts: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second overtakes the first between its audit and its commit."""
    published, overtaken = seal.published, []

    def second_is_faster(*args: Any, **options: Any) -> int:
        if not overtaken:
            overtaken.append(True)
            assert lake.seal(run=Run(id="second", now_us=NOW.now_us)).rows == ROWS
        return published(*args, **options)

    monkeypatch.setattr(seal, "published", second_is_faster)
    assert lake.seal(run=NOW).rows == 0
    told = verdicts(lake, "timelines").filter(pl.col("check") == "batch")
    assert told["run_id"].to_list() == ["second", "second"]
    assert lake.catalog.table("timelines").scan().collect().height == ROWS
    assert len(files(lake.catalog.table("timelines"))) == 2 * 4
