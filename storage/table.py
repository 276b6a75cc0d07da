"""A Delta table that takes admitted rows and nothing else, and commits each application transaction once."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from ..quality.gate import Admission, Admitted, Held
from ..schemas.errors import CommitConflictError, GateError, StorageError, UnknownOutcomeError
from ..schemas.placing import same_type
from . import log, ordering, parquet, places, wide
from .faults import translated
from .log import Snapshot
from .places import Place, options_of

if TYPE_CHECKING:
    from deltalake import DeltaTable

_ATTEMPTS = 200  # a commit that lost this many races in a row is a storage that does not work, not contention
_BACKOFF_S = 0.005


@dataclass(frozen=True, slots=True)
class Layout:
    """How a table lies on disk: partition columns, and the order of rows within a file.

    With `cut_by`, the first of `sort_by`, all rows of a value of it are in one file of what is written at once: who
    rewrites a user's rows rewrites a bucket, not a day. Files get whole values until they have `parquet.CUT_ROWS` rows,
    so what is smaller stays one file.
    """

    partition_by: tuple[str, ...] = ()
    sort_by: tuple[str, ...] = ()
    cut_by: str | None = None

    @property
    def uncut(self) -> Layout:
        return replace(self, cut_by=None)

    def pieces(self, values: npt.NDArray[np.int64]) -> list[tuple[int, int]]:
        """Kernel: the rows of each file, first and past the last, given the sorted `cut_by` of a partition's rows."""
        starts = [0]
        if len(values) >= 2 * parquet.CUT_ROWS:
            for start in (np.flatnonzero(values[1:] != values[:-1]) + 1).tolist():
                if start - starts[-1] >= parquet.CUT_ROWS:
                    starts.append(start)
        return list(zip(starts, [*starts[1:], len(values)], strict=True))


@dataclass(frozen=True, slots=True)
class Staged:
    """Rows in files below a table that no commit has named yet. Only Table.stage makes one.

    It is small and can be pickled: an engine's workers stage, its driver commits. `held`: rows that no gate has
    admitted so far, which go into the table by Table.publish alone.
    """

    files: tuple[parquet.DataFile, ...]
    held: bool = False


@dataclass(frozen=True, slots=True)
class Commit:
    """What travels with the rows of one commit.

    `transactions` are application transactions, applied together with the rows or not at all: source cursors, seals.
    With `after` the commit must directly follow that version: what was read from it (which events are there, what is
    sealed) is then still so when the rows land. With `expected` only these transactions must be as they were (None: not
    there), however many commits came since. With `replaced` the rows take the place of all rows of that partition;
    older versions keep them.
    """

    transactions: Mapping[str, int] = field(default_factory=dict)
    after: int | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    replaced: Mapping[str, Any] | None = None
    expected: Mapping[str, int | None] = field(default_factory=dict)


