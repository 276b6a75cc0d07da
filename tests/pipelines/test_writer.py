"""Many producers of events: gated apart, committed together, no event twice, none behind a seal."""

from __future__ import annotations

import copy
import json
import os
import pickle
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from polars.testing import assert_frame_equal

import reclake
from reclake.pipelines.run import Run
from reclake.pipelines.writer import EventWriter
from reclake.schemas.contract import shipped
from reclake.schemas.errors import GateError, ReclakeError, SourceError, StorageError
from reclake.schemas.times import to_us
from reclake.storage import keys

NOW = to_us("2024-03-05")


@pytest.fixture
def lake(tmp_path: Path) -> reclake.Lake:
    return reclake.Lake.create(tmp_path / "lake", buckets=2)


def run() -> Run:
    return Run(id="test", now_us=lambda: NOW)


def rows(ids: range, *, day: str = "2024-03-02", user: object = None) -> pl.DataFrame:
    time = [to_us(day) + i * 1_000_000 for i in range(len(ids))]
    return pl.DataFrame(
        {
            "event_id": [f"e{i}" for i in ids],
            "user_id": [user if user is not None and i % 5 == 0 else str(i % 7) for i in ids],
            "item_id": [i % 3 for i in ids],
            "event_type": ["click"] * len(ids),
            "event_time": time,
            "available_at": time,
        }
    ).with_columns(pl.col("user_id").cast(pl.String))


def together(writer: EventWriter, batches: dict[str, list[pl.DataFrame]]) -> dict[str, int]:
    """Append each producer's batches on a thread of its own; totals of what was said of them."""
    totals = {"read": 0, "admitted": 0, "quarantined": 0, "duplicates": 0, "repeated": 0}
    lock = threading.Lock()
    errors = []

    def produce(name: str) -> None:
        try:
            for number, batch in enumerate(batches[name], 1):
                done = writer.append(batch, producer=name, number=number)
                with lock:
                    for key in totals:
                        totals[key] += int(getattr(done, key))
        except ReclakeError as error:
            errors.append(error)

    threads = [threading.Thread(target=produce, args=(name,)) for name in batches]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    return totals


def event_ids(lake: reclake.Lake) -> list[str]:
    return sorted(lake.catalog.table("events").scan().select("event_id").collect()["event_id"].to_list())


def test_an_event_that_several_producers_send_is_stored_once(lake: reclake.Lake) -> None:
    batches = {f"p{n}": [rows(range(b * 50, b * 50 + 100)) for b in range(6)] for n in range(5)}
    with lake.writer("events", run=run()) as writer:
        totals = together(writer, batches)
    assert event_ids(lake) == sorted(f"e{i}" for i in range(350))
    assert totals == {"read": 3000, "admitted": 350, "quarantined": 0, "duplicates": 2650, "repeated": 0}
    verdicts = lake.catalog.table("verdicts").scan().filter(pl.col("check") == "batch").collect()
    assert verdicts.height == 30
    assert verdicts.select(pl.col("admitted", "duplicates").sum()).row(0) == (350, 2650)


def test_what_a_gate_refuses_goes_to_quarantine_and_is_counted(lake: reclake.Lake) -> None:
    with lake.writer("events", run=run()) as writer:
        totals = together(writer, {f"p{n}": [rows(range(n * 100, n * 100 + 50), user="nobody")] for n in range(4)})
    assert totals == {"read": 200, "admitted": 160, "quarantined": 40, "duplicates": 0, "repeated": 0}
    quarantined = lake.catalog.table("quarantine").scan().collect()
    assert quarantined.height == 40
    assert quarantined["quarantine_id"].n_unique() == 40
    assert all(b"nobody" in raw for raw in quarantined["raw"])


def test_a_producer_that_repeats_its_batches_after_a_kill_doubles_nothing(lake: reclake.Lake) -> None:
    batches = {"p": [rows(range(b * 10, b * 10 + 10)) for b in range(4)]}
    with lake.writer("events", run=run()) as writer:
        together(writer, {"p": batches["p"][:3]})
    with lake.writer("events", run=run()) as writer:
        totals = together(writer, batches)
    assert totals["repeated"] == 3
    assert totals["admitted"] == 10
    assert len(event_ids(lake)) == 40


