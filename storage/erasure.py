"""Erasure: which files of a table hold certain rows, and the same files without them.

A file is found by its partition and its statistics, confirmed by reading one column of the row groups that may hold a
row, and written again without those rows, a row group at a time: the others keep their values and their order. Files
that hold none are not touched.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ..schemas.buckets import bucket_of
from ..schemas.errors import CommitConflictError
from . import parquet
from .observed import Observed
from .table import Commit, Table

THREADS = os.cpu_count() or 1  # files at a time; each has a row group in memory
_ATTEMPTS = 50
_DONE = "reclake.erased"  # commit metadata: the run it belongs to
_COUNTS = "reclake.erased.counts"  # and what it did: the numbers of `Erased`, in its order


@dataclass(frozen=True, slots=True)
class Doomed:
    """The rows that go: those whose `column` has one of `values` (int64 or string, sorted).

    `buckets`, of the lake, where the values are user ids; None where they are anything else.
    """

    column: str
    values: pa.Array
    buckets: int | None = None

    @property
    def read(self) -> tuple[str, ...]:
        """The columns that tell."""
        return (self.column,)

    def found(self, rows: pa.Table) -> pa.ChunkedArray:
        """Which rows go."""
        return pc.is_in(rows[self.column].cast(self.values.type), self.values)

    def left(self, rows: pa.Table) -> pa.Table:
        """The other rows."""
        return rows.filter(pc.invert(self.found(rows)))

    @classmethod
    def users(cls, users: Sequence[int], buckets: int, column: str = "user_id") -> Doomed:
        return cls(column, pa.array(sorted(set(users)), pa.int64()), buckets if column == "user_id" else None)


@dataclass(frozen=True, slots=True)
class Erased:
    """What erasure did to one table. Bytes are of Parquet files: those taken out, and those put in their place.

    `rows` are those that went; of `verdicts` those that stayed without the users that they named.
    """

    table: str
    version_before: int
    version_after: int
    rows: int
    files_removed: int
    files_written: int
    bytes_removed: int
    bytes_written: int

    @classmethod
    def nothing(cls, table: Table) -> Erased:
        return cls(table.name, table.version, table.version, 0, 0, 0, 0, 0)


def holding(table: Table, doomed: Doomed | Observed, version: int | None = None) -> pl.DataFrame:
    """The files of a version that hold such rows, as `Table.live` gives them."""
    live = table.live(version)
    if isinstance(doomed, Doomed):
        live = _candidates(live, doomed)
    with ThreadPoolExecutor(THREADS) as pool:
        some = list(pool.map(lambda path: _holds(table, path, doomed), live["path"]))
    return live.filter(pl.Series(some, dtype=pl.Boolean))


def erase(table: Table, doomed: Doomed | Observed, *, run_id: str) -> Erased:
    """Write every file that holds such rows again without them, all in one commit, until there is none; what was done.
    Of verdicts the rows stay, and what they say of users goes.

    The commits say which run they belong to, so a run that was killed goes on, and says the same at the end.

    Raises:
        CommitConflictError: others kept rewriting the same files, or bringing such rows.
    """
    done = f"erasure/{run_id}/{doomed.column}"
    mark = f"part-{run_id}"
    _discard(table, mark)
    for _ in range(_ATTEMPTS):
        files = holding(table, doomed)
        times = table.transaction(done) or 0
        if files.is_empty():
            return _done(table, done) if times else Erased.nothing(table)
        try:
            with ThreadPoolExecutor(THREADS) as pool:
                old = files.iter_rows(named=True)
                rewritten = list(pool.map(lambda file: _rewritten(table, file, doomed, mark), old))
        except BaseException:
            _discard(table, mark)
            raise
        written = [new for new, _ in rewritten if new is not None]
        rows = sum(gone for _, gone in rewritten)
        counts = [rows, files.height, len(written), int(files["size_bytes"].sum()), sum(file.size for file in written)]
        try:
            table.rewrite(
                files["path"].to_list(),
                written,
                Commit({done: times + 1}, None, {_DONE: done, _COUNTS: json.dumps(counts)}),
            )
        except CommitConflictError:
            continue  # compacted meanwhile: the rows are in other files now
    raise CommitConflictError("such rows came back again and again", where=table.name, got=f"{_ATTEMPTS} attempts")


def _done(table: Table, done: str) -> Erased:
    """What the commits of a run say they did."""
    commits = [entry for entry in table.history() if entry.get(_DONE) == done]
    versions = [int(entry["version"]) for entry in commits]
    counts = [json.loads(entry[_COUNTS]) for entry in commits]
    return Erased(table.name, min(versions) - 1, max(versions), *map(sum, zip(*counts, strict=True)))


def _candidates(live: pl.DataFrame, doomed: Doomed) -> pl.DataFrame:
    """Files whose partition and statistics do not rule the values out."""
    if doomed.buckets is not None:
        buckets = _buckets(doomed)
        if "partition.bucket" in live.columns:
            live = live.filter(pl.col("partition.bucket").is_in(buckets.tolist()))
        live = _overlapping(live, "bucket", buckets)
    if pa.types.is_integer(doomed.values.type):
        live = _overlapping(live, doomed.column, doomed.values.to_numpy())
    return live


def _overlapping(live: pl.DataFrame, column: str, values: npt.NDArray[Any]) -> pl.DataFrame:
    low, high = f"min.{column}", f"max.{column}"
    if low not in live.columns or high not in live.columns:
        return live
    known = live.select(low, high).to_numpy().astype(np.float64)
    # Rounding to floats keeps the order, so no file is missed; beyond 2**53 one may be looked at in vain.
    first = np.searchsorted(values.astype(np.float64), known[:, 0], side="left")
    last = np.searchsorted(values.astype(np.float64), known[:, 1], side="right")
    return live.filter(pl.Series((first < last) | np.isnan(known).any(axis=1), dtype=pl.Boolean))


def _holds(table: Table, path: str, doomed: Doomed | Observed) -> bool:
    with pq.ParquetFile(table.root / path) as file:
        if doomed.column not in file.schema_arrow.names:
            return False
        bounds = [(doomed.column, doomed.values)] if isinstance(doomed, Doomed) else []
        if isinstance(doomed, Doomed) and doomed.buckets is not None and "bucket" in file.schema_arrow.names:
            bounds.append(("bucket", pa.array(_buckets(doomed))))
        return any(
            pc.any(doomed.found(file.read_row_group(group, columns=list(doomed.read)))).as_py()
            for group in range(file.metadata.num_row_groups)
            if all(_may_hold(file.metadata, group, name, values) for name, values in bounds)
        )


def _may_hold(footer: pq.FileMetaData, group: int, column: str, values: pa.Array) -> bool:
    if not pa.types.is_integer(values.type):
        return True
    leaf = next(i for i in range(footer.num_columns) if footer.schema.column(i).path == column)
    known = footer.row_group(group).column(leaf).statistics
    if known is None or not known.has_min_max:
        return True
    numbers = values.to_numpy()
    return bool(np.searchsorted(numbers, known.min, "left") < np.searchsorted(numbers, known.max, "right"))


def _discard(table: Table, mark: str) -> None:
    """Take away what this run wrote and did not commit, before it was killed or as it fails."""
    root = _on_disk(table)
    live = {str(root / path) for path in table.live()["path"]}
    for path in root.rglob(f"{mark}-*.parquet"):
        if str(path) not in live:
            path.unlink()


def _on_disk(table: Table) -> Path:
    """Where the table's files are; erasure in an object store is refused before it comes here."""
    assert isinstance(table.root, Path)
    return table.root


