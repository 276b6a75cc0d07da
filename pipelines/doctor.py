"""Doctor: does the lake keep its promises? Reads everything, changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from ..schemas.errors import ReclakeError
from ..schemas.times import iso
from ..storage.catalog import SEAL, Catalog
from .forget import waiting
from .run import Run


@dataclass(frozen=True, slots=True)
class Finding:
    """One promise, and whether it is kept."""

    promise: str
    kept: bool
    detail: str


def examine(catalog: Catalog, *, run: Run | None = None) -> list[Finding]:
    """Every promise that can be checked on the tables there are."""
    now_us = (run or Run()).now_us()
    tables = list(_tables(catalog))
    if not all(finding.kept for finding in tables):
        return tables  # what is in the others says little without them
    checks = (*tables, *_accounts(catalog), *_events(catalog), *_timelines(catalog))
    return [*checks, *_pins(catalog, now_us), *_erasures(catalog, now_us), *_work(catalog)]


def _tables(catalog: Catalog) -> Iterator[Finding]:
    for name in catalog.table_names():
        table = catalog.table(name)
        try:
            rows = table.scan().select(pl.len()).collect().item()
            told = f"version {table.version}, {rows:,} rows, {len(table.files()):,} files"
        except (ReclakeError, OSError, pl.exceptions.PolarsError) as error:
            yield Finding(f"table {name} opens", False, str(error))
            continue
        yield Finding(f"table {name} opens", True, told)


def _accounts(catalog: Catalog) -> Iterator[Finding]:
    """Law 2: read = admitted + quarantined + duplicates, in every batch that was written."""
    table = catalog.table("verdicts")
    if not table.exists:
        return
    batches = table.scan().filter(pl.col("check") == "batch", pl.col("verdict") != "stop").collect()
    sums = batches.select(pl.col("evaluated", "admitted", "unexpected", "duplicates").fill_null(0))
    off = sums.filter(pl.col("evaluated") != pl.sum_horizontal("admitted", "unexpected", "duplicates"))
    yield Finding(
        "read = admitted + quarantined + duplicates", off.is_empty(), f"{batches.height:,} batches, {off.height} off"
    )


def _events(catalog: Catalog) -> Iterator[Finding]:
    table = catalog.table("events")
    if not table.exists:
        return
    row = (
        table.scan()
        .select(
            pl.len().alias("rows"),
            pl.col("event_id").n_unique().alias("ids"),
            (pl.col("known_at") < pl.max_horizontal("event_time", "available_at")).sum().alias("early"),
        )
        .collect()
        .row(0, named=True)
    )
    yield Finding("every event_id is there once", row["rows"] == row["ids"], f"{row['rows'] - row['ids']:,} repeated")
    yield Finding("nothing is known before it happened or arrived", row["early"] == 0, f"{row['early']:,} rows")


def _timelines(catalog: Catalog) -> Iterator[Finding]:
    """Law 4: ordinals are 0, 1, 2 … in known_at order, the directory agrees, the sealed part is the events' part."""
    sealed = catalog.sealed_through_us
    if sealed is None:
        return
    timelines = catalog.table("timelines").scan()
    users = (
        timelines.group_by("user_id")
        .agg(
            pl.len().alias("count"),
            pl.col("ordinal").n_unique().alias("distinct"),
            pl.col("ordinal").max().alias("last"),
        )
        .collect()
    )
    gaps = users.filter((pl.col("distinct") != pl.col("count")) | (pl.col("last") != pl.col("count") - 1))
    yield Finding("ordinals are 0, 1, 2 …", gaps.is_empty(), f"{users.height:,} users, {gaps.height} with gaps")
    known = pl.col("known_at").sort_by("ordinal")
    unordered = (
        timelines.group_by("user_id")
        .agg((known.diff() < pl.duration()).any().alias("off"))
        .select(pl.col("off").sum())
        .collect()
        .item()
    )
    yield Finding("timelines are in known_at order", unordered == 0, f"{unordered} users off")
    counts = catalog.table("directory").scan().group_by("user_id").agg(pl.col("count").sum().alias("listed"))
    off = (
        users.lazy()
        .join(counts, on="user_id", how="full")
        .filter(pl.col("count").ne_missing(pl.col("listed")))
        .collect()
    )
    yield Finding("the directory agrees with the timelines", off.is_empty(), f"{off.height} users off")
    barrier = catalog.table("events").transaction(SEAL) or 0
    through = pl.lit(sealed).cast(pl.Datetime("us", "UTC"))
    below = catalog.table("events").scan().filter(pl.col("known_at") < through).select(pl.len()).collect().item()
    held = timelines.select(pl.len()).collect().item()
    yield Finding("every sealed event is in a timeline", below == held, f"{below:,} events, {held:,} in timelines")
    yield Finding("nothing lands behind the seal", barrier >= sealed, f"barrier {barrier}, sealed through {sealed}")


def _pins(catalog: Catalog, now_us: int) -> Iterator[Finding]:
    for pin in catalog.pins():
        if not pin.holds_at(now_us):
            yield Finding(f"pin {pin.name} opens", True, f"it expired at {iso(pin.until_us or 0)}, as it said")
            continue
        try:
            for name, version in pin.tables.items():
                if version >= 0:
                    catalog.table(name).scan(version).select(pl.len()).collect()
        except (ReclakeError, OSError, pl.exceptions.PolarsError) as error:
            yield Finding(f"pin {pin.name} opens", False, str(error).splitlines()[0])
            continue
        yield Finding(f"pin {pin.name} opens", True, f"{len(pin.tables)} tables")


def _work(catalog: Catalog) -> Iterator[Finding]:
    """What operators made for media runs that are not published: it is found again as it was written."""
    files = catalog.work.files() if isinstance(catalog.root, Path) else []
    if files:
        damaged = [path.name for path in catalog.work.damaged()]
        size = sum(path.stat().st_size for path in files)
        told = f"{len(files)} file(s), {size / 1e6:.1f} MB, wait for `reclake media`"
        yield Finding(
            "unpublished work of media is whole",
            not damaged,
            f"damaged, and made again by the next `reclake media`: {', '.join(damaged)}" if damaged else told,
        )


def _erasures(catalog: Catalog, now_us: int) -> Iterator[Finding]:
    requests = waiting(catalog)
    late = [request for request in requests if request.deadline_us <= now_us]
    if requests:
        yield Finding(
            "users are forgotten by the deadline", not late, f"{len(requests)} request(s) wait, {len(late)} too long"
        )
