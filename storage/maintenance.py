"""Compaction and vacuum: what changes files and never what a table, or a pin, says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..schemas.errors import StorageError
from . import eras, log
from .catalog import Catalog
from .compaction import compact as merge_files
from .faults import translated
from .pins import Pin
from .table import Table


@dataclass(frozen=True, slots=True)
class Compacted:
    """What compaction did to one table."""

    table: str
    files_before: int
    files_after: int


@dataclass(frozen=True, slots=True)
class Held:
    """A version that a pin keeps alive, and the files that only such versions need; `until_us` None: for ever."""

    pin: str
    version: int
    files: int
    bytes: int
    until_us: int | None


@dataclass(frozen=True, slots=True)
class Vacuumed:
    """Files of one table that no kept version needs, and what pins hold beyond the newest version."""

    table: str
    files: int
    bytes: int
    held: tuple[Held, ...]


def compact(catalog: Catalog) -> list[Compacted]:
    """Merge the small files of every partition into one, rows in the layout's order, and sealed eras into longer ones.

    Readers, writers and seals go on.
    """
    done = []
    for name in catalog.table_names():
        table = catalog.table(name)
        before = len(table.files())
        with translated(table.root):
            if name in eras.TABLES:
                eras.merge_eras(catalog, table)
            else:
                merge_files(table)
        done.append(Compacted(name, before, len(table.files())))
    return done


def vacuum(catalog: Catalog, *, retention_hours: int, dry_run: bool, now_us: int) -> list[Vacuumed]:
    """Delete files that neither the newest version, nor a pin, nor a version younger than the retention needs.

    What operators made and no media run has published goes after the same time.
    """
    pins = [pin for pin in catalog.pins() if pin.holds_at(now_us)]
    done = []
    for name in catalog.table_names():
        table = catalog.table(name)
        held = tuple(_held(table, pin) for pin in pins if pin.tables.get(name, -1) >= 0)
        versions = sorted({each.version for each in held})
        stale = table.vacuum(retention_hours=retention_hours, keep=versions, dry_run=True)
        # delta-rs names what was vacuumed before, too.
        sizes = [path.stat().st_size for path in (table.root / each for each in stale) if path.exists()]
        if not dry_run:
            _sweep(table, stale, retention_hours=retention_hours, keep=versions)
            log.clean(table.root, catalog.needed(name, now_us), hours=max(retention_hours, log.LOG_HOURS))
        done.append(Vacuumed(name, len(sizes), sum(sizes), held))
    return [*done, *_vacuum_work(catalog, now_us / 1_000_000 - retention_hours * 3600, dry_run=dry_run)]


def _sweep(table: Table, stale: Sequence[str], *, retention_hours: int, keep: Sequence[int]) -> None:
    try:
        table.vacuum(retention_hours=retention_hours, keep=keep, dry_run=False)
    except StorageError:
        if not isinstance(table.root, Path):
            raise
        # delta-rs says in the log that it is about to delete, so on a full disk nothing would ever go.
        with translated(table.root):
            for each in stale:
                (table.root / each).unlink(missing_ok=True)


def _vacuum_work(catalog: Catalog, before_s: float, *, dry_run: bool) -> list[Vacuumed]:
    """The same for what operators made for media runs that were not published since; nothing where there is none."""
    if not isinstance(catalog.root, Path):  # media runs in lakes on disk alone
        return []
    stale = catalog.work.stale(before_s)
    if not dry_run:
        catalog.work.remove(stale)
    return [Vacuumed("(work of media)", len(stale), sum(stale.values()), ())] if stale else []


def _held(table: Table, pin: Pin) -> Held:
    version = pin.version_of(table.name)
    older = table.live(version).join(table.live(), on="path", how="anti")
    return Held(pin.name, version, older.height, int(older["size_bytes"].sum()), pin.until_us)
