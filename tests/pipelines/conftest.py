"""A small lake's worth of samples and timelines, made by arithmetic, and shard sets of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from reclake.pipelines.packing.rows import encode_strings, pack_bucket
from reclake.storage.shard_manifest import Manifest, write_manifest
from reclake.storage.shard_writer import ShardWriter

TIME = pl.Datetime("us", "UTC")
START_US = 1_650_000_000_000_000
TYPES = ("exposure", "click", "like")


@dataclass(frozen=True)
class World:
    """Samples and timelines of some users."""

    samples: pl.DataFrame
    timeline: pl.DataFrame

    def window(self, user: int, seen: int, length: int, field: str) -> list[object]:
        """What the law says: timeline[seen-L : seen], found by looking at every event."""
        rows = self._by_user.get((user,), self.timeline.clear())
        events = dict(zip(rows["ordinal"], rows[field], strict=True))
        return [events[ordinal] for ordinal in range(max(seen - length, 0), seen)]

    @cached_property
    def _by_user(self) -> dict[tuple[object, ...], pl.DataFrame]:
        return self.timeline.partition_by("user_id", as_dict=True)


def make_world(*, users: int, events: int, samples: int, seed: int = 1) -> World:
    """Up to `events` events and `samples` samples a user; null watch times and surfaces among them."""
    rng = np.random.default_rng(seed)
    timelines, sets = [], []
    for user in range(1, users + 1):
        count = int(rng.integers(0, events + 1))
        known = START_US + np.sort(rng.integers(0, 10**9, count))
        timelines.append(
            pl.DataFrame(
                {
                    "user_id": np.full(count, user * 7),
                    "ordinal": np.arange(count),
                    "known_at": known,
                    "item_id": rng.integers(0, 1 << 40, count),
                    "event_type": rng.choice([*TYPES, None], count).tolist(),
                    "event_time": known - 5,
                    "watch_ms": [None if x < 100 else int(x) for x in rng.integers(0, 1000, count)],
                },
                schema_overrides={"event_type": pl.String, "watch_ms": pl.Int64},
            )
        )
        requests = START_US + np.sort(rng.integers(0, 10**9, int(rng.integers(1, samples + 1))))
        sets.append(
            pl.DataFrame(
                {
                    "user_id": np.full(len(requests), user * 7),
                    "item_id": rng.integers(0, 1 << 40, len(requests)),
                    "request_time": requests,
                    "seen": np.searchsorted(known, requests, side="left"),
                    "negative": rng.random(len(requests)) < 0.5,
                    "click": rng.integers(0, 2, len(requests)).astype(np.int8),
                    "label_mature": np.ones(len(requests), dtype=bool),
                    "surface": [None if x == 0 else int(x) for x in rng.integers(0, 4, len(requests))],
                    "place": rng.choice(["home", "search", None], len(requests)).tolist(),
                },
                schema_overrides={"surface": pl.Int32, "place": pl.String},
            )
        )
    timeline = pl.concat(timelines).with_columns(pl.col("known_at", "event_time").cast(TIME))
    rows = pl.concat(sets).with_columns(pl.col("request_time").cast(TIME))
    rows = rows.sample(fraction=1.0, shuffle=True, seed=seed).with_columns(sample_id=pl.int_range(pl.len()) + 1000)
    return World(rows, timeline)


def write_set(
    world: World,
    folder: Path,
    *,
    length: int,
    chunk_samples: int = 64,
    shard_bytes: int = 20_000,
    cuts: int = 3,
    window_us: int = 0,
) -> Path:
    """The world as a shard set, given to the writer in `cuts` parts of whole users (of each window of time)."""
    samples, vocabularies = encode_strings(world.samples, ["surface", "place"], {})
    timeline, vocabularies = encode_strings(world.timeline, ["item_id", "event_type"], vocabularies)
    folder.mkdir(parents=True)
    writer = ShardWriter(folder, chunk_samples=chunk_samples, shard_bytes=shard_bytes)
    parts = np.array_split(samples["user_id"].unique().sort().to_numpy(), cuts)
    request = samples["request_time"].dt.epoch("us")
    number = request // window_us if window_us else request * 0
    for window, users in [(w, users) for w in number.unique().sort() for users in parts]:
        chosen = samples.filter((number == window) & pl.col("user_id").is_in(users.tolist()))
        if chosen.is_empty():
            continue
        writer.add(
            pack_bucket(
                chosen,
                timeline.filter(pl.col("user_id").is_in(users.tolist())),
                length=length,
                history_fields=["item_id", "event_type", "event_time", "watch_ms"],
                labels=["click"],
                features=["surface", "place"],
            ),
            window=window,
        )
    columns, history, digest = writer.close()
    manifest = Manifest(
        recipe={"name": "test", "version": 1, "fingerprint": "00"},
        pin={"name": "p", "tables": {"timelines": 1, "samples/test": 2}},
        history_length=length,
        window_us=window_us,
        labels=("click",),
        features=("surface", "place"),
        samples=columns,
        history=history,
        vocabularies={name: tuple(words) for name, words in vocabularies.items()},
        content={},
        samples_blake2b=digest,
        users=writer.users,
        shards=tuple(writer.shards),
    )
    write_manifest(folder, manifest)
    return folder


@pytest.fixture(scope="session")
def world() -> World:
    return make_world(users=60, events=120, samples=30)


@pytest.fixture(scope="session")
def shards(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """About 900 samples in chunks of about 64, windows of 32, several shards."""
    return write_set(world, tmp_path_factory.mktemp("set") / "shards", length=32)


@pytest.fixture(scope="session")
def set_writer() -> Callable[..., Path]:
    return write_set


@pytest.fixture(scope="session")
def world_maker() -> Callable[..., World]:
    return make_world
