"""Doctor: does the lake keep its promises? Reads everything, changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from ..schemas.buckets import bucket_groups
from ..schemas.errors import ReclakeError
from ..schemas.times import iso
from ..storage.catalog import SEAL, Catalog
from .forget import waiting
from .run import Run

ROWS_AT_ONCE = 2_000_000  # events of timelines in memory at a time, whatever the lake holds
DIGESTS_AT_ONCE = 50_000_000  # of event ids, 8 bytes each


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
            files = len(table.files())
            told = f"version {table.version}, {rows:,} rows, {files:,} file{'s' * (files != 1)}"
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
    events = table.scan()
    early = pl.col("known_at") < pl.max_horizontal("event_time", "available_at")
    counts = events.select(pl.len().alias("rows"), early.sum().alias("early"))
    rows, before = counts.collect(engine="streaming").row(0)
    parts = rows // DIGESTS_AT_ONCE + 1
    repeated = sum(_repeated(events, part, parts) for part in range(parts))
    yield Finding("every event_id is there once", repeated == 0, f"{repeated:,} repeated")
    yield Finding("nothing is known before it happened or arrived", before == 0, f"{before:,} rows")


def _repeated(events: pl.LazyFrame, part: int, parts: int) -> int:
    """How many events of one part of all digests repeat an event_id; the ids are read only where digests agree."""
    digest = pl.col("event_id").hash()
    own = events.select("event_id", digest.alias("digest")).filter(pl.col("digest") % parts == part)
    digests = own.select("digest").collect(engine="streaming")["digest"].sort()
    twice = digests.filter((digests == digests.shift()).fill_null(False)).unique()
    if twice.is_empty():
        return 0
    ids = own.filter(pl.col("digest").is_in(twice.implode())).select("event_id").collect(engine="streaming")["event_id"]
    return len(ids) - ids.n_unique()


def _timelines(catalog: Catalog) -> Iterator[Finding]:
    """Law 4: ordinals are 0, 1, 2 … in known_at order, the directory agrees, the sealed part is the events' part."""
    sealed = catalog.sealed_through_us
    if sealed is None:
        return
    timelines, directory = catalog.table("timelines").scan(), catalog.table("directory").scan()
    through = pl.lit(sealed).cast(pl.Datetime("us", "UTC"))
    below = catalog.table("events").scan().filter(pl.col("known_at") < through).select(pl.len()).collect().item()
    groups = bucket_groups(below, catalog.buckets, ROWS_AT_ONCE)
    users = pl.concat(_users(timelines, directory, group) for group in groups)
    listed, held = users.height, timelines.select(pl.len()).collect().item()
    gaps, behind, off = users.select(pl.col("gap", "behind", "off").sum()).row(0)
    yield Finding("ordinals are 0, 1, 2 …", gaps == 0, f"{listed:,} users, {gaps:,} with gaps")
    yield Finding("timelines are in known_at order", behind == 0, f"{behind:,} users off")
    yield Finding("the directory agrees with the timelines", off == 0, f"{off:,} users off")
    yield Finding("every sealed event is in a timeline", below == held, f"{below:,} events, {held:,} in timelines")
    barrier = catalog.table("events").transaction(SEAL) or 0
    told = f"sealed through {iso(sealed)}"
    behind_it = f"{told}, and the log of events takes what was known since {iso(barrier)}" if barrier < sealed else told
    yield Finding("nothing lands behind the seal", barrier >= sealed, behind_it)


def _users(timelines: pl.LazyFrame, directory: pl.LazyFrame, buckets: list[int]) -> pl.DataFrame:
    """A row a user of some buckets: has the timeline a gap, is it out of order, does the directory say otherwise?"""
    own = pl.col("bucket").is_in(buckets)
    user, ordinal, known = pl.col("user_id"), pl.col("ordinal"), pl.col("known_at")
    follows = (user == user.shift()).fill_null(False)
    due = pl.when(follows).then(ordinal.shift() + 1).otherwise(0)
    found = (
        timelines.filter(own)
        .select("user_id", "ordinal", "known_at")
        .sort("user_id", "ordinal")
        .select("user_id", ordinal.ne_missing(due).alias("gap"), (follows & (known < known.shift())).alias("behind"))
        .group_by("user_id")
        .agg(pl.len().alias("count"), pl.col("gap", "behind").any())
    )
    said = directory.filter(own).group_by("user_id").agg(pl.col("count").sum().alias("listed"))
    both = found.join(said, on="user_id", how="full", coalesce=True)
    off = pl.col("count").ne_missing(pl.col("listed"))
    return both.select(pl.col("gap", "behind").fill_null(False), off.alias("off")).collect(engine="streaming")


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
