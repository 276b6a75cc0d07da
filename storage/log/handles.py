"""Which files a version of a table has and what later commits added, without opening a single data file.

What was read is kept, one state a table and thread, and brought up to date from the commits that are new: a look at a
table costs in proportion to what happened since the last look, not to its history.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import polars as pl
import pyarrow as pa

from ...schemas.errors import PinError, StorageError
from ..places import Place, options_of, persistently, store_failed
from . import entries
from .entries import Changes, Entry, now_s, path_of

if TYPE_CHECKING:
    from deltalake import DeltaTable

BOUNDED = ("bucket", "user_id")  # the columns by whose bounds readers leave files out
# Log clean-up takes the entries behind a version that a pin holds and leaves that one: whoever followed the log to
# there would take it for the newest, and commit where no reader looks. It takes none that is younger than a day
# (upkeep.LOG_HOURS), so who has looked within the hour has missed nothing, and who has not opens the table afresh.
FOLLOWED_S = 3600.0
# The names of a folder that others add to are not read in one instant: of entries that come meanwhile, a later one may
# be seen and an earlier one not. Looked at again it is whole, unless an entry is really gone.
_LOOKS = 6
_FIRST_WAIT_S = 0.005  # doubled each time: 0.16 s in all
_CHUNKS = 64
_OLDER = 8  # versions before the newest that are kept
_KEPT = threading.local()
# What a writer must know of to append. The rest (row tracking, in-commit timestamps, column mapping, ...) asks more of
# an entry than is written here; no table of reclake's has it.
_FEATURES = frozenset({"appendOnly", "invariants", "timestampNtz"})


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The files of one version of a table.

    `files` has a row a live file: `path` (absolute), `size_bytes`, `num_records`, a column for each partition column,
    and `min.NAME` and `max.NAME` of the columns in BOUNDED, null where the log does not say.
    """

    table_id: str
    version: int
    files: pl.DataFrame

    def of_partition(self, partition: Mapping[str, Any]) -> list[str]:
        """The paths of one partition's files."""
        return self.files.filter(*[pl.col(name) == value for name, value in partition.items()])["path"].to_list()


@dataclass(slots=True)
class _Kept:
    """The newest version of a table: what delta-rs read once, and what the entries since have changed."""

    opened: DeltaTable  # at this version, or at an earlier one of the same shape
    version: int
    stamp: tuple[int, int, int] | None
    looked_s: float  # when the log was last followed to its end
    schema: pa.Schema | None = None
    snapshot: Snapshot | None = None
    transactions: dict[str, int | None] = field(default_factory=dict)  # those that were asked for, or came since


def open_table(root: Place, version: int | None = None) -> DeltaTable:
    """A fresh handle on a version of the table at `root`, the newest unless told.

    Raises:
        StorageError: nothing was ever written to the table, or its log is damaged.
        PinError: that version is gone.
    """
    from deltalake.exceptions import DeltaError, TableNotFoundError

    try:
        return persistently(root, lambda: _listed(root, version))
    except TableNotFoundError:
        raise StorageError("the table is empty: nothing was ever written to it", where=root) from None
    except DeltaError as error:
        if store_failed(error):
            raise StorageError("an object store does not answer", where=root, got=str(error).splitlines()[0]) from error
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


def _listed(root: Place, version: int | None) -> DeltaTable:
    from deltalake import DeltaTable
    from deltalake.exceptions import DeltaError

    def look() -> DeltaTable:
        return DeltaTable(str(root), version=version, storage_options=options_of(root))

    for number in range(_LOOKS - 1):
        try:
            return look()
        except DeltaError as error:
            if "found gap" not in str(error):
                raise
        time.sleep(_FIRST_WAIT_S * 2**number)
    return look()


def version(root: Place) -> int:
    """The newest version of a table.

    Raises:
        StorageError: nothing was ever written to it.
    """
    return _latest(root).version


def schema(root: Place, version: int | None = None) -> pa.Schema:
    """The Arrow schema of a version, the newest unless told.

    Raises:
        StorageError: nothing was ever written to the table.
        PinError: that version is gone.
    """
    kept = _latest(root) if version is None else _older(root, version)
    if kept.schema is None:
        kept.schema = pa.schema(kept.opened.schema().to_arrow())
    return kept.schema


