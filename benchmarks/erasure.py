"""Forgetting 1, 10, 100 and 1,000 users: bytes rewritten and seconds, beside a rewrite of every file of the lake."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq
from compare import arguments

import reclake
from reclake.schemas.times import US_PER_DAY, to_us

FIRST = 100_000_000_000
WIDTHS = (8, 14, 17, 7, 9, 9, 6, 17, 6)


def source(path: Path, rows: int, users: int, days: int) -> Path:
    """Events of `users`, a few of them much more active than the others, spread over `days`."""
    rng = np.random.default_rng(7)
    time_us = to_us("2024-03-01") + np.sort(rng.integers(0, days * US_PER_DAY, rows))
    pl.DataFrame(
        {
            "event_id": [f"e{n}" for n in range(rows)],
            "user_id": FIRST + (users * rng.random(rows) ** 2).astype(np.int64),
            "item_id": rng.integers(0, 50_000, rows),
            "event_type": np.where(rng.random(rows) < 0.3, "click", "exposure"),
            "event_time": time_us,
            "available_at": time_us,
        }
    ).write_parquet(path)
    return path


def data_files(lake: reclake.Lake) -> list[str]:
    return [file for name in lake.catalog.table_names() for file in lake.catalog.table(name).files()]


def rewrite_everything(lake: reclake.Lake, users: list[int], out: Path) -> int:
    """What one would do without statistics: read and write every file that has users, without them. Bytes written."""
    written = 0
    gone = pl.Series(users).implode()
    for number, path in enumerate(data_files(lake)):
        if "user_id" in pq.read_schema(path).names:
            target = out / f"{number}.parquet"
            pl.read_parquet(path, hive_partitioning=False).filter(~pl.col("user_id").is_in(gone)).write_parquet(target)
            written += target.stat().st_size
    return written


def warm_up(folder: Path) -> None:
    """The first time pays for imports."""
    reclake.Lake.create(folder / "empty").forget([1])


def main() -> None:
    quick = arguments(__doc__ or "").quick
    rows, users, days = (200_000, 5_000, 4) if quick else (3_000_000, 50_000, 14)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        whole = reclake.Lake.create(folder / "whole")
        whole.ingest("events", source(folder / "events.parquet", rows, users, days))
        whole.seal(through=to_us("2024-03-01") + days * US_PER_DAY)
        for day in range(days):
            whole.samples("ctr", day=f"2024-03-{day + 1:02d}")
        total = sum(os.path.getsize(path) for path in data_files(whole))
        print(
            f"\nforget, {rows:,} events of {users:,} users in {days} days, {total / 1e6:.0f} MB, {os.cpu_count()} cores"
        )
        head = ("users", "rewritten MB", "of it timelines", "files", "seconds", "scan MB", "s", "full rewrite MB", "s")
        print("  " + "".join(f"{name:>{width}}" for name, width in zip(head, WIDTHS, strict=True)))
        warm_up(folder)
        for many in (1, 10, 100, 1000):
            shutil.rmtree(folder / "lake", ignore_errors=True)
            shutil.copytree(folder / "whole", folder / "lake")
            lake = reclake.Lake.open(folder / "lake")
            gone = [int(each) for each in FIRST + np.linspace(0, users - 1, many, dtype=np.int64)]
            (folder / "out").mkdir()
            began = time.perf_counter()
            full = rewrite_everything(lake, gone, folder / "out")
            theirs = time.perf_counter() - began
            shutil.rmtree(folder / "out")
            began = time.perf_counter()
            receipt = lake.forget(gone)
            ours = time.perf_counter() - began
            assert receipt is not None
            scan = (receipt.finished_at_us - receipt.scan_began_at_us) / 1e6
            timelines = sum(t.bytes_written for t in receipt.tables if t.table == "timelines")
            figures = (
                f"{many:,}",
                f"{receipt.bytes_written / 1e6:.1f}",
                f"{timelines / 1e6:.1f}",
                str(sum(t.files_removed for t in receipt.tables)),
                f"{ours - scan:.1f}",
                f"{receipt.bytes_scanned / 1e6:.0f}",
                f"{scan:.1f}",
                f"{full / 1e6:.1f}",
                f"{theirs:.1f}",
            )
            print("  " + "".join(f"{each:>{width}}" for each, width in zip(figures, WIDTHS, strict=True)))


if __name__ == "__main__":
    main()
