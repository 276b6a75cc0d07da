"""Windows of 65,536 events of users with 131,072: peak memory of packing and of reading, and what shorter windows read.

A lake with one bucket is packed, and the set read, each in a process of its own; the peak is what the kernel says of
it, Python and libraries (about 250 MB) included. Three times the users must not take more memory.

    python benchmarks/long_windows.py [--quick]
"""

from __future__ import annotations

import resource
import shutil
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
from compare import arguments

import reclake
from reclake.quality.gate import record
from reclake.schemas import recipe as recipes
from reclake.schemas import shapes
from reclake.storage.catalog import Catalog

LENGTH = 65_536
EVENTS = 2 * LENGTH
SAMPLES = 100  # a user
BATCH = 32
TIME = pl.Datetime("us", "UTC")
DAY = date(2024, 3, 1)
START_US = 1_709_251_200_000_000


def user_rows(user: int, rng: np.random.Generator) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The timeline and the samples of a user; requests are spread over the second half."""
    known = START_US + np.cumsum(rng.integers(1, 500_000, EVENTS))
    timeline = pl.DataFrame(
        {
            "event_id": pl.int_range(EVENTS, eager=True).cast(pl.String),
            "user_id": np.full(EVENTS, user),
            "ordinal": np.arange(EVENTS),
            "known_at": known,
            "available_at": known,
            "event_time": known,
            "item_id": (rng.random(EVENTS) ** 3 * 100_000).astype(np.int64),
            "event_type": rng.choice(["exposure", "click", "like"], EVENTS, p=[0.8, 0.15, 0.05]),
        }
    )
    seen = np.sort(rng.integers(LENGTH, EVENTS, SAMPLES))
    samples = pl.DataFrame(
        {
            "sample_id": user * SAMPLES + np.arange(SAMPLES),
            "user_id": np.full(SAMPLES, user),
            "event_id": ["e"] * SAMPLES,
            "ordinal": seen,
            "item_id": rng.integers(0, 100_000, SAMPLES),
            "seen": seen,
            "request_time": known[seen - 1] + 1,
            "negative": np.zeros(SAMPLES, dtype=bool),
            "click": (rng.random(SAMPLES) < 0.1).astype(np.int8),
            "label_mature": np.ones(SAMPLES, dtype=bool),
        }
    )
    return timeline, samples


def write_lake(root: Path, users: int) -> None:
    """Timelines and samples as sealing and assembling leave them, pinned as `p`."""
    catalog, rng = Catalog.create(root, buckets=1), np.random.default_rng(1)
    catalog.add_recipe(
        recipes.parse(
            {
                "name": "long",
                "exposure": "exposure",
                "labels": {"click": {"event_type": "click", "window": "1h"}},
                "history": {"length": LENGTH, "fields": ["item_id", "event_type", "event_time"]},
            }
        )
    )
    recipe = catalog.recipe("long")
    timelines = shapes.timelines(shapes.events(catalog.contract("events")))
    tables = {"timelines": timelines, "samples/long": shapes.samples(recipe, timelines)}
    for number in range(users):
        for (name, shape), frame in zip(tables.items(), user_rows(number, rng), strict=True):
            append(catalog, name, shape, frame, {recipe.transaction(DAY): number + 1} if name != "timelines" else {})
    catalog.create_pin("p")


def append(catalog: Catalog, name: str, shape: pa.Schema, frame: pl.DataFrame, made: dict[str, int]) -> None:
    frame = frame.with_columns(
        pl.col("^(known_at|available_at|event_time|request_time)$").cast(TIME),
        era=pl.lit("20240301T000000-20240302T000000"),
        day=pl.lit(DAY),
        bucket=pl.lit(0, dtype=pl.Int32),
    )
    arrays = [
        frame[f.name].to_arrow().cast(f.type) if f.name in frame.columns else pa.nulls(frame.height, f.type)
        for f in shape
    ]
    catalog.table(name).append(record(pa.table(arrays, schema=shape), shape, name=name), transactions=made)


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def read(folder: str, history: int, workers: int) -> str:
    feed = reclake.Feed(folder, batch_size=BATCH, history=history, seed=7, workers=workers)
    began, cpu = time.perf_counter(), time.process_time()
    samples = events = 0
    for batch in feed:
        samples, events = samples + len(batch), events + batch.event_count
    wall, cpu = time.perf_counter() - began, time.process_time() - cpu
    return (
        f"{samples / wall:8,.0f} samples/s {events / wall / 1e6:7.1f} M events/s "
        f"{cpu / samples * 1e6:7,.0f} µs of a core a sample   peak {peak_mb():6,.0f} MB"
    )


def main() -> None:
    if sys.argv[1:2] == ["lake"]:
        write_lake(Path(sys.argv[2]), int(sys.argv[3]))
        return
    if sys.argv[1:2] == ["pack"]:
        began = time.perf_counter()
        result = reclake.Lake.open(sys.argv[2]).pack("long", pin="p", out=sys.argv[3])
        seconds = time.perf_counter() - began
        print(f"{result.events:,} events, {result.bytes / 1e6:,.0f} MB in {seconds:.1f} s   peak {peak_mb():,.0f} MB")
        return
    if sys.argv[1:2] == ["read"]:
        print(read(sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
        return

    def run(*given: object) -> str:
        command = [sys.executable, __file__, *map(str, given)]
        return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()

    quick = arguments(__doc__ or "").quick
    folder = Path(tempfile.mkdtemp(prefix="reclake-long-"))
    try:
        for users in (8, 24) if quick else (48, 144):
            lake, shards = folder / f"lake{users}", folder / f"set{users}"
            run("lake", lake, users)
            print(f"{users} users of {EVENTS:,} events, {SAMPLES} samples each, batches of {BATCH}")
            print(f"  pack: {run('pack', lake, shards)}")
            for history, workers in ((LENGTH, 0), (LENGTH, 2), (1000, 0)):
                print(f"  history={history:<6} workers={workers} {run('read', shards, history, workers)}")
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
