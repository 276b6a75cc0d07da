"""What bounds from history cost a write: the last days' verdicts read and bounds made, beside reading all verdicts."""

from __future__ import annotations

import tempfile
from datetime import date, timedelta
from pathlib import Path

import polars as pl
import pyarrow as pa
from compare import arguments, in_turn, report

import reclake
from reclake.pipelines.learning import learnt
from reclake.quality import gate
from reclake.quality.suite import CompiledSuite, compile_suite
from reclake.schemas import shapes
from reclake.schemas.times import from_us, to_us

CHECK = "expect_column_mean_to_be_between"
COLUMNS = [f"c{n}" for n in range(20)]
LAST = date(2024, 12, 31)


def remember(lake: reclake.Lake, days: int) -> None:
    """A commit a day: one verdict of a partition, twenty checks."""
    table = lake.catalog.table("verdicts")
    for n in range(days, 0, -1):
        day = LAST - timedelta(days=n)
        row = {"verdict_id": f"v{n}", "run_id": "r", "at": from_us(to_us(day)), "table": "timelines"}
        row |= {"contract": "timelines", "contract_version": 1, "source": str(day), "event_day": day}
        row |= {"verdict": "pass", "check": CHECK, "severity": "warning", "success": True, "evaluated": 1}
        rows = [row | {"column": name, "unexpected": 0, "value": float(n % 7), "table_version": n} for name in COLUMNS]
        verdict = pa.Table.from_pylist(rows, schema=shapes.VERDICTS)
        table.append(gate.record(verdict, shapes.VERDICTS, name="verdicts"))


def main() -> None:
    quick = arguments(__doc__ or "").quick
    days, rounds = (200, 9) if quick else (1_000, 9)
    entries = [{"type": CHECK, "kwargs": {"column": name}} for name in COLUMNS]
    learning = [entry | {"meta": {"bounds": {"from": "history"}}} for entry in entries]
    schema = pa.schema([pa.field(name, pa.float64()) for name in COLUMNS])
    plain, suite = (compile_suite({"expectations": each}, schema, name="s") for each in (entries, learning))
    with tempfile.TemporaryDirectory() as folder:
        lake = reclake.Lake.create(Path(folder) / "lake")
        remember(lake, days)

        def of(asked: CompiledSuite) -> object:
            names = {"table": "timelines", "contract": "timelines"}
            return learnt(lake.catalog, asked, **names, day=LAST, partitions=True)

        def whole() -> object:
            rows = pl.scan_delta(lake.catalog.table("verdicts").uri).collect()
            return rows.filter(pl.col("event_day") > LAST - timedelta(days=28))

        contenders = {
            "28 days, 20 bounds": lambda: of(suite),
            "all verdicts": whole,
            "no such check": lambda: of(plain),
        }
        title = f"bounds of 20 checks from {days} days of verdicts, a file a day"
        report(title, in_turn(contenders, rounds=rounds), rows=days * len(COLUMNS))


if __name__ == "__main__":
    main()
