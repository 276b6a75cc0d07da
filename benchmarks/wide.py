"""Two columns of ten thousand: `Table.scan(columns=...)` beside other readers of the same Delta table, files warm.

And how long ten thousand columns take to get into a lake.
"""

from __future__ import annotations

import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from compare import arguments

import reclake
from reclake.quality import gate
from reclake.schemas.times import to_us
from reclake.storage import footers
from reclake.storage.table import Layout, Table

COLUMNS = 10_000
WANTED = ["f00017", "f09000"]


def made(folder: Path, rows: int) -> Table:
    """A table of one file."""
    rng = np.random.Generator(np.random.PCG64(7))
    schema = pa.schema([pa.field(f"f{n:05d}", pa.float64()) for n in range(COLUMNS)])
    data = pa.table({name: rng.random(rows).round(3) for name in schema.names}, schema=schema)
    table = Table(folder / "wide", "wide", Layout(), folder / "cache")
    table.append(gate.record(data, schema, name="wide"))
    return table


def contracted(folder: Path) -> reclake.Lake:
    """A lake whose events have ten thousand fields more."""
    shipped = Path(reclake.__file__).parent / "schemas" / "contracts"
    schema = json.loads((shipped / "events.avsc").read_text())
    for number in range(COLUMNS):
        field = {"name": f"f{number:05d}", "type": ["null", "double"], "default": None, "field-id": 1000 + number}
        schema["fields"].append(field)
    (folder / "events.avsc").write_text(json.dumps(schema))
    shutil.copy(shipped / "events.suite.json", folder)
    lake = reclake.Lake.create(folder / "lake")
    lake.add_contract(folder / "events.avsc")
    return lake


def ingest(folder: Path, rows: int) -> None:
    """A file of all the columns: through contract and gate, and as one would write it without either."""
    lake = contracted(folder)
    rng = np.random.Generator(np.random.PCG64(7))
    start = to_us("2024-03-01")
    known = {
        "event_id": [f"e{n}" for n in range(rows)],
        "user_id": rng.integers(0, 50, rows),
        "item_id": rng.integers(0, 50, rows),
        "event_type": ["click"] * rows,
        "event_time": np.arange(start, start + rows),
        "available_at": np.arange(start, start + rows),
    }
    path = folder / "day.parquet"
    pq.write_table(pa.table(known | {f"f{n:05d}": rng.random(rows).round(3) for n in range(COLUMNS)}), path)
    ways: dict[str, Callable[[], object]] = {
        "reclake, ingest": lambda: lake.ingest("events", path),
        "Polars, write_delta": lambda: pl.read_parquet(path).write_delta(folder / "plain"),
    }
    print(f"\n{rows:,} rows of {COLUMNS + len(known):,} columns into a table")
    for who, write in ways.items():
        began, cpu = time.perf_counter(), time.process_time()
        write()
        print(f"  {who:<34}{time.perf_counter() - began:>10.2f} s{time.process_time() - cpu:>10.2f} s of the processor")


def main() -> None:
    quick = arguments(__doc__ or "").quick
    with tempfile.TemporaryDirectory() as name:
        table = made(Path(name), 1_000 if quick else 5_000)
        (path,) = map(Path, table.files())
        contenders: dict[str, Callable[[], object]] = {
            "reclake, table.scan(columns=…)": lambda: table.scan(columns=WANTED).collect(),
            "pyarrow, the footer alone": lambda: pq.read_metadata(path),
            "pyarrow, two columns": lambda: pq.ParquetFile(path).read(columns=WANTED),
            "Polars, read_parquet": lambda: pl.read_parquet(path, columns=WANTED),
            "Polars, scan_delta": lambda: pl.scan_delta(table.uri).select(WANTED).collect(),
            "DuckDB, read_parquet": lambda: duckdb.sql(f"select {', '.join(WANTED)} from '{path}'").fetchnumpy(),
        }
        began = time.process_time()
        footers.walk(_footer(path), 0)
        walked = time.process_time() - began
        size = f"{pq.read_metadata(path).num_rows:,} rows, {path.stat().st_size >> 20} MiB"
        print(f"\ntwo of {COLUMNS:,} columns, {size}; ms{'at best':>22}{'median':>10}{'processor':>12}")
        for who, (best, median, cpu) in measured(contenders, rounds=5 if quick else 15).items():
            print(f"  {who:<34}{best:>26.1f}{median:>10.1f}{cpu:>12.1f}")
        print(f"  {'a new file is walked once':<34}{1000 * walked:>48.1f}")
        ingest(Path(name), 1_000)


def measured(contenders: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, tuple[float, float, float]]:
    """ms by the clock, best and median, and of the processor, median; the contenders in turn."""
    taken: dict[str, list[tuple[float, float]]] = {who: [] for who in contenders}
    for run in contenders.values():
        run()
    for _ in range(rounds):
        for who, run in contenders.items():
            began, cpu = time.perf_counter(), time.process_time()
            run()
            taken[who].append((1000 * (time.perf_counter() - began), 1000 * (time.process_time() - cpu)))
    found = {}
    for who, spent in taken.items():
        clock, processor = zip(*spent, strict=True)
        found[who] = min(clock), statistics.median(clock), statistics.median(processor)
    return found


def _footer(path: Path) -> bytes:
    data = path.read_bytes()
    return data[-8 - int.from_bytes(data[-8:-4], "little") : -8]


if __name__ == "__main__":
    main()
