"""Compaction, vacuum and erasure: what changes files and never what a table, or a pin, says."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from ..schemas.errors import PinError
from .catalog import Catalog
from .table import Table

USER_TABLES = ("events", "timelines", "directory")  # and every sample set


@dataclass(frozen=True, slots=True)
class Compacted:
    """What compaction did to one table."""

    table: str
    files_before: int
    files_after: int


@dataclass(frozen=True, slots=True)
class Vacuumed:
    """Files of one table that no kept version needs; `held` are versions that pins keep."""

    table: str
    files: int
    bytes: int
    held: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What erasure removed from one table."""

    table: str
    rows: int


def compact(catalog: Catalog) -> list[Compacted]:
    """Merge the small files of every partition into one, rows in the layout's order. Readers and writers go on."""
    done = []
    for name in catalog.table_names():
        table = catalog.table(name)
        before = len(table.files())
        table.compact()
        done.append(Compacted(name, before, len(table.files())))
    return done


def vacuum(catalog: Catalog, *, retention_hours: int, dry_run: bool) -> list[Vacuumed]:
    """Delete files that neither the newest version, nor a pin, nor a version younger than the retention needs."""
    pins = catalog.pins()
    done = []
    for name in catalog.table_names():
        table = catalog.table(name)
        held = sorted({pin.tables[name] for pin in pins if name in pin.tables})
        stale = table.vacuum(retention_hours=retention_hours, keep=held, dry_run=True)
        size = sum(path.stat().st_size for path in _existing(table, stale))
        if not dry_run:
            table.vacuum(retention_hours=retention_hours, keep=held, dry_run=False)
        done.append(Vacuumed(name, len(stale), size, tuple(held)))
    return done


def forget(catalog: Catalog, user_ids: Iterable[int]) -> list[Forgotten]:
    """Remove users from every table that knows them, then delete the files that held them.

    Raises:
        PinError: pins hold versions with these users; nothing was removed.
    """
    users = sorted(set(user_ids))
    holding = [pin.name for pin in catalog.pins()]
    if holding:
        raise PinError(
            "pins hold versions that may have these users",
            where=catalog.root,
            expected="no pins",
            got=", ".join(holding),
            hint=f"reclake unpin {catalog.root} {holding[0]}",
        )
    done = []
    for name in catalog.table_names():
        table = catalog.table(name)
        if name in USER_TABLES or name.startswith("samples/"):
            done.append(Forgotten(name, table.delete(f"user_id IN ({', '.join(map(str, users))})")))
        elif name == "quarantine":
            done.append(Forgotten(name, _forget_quarantined(table, users)))
    vacuum(catalog, retention_hours=0, dry_run=False)
    # The index of users names them. Last, so that nobody builds it again from rows that are still there.
    shutil.rmtree(catalog.cache, ignore_errors=True)
    return done


def _forget_quarantined(table: Table, users: list[int]) -> int:
    """Remove quarantined rows whose raw bytes hold one of the ids as a whole number or word."""
    pattern = r"(^|[^0-9])(" + "|".join(map(str, users)) + r")([^0-9]|$)"
    text = pl.col("raw").cast(pl.String, strict=False)
    # Raw bytes that are not text cannot be searched: erasure takes them rather than leave them.
    found = table.scan().filter(text.is_null() | text.str.contains(pattern)).select("quarantine_id").collect()
    ids = found["quarantine_id"].to_list()
    if not ids:
        return 0
    quoted = ", ".join("'" + str(i).replace("'", "''") + "'" for i in ids)
    return table.delete(f"quarantine_id IN ({quoted})")


def _existing(table: Table, paths: list[str]) -> list[Path]:
    return [path for path in (table.root / name for name in paths) if path.exists()]