def _rewritten(
    table: Table, old: Mapping[str, Any], doomed: Doomed | Observed, mark: str
) -> tuple[parquet.DataFile | None, int]:
    """A new file of what is left of the old one's rows, a row group in memory at a time, and how many rows it took."""
    taken = []

    def left(rows: pa.Table) -> pa.Table:
        taken.append(pc.sum(doomed.found(rows)).as_py() or 0)
        return doomed.left(rows) if taken[-1] else rows

    with pq.ParquetFile(table.root / old["path"]) as file:
        parts = (left(file.read_row_group(group)) for group in range(file.metadata.num_row_groups))
        kept = (part for part in parts if part.num_rows)
        first = next(kept, None)
        if first is None:
            return None, sum(taken)
        new = parquet.write_parts(
            _on_disk(table), chain([first], kept), _partition(old), parquet.encodings(first), mark
        )
    return new, sum(taken)


def _buckets(doomed: Doomed) -> npt.NDArray[np.int32]:
    assert doomed.buckets is not None
    return np.unique(bucket_of(doomed.values.to_numpy(), doomed.buckets)).astype(np.int32)


def _partition(file: Mapping[str, Any]) -> dict[str, Any]:
    return {key.removeprefix("partition."): value for key, value in file.items() if key.startswith("partition.")}