def test_the_verdicts_of_a_producer_that_died_before_storing_them_are_recovered(
    lake: reclake.Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    with lake.writer("events", run=run()) as writer, monkeypatch.context() as patch:
        writer.append(rows(range(5)), producer="p", number=1)
        writer.append(rows(range(7)), producer="p-1", number=1)
        patch.setattr(writer._rows, "_durable", None)
        writer.append(rows(range(10, 20)), producer="p", number=2)
        writer.append(rows(range(20, 40)), producer="p", number=4)
    with lake.writer("events", run=run()) as writer:
        assert writer.append(rows(range(20, 40)), producer="p", number=4).repeated
    verdicts = lake.catalog.table("verdicts").scan().filter(pl.col("check") == "batch", pl.col("source") == "p")
    assert verdicts.sort("verdict_id").collect()["admitted"].to_list() == [5, 10, 20]


def test_verdicts_that_could_not_be_stored_are_stored_with_the_next_ones_or_before_them(
    lake: reclake.Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stored() -> list[int]:
        verdicts = lake.catalog.table("verdicts").scan().filter(pl.col("check") == "batch")
        return verdicts.sort("verdict_id").collect()["admitted"].to_list()

    def lose(writer: EventWriter, number: int, *, after_s: float) -> None:
        """Append a batch whose verdict is refused, now or only while the next batch is on its way."""
        storing: Future[Any] = Future()
        refuse = threading.Timer(after_s, storing.set_exception, [StorageError("the disk is full")])
        with monkeypatch.context() as patch:
            patch.setattr(writer._verdicts, "offer", lambda _: storing)
            append(writer, number)
        refuse.start()
        if not after_s:
            refuse.join()

    def append(writer: EventWriter, number: int) -> None:
        writer.append(rows(range(number * 100, number * 101)), producer="p", number=number)

    with lake.writer("events", run=run()) as writer:
        append(writer, 1)
        lose(writer, 2, after_s=0)
        append(writer, 3)
        lose(writer, 4, after_s=0.5)
        append(writer, 5)
    assert stored() == [1, 2, 3, 4, 5]
    with pytest.raises(StorageError, match="verdicts could not be stored"), lake.writer("events", run=run()) as writer:
        lose(writer, 6, after_s=0)
    assert stored() == [1, 2, 3, 4, 5]
    with lake.writer("events", run=run()) as writer:
        append(writer, 7)
    assert stored() == [1, 2, 3, 4, 5, 6, 7]


def test_no_event_lands_behind_a_seal_that_came_after_its_gate(lake: reclake.Lake) -> None:
    with lake.writer("events", run=run()) as writer:
        writer.append(rows(range(10)), producer="p", number=1)
        lake.seal(through="2024-03-03", run=run())
        writer.append(rows(range(10, 20)), producer="p", number=2)
    events = lake.catalog.table("events").scan().sort("event_id").collect()
    late = events.filter(pl.col("event_id").is_in([f"e{i}" for i in range(10, 20)]))
    assert late["known_at"].dt.epoch("us").to_list() == [NOW] * 10
    lake.seal(through="2024-03-06", run=Run(id="later", now_us=lambda: to_us("2024-03-07")))
    assert lake.catalog.table("timelines").scan().collect().height == 20


def test_no_item_lands_behind_a_seal_that_came_after_its_gate(lake: reclake.Lake) -> None:
    def item(number: int) -> pl.DataFrame:
        return pl.DataFrame({"item_id": [number], "plan": ["p"], "available_at": [to_us("2024-03-02")]})

    with lake.writer("events", run=run()) as events, lake.writer("content", run=run()) as writer:
        events.append(rows(range(10)), producer="p", number=1)
        writer.append(item(1), producer="p", number=1)
        lake.seal(through="2024-03-03", run=run())
        writer.append(item(2), producer="p", number=2)
    known = lake.catalog.table("content").scan().sort("item_id").collect()["known_at"].dt.epoch("us").to_list()
    assert known == [to_us("2024-03-02"), NOW]


def test_events_that_ingest_brings_beside_the_writer_are_known_to_it(lake: reclake.Lake, tmp_path: Path) -> None:
    with lake.writer("events", run=run()) as writer:
        writer.append(rows(range(10)), producer="p", number=1)
        file = tmp_path / "beside.parquet"
        rows(range(5, 25)).write_parquet(file)
        assert lake.ingest("events", file, run=run()).duplicates == 5
        done = writer.append(rows(range(20, 30)), producer="p", number=2)
    assert (done.admitted, done.duplicates) == (5, 5)
    assert event_ids(lake) == sorted(f"e{i}" for i in range(30))


def test_a_batch_without_a_required_column_is_refused_and_the_next_one_lands(lake: reclake.Lake) -> None:
    with lake.writer("events", run=run()) as writer:
        with pytest.raises(SourceError):
            writer.append(rows(range(10)).drop("user_id"), producer="p", number=1)
        assert writer.append(rows(range(10)), producer="p", number=1).admitted == 10
    with pytest.raises(StorageError, match="closed"):
        writer.append(rows(range(10, 20)), producer="p", number=2)


@pytest.mark.parametrize("number", [0, -1, 2**63, 1.5, "1", None])
def test_what_is_no_batch_number_is_refused_before_the_log_has_it(lake: reclake.Lake, number: Any) -> None:
    with lake.writer("events", run=run()) as writer, pytest.raises(ReclakeError, match="not a batch number"):
        writer.append(rows(range(10)), producer="p", number=number)
    assert reclake.Lake.open(lake.catalog.root).scan("events").collect().height == 0


@pytest.mark.parametrize("producer", ["", None, 7, "\udc80"])
def test_what_is_no_producers_name_is_refused_before_the_log_has_it(lake: reclake.Lake, producer: Any) -> None:
    with lake.writer("events", run=run()) as writer, pytest.raises(ReclakeError, match="not a producer's name"):
        writer.append(rows(range(10)), producer=producer, number=1)
    assert reclake.Lake.open(lake.catalog.root).scan("events").collect().height == 0


def test_a_batch_number_may_be_a_number_of_numpys(lake: reclake.Lake) -> None:
    with lake.writer("events", run=run()) as writer:
        for number in np.arange(1, 3):
            assert writer.append(rows(range(number, number + 1)), producer="p", number=number).admitted == 1
    assert reclake.Lake.open(lake.catalog.root).scan("events").collect().height == 2


def test_rows_that_are_no_table_are_refused_and_the_next_ones_land(lake: reclake.Lake) -> None:
    twice = pa.table([pa.array([1]), pa.array([2])], names=["a", "a"])
    with lake.writer("events", run=run()) as writer:
        for none in (twice, rows(range(3)).lazy(), 7):
            with pytest.raises(SourceError, match="no table"):
                writer.append(none, producer="p", number=1)  # type: ignore[arg-type]
        assert writer.append(rows(range(3)).to_arrow(), producer="p", number=1).admitted == 3


def test_columns_that_the_writers_contract_does_not_have_are_named(lake: reclake.Lake) -> None:
    with lake.writer("events", run=run()) as writer:
        done = writer.append(rows(range(3)).with_columns(country=pl.lit("de")), producer="p", number=1)
        assert (done.admitted, done.ignored_columns) == (3, ("country",))
        assert writer.append(rows(range(3, 6)), producer="p", number=2).ignored_columns == ()


def test_a_writer_is_not_handed_to_another_process(lake: reclake.Lake) -> None:
    with lake.writer("events", run=run()) as writer, pytest.raises(StorageError, match="another process"):
        pickle.dumps(writer)


def test_a_writer_in_a_forked_process_says_so_and_nobody_waits_for_ever(
    lake: reclake.Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    with lake.writer("events", run=run()) as writer:
        assert writer.append(rows(range(3)), producer="p", number=1).admitted == 3
        with monkeypatch.context() as patch:
            patch.setattr(os, "getpid", lambda: 1)
            with pytest.raises(StorageError, match="belongs to another process"):
                writer.append(rows(range(3, 6)), producer="p", number=2)
        assert writer.append(rows(range(3, 6)), producer="p", number=2).admitted == 3


def test_events_that_were_erased_may_come_again(lake: reclake.Lake) -> None:
    with lake.writer("events", run=run()) as writer:
        writer.append(rows(range(10)), producer="p", number=1)
        gone = lake.catalog.table("events").delete("user_id = 3")
        assert gone
        done = writer.append(rows(range(10)), producer="p", number=2)
    assert done.admitted == gone
    assert len(event_ids(lake)) == 10


def mixed(day: int) -> list[pl.DataFrame]:
    """Batches of which some rows do not resolve, some are refused by the gate, and some producers are stopped."""
    good = rows(range(day * 1000, day * 1000 + 20)).with_columns(watch_ms=pl.lit(5, pl.Int64))
    place = pl.int_range(pl.len())
    negative = good.with_columns(watch_ms=pl.when(place % 7 == 3).then(-1).otherwise("watch_ms"))
    nameless = good.with_columns(event_type=pl.when(place < 2).then(pl.lit("?!")).otherwise("event_type"))
    nobody = negative.with_columns(user_id=pl.when(place % 6 == 1).then(pl.lit("nobody")).otherwise("user_id"))
    twice = nameless.with_columns(event_id=pl.when(place < 3).then(pl.lit("same")).otherwise("event_id"))
    hopeless = nobody.with_columns(user_id=pl.lit("nobody"))
    frames = [good, negative, nobody, hopeless, good.clear(), nameless, twice, nobody.head(5)]
    return [
        frame.with_columns(pl.col("event_id") + f"-{number}" if number != 6 else pl.col("event_id"))
        for number, frame in enumerate(frames)
    ]


@pytest.mark.parametrize("hashed", [False, True])
def test_batches_of_a_group_leave_what_each_would_leave_alone(
    hashed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(keys.VARIABLE, f"key:{'1f' * 32}")
    record = shipped("events").avro_schema
    if hashed:
        record["fields"][1]["pii"] = "hash"
    record["fields"] += [{"name": "note", "type": ["null", "string"], "default": None, "field-id": 90}]
    suite = copy.deepcopy(dict(shipped("events").expectations))
    suite["expectations"] += [
        {"type": "expect_column_values_to_be_unique", "kwargs": {"column": "event_id"}, "meta": {"severity": "error"}},
        {"type": "expect_column_mean_to_be_between", "kwargs": {"column": "watch_ms", "min_value": 5}},
        {"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "note"}, "meta": {"severity": "warning"}},
    ]
    (tmp_path / "mine.avsc").write_text(json.dumps(record))
    (tmp_path / "mine.suite.json").write_text(json.dumps(suite))
    (tmp_path / "mine.contract.json").write_text(json.dumps({"quarantine_limit": 0.38}))
    left, said = [], []
    for together in (True, False):
        lake = reclake.Lake.create(tmp_path / f"together-{together}", buckets=2)
        lake.add_contract(tmp_path / "mine.avsc")
        with lake.writer("mine", run=run()) as writer:
            said.append(answers_of(writer, mixed(2), together=together))
        order = {"events": ["event_id"], "quarantine": ["quarantine_id"], "verdicts": ["verdict_id", "check", "column"]}
        tables = {name: lake.catalog.table(name).scan().collect().sort(by) for name, by in order.items()}
        left.append(tables | {"verdicts": tables["verdicts"].drop("table_version")})
    assert said[0] == said[1]
    counts = [what[1:4] if what[0] == "written" else what[0] for what in said[0]]
    # The last one has a row that does not resolve and one that the gate refuses, of five.
    assert counts[:4] == [(20, 20, 0), (20, 17, 3), (20, 13, 7), "stopped"]
    assert counts[4:] == [(0, 0, 0), (20, 18, 2), (20, 17, 3), "stopped"]
    for name, mine in left[0].items():
        assert_frame_equal(mine, left[1][name])


def answers_of(writer: EventWriter, batches: list[pl.DataFrame], *, together: bool) -> list[tuple[object, ...]]:
    """What producers with a batch each were told, one after the other, or (the first one apart) all in one group."""
    answers: dict[int, tuple[object, ...]] = {}

    def produce(number: int) -> None:
        try:
            done = writer.append(batches[number], producer=f"p{number}", number=1)
            answers[number] = ("written", done.read, done.admitted, done.quarantined, done.duplicates)
        except GateError as error:
            answers[number] = ("stopped", str(error).replace(writer._target.catalog.root.name, "lake"))

    threads = [threading.Thread(target=produce, args=(number,)) for number in range(len(batches))]
    if not together:
        for thread in threads:
            thread.start()
            thread.join()
        return [answers[number] for number in sorted(answers)]
    gates, held = [], threading.Event()
    admit = writer._rows._admit
    assert admit is not None

    def wait(sent: Sequence[Any]) -> Sequence[Any]:
        gates.append(len(sent))
        held.wait(60)
        return admit(sent)

    writer._rows._admit = wait
    for thread in threads:
        thread.start()
        while not gates:
            time.sleep(0.001)
    while len(writer._rows._waiting._waiting) < len(batches) - 1:
        time.sleep(0.001)
    held.set()
    for thread in threads:
        thread.join()
    assert gates == [1, len(batches) - 1]
    return [answers[number] for number in sorted(answers)]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_twenty_producers_of_five_hundred_batches_lose_and_double_nothing_and_none_fails(lake: reclake.Lake) -> None:
    at = to_us("2024-03-01")
    ids = pl.select(pl.int_range(10_000_000)).to_series().cast(pl.String)
    rest = pl.DataFrame(
        {
            "user_id": np.arange(1000) % 97,
            "item_id": np.arange(1000) % 31,
            "event_type": ["click"] * 1000,
            "event_time": at + np.arange(1000) * 50_000_000,
            "available_at": at + np.arange(1000) * 50_000_000,
        }
    )
    totals = [0] * 20

    def produce(writer: EventWriter, producer: int) -> None:
        for number in range(500):
            first = (producer * 500 + number) * 1000
            batch = rest.with_columns(event_id=ids.slice(first, 1000))
            totals[producer] += writer.append(batch, producer=f"p{producer}", number=number + 1).admitted

    with lake.writer("events", run=run()) as writer:
        threads = [threading.Thread(target=produce, args=(writer, producer)) for producer in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert totals == [500_000] * 20
    stored = lake.catalog.table("events").scan().select(pl.len(), pl.col("event_id").n_unique().alias("ids"))
    assert stored.collect().row(0) == (10_000_000, 10_000_000)
    verdicts = lake.catalog.table("verdicts").scan().filter(pl.col("check") == "batch").select(pl.col("admitted").sum())
    assert verdicts.collect().item() == 10_000_000