def snapshot(root: Place, version: int | None = None) -> Snapshot:
    """The files of a version, the newest unless told.

    Raises:
        StorageError: nothing was ever written to it.
        PinError: that version is gone.
    """
    kept = _latest(root) if version is None else _older(root, version)
    if kept.snapshot is None:
        if kept.opened.version() != kept.version:
            kept = _open(root)
        kept.snapshot = Snapshot(str(kept.opened.metadata().id), kept.version, _files(kept.opened, root))
    return kept.snapshot


def transaction(root: Place, app_id: str) -> int | None:
    """The last version committed by an application; None where it committed none.

    Raises:
        StorageError: nothing was ever written to the table.
    """
    kept = _latest(root)
    if app_id not in kept.transactions:  # no entry since names it
        kept.transactions[app_id] = committed(kept.opened, root, app_id)
    return kept.transactions[app_id]


def committed(opened: DeltaTable, root: Place, app_id: str) -> int | None:
    """The last version that an application had committed by an opened version of the table at `root`."""
    return persistently(root, lambda: opened.transaction_version(app_id))


def live_files(opened: DeltaTable, root: Place) -> pl.DataFrame:
    """The files of an opened version, as delta-rs has them: path, size_bytes, num_records, partition.*, min.*, max.*"""
    return persistently(root, lambda: pl.DataFrame(opened.get_add_actions(flatten=True)))


def newest(root: Place) -> tuple[str, int]:
    """The id and the newest version of a table.

    Raises:
        StorageError: nothing was ever written to it.
    """
    kept = _latest(root)
    return str(kept.opened.metadata().id), kept.version


