"""Shard sets of synthetic users, and the same samples as Parquet fat rows, for the benchmarks of the feed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from reclake.pipelines.feed import Feed
from reclake.pipelines.packing.rows import pack_bucket
from reclake.storage.shard_manifest import Compression, Manifest, write_manifest
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


def write_shards(
    folder: Path, users: int, samples_per_user: int, length: int, compression: Compression = "lz4"
) -> None:
    folder.mkdir()
    writer = ShardWriter(folder, compression=compression)
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
        compression=compression,
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
