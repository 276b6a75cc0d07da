"""Which files a version of a table has and what later commits added, without opening a single data file.

Handles are kept, one a table and thread, and brought up to date from the commits that are new: a look at a table costs
in proportion to what happened since the last look, not to its history.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from ...schemas.errors import PinError, StorageError
from . import entries
from .entries import Changes, path_of

if TYPE_CHECKING:
    from deltalake import DeltaTable

_KEPT = threading.local()
# What a writer must know of to append. The rest (row tracking, in-commit timestamps, column mapping, ...) asks more of
# an entry than is written here; no table of reclake's has it.
_FEATURES = frozenset({"appendOnly", "invariants", "timestampNtz"})


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The files of one version of a table.

    `files` has a row a live file: `path` (absolute), `num_records`, a column for each partition column, and `min.NAME`
    and `max.NAME` of the columns that have statistics in any file.
    """

    table_id: str
    version: int
    files: pl.DataFrame

    def of_partition(self, partition: Mapping[str, Any]) -> list[str]:
        """The paths of one partition's files."""
        wanted = [pl.col(name) == value for name, value in partition.items()]
        return self.files.filter(*wanted)["path"].to_list() if self.files.height else []


@dataclass(slots=True)
class _Kept:
    handle: DeltaTable
    stamp: tuple[int, int, int] | None
    snapshot: Snapshot | None = None
    transactions: dict[str, int | None] = field(default_factory=dict)  # of the version the handle is at


def open_table(root: Path, version: int | None = None) -> DeltaTable:
    """A fresh handle on a version of the table at `root`, the newest unless told.

    Raises:
        StorageError: nothing was ever written to the table, or its log is damaged.
        PinError: that version is gone.
    """
    from deltalake import DeltaTable
    from deltalake.exceptions import DeltaError, TableNotFoundError

    try:
        return DeltaTable(str(root), version=version)
    except TableNotFoundError:
        raise StorageError("the table is empty: nothing was ever written to it", where=root) from None
    except DeltaError as error:
        if version is None:
            raise StorageError(
                "a table cannot be opened",
                where=root,
                expected="a Delta table with its whole log",
                got=str(error).splitlines()[0],
                hint="restore the table's folder, its _delta_log first",
            ) from error
        raise PinError(
            "a version of a table is gone",
            where=root,
            expected=f"version {version}",
            got=str(error).splitlines()[0],
        ) from error


def handle(root: Path) -> DeltaTable:
    """A handle on the newest version of the table at `root`, this thread's own until its next look at the table.

    Raises:
        StorageError: nothing was ever written to it.
    """
    return _latest(root).handle


def snapshot(root: Path) -> Snapshot:
    """The newest version of a table.

    Raises:
        StorageError: nothing was ever written to it.
    """
    kept = _latest(root)
    version = int(kept.handle.version())
    if kept.snapshot is None or kept.snapshot.version != version:
        kept.snapshot = Snapshot(str(kept.handle.metadata().id), version, _files(kept.handle, root))
    return kept.snapshot


def transaction(root: Path, app_id: str) -> int | None:
    """The last version committed by an application; None where it committed none.

    Raises:
        StorageError: nothing was ever written to the table.
    """
    kept = _latest(root)
    if app_id not in kept.transactions:  # delta-rs looks through the whole log for it
        kept.transactions[app_id] = kept.handle.transaction_version(app_id)
    return kept.transactions[app_id]


def changes(root: Path, first: int, last: int) -> Changes | None:
    """What the commits `first` to `last`, both included, did; None where the log has forgotten one of them."""
    added: list[Path] = []
    removed = False
    for version in range(first, last + 1):
        try:
            entry = entries.parse(version, path_of(root, version).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        added += [root / path for path in entry.added]
        removed |= entry.took_rows
    return Changes(tuple(added), removed)


def check_writable(opened: DeltaTable) -> None:
    """Refuse a table whose protocol asks for more than is written here.

    Raises:
        StorageError: it does.
    """
    protocol = opened.protocol()
    unknown = set(protocol.writer_features or ()) - _FEATURES
    if unknown or (protocol.min_writer_version > 2 and not protocol.writer_features):
        raise StorageError(
            "the table has features that reclake does not write",
            where=opened.table_uri,
            expected="writer version 2, or the features " + ", ".join(sorted(_FEATURES)),
            got=f"writer version {protocol.min_writer_version}, {', '.join(sorted(unknown)) or 'none named'}",
        )


def may_hold(files: pl.DataFrame, column: str, value: int) -> pl.Expr:
    """Whether a file's statistics leave it open that an integer column has a value."""
    low, high = f"min.{column}", f"max.{column}"
    if low not in files.columns or high not in files.columns:
        return pl.lit(True)
    return pl.lit(value, dtype=pl.Int64).is_between(low, high).fill_null(True)


def _latest(root: Path) -> _Kept:
    tables: dict[str, _Kept] = _KEPT.__dict__.setdefault("tables", {})
    kept = tables.get(str(root))
    # A handle is good for as long as the commit it knows last is the one on disk: tables get deleted and made anew.
    if kept is not None and kept.stamp and _stamp(root, kept.handle.version()) == kept.stamp:
        if not path_of(root, kept.handle.version() + 1).exists():
            return kept
        kept.handle.update_incremental()
        kept.transactions = {}
    else:
        kept = _Kept(open_table(root), None)
        tables[str(root)] = kept
    kept.stamp = _stamp(root, kept.handle.version())
    return kept


def _stamp(root: Path, version: int) -> tuple[int, int, int] | None:
    """What tells one commit file from another; None where log clean-up took it."""
    try:
        stat = path_of(root, version).stat()
    except FileNotFoundError:
        return None
    return (stat.st_ino, stat.st_mtime_ns, stat.st_size)


def _files(handle: DeltaTable, root: Path) -> pl.DataFrame:
    live = pl.DataFrame(handle.get_add_actions(flatten=True))
    partitions = [name for name in live.columns if name.startswith("partition.")]
    return live.select(
        (str(root) + "/" + pl.col("path")).alias("path"),
        pl.col("num_records").cast(pl.Int64),
        *[pl.col(name).alias(name.removeprefix("partition.")) for name in partitions],
        pl.col("^(min|max)[.].*$"),
    )