def changes(root: Place, first: int, last: int) -> Changes | None:
    """What the commits `first` to `last`, both included, did; None where the log has forgotten one of them."""
    added: list[Place] = []
    removed = False
    for version in range(first, last + 1):
        try:
            entry = entries.parse(version, path_of(root, version).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        added += [root / path for path in entry.added]
        removed |= entry.took_rows
    return Changes(tuple(added), removed)


def check_writable(root: Place) -> None:
    """Refuse a table whose protocol asks for more than is written here.

    Raises:
        StorageError: it does.
    """
    check_protocol(_latest(root).opened)


def check_protocol(opened: DeltaTable) -> None:
    """The same of a table that was opened."""
    protocol = opened.protocol()
    unknown = set(protocol.writer_features or ()) - _FEATURES
    if unknown or (protocol.min_writer_version > 2 and not protocol.writer_features):
        raise StorageError(
            "the table has features that reclake does not write",
            where=opened.table_uri,
            expected="writer version 2, or the features " + ", ".join(sorted(_FEATURES)),
            got=f"writer version {protocol.min_writer_version}, {', '.join(sorted(unknown)) or 'none named'}",
        )


def may_hold(column: str, value: int) -> pl.Expr:
    """Whether the log leaves it open that a file of a snapshot has a value in one of the columns in BOUNDED."""
    return pl.lit(value, dtype=pl.Int64).is_between(f"min.{column}", f"max.{column}").fill_null(True)


def _latest(root: Place) -> _Kept:
    tables: dict[str, _Kept] = _KEPT.__dict__.setdefault("tables", {})
    kept = tables.get(str(root))
    # What is kept is good for as long as the commit it knows last is the one on disk: tables get deleted and made anew.
    if kept is None or kept.stamp is None or long_ago(kept.looked_s) or _stamp(root, kept.version) != kept.stamp:
        return _open(root)
    kept.looked_s = now_s()
    while (entry := _next(root, kept.version)) is not None:
        if entry.reshaped:
            return _open(root)
        kept.version = entry.version
        kept.transactions.update(entry.transactions)
        if kept.snapshot is not None:
            kept.snapshot = _advanced(kept.snapshot, entry, root)
        kept.stamp = _stamp(root, kept.version)
    return kept


def long_ago(looked_s: float) -> bool:
    """Whether a log may have been cleaned up, since a look at it, past what was seen then. See FOLLOWED_S."""
    return abs(now_s() - looked_s) > FOLLOWED_S


def _open(root: Place) -> _Kept:
    looked_s = now_s()
    opened = open_table(root)
    kept = _Kept(opened, int(opened.version()), _stamp(root, int(opened.version())), looked_s)
    _KEPT.tables[str(root)] = kept
    return kept


def _older(root: Place, version: int) -> _Kept:
    """A version that was asked for by its number, most likely not for the last time."""
    older: dict[tuple[str, int], _Kept] = _KEPT.__dict__.setdefault("older", {})
    stamp, key = _stamp(root, version), (str(root), version)
    kept = older.pop(key, None)
    if kept is None or stamp is None or kept.stamp != stamp:
        kept = _Kept(open_table(root, version), version, stamp, now_s())
    older[key] = kept  # the newest last
    while len(older) > _OLDER:
        del older[next(iter(older))]
    return kept


def _next(root: Place, version: int) -> Entry | None:
    try:
        return entries.parse(version + 1, path_of(root, version + 1).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None


def _stamp(root: Place, version: int) -> tuple[int, int, int] | None:
    """What tells one commit file from another; None where log clean-up took it."""
    try:
        stat = path_of(root, version).stat()
    except FileNotFoundError:
        return None
    return (stat.st_ino, stat.st_mtime_ns, stat.st_size)


def _files(opened: DeltaTable, root: Place) -> pl.DataFrame:
    live = live_files(opened, root)
    none = _no_files(opened)
    if live.is_empty():
        return none
    bounds = [name for name in none.columns if name.startswith(("min.", "max."))]
    partitions = opened.metadata().partition_columns
    return live.select(
        (str(root) + "/" + pl.col("path")).alias("path"),
        "size_bytes",
        pl.col("num_records").cast(pl.Int64),
        *[pl.col(f"partition.{name}").alias(name) for name in partitions],
        *[pl.col(name) if name in live.columns else pl.lit(None, pl.Int64).alias(name) for name in bounds],
    ).cast(none.schema)


def _no_files(opened: DeltaTable) -> pl.DataFrame:
    schema = pa.schema(opened.schema().to_arrow())
    by = pa.schema([schema.field(name) for name in opened.metadata().partition_columns])
    partitions = pl.DataFrame(by.empty_table()).schema if by else {}
    bounds = {f"{end}.{name}": pl.Int64 for name in BOUNDED for end in ("min", "max")}
    return pl.DataFrame(
        schema={"path": pl.String, "size_bytes": pl.Int64, "num_records": pl.Int64, **partitions, **bounds}
    )


def _advanced(snapshot: Snapshot, entry: Entry, root: Place) -> Snapshot:
    """The snapshot after one more commit: costs in proportion to the commit, not to the table."""
    files = snapshot.files
    if entry.removed:
        files = files.filter(~pl.col("path").is_in([f"{root}/{path}" for path in entry.removed]))
    if entry.adds:
        texts = {name: pl.String if _is_partition(name) else kind for name, kind in files.schema.items()}
        new = pl.DataFrame([_row(add, root) for add in entry.adds], schema=texts)
        dates = [pl.col(name).str.to_date() for name, kind in files.schema.items() if kind == pl.Date]
        files = files.vstack(new.with_columns(dates).cast(files.schema))
    # Every commit leaves a chunk; many of them slow each look down.
    return Snapshot(snapshot.table_id, entry.version, files.rechunk() if files.n_chunks() > _CHUNKS else files)


def _row(add: Mapping[str, Any], root: Place) -> dict[str, Any]:
    known = json.loads(add.get("stats") or "{}")
    row = {"path": f"{root}/{unquote(add['path'])}", "size_bytes": add["size"], "num_records": known.get("numRecords")}
    row |= {name: value or None for name, value in add["partitionValues"].items()}
    for name in BOUNDED:
        row[f"min.{name}"] = known.get("minValues", {}).get(name)
        row[f"max.{name}"] = known.get("maxValues", {}).get(name)
    return row


def _is_partition(name: str) -> bool:
    return name not in ("path", "size_bytes", "num_records") and not name.startswith(("min.", "max."))
