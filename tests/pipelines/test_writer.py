"""Many producers of events: gated apart, committed together, no event twice, none behind a seal."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import reclake
from reclake.pipelines.run import Run
from reclake.pipelines.writer import EventWriter
from reclake.schemas.errors import ReclakeError, SourceError, StorageError
from reclake.schemas.times import to_us

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


def test_the_verdict_of_a_producer_that_died_before_storing_it_is_recovered(
    lake: reclake.Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with lake.writer("events", run=run()) as writer, monkeypatch.context() as patch:
        patch.setattr(EventWriter, "_finish", die)
        with pytest.raises(KeyboardInterrupt):
            writer.append(rows(range(10)), producer="p", number=1)
    assert not lake.catalog.table("verdicts").exists
    with lake.writer("events", run=run()) as writer:
        assert writer.append(rows(range(10)), producer="p", number=1).repeated
    verdicts = lake.catalog.table("verdicts").scan().filter(pl.col("check") == "batch").collect()
    assert verdicts["admitted"].to_list() == [10]


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
        with pytest.raises(ReclakeError, match="batch number"):
            writer.append(rows(range(10)), producer="p", number=0)
    with pytest.raises(StorageError, match="closed"):
        writer.append(rows(range(10, 20)), producer="p", number=2)


def test_events_that_were_erased_may_come_again(lake: reclake.Lake) -> None:
    with lake.writer("events", run=run()) as writer:
        writer.append(rows(range(10)), producer="p", number=1)
        gone = lake.catalog.table("events").delete("user_id = 3")
        assert gone
        done = writer.append(rows(range(10)), producer="p", number=2)
    assert done.admitted == gone
    assert len(event_ids(lake)) == 10


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
