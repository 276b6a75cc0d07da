"""Decoding files to batches against the bare readers one would use instead, on the same files.

    python benchmarks/decode.py [--quick]

Events of eight columns. The readers of one format take turns within one run; figures are medians. What each gives:

    reclake   batches of 250,000 rows, row numbers, bad rows set aside; the file is walked from its beginning
    resolved  the same, and every value cast strictly to the contract: what ingest does before its gate
    peer      the whole file as one frame (or list of dicts), the first bad row an error

Text columns of JSON lines and CSV stay text in `reclake` and get their types in `resolved`; the peers guess types.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import fastavro
import numpy as np
import polars as pl

from reclake.pipelines.resolving import resolve
from reclake.pipelines.sources import open_source
from reclake.schemas.contract import shipped

BATCH_ROWS = 250_000
SEED = 7
T0_US = 1_651_363_200_000_000  # 2022-05-01T00:00:00Z
EVENTS = shipped("events")


def events(rows: int) -> pl.DataFrame:
    rng = np.random.default_rng(SEED)
    types = pl.Series(["exposure", "click", "long_view", "like"])
    times = np.sort(T0_US + rng.integers(0, 86_400_000_000, rows))
    return pl.DataFrame(
        {
            "event_id": pl.Series(rng.integers(0, 1 << 62, rows)).cast(pl.String),
            "user_id": rng.integers(0, 20_000, rows),
            "item_id": rng.integers(0, 5_000, rows),
            "event_type": types[rng.integers(0, 4, rows)],
            "event_time": pl.Series(times).cast(pl.Datetime("us", "UTC")),
            "surface": rng.integers(0, 15, rows).astype(np.int32),
            "watch_ms": rng.integers(0, 100_000, rows),
            "value": rng.random(rows),
        }
    )


def write(frame: pl.DataFrame, folder: Path) -> dict[str, Path]:
    """The same events in every format."""
    paths = {suffix: folder / f"events.{suffix}" for suffix in ("avro", "parquet", "jsonl", "csv")}
    types: dict[str, object] = dict(zip(frame.columns, ["string", "long", "long", "string"], strict=False))
    types |= {"event_time": {"type": "long", "logicalType": "timestamp-micros"}}
    types |= {"surface": "int", "watch_ms": "long", "value": "double"}
    fields = [{"name": name, "type": types[name]} for name in frame.columns]
    schema = fastavro.parse_schema({"type": "record", "name": "event", "fields": fields})
    with paths["avro"].open("wb") as file:
        fastavro.writer(file, schema, frame.iter_rows(named=True))
    frame.write_parquet(paths["parquet"], row_group_size=BATCH_ROWS)
    text = frame.with_columns(pl.col("event_time").dt.to_string("iso:strict"))
    text.write_ndjson(paths["jsonl"])
    text.write_csv(paths["csv"])
    return paths


def decoded(path: Path) -> int:
    source = open_source(path, contract=EVENTS, batch_rows=BATCH_ROWS)
    return sum(batch.frame.height for batch in source.batches())


def resolved(path: Path) -> int:
    source = open_source(path, contract=EVENTS, batch_rows=BATCH_ROWS)
    return sum(resolve(batch.frame, EVENTS).rows.height for batch in source.batches())


def by_fastavro(path: Path) -> int:
    with path.open("rb") as file:
        return sum(1 for _ in fastavro.reader(file))


PEERS: dict[str, dict[str, Callable[[Path], int]]] = {
    "avro": {"fastavro.reader": by_fastavro, "pl.read_avro": lambda path: pl.read_avro(path).height},
    "parquet": {"pl.read_parquet": lambda path: pl.read_parquet(path).height},
    "jsonl": {"pl.read_ndjson": lambda path: pl.read_ndjson(path).height},
    "csv": {"pl.read_csv": lambda path: pl.read_csv(path).height},
}


def measure(path: Path, ways: dict[str, Callable[[Path], int]], rows: int, repeats: int) -> dict[str, float]:
    """Median seconds of each way, taking turns; every way must give every row."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(repeats + 1):
        for name, way in ways.items():
            start = time.perf_counter()
            if way(path) != rows:
                raise SystemExit(f"{name} did not give {rows} rows of {path.name}")
            if turn:  # the first turn warms the page cache
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(times) for name, times in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer rows and turns")
    quick = parser.parse_args().quick
    rows, repeats = (200_000, 3) if quick else (2_000_000, 5)
    with tempfile.TemporaryDirectory() as folder:
        for suffix, path in write(events(rows), Path(folder)).items():
            times = measure(path, {"reclake": decoded, "resolved": resolved} | PEERS[suffix], rows, repeats)
            print(f"{suffix}, {rows:,} events, {path.stat().st_size / 1e6:.0f} MB")
            for name, seconds in times.items():
                against = [f"{times[peer] / seconds:5.2f}x {peer}" for peer in PEERS[suffix] if peer != name]
                shown = "  ".join(against) if name in ("reclake", "resolved") else ""
                print(f"  {name:16} {rows / seconds / 1e6:6.2f} Mrow/s  {shown}".rstrip())


if __name__ == "__main__":
    main()
