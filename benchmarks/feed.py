"""The feed beside Parquet fat rows: samples a second, and bytes a sample, of the same samples in the same batches.

Fat rows are what a user would write instead: one row a sample with its history as list columns, shuffled once when
written, zstd, row groups read in a shuffled order. Both are read from a warm page cache, alternating, and give NumPy
values and offsets. The last line is a plain copy of the delivered bytes: the limit. On a machine with other work the
ratio of CPU time is the steadier figure.

    python benchmarks/feed.py [--quick] [--users N] [--samples-per-user N] [--length L] [--rounds N]
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from reclake.pipelines.feed import Feed
from reclake.pipelines.feed.order import permutation
from reclake.pipelines.packing.rows import pack_bucket
from reclake.storage.shard_manifest import Manifest, write_manifest
from reclake.storage.shard_writer import ShardWriter

BATCH = 4096
HISTORY = ["item_id", "event_type", "event_time"]
TIME = pl.Datetime("us", "UTC")


def bucket(users: np.ndarray, samples_per_user: int, length: int, rng: np.random.Generator) -> pa.Table:
    """Rows of some users: some 2 L events each, requests among the last of them; popular items are frequent."""
    events = 2 * (length + samples_per_user)
    n = len(users) * events
    gaps = rng.integers(1_000_000, 600_000_000, (len(users), events))
    known = 1_650_000_000_000_000 + np.cumsum(gaps, axis=1)
    timeline = pl.DataFrame(
        {
            "user_id": np.repeat(users, events),
            "ordinal": np.tile(np.arange(events), len(users)),
            "known_at": known.ravel(),
            "item_id": (rng.random(n) ** 3 * 100_000).astype(np.int64),
            "event_type": rng.choice(8, n, p=[0.6, 0.2, 0.1, 0.04, 0.03, 0.01, 0.01, 0.01]).astype(np.int32),
            "event_time": known.ravel(),
        }
    ).with_columns(pl.col("known_at", "event_time").cast(TIME))
    # Successive requests are about one event apart, as exposures are.
    steps = np.cumsum(rng.integers(0, 3, (len(users), samples_per_user)), axis=1)
    seen = length // 2 + rng.integers(0, length, (len(users), 1)) + steps
    count = seen.size
    samples = pl.DataFrame(
        {
            "sample_id": rng.permutation(count) + int(users[0]) * samples_per_user,
            "user_id": np.repeat(users, samples_per_user),
            "item_id": (rng.random(count) ** 3 * 100_000).astype(np.int64),
            "seen": seen.ravel(),
            "request_time": np.take_along_axis(known, seen, axis=1).ravel(),
            "negative": np.zeros(count, dtype=bool),
            "click": (rng.random(count) < 0.1).astype(np.int8),
            "label_mature": np.ones(count, dtype=bool),
        }
    ).with_columns(pl.col("request_time").cast(TIME))
    return pack_bucket(samples, timeline, length=length, history_fields=HISTORY, labels=["click"], features=[])


def write_shards(folder: Path, users: int, samples_per_user: int, length: int) -> None:
    folder.mkdir()
    writer = ShardWriter(folder)
    rng = np.random.default_rng(1)
    for part in np.array_split(np.arange(1, users + 1), max(1, users * length // 1_000_000)):
        writer.add(bucket(part, samples_per_user, length, rng))
    samples, history, digest = writer.close()
    manifest = Manifest(
        recipe={"name": "benchmark", "version": 1, "fingerprint": "00"},
        pin={"name": "benchmark", "tables": {}},
        history_length=length,
        window_us=0,
        labels=("click",),
        features=(),
        samples=samples,
        history=history,
        vocabularies={},
        content={},
        samples_blake2b=digest,
        users=writer.users,
        shards=tuple(writer.shards),
    )
    write_manifest(folder, manifest)


def write_fat(shards: Path, path: Path) -> None:
    """The same samples as rows with list columns, in a shuffled order."""
    writer = None
    for batch in Feed(shards, batch_size=BATCH, seed=1):
        columns = {name: pa.array(batch[name]) for name in batch.keys()}  # noqa: SIM118 -- a batch is no mapping
        for name, jagged in batch.history.items():
            columns[f"history_{name}"] = pa.ListArray.from_arrays(
                pa.array(jagged.offsets.astype(np.int32)), pa.array(jagged.values)
            )
        table = pa.table(columns)
        writer = writer or pq.ParquetWriter(path, table.schema, compression="zstd")
        writer.write_table(table, row_group_size=BATCH)
    if writer is not None:
        writer.close()


def read_feed(feed: Feed) -> tuple[int, int]:
    """(samples, bytes delivered) of the feed's next epoch."""
    samples = delivered = 0
    for batch in feed:
        samples += len(batch)
        delivered += sum(batch[name].nbytes for name in batch.keys())  # noqa: SIM118 -- a batch is no mapping
        delivered += sum(jagged.values.nbytes for jagged in batch.history.values())
    return samples, delivered


