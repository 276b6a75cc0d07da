"""Merging small files beside writers: no row lost, no append refused, memory bounded by what is merged at once."""

from __future__ import annotations

import fcntl
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from ..quality import gate
from . import log, parquet, places
from .parquet import CUT_ROWS, DataFile
from .table import Staged, Table

if TYPE_CHECKING:
    from deltalake import DeltaTable

MERGED_BYTES = 32 << 20  # compressed Parquet read by one merge
WRITTEN_MEMORY = 64 << 20  # of rows kept from their writing to their merging
MERGED_MEMORY = 128 << 20  # bytes of its rows, at 8 a value; a merge takes about four times as much while it sorts
FAN = 16  # files of one size class that make the keeper merge them
_PASSING_BYTES = MERGED_MEMORY // FAN  # of rows of which a merge takes a whole fan
_WHOLE = 1 << 31
_SMALLEST_BYTES = 64 << 10  # files below this are one size class


@dataclass(frozen=True, slots=True)
class Merge:
    """Files of one partition that become one, or as many as the layout cuts."""

    paths: tuple[str, ...]
    bytes: int


def plan(files: pl.DataFrame, *, fan: int, rows: int, budget: int = MERGED_BYTES) -> list[Merge]:
    """Kernel: what to merge, of live files (`path`, `size_bytes`, `num_records`, `partition` as one comparable text).

    Files of a partition are merged when `fan` of them are of one size class (a factor of eight), smallest first, as
    many as the budgets of bytes and of rows hold. So a row is rewritten once a class, log8 of the growth, and a
    partition keeps fewer than `fan` files a class. Files of which a merge would take half a fan or fewer are left
    alone: their rows would all be written again for little.
    """
    few = max(fan // 2, 2)
    classes = (
        files.filter(pl.col("size_bytes") < budget // few, pl.col("num_records") < rows // few)
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


def plan_cuts(files: pl.DataFrame, *, rows: int, budget: int = MERGED_BYTES) -> list[Merge]:
    """Kernel: what to merge so that files end where values of the layout's `cut_by` end.

    Args:
        files: as `plan` takes them, with `low` and `high`, the least and greatest value of `cut_by`.
        rows, budget: of a merge; single files of half of one and more are cut, and merged with no other.

    Files go together whose values overlap, or that are too small to stand alone.
    """
    wide = (pl.col("high") > pl.col("low")) & (pl.col("num_records") >= 2 * CUT_ROWS)
    large = (pl.col("size_bytes") >= budget // 2) | (pl.col("num_records") >= rows // 2)
    alone = files.filter(large & wide).select("path", "size_bytes")
    merges = [Merge((path,), size) for path, size in alone.iter_rows()]
    small = files.filter(~large).with_columns(wide.alias("wide")).sort("partition", "low", "high", "path")
    for _, part in small.group_by("partition", maintain_order=True):
        group: list[dict[str, Any]] = []
        for file in part.iter_rows(named=True):
            full = sum(f["size_bytes"] for f in group) + file["size_bytes"] > budget
            full |= sum(f["num_records"] for f in group) + file["num_records"] > rows
            apart = all(file["low"] > f["high"] for f in group) and sum(f["num_records"] for f in group) >= CUT_ROWS
            if full or apart:
                merges += _merge_of(group)
                group = []
            group.append(file)
        merges += _merge_of(group)
    return merges


def _merge_of(group: Sequence[Mapping[str, Any]]) -> list[Merge]:
    """A merge, unless it is of one file that is as it is to be."""
    if len(group) < 2 and not any(file["wide"] for file in group):
        return []
    return [Merge(tuple(file["path"] for file in group), sum(file["size_bytes"] for file in group))]


class Written:
    """The rows of files that this process wrote a moment ago: the newest, as many as WRITTEN_MEMORY holds."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rows: dict[str, tuple[pa.Table, int]] = {}  # and their share of the memory
        self._left = WRITTEN_MEMORY

    def put(self, paths: Sequence[str], rows: pa.Table) -> None:
        """Keep the rows of files, one a partition, as they were before they were parted; the oldest make room."""
        share = rows.get_total_buffer_size() // len(paths)
        with self._lock:
            self._rows |= dict.fromkeys(paths, (rows, share))
            self._left -= share * len(paths)
            while self._left < 0:
                self._left += self._rows.pop(next(iter(self._rows)))[1]

    def take(self, path: str, partition: Mapping[str, str | None]) -> pa.Table | None:
        """A file's rows, partition columns included, if they are still here; they are not kept on."""
        with self._lock:
            rows, share = self._rows.pop(path, (None, 0))
            self._left += share
        for name, value in partition.items() if rows is not None else ():
            column = rows[name]
            text = pa.scalar(value, pa.string())
            mine = column.is_null() if value is None else pc.equal(column, text.cast(column.type)).fill_null(False)
            rows = rows if pc.all(mine).as_py() else rows.filter(mine)
        return rows


def passes(rows: pa.Table) -> bool:
    """Whether rows are few enough to be written in passing: the keeper will merge the file with others."""
    return bool(max(rows.nbytes, 8 * rows.num_rows * rows.num_columns) <= _PASSING_BYTES)


def compact(table: Table, *, fan: int = 2, budget: int = MERGED_BYTES, written: Written | None = None) -> int:
    """Merge small files, rows in the layout's order, in one commit a merge; returns how many merges were made.

    With a fan of 2, again and again until each partition has one file, files cut as the layout says, or files near the
    budget. Appends go on beside it, here and in other processes; one compaction of a table at a time, another one
    finds nothing to do.

    Files of which `written` still has the rows are not read.
    """
    if not table.exists:
        return 0
    done = 0
    rows = MERGED_MEMORY // (8 * len(table.schema()))
    cut = table.layout.cut_by is not None and fan == 2
    with _alone(table) as alone:
        while alone:
            merging = _Merging(table, written or Written(), cut=cut)
            if cut:
                merges = plan_cuts(merging.live, rows=rows, budget=budget)
            else:
                merges = plan(_uncut(merging.live, table), fan=fan, rows=rows, budget=budget)
            made = sum(merging.merge(merge) for merge in merges)
            done += made
            if not made or fan > 2:
                break
    return done


def _uncut(files: pl.DataFrame, table: Table) -> pl.DataFrame:
    """Without the partitions whose files share no value of `cut_by`: they are as they are to be."""
    if table.layout.cut_by is None:
        return files
    ordered = files.sort("partition", "low", "high")
    shared = (pl.col("low") <= pl.col("high").cum_max().shift(1)).any().over("partition")
    return ordered.filter(shared.fill_null(False))


class _Merging:
    """The merges of one plan, each put in place unless one of its files has gone since the plan was made."""

    def __init__(self, table: Table, written: Written, *, cut: bool) -> None:
        self._table = table
        self._written = written
        self._cut = cut
        self._tail = log.LogTail(table.root)
        self._gone = set[str]()
        self._reshaped = False
        self._schema = parquet.stored(pa.schema(self._tail.opened.schema().to_arrow()))
        self.live = _live(table, self._tail.opened)

    def merge(self, merge: Merge) -> bool:
        """Put one file in place of several, or those that the layout cuts; False where there is nothing to be done: one
        of them went meanwhile, the schema changed, or one file would become one.
        """
        if not self._still(merge.paths):
            return False
        replaced = self.live.filter(pl.col("path").is_in(merge.paths))
        partition: Mapping[str, str | None] = replaced["values"][0]
        table = self._table
        if len(merge.paths) == 1:
            staged = Staged(tuple(_cut(table, merge.paths[0], partition)))
            if not staged.files:
                return False
        else:
            rows = pa.concat_tables([self._rows(path, partition) for path in merge.paths])
            layout = table.layout if self._cut else table.layout.uncut
            staged = table.stage(gate.record(rows, rows.schema, name=table.name), layout)
        sizes = replaced.select("path", "size_bytes").iter_rows()
        if self._commit(staged.files, [log.Removed(path, size, partition) for path, size in sizes]):
            return True
        table.discard([staged])
        return False

    def _rows(self, path: str, partition: Mapping[str, str | None]) -> pa.Table:
        """A file's rows as the table has them."""
        known = self._written.take(path, partition)
        if known is not None and known.column_names == self._schema.names:
            return known.cast(self._schema)
        return _read(self._table, path, partition, self._schema)

    def _commit(self, files: Sequence[DataFile], removed: Sequence[log.Removed]) -> bool:
        """Commit unless one of the merged files has gone: whatever else was committed meanwhile is no hindrance."""
        log.make_durable(self._table.root, files)
        actions = log.commit_actions(
            files,
            removed,
            transactions={},
            metadata={"reclake.compact": "1"},
            operation="OPTIMIZE",
            data_change=False,
        )
        with log.Draft(self._table.root, actions) as draft:
            while self._still([file.path for file in removed]):
                if draft.commit(self._tail.version + 1):
                    log.settle(self._table.root)
                    return True
        return False

    def _still(self, paths: Sequence[str]) -> bool:
        """Whether these files are live in the newest version, and the schema is what it was."""
        since = self._tail.advance()
        if since is None:  # the log was cleaned up past what was followed: plan afresh
            self._reshaped = True
        for entry in since or ():
            self._gone |= entry.removed
            self._reshaped |= entry.reshaped
        return not self._reshaped and self._gone.isdisjoint(paths)


def _cut(table: Table, path: str, partition: Mapping[str, str | None]) -> list[DataFile]:
    """One file as the several that the layout cuts, one of them in memory at a time; none if it would be one again."""
    assert table.layout.cut_by is not None
    with places.parquet_file(table.root / path) as file:
        values = file.read(columns=[table.layout.cut_by]).column(0).to_numpy()
        cuts = table.layout.pieces(values)
        groups = np.cumsum([0, *(file.metadata.row_group(i).num_rows for i in range(file.num_row_groups))])
        written = []
        for start, end in cuts if len(cuts) > 1 else []:
            first, past = np.searchsorted(groups, start, "right") - 1, np.searchsorted(groups, end, "left")
            rows = file.read_row_groups(range(first, past)).slice(start - groups[first], end - start)
            written.append(parquet.write(table.root, rows, dict(partition)))
    return written


def _read(table: Table, path: str, partition: Mapping[str, str | None], schema: pa.Schema) -> pa.Table:
    """A file's rows as the table has them: partition columns filled in, columns it lacks null."""
    with places.parquet_file(table.root / path) as file:
        stored = file.read(use_threads=False)  # such files are small
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


def _live(table: Table, opened: DeltaTable) -> pl.DataFrame:
    """Live files: `path`, `size_bytes`, `num_records`, `values` (partition values as text), `partition` (one text), and
    of a layout that cuts `low` and `high`.
    """
    actions = log.live_files(opened, table.root)
    names = list(table.layout.partition_by)
    values = [pl.col(f"partition.{name}").cast(pl.String).alias(name) for name in names]
    cut_by = table.layout.cut_by
    spans = [
        pl.col(f"min.{cut_by}").fill_null(-_WHOLE).alias("low"),  # a file without statistics may hold any value
        pl.col(f"max.{cut_by}").fill_null(_WHOLE).alias("high"),
    ]
    return actions.select(
        "path",
        "size_bytes",
        "num_records",
        *(spans if cut_by is not None else ()),
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