class Table:
    """One Delta table of a lake. Any Delta reader opens it at `uri`."""

    def __init__(self, root: Place, name: str, layout: Layout, cache: Path | None = None) -> None:
        """`cache`: a folder for what makes reading faster and can be made again."""
        self.root = root
        self.name = name
        self.layout = layout
        self._cache = cache
        self._trials = parquet.Trials()

    @property
    def uri(self) -> str:
        return str(self.root)

    @property
    def exists(self) -> bool:
        # A folder alone is what a full disk or a kill leaves of a table that was to be made.
        return any(name.endswith((".json", ".parquet")) for name in places.names(self.root / "_delta_log"))

    @property
    def version(self) -> int:
        """The newest version; -1 where nothing was ever written."""
        return log.version(self.root) if self.exists else -1

    def transaction(self, app_id: str) -> int | None:
        """The last version committed by an application, e.g. how far a source was read."""
        return log.transaction(self.root, app_id) if self.exists else None

    def committed(self, app_ids: Sequence[str], version: int) -> set[str]:
        """Which of these applications had committed anything by a version of the table."""
        table = self._open(version)
        return {app_id for app_id in app_ids if log.committed(table, self.root, app_id) is not None}

    def append(
        self,
        admitted: Admitted,
        *,
        transactions: Mapping[str, int] | None = None,
        metadata: Mapping[str, str] | None = None,
        after: int | None = None,
    ) -> int:
        """Append rows in one commit and return its version. Missing columns of the table are added first.

        Raises:
            CommitConflictError: the table is past version `after`, or a transaction was committed already.
            StorageError: disk full, no permission, read-only.
        """
        self._ensure(admitted.rows.schema)
        return self.commit([self.stage(admitted)], Commit(transactions or {}, after, _judged(admitted, metadata)))

    def stage(self, rows: Admitted | Held, layout: Layout | None = None, *, passing: bool = False) -> Staged:
        """Write rows into files that nobody sees before they are committed; without a commit vacuum takes them.

        `layout` is the table's own unless told: `layout.uncut` for rows that will be merged with others once more.
        `passing`: compaction will soon merge them and put them in order, see parquet.passing.
        """
        files = self._write(rows.rows, layout or self.layout, passing=passing)
        return Staged(tuple(files), held=isinstance(rows, Held))

    def discard(self, staged: Sequence[Staged]) -> None:
        """Take staged rows away that will not be committed. What a commit has made part of the table stays."""
        self._discard([file for part in staged for file in part.files])

    def commit(self, staged: Sequence[Staged], commit: Commit) -> int:
        """Make staged rows part of the table, all in one commit. The table must exist.

        Raises:
            TypeError: no gate has admitted some of them.
        """
        if any(part.held for part in staged):
            raise TypeError("rows that are held are published with their verdict: call Table.publish")
        return self._commit([file for part in staged for file in part.files], commit)

    def publish(self, staged: Sequence[Staged], admission: Admission, commit: Commit) -> int:
        """`commit` for all parts of a partition, held or not, which the gate has judged as a whole.

        Raises:
            GateError: the gate has stopped it.
        """
        if admission.verdict == "stop":
            raise GateError("a partition that the gate has stopped", where=self.name, got=admission.stop_reason)
        return self.commit([replace(part, held=False) for part in staged], commit)

    def rewrite(self, removed: Sequence[str], files: Sequence[parquet.DataFile], commit: Commit) -> int:
        """Put files in place of others (paths as `live` gives them) that hold the same rows, or fewer: erasure.

        Raises:
            CommitConflictError: one of `removed` is no longer part of the table.
        """
        return self._commit(list(files), commit, removed=removed)

    def rearrange(self, removed: Sequence[str], files: Sequence[parquet.DataFile], commit: Commit) -> int:
        """Put files in place of others that hold the same rows. Whoever follows the log for rows sees no change.

        Raises:
            CommitConflictError: one of `removed` is no longer part of the table.
        """
        return self._commit(list(files), commit, removed=removed, data_change=False)

    def live(self, version: int | None = None) -> pl.DataFrame:
        """The files of a version: path, size_bytes, num_records, partition.*, min.* and max.* where they are kept."""
        return log.live_files(self._open(version), self.root)

    def mark(
        self,
        *,
        transactions: Mapping[str, int],
        after: int | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> int:
        """A commit without rows: only application transactions. The table must exist."""
        return self._commit([], Commit(transactions, after, metadata or {}))

    def scan(
        self,
        version: int | None = None,
        *,
        columns: Sequence[str] | None = None,
        partition: Mapping[str, Any] | None = None,
    ) -> pl.LazyFrame:
        """All rows, lazily, partition columns included; `version` reads an older state.

        Name the `columns` you need of a table that may have thousands: what it costs to open is then theirs alone. With
        `partition` only rows with these values of partition columns; files of others are not opened.

        Raises:
            StorageError: the table does not exist yet.
            PinError: that version is gone.
        """
        chosen = [pl.col(name) == value for name, value in (partition or {}).items()]
        if columns is not None and len(log.schema(self.root, version)) >= wide.COLUMNS:
            found = log.snapshot(self.root, version)
            files = Snapshot(found.table_id, found.version, found.files.filter(*chosen))
            return wide.scan(self.root, files, log.schema(self.root, version), columns, self._cache)
        rows = pl.scan_delta(self._open(version)).filter(*chosen)
        return rows if columns is None else rows.select(columns)

    def scan_partition(self, partition: Mapping[str, Any]) -> pl.LazyFrame:
        """The rows of one partition, lazily, without its partition columns; no other file is opened."""
        return self.scan_files(self.partition_files(partition))

    def partition_files(self, partition: Mapping[str, Any]) -> list[str]:
        """Absolute paths of one partition's Parquet files; no file is opened."""
        return log.snapshot(self.root).of_partition(partition) if self.exists else []

    def scan_files(self, paths: Sequence[str]) -> pl.LazyFrame:
        """The rows of some of the table's files, lazily, as its schema has them, without its partition columns."""
        columns = pl.DataFrame(self.schema().empty_table()).drop(self.layout.partition_by)
        if not paths:
            return columns.lazy()
        return places.scan(
            [places.beside(self.root, path) for path in paths],
            schema=columns.schema,
            missing_columns="insert",
            hive_partitioning=False,
            cast_options=pl.ScanCastOptions(integer_cast="upcast", float_cast="upcast"),
        )

    def scan_staged(self, staged: Sequence[Staged]) -> pl.LazyFrame:
        """The rows of staged parts, lazily, partition columns included. The table must exist."""
        types = pl.DataFrame(self.schema().empty_table()).schema
        by_partition: dict[tuple[tuple[str, str | None], ...], list[str]] = {}
        for part in staged:
            for file in part.files:
                by_partition.setdefault(file.partition_values, []).append(str(self.root / file.path))
        rows = [
            self.scan_files(paths).with_columns(pl.lit(value).cast(types[name]).alias(name) for name, value in values)
            for values, paths in by_partition.items()
        ]
        return pl.concat(rows) if rows else pl.LazyFrame(schema=types)

    def files(self, version: int | None = None) -> list[str]:
        """Absolute paths of the Parquet files of a version."""
        return log.snapshot(self.root, version).files["path"].to_list()

    def partition_values(self, column: str, version: int | None = None) -> list[Any]:
        """What a partition column holds, each value once, in order; no file is read."""
        return log.snapshot(self.root, version).files[column].unique().sort().to_list()

    def schema(self, version: int | None = None) -> pa.Schema:
        """The Arrow schema."""
        return log.schema(self.root, version)

    def history(self, limit: int | None = None) -> Iterator[dict[str, Any]]:
        """What each commit (the last `limit`) says of itself, newest first, custom metadata included."""
        yield from self._open().history(limit)

    def create(self, schema: pa.Schema) -> None:
        """Create the table, empty, if it does not exist; add the columns it lacks if it does.

        Raises:
            StorageError: a column has another type in the table.
        """
        self._ensure(schema)

    def checkpoint(self, version: int | None = None) -> None:
        """Write down the state of a version (the newest unless told), so that opening it reads no older entry."""
        log.checkpoint(self.root, version)

    def delete(self, predicate: str) -> int:
        """Delete the rows for which a SQL predicate holds; how many there were."""
        with translated(self.root):
            return int(self._open().delete(predicate)["num_deleted_rows"] or 0)

    def vacuum(self, *, retention_hours: int, keep: Sequence[int], dry_run: bool, staged_too: bool = True) -> list[str]:
        """Paths, relative to the table, of files that no kept version needs; deleted unless `dry_run`.

        With `staged_too` also those that no version ever named: with too short a retention, other writers' too.
        """
        with translated(self.root):
            return self._open().vacuum(
                retention_hours=retention_hours,
                dry_run=dry_run,
                enforce_retention_duration=False,
                full=staged_too,
                keep_versions=list(keep) or None,
            )

    def _open(self, version: int | None = None) -> DeltaTable:
        return log.open_table(self.root, version)

    def _ensure(self, schema: pa.Schema) -> None:
        """Create the table, or add the columns it lacks. A column of another type is refused."""
        from deltalake import Field, Schema
        from deltalake.exceptions import DeltaError

        if not self.exists:
            with translated(self.root):
                self.root.mkdir(parents=True, exist_ok=True)
                try:
                    places.persistently(self.root, lambda: self._make(schema))
                    return
                except DeltaError:
                    if not self.exists:
                        raise
        have = self.schema()
        added = []
        for column in schema:
            index = have.get_field_index(column.name)
            if index < 0:
                added.append(column.with_nullable(True))
            elif not same_type(have.field(index).type, column.type):
                raise StorageError(
                    "a column has another type in the table",
                    where=f"{self.name}.{column.name}",
                    expected=have.field(index).type,
                    got=column.type,
                    hint="give the field another name, or change it through `reclake contract evolve`",
                )
        if added:
            fields: list[Field] = list(Schema.from_arrow(pa.schema(added)).fields)
            with translated(self.root):
                try:
                    places.persistently(self.root, lambda: self._open().alter.add_columns(fields))
                except DeltaError:
                    # Another writer may have added them, or an object store may have taken what it seemed to refuse.
                    if not {field.name for field in added} <= set(self.schema().names):
                        raise

    def _make(self, schema: pa.Schema) -> None:
        from deltalake import Schema
        from deltalake.transaction import create_table_with_add_actions

        create_table_with_add_actions(
            self.uri,
            Schema.from_arrow(schema),
            [],
            mode="error",
            partition_by=list(self.layout.partition_by),
            name=self.name.replace("/", "_"),
            storage_options=options_of(self.root),
            # Pins name versions: the log that explains them must outlive any default retention.
            configuration={
                "delta.logRetentionDuration": "interval 36500 days",
                "delta.checkpointInterval": str(log.CHECKPOINT_EVERY),  # for other writers
            },
        )

    def _write(self, rows: pa.Table, layout: Layout, *, passing: bool = False) -> list[parquet.DataFile]:
        """Data files of `rows`, one for each partition or as the layout cuts them, rows in the layout's order.

        Rows that pass stay in the order they come in.
        """
        if rows.num_rows == 0:
            return []
        files: list[parquet.DataFile] = []
        try:
            for partition, part in ordering.partitions(rows, layout.partition_by, () if passing else layout.sort_by):
                cuts = [(0, part.num_rows)]
                if layout.cut_by is not None:
                    cuts = layout.pieces(part[layout.cut_by].to_numpy())
                encoded = parquet.passing(part.schema) if passing else self._trials.encodings(part)
                for start, end in cuts:
                    files.append(parquet.write(self.root, part.slice(start, end - start), partition, encoded))
        except BaseException:
            self._discard(files)
            raise
        return files

    def _commit(
        self,
        files: list[parquet.DataFile],
        commit: Commit,
        *,
        removed: Sequence[str] = (),
        data_change: bool = True,
    ) -> int:
        """Commit, or take the files away again: left behind they would hold rows that nobody can find to erase."""
        try:
            return self._race(files, commit, removed=removed, data_change=data_change)
        except UnknownOutcomeError:
            raise  # the commit may still come to be, and needs its files then
        except (CommitConflictError, StorageError):
            self._discard(files)
            raise

    def _discard(self, files: Sequence[parquet.DataFile]) -> None:
        # A commit whose outcome was unclear may have succeeded, so the table is asked.
        live = set(self.files()) if files and self.exists else set()
        for file in files:
            if f"{self.root}/{file.path}" not in live:
                (self.root / file.path).unlink(missing_ok=True)

    def _race(
        self,
        files: list[parquet.DataFile],
        commit: Commit,
        *,
        removed: Sequence[str],
        data_change: bool,
    ) -> int:
        """Commit, again and again while others are faster, as long as what the commit relies on still holds."""
        log.make_durable(self.root, files)
        for attempt in range(_ATTEMPTS):
            version = log.version(self.root)
            self._check(version, commit)
            out = [] if commit.replaced is None else self._of_partition(commit.replaced)
            out += self._of_paths(removed) if removed else []
            actions = log.commit_actions(
                files,
                out,
                transactions=commit.transactions,
                metadata=commit.metadata,
                operation="WRITE" if data_change else "OPTIMIZE",
                data_change=data_change,
            )
            with log.Draft(self.root, actions) as draft:
                if draft.commit(version + 1):
                    log.settle(self.root)
                    log.checkpoint_if_due(self.root, version + 1)
                    return version + 1
            # Another commit took the version. Everything is checked afresh against it.
            time.sleep(_BACKOFF_S * random.random() * min(attempt + 1, 20))
        raise CommitConflictError(
            "a commit lost every race",
            where=self.name,
            got=f"{_ATTEMPTS} attempts",
            hint="fewer writers, or larger batches",
        )

    def _check(self, now: int, commit: Commit) -> None:
        log.check_writable(self.root)
        if commit.after is not None and now != commit.after:
            raise CommitConflictError(
                "the table moved on while this commit was prepared",
                where=self.name,
                expected=f"version {commit.after}",
                got=f"version {now}",
            )
        for app_id, known in commit.expected.items():
            if (last := log.transaction(self.root, app_id)) != known:
                where = f"{self.name}, {app_id}"
                raise CommitConflictError("what was decided by has changed", where=where, expected=known, got=last)
        for app_id, version in commit.transactions.items():
            done = log.transaction(self.root, app_id)
            if done is not None and done >= version:
                raise CommitConflictError(
                    "this was committed already",
                    where=f"{self.name}, {app_id}",
                    expected=f"a version below {version}",
                    got=done,
                )

    def _of_partition(self, partition: Mapping[str, Any]) -> list[log.Removed]:
        live = log.snapshot(self.root).files
        return self._removed(live.filter(*[pl.col(name).cast(pl.String) == str(v) for name, v in partition.items()]))

    def _of_paths(self, paths: Sequence[str]) -> list[log.Removed]:
        wanted = [f"{self.root}/{path}" for path in paths]
        live = log.snapshot(self.root).files.filter(pl.col("path").is_in(wanted))
        if live.height != len(paths):
            gone = sorted(set(wanted) - set(live["path"].to_list()))
            raise CommitConflictError("a file was rewritten meanwhile", where=self.name, got=gone[0])
        return self._removed(live)

    def _removed(self, live: pl.DataFrame) -> list[log.Removed]:
        names = self.layout.partition_by
        texts = [pl.col(name).cast(pl.String) for name in names]
        relative = pl.col("path").str.strip_prefix(f"{self.root}/")
        return [
            log.Removed(path, size, dict(zip(names, values, strict=True)))
            for path, size, *values in live.select(relative, "size_bytes", *texts).iter_rows()
        ]


def _judged(admitted: Admitted, metadata: Mapping[str, str] | None) -> dict[str, str]:
    """What a commit says of itself, and which verdict let its rows in."""
    verdict = {"reclake.verdict_id": admitted.verdict_id} if admitted.verdict_id else {}
    return {**verdict, **(metadata or {})}
