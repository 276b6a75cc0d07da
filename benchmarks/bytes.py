"""Bytes an event: the same rows in the same order, written here, by defaults, and by the best settings of others.

`reclake` is what tables get: row groups of 16,384 rows, zstd 1. With a level it has row groups of 131,072 rows like
DuckDB (122,880; Polars 262,144), so that encodings alone are compared.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from compare import arguments

import reclake
from reclake.pipelines.run import Run
from reclake.pipelines.simulate import simulate
from reclake.schemas.times import to_us
from reclake.storage import parquet

ORDER = ["bucket", "user_id", "known_at", "event_id"]


def kuairand(folder: Path) -> pa.Table | None:
    """KuaiRand-Pure's events, where its logs are (RECLAKE_DATA)."""
    base = Path(os.environ.get("RECLAKE_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
    logs = sorted((base / "kuairand-pure").glob("log_*"))
    return _events(folder, "kuairand", logs) if logs else None


def simulated(folder: Path, scale: float) -> pa.Table:
    """The simulated app's events."""
    return _events(folder, "events", simulate(folder / "source", seed=7, scale=scale, media=False).paths)


def _events(folder: Path, contract: str, files: list[Path]) -> pa.Table:
    lake = reclake.Lake.create(folder / contract)
    lake.ingest(contract, files, run=Run(id="bench", now_us=lambda: to_us("2025-01-01")))
    rows = lake.catalog.table("events").scan().drop("known_day").sort(ORDER).collect().to_arrow()
    return rows.cast(parquet.stored(pa.schema([_small(field) for field in rows.schema])))


def _small(field: pa.Field) -> pa.Field:
    return field.with_type(pa.string()) if pa.types.is_large_string(field.type) else field


def measure(title: str, rows: pa.Table, levels: tuple[int, ...]) -> None:
    """A line a way of writing: bytes an event, and seconds of a processor."""
    frame = pl.DataFrame(rows)
    duck = duckdb.connect()
    duck.register("rows", rows)
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "rows.parquet"

        def large_groups(level: int) -> None:
            chosen = parquet.encodings(rows)
            pq.write_table(rows, path, row_group_size=131_072, compression_level=level, **chosen)

        ways: dict[str, Callable[[], object]] = {
            "reclake": lambda: parquet.write(Path(name) / "lake", rows, {}),
            "pyarrow, defaults": lambda: pq.write_table(rows, path),
            "Polars, defaults (zstd 3)": lambda: frame.write_parquet(path),
            "DuckDB, defaults": lambda: duck.execute(f"copy rows to '{path}' (format parquet)"),
        }
        for level in levels:
            how = f"format parquet, parquet_version v2, compression zstd, compression_level {level}"
            ways |= {
                f"reclake, zstd {level}": lambda level=level: large_groups(level),  # type: ignore[misc]
                f"Polars, zstd {level}": lambda level=level: frame.write_parquet(path, compression_level=level),  # type: ignore[misc]
                f"DuckDB, v2 pages, zstd {level}": lambda how=how: duck.execute(f"copy rows to '{path}' ({how})"),  # type: ignore[misc]
            }
        print(f"\n{title}: {rows.num_rows:,} events, {rows.num_columns} columns; with a level: large row groups")
        print(f"  {'':<28}{'bytes an event':>16}{'processor ms':>14}")
        for who, write in ways.items():
            began = time.process_time()
            done = write()
            seconds = time.process_time() - began
            size = done.size if isinstance(done, parquet.DataFile) else path.stat().st_size
            print(f"  {who:<28}{size / rows.num_rows:>16.2f}{1000 * seconds:>14.0f}")


def groups(rows: pa.Table, sizes: tuple[int, ...]) -> None:
    """What the size of row groups and zstd's level do to a file of ours: see docs/adr/0008."""
    tried = parquet.encodings(rows)
    hows = {
        "dictionary for all": {"compression": "zstd"},
        "tried": tried,
        "tried, zstd 9": tried | {"compression_level": 9},
    }
    print(f"\n  {'row groups of':<20}" + "".join(f"{name:>26}" for name in hows) + "   bytes, ms to write and read")
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "rows.parquet"
        for size in sizes:
            line = ""
            for how in hows.values():
                began = time.process_time()
                pq.write_table(rows, path, row_group_size=size, **how)
                written = time.process_time()
                pq.read_table(path)
                times = f"{1000 * (written - began):.0f} / {1000 * (time.process_time() - written):.0f}"
                line += f"{f'{path.stat().st_size / rows.num_rows:.2f}, {times}':>26}"
            print(f"  {size:<20,}{line}")


def orders(rows: pa.Table) -> None:
    """What the order of rows does to a file of ours."""
    print("\n  sorted by")
    with tempfile.TemporaryDirectory() as name:
        for keys in (ORDER, ["known_at", "event_id"], ["bucket", "known_at", "event_id"], ["item_id", "known_at"]):
            ordered = rows.sort_by([(key, "ascending") for key in keys])
            size = parquet.write(Path(name), ordered, {}).size
            print(f"  {', '.join(keys):<44}{size / rows.num_rows:>8.2f} B")


def main() -> None:
    quick = arguments(__doc__ or "").quick
    levels = (9,) if quick else (3, 9, 19)
    with tempfile.TemporaryDirectory() as name:
        measure("simulated", simulated(Path(name), 0.3 if quick else 1.0), levels)
        rows = None if quick else kuairand(Path(name))
        if rows is not None:
            measure("KuaiRand-Pure", rows, levels)
            orders(rows)
            groups(rows, (4_096, 16_384, 65_536))


if __name__ == "__main__":
    main()