def read_fat(path: Path, threads: bool) -> tuple[int, int]:
    samples = delivered = 0
    file = pq.ParquetFile(path, memory_map=True)
    groups = permutation(file.metadata.num_row_groups, 7).tolist()
    for batch in file.iter_batches(batch_size=BATCH, row_groups=groups, use_threads=threads):
        samples += batch.num_rows
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            values = column.values if name.startswith("history_") else column
            delivered += values.to_numpy(zero_copy_only=False).nbytes
    return samples, delivered


def copy_rate(bytes_per_sample: float) -> float:
    """Samples a second of a plain copy of the delivered bytes into a reused buffer."""
    source = np.ones(int(bytes_per_sample) * BATCH, dtype=np.uint8)
    target = source.copy()
    begin = time.perf_counter()
    for _ in range(20):
        np.copyto(target, source)
    return 20 * BATCH / (time.perf_counter() - begin)


@dataclass(frozen=True)
class Round:
    """What one epoch took."""

    wall_s: float
    cpu_s: float
    samples: int
    delivered: int


def measure(readers: dict[str, Callable[[], tuple[int, int]]], rounds: int) -> dict[str, list[Round]]:
    """Rounds of each reader, alternating, after one that pays for cold caches and fresh memory."""
    taken: dict[str, list[Round]] = {name: [] for name in readers}
    for number in range(rounds + 1):
        for name, read in readers.items():
            wall, cpu = time.perf_counter(), time.process_time()
            samples, delivered = read()
            if number:
                wall_s, cpu_s = time.perf_counter() - wall, time.process_time() - cpu
                taken[name].append(Round(wall_s, cpu_s, samples, delivered))
    return taken


def show(taken: dict[str, list[Round]]) -> None:
    """A line a reader: medians over the rounds; ratios are medians of the rounds' own, against fat rows."""
    print(f"{'':20} {'k samples/s':>12} {'GB/s':>6} {'CPU µs a sample':>16}   against fat rows: time, CPU")
    for name, rounds in taken.items():
        peer = taken["fat rows, threads" if "2 workers" in name else "fat rows, 1 thread"]
        wall = median(other.wall_s / own.wall_s for own, other in zip(rounds, peer, strict=True))
        cpu = median(other.cpu_s / own.cpu_s for own, other in zip(rounds, peer, strict=True))
        ratio = f"{wall:10.1f}x {cpu:6.1f}x" if name.startswith("feed") else ""
        rate = median(r.samples / r.wall_s for r in rounds)
        cpu_us = median(r.cpu_s / r.samples * 1e6 for r in rounds)
        size = rounds[0].delivered / rounds[0].samples
        print(f"{name:20} {rate / 1e3:12,.0f} {rate * size / 1e9:6.2f} {cpu_us:16.2f}   {ratio}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="60,000 samples, 3 rounds")
    parser.add_argument("--users", type=int, default=20_000)
    parser.add_argument("--samples-per-user", type=int, default=15)
    parser.add_argument("--length", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    users, rounds = (4_000, 3) if given.quick else (given.users, given.rounds)
    folder = Path(tempfile.mkdtemp(prefix="reclake-feed-"))
    try:
        shards, fat = folder / "shards", folder / "fat.parquet"
        begin = time.perf_counter()
        write_shards(shards, users, given.samples_per_user, given.length)
        packed = time.perf_counter() - begin
        write_fat(shards, fat)
        samples = Feed(shards, batch_size=BATCH, seed=7).samples
        stored = sum(f.stat().st_size for f in shards.glob("*.parquet")) / samples
        fat_stored = fat.stat().st_size / samples
        print(f"{samples:,} samples, L={given.length}, {given.samples_per_user} a user, {', '.join(HISTORY)}")
        print(f"pack                 {samples / packed / 1e3:8,.0f} k samples/s")
        print(f"bytes a sample       {stored:8,.0f} shards   {fat_stored:8,.0f} fat rows   1/{fat_stored / stored:.1f}")
        feeds = [Feed(shards, batch_size=BATCH, seed=7, workers=workers) for workers in (0, 2)]
        taken = measure(
            {
                "feed, 0 workers": lambda: read_feed(feeds[0]),
                "fat rows, 1 thread": lambda: read_fat(fat, False),
                "feed, 2 workers": lambda: read_feed(feeds[1]),
                "fat rows, threads": lambda: read_fat(fat, True),
            },
            rounds,
        )
        show(taken)
        ours = taken["feed, 0 workers"]
        limit = copy_rate(ours[0].delivered / samples)
        share = median(samples / r.wall_s for r in ours) / limit
        print(f"{'plain copy':20} {limit / 1e3:12,.0f}   the feed on one thread reaches {share:.0%} of it")
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
