"""Long histories: stored in tiers by age, so that short windows read little of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from reclake.pipelines.feed.windows import by_arrow, gather_windows
from reclake.storage import shards as storage
from reclake.storage.shards import ShardSet

Fixture = Callable[..., Any]


@pytest.fixture(scope="module")
def long_world(world_maker: Fixture) -> Any:
    return world_maker(users=6, events=12_000, samples=6, seed=4)


@pytest.fixture(scope="module")
def long_shards(long_world: Any, set_writer: Fixture, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Windows of 10,000: three tiers."""
    return set_writer(long_world, tmp_path_factory.mktemp("long") / "set", length=10_000, chunk_samples=8)


@pytest.mark.parametrize("history", [10_000, 8_193, 8_192, 1_025, 1_024, 7])
def test_a_window_is_what_the_law_says_whatever_tiers_are_read(
    long_world: Any, long_shards: Path, feed_of: Fixture, history: int
) -> None:
    rows = {row["sample_id"]: row for row in long_world.samples.iter_rows(named=True)}
    feed = feed_of(long_shards, history=history, batch_size=7, workers=1)
    found = 0
    for batch in feed:
        items, watch = batch.history["item_id"], batch.history["watch_ms"]
        for i, sample in enumerate(batch["sample_id"].tolist()):
            row, own = rows[sample], slice(items.offsets[i], items.offsets[i + 1])
            assert items.values[own].tolist() == long_world.window(row["user_id"], row["seen"], history, "item_id")
            got = np.where(watch.valid[own], watch.values[own], None).tolist()
            assert got == long_world.window(row["user_id"], row["seen"], history, "watch_ms")
            found += 1
    assert found == len(rows)


def test_the_order_does_not_depend_on_how_long_windows_are(long_shards: Path, feed_of: Fixture, ids: Fixture) -> None:
    orders = [ids(feed_of(long_shards, history=history, pool_samples=20)) for history in (10, 2_000, 10_000)]
    assert orders[0] == orders[1] == orders[2]


def test_the_last_thousand_of_65_536_read_a_tenth_of_the_bytes_at_most(
    set_writer: Fixture, feed_of: Fixture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    users, events = 4, 70_000
    rng = np.random.default_rng(1)
    known = pl.Series(1_650_000_000_000_000 + np.cumsum(rng.integers(1, 10**8, events))).cast(pl.Datetime("us", "UTC"))
    timeline = pl.concat(
        pl.DataFrame(
            {"ordinal": np.arange(events), "item_id": rng.integers(0, 10**6, events), "known_at": known}
        ).with_columns(user_id=pl.lit(user), event_type=pl.lit("click"), event_time="known_at", watch_ms="item_id")
        for user in range(users)
    )
    seen = np.tile(np.linspace(68_000, 69_999, 20).astype(int), users)
    samples = pl.DataFrame(
        {
            "sample_id": np.arange(20 * users),
            "user_id": np.repeat(np.arange(users), 20),
            "item_id": np.zeros(20 * users, dtype=np.int64),
            "seen": seen,
            "request_time": known.gather(pl.Series(seen)),
            "negative": np.zeros(20 * users, dtype=bool),
            "click": np.zeros(20 * users, dtype=np.int8),
            "label_mature": np.ones(20 * users, dtype=bool),
            "surface": np.ones(20 * users, dtype=np.int32),
            "place": ["home"] * 20 * users,
        }
    )
    world = type("World", (), {"samples": samples, "timeline": timeline})
    shards = set_writer(world, tmp_path / "set", length=65_536, cuts=1)

    read: list[int] = []
    crc32 = storage.crc32

    def counted(data: pa.Buffer) -> int:
        read.append(data.size)
        return crc32(data)

    monkeypatch.setattr(storage, "crc32", counted)

    def bytes_of(**given: Any) -> int:
        read.clear()
        for _ in feed_of(shards, columns=[], **given):
            pass
        return sum(read)

    bare = bytes_of(fields=[])
    whole = bytes_of() - bare
    assert bytes_of(history=1000) - bare <= 0.1 * whole
    assert bytes_of(fields=["item_id"]) - bare < 0.5 * whole
    assert ShardSet(shards).events_read(1000).sum() == users * (1024 + 1_999)


def test_windows_are_gathered_beyond_the_reach_of_32_bits() -> None:
    far = 1 << 31
    source = np.zeros(far + 100, dtype=np.uint8)  # of which only the pages that are written take memory
    source[far:] = np.arange(100)
    starts, lengths = np.array([far + 3, far + 50, far - 20, far + 90]), np.array([7, 33, 25, 10])
    expected = np.concatenate([source[s : s + n] for s, n in zip(starts, lengths, strict=True)])
    parts = [(source, starts, lengths)]
    assert by_arrow(parts).tolist() == expected.tolist()
    assert gather_windows(parts, lambda n, dtype: np.empty(n, dtype)).tolist() == expected.tolist()
