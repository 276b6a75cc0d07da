"""Ingest through the gate, beside what writes the same rows and asks nothing: write_deltalake, and Polars."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import numpy as np
import polars as pl
from compare import arguments, in_turn, report
from deltalake import write_deltalake

import reclake
from reclake.schemas.times import US_PER_DAY, to_us


def source(path: Path, rows: int) -> Path:
    """Events of one day, shuffled, as Parquet."""
    rng = np.random.Generator(np.random.PCG64(7))
    time = to_us("2024-03-01") + rng.integers(0, US_PER_DAY, rows)
    frame = pl.DataFrame(
        {
            "event_id": pl.Series(np.arange(rows)).cast(pl.String).str.pad_start(16, "e"),
            "user_id": rng.integers(0, max(rows // 100, 1), rows),
            "item_id": rng.integers(0, 50_000, rows),
            "event_type": pl.Series(rng.integers(0, 3, rows)).replace_strict({0: "exposure", 1: "click", 2: "like"}),
            "event_time": pl.Series(time).cast(pl.Datetime("us", "UTC")),
            "available_at": pl.Series(time + 2_000_000).cast(pl.Datetime("us", "UTC")),
            "surface": pl.Series(rng.integers(0, 5, rows), dtype=pl.Int32),
            "position": pl.Series(rng.integers(0, 20, rows), dtype=pl.Int32),
            "watch_ms": rng.integers(0, 60_000, rows),
            "duration_ms": rng.integers(5_000, 60_000, rows),
        }
    )
    frame.write_parquet(path)
    return path


def main() -> None:
    quick = arguments(__doc__ or "").quick
    rows, rounds = (300_000, 3) if quick else (3_000_000, 5)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = source(folder / "events.parquet", rows)

        def ours() -> None:
            shutil.rmtree(folder / "lake", ignore_errors=True)
            reclake.Lake.create(folder / "lake").ingest("events", path)

        def delta() -> None:
            shutil.rmtree(folder / "delta", ignore_errors=True)
            frame = pl.read_parquet(path).with_columns(pl.col("event_time").dt.date().alias("day"))
            write_deltalake(str(folder / "delta"), frame.to_arrow(), partition_by=["day"])

        def polars() -> None:
            pl.scan_parquet(path).sort("user_id", "event_time").sink_parquet(folder / "sorted.parquet")

        contenders = {"reclake ingest": ours, "write_deltalake, no checks": delta, "Polars, sorted Parquet": polars}
        report(f"ingest {rows:,} events", in_turn(contenders, rounds=rounds), rows=rows)


if __name__ == "__main__":
    main()
