"""Law 4, held against an oracle: a sample's history is exactly what both clocks say was known before its request.

Histories are drawn at random: late, tied and duplicated events, ingested before and after seals. The oracle is plain
Python that looks at every event's two clocks; it shares no code with what it checks.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import reclake
from reclake.pipelines.run import Run
from reclake.schemas.times import US_PER_DAY, from_us, to_us

DAY0 = to_us("2024-03-01")
HOUR = US_PER_DAY // 24
USERS = 50  # histories a lake
SEALS = (DAY0 + US_PER_DAY, DAY0 + 2 * US_PER_DAY, DAY0 + 3 * US_PER_DAY)
ARRIVALS = tuple(seal - HOUR // 2 for seal in SEALS)  # each batch arrives half an hour before its seal


@dataclass(frozen=True)
class Event:
    event_id: str
    user_id: int
    event_type: str
    event_time: int
    available_at: int | None
    batch: int


@st.composite
def histories(draw: st.DrawFn) -> list[list[Event]]:
    """Three batches of events of USERS users, in the order they are written."""
    batches: list[list[Event]] = [[], [], []]
    for user in range(USERS):
        seed = draw(st.integers(0, 2**32))
        rng = random.Random(seed)
        for number in range(rng.randint(1, 12)):
            batch = rng.randrange(3)
            # A coarse grid makes ties; most batches hold events of earlier days too, so sealed eras are claimed.
            time = DAY0 + rng.randrange(0, 24 * (batch + 1), 3) * HOUR + rng.choice([0, 0, 0, 1])
            delay = rng.choice([0, 0, 1, HOUR, 5 * HOUR, US_PER_DAY])
            available = None if rng.random() < 0.1 else time + delay
            kind = rng.choice(["exposure", "exposure", "click", "like"])
            event = Event(f"{user}-{number}", user, kind, time, available, batch)
            batches[batch].append(event)
            if rng.random() < 0.2:
                again = rng.randrange(batch, 3)
                batches[again].append(event)
    rng = random.Random(draw(st.integers(0, 2**32)))
    for batch_events in batches:
        rng.shuffle(batch_events)
    return batches


def oracle(batches: list[list[Event]]) -> tuple[dict[str, int], dict[int, list[Event]]]:
    """(known_at by event_id, timeline by user), from both clocks, one event at a time."""
    known: dict[str, int] = {}
    users: dict[int, list[Event]] = defaultdict(list)
    for number, events in enumerate(batches):
        sealed = SEALS[number - 1] if number else None
        for event in events:
            if event.event_id in known:
                continue
            available = ARRIVALS[number] if event.available_at is None else event.available_at
            at = max(event.event_time, available)
            if sealed is not None and at < sealed:
                at = max(ARRIVALS[number], sealed)
            known[event.event_id] = at
            users[event.user_id].append(event)
    for events in users.values():
        events.sort(key=lambda e: (known[e.event_id], e.event_id))
    return known, users


def write(path: Path, events: list[Event]) -> Path:
    with path.open("w") as file:
        for e in events:
            row = {"event_id": e.event_id, "user_id": e.user_id, "item_id": 1, "event_type": e.event_type}
            row |= {"event_time": e.event_time}
            if e.available_at is not None:
                row["available_at"] = e.available_at
            file.write(json.dumps(row) + "\n")
    return path


def at(us: int) -> Run:
    return Run(id="test", now_us=lambda: us)


def build(folder: Path, batches: list[list[Event]]) -> reclake.Lake:
    """A lake that got the batches one by one, sealed after each."""
    lake = reclake.Lake.create(folder / "lake", buckets=2)
    for number, events in enumerate(batches):
        if events:
            path = write(folder / f"batch{number}.jsonl", events)
            result = lake.ingest("events", path, run=at(ARRIVALS[number]))
            assert result.read == result.rows == result.admitted + result.duplicates
        if lake.catalog.table("events").exists:
            lake.seal(through=SEALS[number], run=at(SEALS[number]))
    return lake


def compare(lake: reclake.Lake, batches: list[list[Event]]) -> int:
    """Every sample against the oracle; how many there were."""
    known, users = oracle(batches)
    if not known:
        return 0
    timelines = lake.catalog.table("timelines").scan().sort("user_id", "ordinal").collect()
    stored = {key[0]: rows["event_id"].to_list() for key, rows in timelines.group_by("user_id", maintain_order=True)}
    sealed = SEALS[-1]
    for user, events in users.items():
        assert stored.get(user, []) == [e.event_id for e in events if known[e.event_id] < sealed]
    checked = 0
    for day in range(3):
        lake.samples("ctr", day=from_us(DAY0 + day * US_PER_DAY).date(), run=at(sealed))
    samples = lake.catalog.table("samples/ctr").scan().collect()
    times = {e.event_id: e for events in users.values() for e in events}
    for sample in samples.iter_rows(named=True):
        exposure = times[sample["event_id"]]
        request = exposure.event_time
        expected = [e.event_id for e in users[exposure.user_id] if known[e.event_id] < request]
        assert sample["seen"] == len(expected)
        history = stored[exposure.user_id][: sample["seen"]]
        assert history == expected
        for event_id in history:
            event = times[event_id]
            assert event.event_time < request
            assert event.available_at is None or event.available_at < request
        checked += 1
    shown = [e for e in times.values() if e.event_type == "exposure" and known[e.event_id] < sealed]
    assert checked == len(shown)
    assert samples["sample_id"].n_unique() == samples.height
    return checked


def check_lakes(make: Callable[[], Path], examples: int) -> None:
    total: list[int] = []

    @settings(
        max_examples=examples,
        phases=[Phase.generate],
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
    )
    @given(batches=histories())
    def run(batches: list[list[Event]]) -> None:
        total.append(compare(build(make(), batches), batches))

    run()
    assert sum(total) > 20 * examples


def test_histories_are_what_both_clocks_say(tmp_path_factory: pytest.TempPathFactory) -> None:
    check_lakes(lambda: tmp_path_factory.mktemp("lake"), examples=3)


@pytest.mark.slow
def test_a_thousand_histories_are_what_both_clocks_say(tmp_path_factory: pytest.TempPathFactory) -> None:
    check_lakes(lambda: tmp_path_factory.mktemp("lake"), examples=1000 // USERS)


@given(batches=histories())
@settings(max_examples=1, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
def test_a_backfill_leaves_pinned_samples_and_shards_byte_equal(
    tmp_path_factory: pytest.TempPathFactory, batches: list[list[Event]]
) -> None:
    folder = tmp_path_factory.mktemp("lake")
    lake = build(folder, batches)
    for day in range(3):
        lake.samples("ctr", day=from_us(DAY0 + day * US_PER_DAY).date(), run=at(SEALS[-1]))
    lake.pin("before")
    lake.pack("ctr", pin="before", out=folder / "shards-before")
    before = lake.catalog.table("samples/ctr").scan(lake.catalog.pin("before").tables["samples/ctr"]).collect()

    older = [
        Event(f"backfill-{user}-{n}", user, "click", DAY0 + n * HOUR, DAY0 + n * HOUR, 3)
        for user in range(USERS)
        for n in range(5)
    ]
    lake.ingest("events", write(folder / "backfill.jsonl", older), run=at(SEALS[-1] + HOUR))
    lake.seal(through=SEALS[-1] + US_PER_DAY, run=at(SEALS[-1] + US_PER_DAY))
    for day in range(3):
        lake.samples("ctr", day=from_us(DAY0 + day * US_PER_DAY).date(), run=at(SEALS[-1]))
    lake.pack("ctr", pin="before", out=folder / "shards-after")

    pinned = lake.catalog.table("samples/ctr").scan(lake.catalog.pin("before").tables["samples/ctr"]).collect()
    assert pinned.equals(before)
    now = lake.catalog.table("samples/ctr").scan().collect()
    keys = ["sample_id", "seen", "event_id", "click", "long_view"]
    mature = before.filter("label_mature").select(keys).sort("sample_id")
    assert now.join(mature, on="sample_id", how="semi").select(keys).sort("sample_id").equals(mature)
    assert _digests(folder / "shards-before") == _digests(folder / "shards-after")


def _digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.blake2b(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_a_bootstrap_claim_inside_a_sealed_era_is_known_from_its_end(tmp_path: Path) -> None:
    rows = pl.DataFrame({"event_time": [1], "available_at": [None]}).cast(pl.Datetime("us", "UTC"))
    from reclake.pipelines.ingest import stamp
    from reclake.schemas.contract import shipped

    frame = rows.with_columns(user_id=pl.lit(5, dtype=pl.Int64))
    stamped = stamp(frame, shipped("kuairand"), arrival_us=99, sealed_us=10, buckets=4)
    assert stamped["known_at"].dt.epoch("us").to_list() == [10]
    assert stamped["event_time"].dt.epoch("us").to_list() == [1]
    live = stamp(frame, shipped("events"), arrival_us=99, sealed_us=10, buckets=4)
    assert live["known_at"].dt.epoch("us").to_list() == [99]
