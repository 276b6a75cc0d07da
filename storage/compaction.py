"""Merging small files beside writers: no row lost, no append refused, memory bounded by what is merged at once."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pyarrow as pa

from ..quality import gate
from . import log, parquet, places
from .parquet import DataFile
from .table import Table

MERGED_BYTES = 32 << 20  # compressed Parquet read by one merge
MERGED_MEMORY = 128 << 20  # bytes of its rows, at 8 a value; a merge takes about four times as much while it sorts
FAN = 16  # files of one size class that make the keeper merge them
_SMALLEST_BYTES = 64 << 10  # files below this are one size class


@dataclass(frozen=True, slots=True)
class Merge:
    """Files of one partition that become one."""

    paths: tuple[str, ...]
    bytes: int


def plan(files: pl.DataFrame, *, fan: int, rows: int, budget: int = MERGED_BYTES) -> list[Merge]:
    """Kernel: what to merge, of live files (`path`, `size_bytes`, `num_records`, `partition` as one comparable text).

    Files of a partition are merged when `fan` of them are of one size class (a factor of eight), smallest first, as
    many as the budgets of bytes and of rows hold. So a row is rewritten once a class, log8 of the growth, and a
    partition keeps fewer than `fan` files a class. Files of half a budget and more are left alone.
    """
    classes = (
        files.filter(pl.col("size_bytes") < budget // 2, pl.col("num_records") < rows // 2)
        .with_columns(
            (pl.col("size_bytes").clip(_SMALLEST_BYTES) / _SMALLEST_BYTES).log(8).floor().cast(pl.Int32).alias("class")
        )
        .sort("partition", "class", "size_bytes", "path")
        .group_by("partition", "class", maintain_order=True)
        .agg("path", "size_bytes", "num_records")
    )
    merges = []
    for paths, sizes, counts in classes.select("path", "size_bytes", "num_records").iter_rows():
        if len(paths) < fan:
            continue
        first, total, height = 0, 0, 0
        for i, (size, count) in enumerate(zip(sizes, counts, strict=True)):
            if (total + size > budget or height + count > rows) and i - first > 1:
                merges.append(Merge(tuple(paths[first:i]), total))
                first, total, height = i, 0, 0
            total += size
            height += count
        if len(paths) - first > 1:
            merges.append(Merge(tuple(paths[first:]), total))
    return merges


def compact(table: Table, *, fan: int = 2, budget: int = MERGED_BYTES) -> int:
    """Merge small files, rows in the layout's order, in one commit a merge; returns how many merges were made.

    With a fan of 2, again and again until each partition has one file, or files near the budget. Appends go on beside
    it, here and in other processes; one compaction of a table at a time, another one finds nothing to do.
    """
    if not table.exists:
        return 0
    done = 0
    rows = MERGED_MEMORY // (8 * len(table.schema()))
    with _alone(table) as alone:
        while alone and (merges := plan(_live(table), fan=fan, rows=rows, budget=budget)):
            made = sum(_merge(table, merge) for merge in merges)
            done += made
            if not made or fan > 2:
                break
    return done


def _merge(table: Table, merge: Merge) -> bool:
    """Put one file in place of several; False where one of them went meanwhile, or the schema changed."""
    tail = log.LogTail(table.root)
    live = {row["path"]: row for row in _live(table, tail.version).iter_rows(named=True)}
    if not live.keys() >= set(merge.paths):
        return False
    partition: Mapping[str, str | None] = live[merge.paths[0]]["values"]
    schema = table.schema(tail.version)
    rows = pa.concat_tables([_read(table, path, partition, parquet.stored(schema)) for path in merge.paths])
    staged = table.stage(gate.record(rows, rows.schema, name=table.name))
    removed = [log.Removed(path, int(live[path]["size_bytes"]), partition) for path in merge.paths]
    if _commit(table, tail, staged.files, removed):
        return True
    table.discard([staged])
    return False


def _commit(table: Table, tail: log.LogTail, files: Sequence[DataFile], removed: Sequence[log.Removed]) -> bool:
    """Commit unless one of the merged files has gone: whatever else was committed meanwhile is no hindrance."""
    log.make_durable(table.root, files)
    paths = {file.path for file in removed}
    actions = log.commit_actions(
        files,
        removed,
        transactions={},
        metadata={"reclake.compact": "1"},
        operation="OPTIMIZE",
        data_change=False,
    )
    with log.Draft(table.root, actions) as draft:
        while (since := tail.advance()) is not None:
            if any(each.reshaped or not each.removed.isdisjoint(paths) for each in since):
                return False
            if draft.commit(tail.version + 1):
                log.settle(table.root)
                return True
    return False


def _read(table: Table, path: str, partition: Mapping[str, str | None], schema: pa.Schema) -> pa.Table:
    """A file's rows as the table has them: partition columns filled in, columns it lacks null."""
    with places.parquet_file(table.root / path) as file:
        stored = file.read()
    columns = []
    for field in schema:
        if field.name in partition:
            value = pa.scalar(partition[field.name], pa.string()).cast(field.type)
            columns.append(pa.repeat(value, stored.num_rows))
        elif field.name in stored.column_names:
            columns.append(stored[field.name].cast(field.type))
        else:
            columns.append(pa.nulls(stored.num_rows, field.type))
    return pa.Table.from_arrays(columns, schema=schema)


def _live(table: Table, version: int | None = None) -> pl.DataFrame:
    """Live files: `path`, `size_bytes`, `num_records`, `values` (partition values as text), `partition` (one text)."""
    actions = table.live(version)
    names = list(table.layout.partition_by)
    values = [pl.col(f"partition.{name}").cast(pl.String).alias(name) for name in names]
    return actions.select(
        "path",
        "size_bytes",
        "num_records",
        (pl.struct(values) if names else pl.lit({})).alias("values"),
        pl.concat_str([value.fill_null("") for value in values], separator="/").alias("partition")
        if names
        else pl.lit("").alias("partition"),
    )


@contextmanager
def _alone(table: Table) -> Iterator[bool]:
    """Whether no other process is compacting the table. Safety does not rest on it, only work that is not wasted."""
    if not isinstance(table.root, Path):
        yield True
        return
    with (table.root / "_delta_log" / ".compact.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True
