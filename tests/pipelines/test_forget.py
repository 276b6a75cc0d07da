"""Forgetting users: nothing of them is left, nobody else's rows change, pins block, a kill changes nothing."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest

import reclake
from reclake.pipelines import forget
from reclake.pipelines.quarantine.of_users import of_users
from reclake.pipelines.run import Run
from reclake.schemas import contract as contracts
from reclake.schemas.errors import ErasureError, LakeBusyError, PinError
from reclake.schemas.times import US_PER_DAY, to_us
from reclake.storage import erasure, locks
from reclake.storage.maintenance import compact
from reclake.storage.table import Table
from reclake.storage.traces import Wanted

FIRST = 700_000_000_000_007  # ids that no count, time or price looks like
NOW = to_us("2024-03-10")
USERS = 40


def at(time_us: int, name: str = "test") -> Run:
    return Run(id=name, now_us=lambda: time_us)


def rows(days: int = 3) -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = []
    for n in range(days * 200):
        time = to_us("2024-03-01") + n * (US_PER_DAY // 200)
        kind = "click" if n % 3 == 1 else "exposure"
        row: dict[str, Any] = {"event_id": f"{FIRST + n % USERS}-{n}", "user_id": FIRST + n % USERS, "item_id": n % 9}
        made.append(row | {"event_type": kind, "event_time": time, "available_at": time})
    return made


def write(path: Path, lines: list[Any]) -> Path:
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    return path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    lake = reclake.Lake.create(folder / "lake", buckets=4)
    bad = rows()[0] | {"event_id": "bad", "event_time": "never", "friend": FIRST + 1}
    broken = f'{{"user_id": {FIRST}, "event_id": '
    other = rows()[1] | {"event_id": "other", "event_time": "never"}
    source = write(folder / "events.jsonl", [*rows(), bad, broken, other])
    lake.ingest("events", source, batch_rows=250, run=at(NOW))
    lake.seal(run=at(NOW))
    for day in ("2024-03-01", "2024-03-02"):
        lake.samples("ctr", day=day, run=at(NOW))
    return folder / "lake"


@pytest.fixture
def lake(made: Path, tmp_path: Path) -> reclake.Lake:
    shutil.copytree(made, tmp_path / "lake")
    return reclake.Lake.open(tmp_path / "lake")


def contents(lake: reclake.Lake) -> dict[str, pl.DataFrame]:
    return {name: lake.catalog.table(name).scan().collect() for name in lake.catalog.table_names()}


def found_anywhere(folder: Path, user: int) -> list[str]:
    """Every file below a folder that holds a user, looked at without reclake: decoded values and raw bytes."""
    holding = []
    for path in folder.rglob("*"):
        if not path.is_file():
            continue
        text = path.read_bytes()
        if path.suffix == ".parquet":
            text += repr(pq.ParquetFile(path).read().to_pylist()).encode()
        if str(user).encode() in text or user.to_bytes(8, "little", signed=True) in text:
            holding.append(str(path))
    return holding


def test_a_forgotten_user_is_in_no_file_decoded_or_raw_and_all_others_keep_their_rows(lake: reclake.Lake) -> None:
    before = contents(lake)
    assert found_anywhere(lake.catalog.root, FIRST)
    lake.catalog.table("timelines")._open().create_checkpoint()
    receipt = lake.forget([FIRST], run=at(NOW))
    assert receipt is not None
    assert found_anywhere(lake.catalog.root, FIRST) == []
    after = contents(lake)
    for name, table in before.items():
        kept = table.filter(pl.col("user_id") != FIRST) if "user_id" in table.columns else table
        if name != "quarantine":
            assert after[name].sort(pl.all().exclude("reasons")).equals(kept.sort(pl.all().exclude("reasons"))), name
    # The row that is no JSON goes because it holds the id; the row of another user stays.
    assert [json.loads(raw)["event_id"] for raw in after["quarantine"]["raw"]] == ["other"]
    saved = json.loads((lake.catalog.root / "receipts" / f"{receipt.run}.json").read_text())
    assert saved["identifiers_found"] == 0
    assert saved["files_scanned"] > 20
    events = next(t for t in saved["tables"] if t["table"] == "events")
    assert events["rows"] == before["events"].height - after["events"].height
    assert events["version_after"] == events["version_before"] + 1
    assert forget.waiting(lake.catalog) == []


def test_only_the_users_bucket_of_each_era_is_rewritten_and_kept_rows_keep_their_bytes_and_order(
    lake: reclake.Lake,
) -> None:
    table = lake.catalog.table("timelines")
    before = {path: pq.ParquetFile(path).read() for path in table.files()}
    receipt = lake.forget([FIRST], run=at(NOW))
    assert receipt is not None
    done = next(each for each in receipt.tables if each.table == "timelines")
    eras = len({re.search(r"era=([^/]*)", path).group(1) for path in before})  # type: ignore[union-attr]
    assert done.files_removed == done.files_written == eras
    after = {path: pq.ParquetFile(path).read() for path in table.files()}
    same = before.keys() & after.keys()
    assert len(same) == len(before) - eras
    for path in before.keys() - same:
        old = before[path]
        kept = old.filter(np.asarray(old["user_id"]) != FIRST)
        folder = str(Path(path).parent)
        assert [new for p, new in after.items() if str(Path(p).parent) == folder] == [kept]


def test_a_pin_that_holds_the_user_blocks_and_one_that_does_not_does_not(lake: reclake.Lake) -> None:
    lake.pin("mine")
    with pytest.raises(PinError, match="nothing was removed") as caught:
        lake.forget([FIRST], within_days=30, run=at(NOW, "one"))
    assert "mine (for ever)" in str(caught.value)
    assert "2024-04-09" in str(caught.value)
    assert found_anywhere(lake.catalog.root, FIRST)
    lake.unpin("mine")
    receipt = forget.carry_out(lake.catalog, run=at(NOW + 1, "two"))
    assert receipt is not None
    assert receipt.requests == ("one",)
    # This pin does not hold them, so it is not in the way, and erasure does not touch what it holds.
    pinned = lake.pin("after")
    again = lake.forget([FIRST], run=at(NOW + 2, "three"))
    assert again is not None
    assert again.bytes_removed == 0
    assert lake.catalog.table("events").scan(pinned.tables["events"]).collect().height


def test_at_the_deadline_the_pin_ends_and_whoever_opens_it_is_told_when(lake: reclake.Lake, tmp_path: Path) -> None:
    lake.pin("mine")
    forget.ask(lake.catalog, [FIRST], within_days=1, run=at(NOW, "one"))
    receipt = forget.carry_out(lake.catalog, run=at(NOW + US_PER_DAY, "two"))
    assert receipt is not None
    assert receipt.pins_ended == ("mine",)
    with pytest.raises(PinError, match="2024-03-11"):
        lake.pack("ctr", pin="mine", out=tmp_path / "out", run=at(NOW + 2 * US_PER_DAY))
    assert found_anywhere(lake.catalog.root, FIRST) == []


def test_requests_that_wait_are_carried_out_together_each_file_rewritten_once(lake: reclake.Lake) -> None:
    for number in range(3):
        forget.ask(lake.catalog, [FIRST + number], run=at(NOW, f"r{number}"))
    receipt = forget.carry_out(lake.catalog, run=at(NOW, "all"))
    assert receipt is not None
    assert (receipt.users, receipt.requests) == (3, ("r0", "r1", "r2"))
    events = next(each for each in receipt.tables if each.table == "events")
    assert events.version_after == events.version_before + 1
    assert not any(found_anywhere(lake.catalog.root, FIRST + number) for number in range(3))
    assert forget.carry_out(lake.catalog, run=at(NOW, "none")) is None


def test_a_run_that_dies_after_any_commit_goes_on_and_its_receipt_tells_of_all_of_it(
    lake: reclake.Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    forget.ask(lake.catalog, [FIRST], run=at(NOW, "one"))
    rewrite = Table.rewrite

    def dies(table: Table, *arguments: Any) -> int:
        version = rewrite(table, *arguments)
        if table.name == "timelines":
            raise KeyboardInterrupt
        return version

    monkeypatch.setattr(Table, "rewrite", dies)
    with pytest.raises(KeyboardInterrupt):
        forget.carry_out(lake.catalog, run=at(NOW, "first"))
    monkeypatch.setattr(Table, "rewrite", rewrite)
    forget.ask(lake.catalog, [FIRST + 1], run=at(NOW, "later"))
    receipt = forget.carry_out(lake.catalog, run=at(NOW, "second"))
    assert receipt is not None
    assert (receipt.run, receipt.requests) == ("first", ("one",))
    assert all(each.rows for each in receipt.tables)
    assert found_anywhere(lake.catalog.root / "tables", FIRST) == []
    assert [request.request for request in forget.waiting(lake.catalog)] == ["later"]


def test_rows_that_were_compacted_meanwhile_are_found_in_their_new_files(
    lake: reclake.Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, without = lake.catalog.table("events"), erasure._rewritten
    calls = []

    def compacted_meanwhile(*arguments: Any) -> Any:
        if not calls:
            compact(lake.catalog)
        calls.append(arguments)
        return without(*arguments)

    monkeypatch.setattr(erasure, "_rewritten", compacted_meanwhile)
    before = table.scan().filter(pl.col("user_id") != FIRST).collect()
    lake.forget([FIRST], run=at(NOW))
    assert table.scan().collect().sort("event_id").equals(before.sort("event_id"))
    assert found_anywhere(lake.catalog.root, FIRST) == []


def test_shards_the_lake_knows_of_are_removed_and_those_moved_away_are_named(
    lake: reclake.Lake, tmp_path: Path
) -> None:
    lake.pin("p")
    lake.pack("ctr", pin="p", out=tmp_path / "here")
    lake.pack("ctr", pin="p", out=tmp_path / "there", history=8)
    (tmp_path / "there").rename(tmp_path / "elsewhere")
    lake.unpin("p")
    receipt = lake.forget([FIRST], run=at(NOW))
    assert receipt is not None
    assert receipt.shards_removed == (str(tmp_path / "here"),)
    assert receipt.outputs_missing == (str(tmp_path / "there"),)
    assert not (tmp_path / "here").exists()


def test_examples_of_a_users_rows_are_struck_out_of_reports_and_other_reports_stay_as_they_are(
    lake: reclake.Lake, tmp_path: Path
) -> None:
    bad = rows()[2] | {"event_id": "odd", "event_type": f"<user '{FIRST + 2}'>"}
    lake.ingest("events", write(tmp_path / "odd.jsonl", [bad]), run=at(NOW, "odd"))
    report = tmp_path / "report.html"
    lake.report(report)
    before = report.read_text()
    assert str(FIRST + 2) in before
    receipt = lake.forget([FIRST + 1], run=at(NOW))
    assert receipt is not None
    assert receipt.reports_cleaned == ()
    assert report.read_text() == before
    receipt = lake.forget([FIRST + 2], run=at(NOW, "second"))
    assert receipt is not None
    assert receipt.reports_cleaned == (str(report),)
    assert report.read_text() == before.replace(str(FIRST + 2), "(forgotten)")


def test_a_user_that_a_verdict_gave_as_an_example_is_in_no_verdict_commit_or_report_after(tmp_path: Path) -> None:
    lake = reclake.Lake.create(tmp_path / "lake", buckets=2)
    between = {"column": "user_id", "min_value": 0, "max_value": FIRST}
    checks = [
        {"type": f"expect_column_{what}_to_be_between", "kwargs": between, "meta": {"severity": "warning"}}
        for what in ("values", "max")
    ]
    (tmp_path / "mine.avsc").write_text(json.dumps(lake.catalog.contract("events").avro_schema))
    (tmp_path / "mine.suite.json").write_text(json.dumps({"name": "mine", "expectations": checks}))
    lake.add_contract(tmp_path / "mine.avsc")
    user = FIRST + 1
    mine = [row | {"user_id": user, "event_id": f"e{n}"} for n, row in enumerate(rows(1)[:4])]
    lake.ingest("mine", write(tmp_path / "a.jsonl", mine[:2]), run=at(NOW))
    with lake.writer("mine", run=at(NOW)) as writer:
        writer.append(pl.DataFrame(mine[2:]), producer="p", number=1)
    for page in (tmp_path / "a.html", tmp_path / "b.html"):
        (lake.report if page.name == "a.html" else lake.report_quality)(page, run=at(NOW))
    before = lake.catalog.table("verdicts").scan().collect()
    assert before["observed"].str.contains(str(user)).sum() == 4
    receipt = lake.forget([user], run=at(NOW))
    assert receipt is not None
    assert receipt.texts_found == ()
    assert [each.rows for each in receipt.tables if each.table == "verdicts"] == [4]
    assert found_anywhere(lake.catalog.on_disk(), user) == []
    after = lake.catalog.table("verdicts").scan().collect()
    kept = pl.exclude("observed", "value")
    assert after.select(kept).sort("verdict_id", "check").equals(before.select(kept).sort("verdict_id", "check"))
    assert after["observed"].str.contains("(forgotten)", literal=True).sum() == 4
    lake.report(tmp_path / "c.html", run=at(NOW))
    lake.report_quality(tmp_path / "d.html", run=at(NOW))
    assert [page.name for page in tmp_path.glob("*.html") if str(user) in page.read_text()] == []


def test_nobody_erases_while_samples_are_made_of_users_rows(lake: reclake.Lake) -> None:
    with locks.deriving(lake.catalog.root), pytest.raises(LakeBusyError, match="right now"):
        lake.forget([FIRST], run=at(NOW))
    assert lake.forget([FIRST + 1], run=at(NOW, "again")) is not None


def test_a_file_that_a_writer_has_not_committed_yet_is_left_alone_and_the_run_waits_for_it(lake: reclake.Lake) -> None:
    table = lake.catalog.table("events")
    staged = table.root / "part-staged.parquet"
    shutil.copy(table.files()[0], staged)
    with pytest.raises(ErasureError, match="still there") as caught:
        lake.forget([FIRST], run=at(NOW))
    assert "part-staged" in str(caught.value)
    staged.unlink()
    receipt = forget.carry_out(lake.catalog, run=at(NOW, "again"))
    assert receipt is not None
    assert receipt.tables[0].rows > 0


def test_content_goes_with_its_owner_and_so_do_its_blobs_and_dead_letters(tmp_path: Path) -> None:
    lake = reclake.Lake.create(tmp_path / "lake", buckets=2)
    shipped = Path(reclake.__file__).parent / "schemas" / "contracts"
    record = json.loads((shipped / "content.avsc").read_text())
    record["fields"].append({"name": "uploader", "type": ["null", "long"], "default": None, "field-id": 90})
    write(tmp_path / "content.avsc", [json.dumps(record)])
    write(tmp_path / "content.contract.json", [{"kind": "content", "owner": "uploader"}])
    shutil.copy(shipped / "content.suite.json", tmp_path)
    lake.add_contract(tmp_path / "content.avsc")
    theirs, shared = lake.catalog.blobs.put(b"theirs"), lake.catalog.blobs.put(b"shared")
    items = [
        {"item_id": 1, "plan": "p", "uploader": FIRST, "cover_digest": theirs, "clip_digest": shared},
        {"item_id": 2, "plan": "p", "uploader": FIRST + 1, "clip_digest": shared},
        {"item_id": "no", "plan": "p", "uploader": FIRST},
    ]
    lake.ingest("content", write(tmp_path / "items.jsonl", items), run=at(NOW))
    receipt = lake.forget([FIRST], run=at(NOW))
    assert receipt is not None
    assert receipt.blobs_removed == 1
    assert lake.catalog.table("content").scan().select("item_id").collect().to_series().to_list() == [2]
    assert lake.catalog.table("quarantine").scan().collect().is_empty()
    assert (theirs in lake.catalog.blobs, shared in lake.catalog.blobs) == (False, True)
    assert found_anywhere(lake.catalog.root, FIRST) == []


@pytest.mark.parametrize("later", ["renamed", "nobody's"])
def test_content_goes_with_the_owner_it_was_written_with_whatever_the_contract_says_later(
    tmp_path: Path, later: str
) -> None:
    lake, user = reclake.Lake.create(tmp_path / "lake", buckets=2), 77
    fields = contracts.shipped("content").avro_schema["fields"]

    def register(field: dict[str, Any], **policy: str) -> None:
        record = contracts.shipped("content").avro_schema
        record["fields"] = [*fields, {"default": None, "field-id": 90} | field]
        lake.evolve(contracts.parse("content", record, policy={"kind": "content"} | policy))

    def bring(name: str, *items: dict[str, Any]) -> None:
        made = [{"plan": "p"} | item for item in items]
        lake.ingest("content", write(tmp_path / f"{name}.jsonl", made), run=at(NOW))

    register({"name": "creator", "type": ["null", "int"]})
    bring("ints", {"item_id": 1, "creator": user}, {"item_id": 2, "creator": 5})
    register({"name": "creator", "type": ["null", "long"]}, owner="creator")
    bring("longs", {"item_id": 3, "creator": user}, {"item_id": "no", "creator": user}, {"item_id": 4, "creator": 5})
    last: dict[str, Any] = {"type": ["null", "long"]}
    if later == "renamed":
        register(last | {"name": "author", "aliases": ["creator"]}, owner="author")
        bring("authors", {"item_id": 5, "author": user}, {"item_id": 6, "author": 5})
    else:
        register(last | {"name": "creator"})
    assert lake.forget([user], run=at(NOW)) is not None
    left = lake.scan("content").select("item_id").collect().to_series().sort().to_list()
    assert left == ([2, 4, 6] if later == "renamed" else [2, 4])
    assert lake.catalog.table("quarantine").scan().collect().is_empty()


@pytest.mark.parametrize("user", [77, FIRST])
def test_events_of_others_that_name_a_forgotten_user_stay_and_the_receipt_lists_them(tmp_path: Path, user: int) -> None:
    lake = reclake.Lake.create(tmp_path / "lake", buckets=2)
    record = contracts.shipped("content").avro_schema
    record["fields"].append({"name": "creator", "type": ["null", "long"], "default": None, "field-id": 90})
    lake.evolve(contracts.parse("content", record, policy={"kind": "content", "owner": "creator"}))
    record = contracts.shipped("events").avro_schema
    record["fields"].append({"name": "creator", "type": ["null", "long"], "default": None, "field-id": 91})
    lake.evolve(contracts.parse("events", record))
    events = [row | {"user_id": n % 3 or user, "creator": user} for n, row in enumerate(rows(1))]
    lake.ingest("events", write(tmp_path / "events.jsonl", events), run=at(NOW))
    lake.seal(run=at(NOW))
    receipt = lake.forget([user], run=at(NOW))
    assert receipt is not None
    for table in ("events", "timelines"):
        left = lake.scan(table).select("user_id", "creator").collect()
        assert left["user_id"].value_counts().sort("user_id").rows() == [(1, 67), (2, 66)]
        assert left["creator"].unique().to_list() == [user]
    assert receipt.identifiers_found == 0
    assert user == 77 or {"column creator", "raw bytes"} <= {trace.place for trace in receipt.texts_found}


@pytest.mark.parametrize("user", [-(2**40), 2**40, 2**63 - 1, 1 - 2**63, FIRST])
def test_bytes_that_chance_makes_hold_no_erasure_up(tmp_path: Path, user: int) -> None:
    lake = reclake.Lake.create(tmp_path / "lake", buckets=2)
    given = [row | {"user_id": n % 3 or user} for n, row in enumerate(rows(1))]
    lake.ingest("events", write(tmp_path / "events.jsonl", given), run=at(NOW))
    lake.catalog.blobs.put(b"a picture " + user.to_bytes(8, "little", signed=True))
    if user == FIRST:
        with pytest.raises(ErasureError, match="still there"):
            lake.forget([user], run=at(NOW))
        return
    receipt = lake.forget([user], run=at(NOW))
    assert receipt is not None
    assert any(trace.path.startswith("blobs/") for trace in receipt.texts_found)
    assert lake.scan("events").filter(user_id=user).collect().is_empty()


@pytest.mark.parametrize(
    ("raw", "taken"),
    [
        (b'{"event_id": "a", "user_id": 12, "item_id": 5, "event_type": "click", "event_time": 1}', True),
        (b'{"event_id": "a", "user_id": 5, "item_id": 12, "event_type": "click", "event_time": 1}', False),
        (b'{"event_id": "a", "user_id": "x12", "item_id": 5}', True),
        (b'{"event_id": "a", "user_id": "x123", "item_id": 5}', False),
        (b'{"user_id": "\\u00312x"}', True),
        (b"\xff\xfe 12 \xff", True),
        (b"\xff\xfe 124 \xff", False),
        (b"a,12,3", True),
    ],
)
def test_a_raw_row_is_of_whom_it_decodes_to_and_by_its_bytes_only_where_it_does_not(raw: bytes, taken: bool) -> None:
    from reclake.schemas.contract import shipped

    column = pl.Series([b'{"event_id": "z", "user_id": 1, "item_id": 1, "event_type": "c", "event_time": 1}', raw])
    assert of_users(column, shipped("events"), Wanted([12])).to_list() == [False, taken]


@pytest.mark.parametrize("users", [[2**63], [-(2**63) - 1], [4711.5], ["4711"], [True], [None], "4711", 4711, []])
def test_what_is_no_user_id_goes_on_no_record(lake: reclake.Lake, users: Any) -> None:
    with pytest.raises(ErasureError):
        lake.forget(users, run=at(NOW))
    assert forget.waiting(lake.catalog) == []
    assert forget.carry_out(lake.catalog) is None


def test_ids_may_be_numbers_of_numpys_and_days_are_bounded(lake: reclake.Lake) -> None:
    with pytest.raises(ErasureError, match="not a request"):
        lake.forget([FIRST], within_days=10**9, run=at(NOW))
    receipt = lake.forget(np.array([FIRST, FIRST]), run=at(NOW))  # type: ignore[arg-type]
    assert receipt is not None
    assert receipt.users == 1
