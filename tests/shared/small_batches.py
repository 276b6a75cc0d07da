"""A small table of two days, and threads that write to it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import date

import pyarrow as pa

from reclake.quality import gate
from reclake.storage.table import Table

SCHEMA = pa.schema(
    [pa.field("a", pa.int64(), nullable=False), pa.field("day", pa.date32(), nullable=False), ("s", pa.string())]
)
DAYS = [date(2024, 3, 1), date(2024, 3, 2)]


def rows(first: int, count: int = 10) -> gate.Admitted:
    values = list(range(first, first + count))
    table = pa.table({"a": values, "day": [DAYS[v % 2] for v in values], "s": [str(v) for v in values]})
    return gate.record(table.cast(SCHEMA), SCHEMA, name="t")


def in_threads(work: Callable[[int], None], count: int) -> list[BaseException]:
    errors: list[BaseException] = []

    def guarded(number: int) -> None:
        try:
            work(number)
        except Exception as error:  # noqa: BLE001 - the test looks at it
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return errors


def values(table: Table) -> list[int]:
    return sorted(table.scan().collect()["a"].to_list())


def stored(table: Table) -> set[str]:
    return {str(path) for path in table.root.rglob("*.parquet") if "_delta_log" not in str(path)}


def named(table: Table) -> set[str]:
    return {path for version in range(1, table.version + 1) for path in table.files(version)}


def wide(number: int) -> gate.Admitted:
    """100,000 rows that compress to nearly nothing and take 13 MB in memory."""
    schema = pa.schema([("key", pa.int64()), ("day", pa.date32()), *[(f"c{i}", pa.int64()) for i in range(14)]])
    columns = {f"c{i}": pa.repeat(pa.scalar(number), 100_000) for i in range(14)}
    table = pa.table({"key": range(100_000), "day": pa.repeat(pa.scalar(DAYS[0]), 100_000)} | columns).cast(schema)
    return gate.record(table, schema, name="t")
