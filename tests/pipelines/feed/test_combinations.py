"""Features of the feed where they meet: drawn at random, and held against what plain Python makes of the tables."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from reclake.pipelines.feed import Batch, Feed, Negatives

WINDOW_US = 200_000_000
LENGTH = 16

Row = dict[str, Any]
WHERE: list[tuple[str | None, Callable[[Row], object]]] = [
    (None, lambda row: True),
    ("not (surface in (1, 2))", lambda row: row["surface"] in (0, 3)),
    ("place is None or click", lambda row: row["place"] is None or row["click"]),
    ("place != 'search' and seen % 3 == 0", lambda row: row["place"] == "home" and row["seen"] % 3 == 0),
    ("(1 if negative else surface) == 1", lambda row: row["negative"] or row["surface"] == 1),
]
WEIGHT: list[tuple[str | None, Callable[[Row], int]]] = [
    (None, lambda row: 1),
    ("2 if click else 1", lambda row: 2 if row["click"] else 1),
    ("0 if surface is None else surface", lambda row: row["surface"] or 0),
]
EVENTS: list[tuple[str | None, Callable[[Row], object]]] = [
    (None, lambda event: True),
    ("event_type in ('click', 'like')", lambda event: event["event_type"] in ("click", "like")),
    ("not (watch_ms < 500)", lambda event: event["watch_ms"] is not None and event["watch_ms"] >= 500),
]
FIELDS = ("item_id", "event_type", "watch_ms")


@pytest.fixture(scope="module")
def sets(world_maker: Any, set_writer: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, dict[str, Path]]:
    """A world, and its sets: of many shards and chunks, cut by time, and of one sample."""
    world = world_maker(users=25, events=60, samples=20, seed=3)
    folder = tmp_path_factory.mktemp("sets")
    one = type(world)(world.samples[:1], world.timeline)
    made = {
        "whole": set_writer(world, folder / "whole", length=LENGTH),
        "by time": set_writer(world, folder / "time", length=LENGTH, window_us=WINDOW_US),
        "one": set_writer(one, folder / "one", length=LENGTH, cuts=1),
    }
    return world, made


def rows_of(batch: Batch, feed: Feed) -> list[Row]:
    """Each sample with its window, its strings as words and what is missing as None."""

    def told(name: str, values: Any, valid: Any) -> list[Any]:
        if name in feed.vocabularies:
            return [None if code < 0 else feed.vocabularies[name][code] for code in values.tolist()]
        known = [True] * len(values) if valid is None else valid.tolist()
        return [value if there else None for value, there in zip(values.tolist(), known, strict=True)]

    columns = {name: told(name, batch[name], batch.valid(name)) for name in batch.keys()}  # noqa: SIM118
    for name, jagged in batch.history.items():
        events, at = told(name, jagged.values, jagged.valid), jagged.offsets.tolist()
        assert (at[0], at[-1]) == (0, len(events))
        windows = [events[a:b] for a, b in pairwise(at)]
        columns[f"history {name}"] = windows if batch.inverse is None else [windows[i] for i in batch.inverse]
    columns |= {f"drawn {name}": drawn.tolist() for name, drawn in batch.negatives.items()}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def given_once(feeds: list[Feed], remainder: str) -> list[Row]:
    """An epoch by all ranks together, without what fills its last step."""
    rows = []
    for step in zip(*feeds, strict=True):
        sizes = [len(batch) for batch in step]
        assert max(sizes) - min(sizes) <= (0 if remainder in ("drop", "pad") else 1)
        assert len({json.dumps(batch.state) for batch in step}) == 1
        rows += [row for b, f in zip(step, feeds, strict=True) for row in rows_of(b, f)[: len(b) - b.padding]]
    return rows


@pytest.mark.parametrize("case", range(24))
def test_whatever_is_combined_gives_the_samples_and_windows_that_plain_python_gives(
    sets: tuple[Any, dict[str, Path]], case: int
) -> None:
    world, rng = sets[0], random.Random(case)
    name = rng.choice(["whole", "by time", "by time", "one"])
    (where, holds), (weight, times), (events, kept) = rng.choice(WHERE), rng.choice(WEIGHT), rng.choice(EVENTS)
    if name == "one":
        where, holds, weight, times = None, WHERE[0][1], None, WEIGHT[0][1]
    history = rng.choice([0, 3, LENGTH])
    options: dict[str, Any] = {
        "seed": case,
        "where": where,
        "weight": weight,
        "events": events,
        "history": history,
        "fields": rng.choice([FIELDS, FIELDS[:1]]),
        "order": "chronological" if name == "by time" else rng.choice(["shuffled", "stored"]),
        "negatives": rng.choice([None, Negatives("uniform", 2), Negatives("in-batch")]) if name != "one" else None,
        "deduplicate": rng.random() < 0.5,
        "pool_samples": rng.choice([1, 40, 1000]),
    }

    def feed(**more: Any) -> Feed:
        return Feed(sets[1][name], **(options | {"batch_size": 16} | more))

    whole = feed()
    epochs = [given_once([whole], "split") for _ in range(3)]
    table = {row["sample_id"]: row for row in world.samples.iter_rows(named=True)}
    chosen = [row["sample_id"] for row in epochs[0]] if name == "one" else list(table)
    expected = Counter({i: times(table[i]) for i in chosen if holds(table[i])})
    for rows in epochs:
        assert Counter(row["sample_id"] for row in rows) == +expected
        for row in rows:
            source = table[row["sample_id"]]
            assert {n: row[n] for n in ("user_id", "seen", "surface", "place")}.items() <= source.items()
            own = [world.window(row["user_id"], row["seen"], history, field) for field in FIELDS]
            window = [event for e in zip(*own, strict=True) if kept(event := dict(zip(FIELDS, e, strict=True)))]
            for field in options["fields"]:
                assert row[f"history {field}"] == [event[field] for event in window]
        if name == "by time":
            assert sorted(at := [row["request_time"] // WINDOW_US for row in rows]) == at
    if options["order"] == "shuffled" and len(epochs[0]) > 50:
        assert epochs[0] != epochs[1]

    # Any number of ranks and threads, in each way with what remains.
    size, world_size, remainder = rng.choice([1, 5, 300]), rng.choice([2, 7, 64]), rng.choice(["split", "pad", "drop"])
    more = {"batch_size": size, "world_size": world_size, "remainder": remainder}
    if remainder != "drop" or len(epochs[0]) >= size * world_size:
        ranks = [feed(rank=rank, workers=2 * (rank == 0), **more) for rank in range(world_size)]
        for rows in epochs[:2]:
            given = given_once(ranks, remainder)
            assert given == rows[: len(given)]
            assert len(rows) - len(given) < (size * world_size if remainder == "drop" else 1)

    # Left at any place of the second epoch, gone on with by others.
    first = feed(world_size=3, rank=1, epoch=1, workers=rng.choice([0, 2]))
    left = rng.randrange(len(first) + 1)
    for number, _ in enumerate(first if left else (), 1):
        if number == left:
            break
    others = [feed(world_size=2, rank=rank, batch_size=9, workers=rank) for rank in range(2)]
    for other in others:
        other.load_state_dict(json.loads(json.dumps(first.state_dict())))
    rest = epochs[1][left * 48 :] or epochs[2]
    assert given_once(others, "split") == rest
