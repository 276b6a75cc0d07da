"""Seal: close a span of known_at for ever, give its events their ordinals, write timelines and the directory.

Steps, each idempotent, so that a kill anywhere and a second run give the same rows:
1. the barrier: a commit on `events`, and one on `content`, says through when it is sealed; who appends to them looks at
   it, and commits only against the version it looked at, so nothing lands behind it;
2. for every era (a day, or a shorter rest): ordinals, staged and audited as a whole (see publish.py), then one commit
   of `directory`, then one of `timelines`; the last makes the era readable.

Where a span ends decides into which eras it is cut. So a span that was begun is always finished as it was begun, by
whoever comes next, before another barrier is set.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import polars as pl
import pyarrow as pa

from ..quality import gate
from ..quality.findings import Finding, merged
from ..schemas import shapes
from ..schemas.buckets import bucket_groups
from ..schemas.eras import Era, named, split_days
from ..schemas.errors import CommitConflictError, EngineError, SealError
from ..schemas.times import US_PER_DAY, day_start_us, floor_day, from_us, iso
from ..storage import followed
from ..storage.catalog import SEAL, Catalog
from ..storage.followed import Followed
from ..storage.locks import deriving
from ..storage.table import Table
from .directory import next_ordinals
from .knowing import TIME
from .ordinals import APART, SealedPart, seal_part
from .publish import Suite, audited, published, restored
from .run import Run

ENGINES = ("local", "spark")
ROWS_AT_ONCE = 4_000_000  # events of one era in memory at a time, about 1 GB with the shipped contract

PartsOf = Callable[[Era, Suite], list[SealedPart]]


@dataclass(frozen=True, slots=True)
class SealResult:
    """What one seal did: eras made, events given ordinals, the end of the last sealed era (µs), what was found in them.

    `watermarks_ignored` are followed sources that it was told not to wait for, `followers_gone` those that nobody
    follows any more, since their followers were killed; the commit that sets the barrier names both.
    """

    eras: tuple[str, ...]
    rows: int
    through_us: int | None
    version: int
    watermarks_ignored: tuple[str, ...]
    followers_gone: tuple[str, ...]
    findings: tuple[Finding, ...] = ()  # of all eras, worst first


def seal(
    catalog: Catalog,
    *,
    through_us: int | None = None,
    engine: str = "local",
    ignore_watermarks: bool = False,
    run: Run | None = None,
) -> SealResult:
    """Seal everything known before `through_us`; by default through the last whole day that has events.

    A followed source that has not got so far is an error, unless its watermark is to be ignored. A source whose
    follower was killed is passed over. What either brings later is known from its arrival.

    Raises:
        SealError: the span is not over, or a followed source has not got so far yet; nothing was sealed.
        GateError: the events of an era fail a check of the suite of timelines; the eras before it are sealed.
        EngineError: the engine is unknown or cannot start.
        StorageError: the engine is Spark and the lake in an object store.
    """
    run = run or Run()
    if engine not in ENGINES:
        raise EngineError("unknown engine", expected=" or ".join(ENGINES), got=engine)
    if engine == "spark":
        catalog.on_disk()
    events = catalog.table("events")
    if not events.exists:
        raise SealError("there are no events to seal", where=catalog.root, hint="reclake ingest LAKE CONTRACT SOURCE")
    _restore(catalog)
    through_us = _default_through(catalog, run.now_us()) if through_us is None else through_us
    now_us = run.now_us()
    if through_us is not None and through_us > now_us:
        raise SealError(
            "a span that is not over cannot be sealed",
            where=catalog.root,
            expected=f"a time up to now, {iso(now_us)}: what arrives until then may be known until then",
            got=iso(through_us),
            hint="seal through an earlier time, or wait; a seal is for ever",
        )
    behind = _behind(catalog, through_us, ignore_watermarks)
    sealed = catalog.sealed_through_us
    if through_us is None or (sealed is not None and through_us <= sealed):
        return SealResult((), 0, sealed, catalog.table("timelines").version, (), ())
    eras: list[Era] = []
    rows = 0
    found: list[tuple[Finding, ...]] = []
    while (end_us := _begin(catalog, through_us, behind)) is not None:
        span, given, seen = _seal_span(catalog, end_us, engine, run)
        eras += span
        found.append(seen)
        rows += given
    for source in behind:
        if not source.alive:
            followed.strike_out(catalog.sources_folder, source.source)
    return SealResult(
        eras=tuple(era.name for era in eras),
        rows=rows,
        through_us=catalog.sealed_through_us,
        version=catalog.table("timelines").version,
        watermarks_ignored=_paths(behind, alive=True),
        followers_gone=_paths(behind, alive=False),
        findings=merged(found),
    )


def _begin(catalog: Catalog, through_us: int, behind: Sequence[Followed]) -> int | None:
    """Through when to seal now, the barrier being set: first what was begun and not finished. None: all is sealed."""
    events = catalog.table("events")
    passed = {
        "reclake.watermarks_ignored": _paths(behind, alive=True),
        "reclake.followers_gone": _paths(behind, alive=False),
    }
    while True:
        version = events.version
        begun, sealed = events.transaction(SEAL), catalog.sealed_through_us
        if begun is not None and (sealed is None or sealed < begun):
            return begun
        if sealed is not None and sealed >= through_us:
            return None
        try:
            events.mark(
                transactions={SEAL: through_us},
                after=version,
                metadata={name: json.dumps(paths) for name, paths in passed.items() if paths},
            )
        except CommitConflictError:
            continue  # an ingest, or another seal, whose span may have to be finished first
        return through_us


def _seal_span(catalog: Catalog, end_us: int, engine: str, run: Run) -> tuple[list[Era], int, tuple[Finding, ...]]:
    """Seal what is below a barrier; the eras, how many events they got, and what was not as expected."""
    if catalog.table("content").exists:
        _mark(catalog.table("content"), end_us)  # before anybody can make samples of the span
    eras, rows = _eras(catalog, end_us), 0
    found: list[tuple[Finding, ...]] = []
    _restore(catalog)
    # Only now: a field that events got before the barrier is one that the timelines must have.
    catalog.table("timelines").create(timelines_schema(catalog))
    with deriving(catalog.root), _engine(engine, catalog) as parts_of:
        for number, era in enumerate(eras):
            run.progress(f"seal {era.name}", number, len(eras))
            given, seen = _seal_era(catalog, era, parts_of, run)
            rows += given
            found.append(seen)
    _mark(catalog.table("timelines"), end_us)  # an empty rest of the span is sealed too
    return eras, rows, merged(found)


def _eras(catalog: Catalog, end_us: int) -> list[Era]:
    """The eras with events between the end of the last sealed one and `end_us`; the barrier is set."""
    days = {day_start_us(day) for day in catalog.table("events").partition_values(shapes.DAY)}
    start_us = catalog.sealed_through_us
    if start_us is None:
        start_us = min(days, default=end_us)
    spans = split_days(min(start_us, end_us), end_us)
    return [era for era in spans if floor_day(era.start_us) in days and _has_events(catalog, era)]


@contextmanager
def _engine(name: str, catalog: Catalog) -> Iterator[PartsOf]:
    """The engine's way of sealing one era into parts; what it started ends with the block."""
    schema = timelines_schema(catalog)
    if name == "local":
        yield lambda era, suite: _seal_locally(catalog, era, schema, suite)
        return
    from .engines import spark

    with spark.session() as session:
        yield lambda era, suite: spark.seal_parts(session, catalog, era, schema, suite)


def _seal_era(catalog: Catalog, era: Era, parts_of: PartsOf, run: Run) -> tuple[int, tuple[Finding, ...]]:
    """Seal one era; its events, and what was not as expected. One that somebody else sealed meanwhile is left: none."""
    timelines, directory = catalog.table("timelines"), catalog.table("directory")
    if (timelines.transaction(SEAL) or 0) >= era.end_us:
        _restore(catalog)
        return 0, ()
    suite, schema = Suite.of(catalog, timelines.name), timelines_schema(catalog)
    day = from_us(era.start_us).date()
    audit = suite.of_day(catalog, schema, day, apart=APART)
    parts = parts_of(era, suite)
    partition = audited(
        catalog,
        timelines,
        [p.part for p in parts],
        audit,
        schema,
        version=suite.version,
        source=era.name,
        day=day,
        run=run,
    )
    entries = pa.concat_tables([part.directory for part in parts])
    try:
        with suppress(CommitConflictError):
            directory.append(gate.record(entries, shapes.DIRECTORY, name="directory"), transactions={SEAL: era.end_us})
        # Who seals the same era right now has brought the same entries; one of the two commits the events.
        if (directory.transaction(SEAL) or 0) < era.end_us:
            raise CommitConflictError("the directory could not be written", where=era.name, hint="run it again")
    except BaseException:
        partition.discard()
        raise
    try:
        published(catalog, partition, (SEAL, era.end_us))
    except CommitConflictError:
        if (timelines.transaction(SEAL) or 0) < era.end_us:
            raise
        _restore(catalog)
        return 0, ()
    return sum(part.part.seen.rows for part in parts), partition.findings


def _restore(catalog: Catalog) -> None:
    """Store the verdict of the last era, whose seal may have been killed, or still be at it, right after its commit.

    Eras are sealed one after another, and nobody seals the next before the verdict of the last is stored.
    """
    timelines = catalog.table("timelines")
    if timelines.exists:
        ends = [named(name).end_us for name in timelines.partition_values(shapes.ERA)]
        restored(catalog, timelines, (SEAL, max(ends, default=0)))


def _seal_locally(catalog: Catalog, era: Era, schema: pa.Schema, suite: Suite) -> list[SealedPart]:
    """In this process, as many buckets at a time as fit the memory budget."""
    events, timelines = events_between(catalog, era), catalog.table("timelines")
    parts: list[SealedPart] = []
    try:
        for group in bucket_groups(int(events.select(pl.len()).collect().item()), catalog.buckets, ROWS_AT_ONCE):
            rows = events.filter(pl.col(shapes.BUCKET).is_in(group)).collect(engine="streaming")
            if rows.height:
                first = next_ordinals(catalog, era, rows["user_id"].unique())
                parts.append(seal_part(timelines, rows, first, era.name, schema, suite))
    except BaseException:
        timelines.discard([each.part.staged for each in parts])
        raise
    return parts


def events_between(catalog: Catalog, era: Era) -> pl.LazyFrame:
    """The events known within an era, lazily. An era lies within one day."""
    return (
        catalog.table("events")
        .scan_partition({shapes.DAY: from_us(era.start_us).date()})
        .filter(
            pl.col("known_at") >= pl.lit(era.start_us).cast(TIME), pl.col("known_at") < pl.lit(era.end_us).cast(TIME)
        )
    )


def timelines_schema(catalog: Catalog) -> pa.Schema:
    """The timelines' schema: that of the events table as it is now."""
    fields = []
    required = {"event_id", "user_id", "item_id", "event_type", "event_time", "available_at", "known_at"}
    for column in catalog.table("events").schema():
        fields.append(column.with_nullable(column.name not in required))
    return shapes.timelines(pa.schema(fields))


def _default_through(catalog: Catalog, now_us: int) -> int | None:
    """The end of the last whole day that has events; None where there are none."""
    days = catalog.table("events").partition_values(shapes.DAY)
    return min(floor_day(now_us), day_start_us(max(days)) + US_PER_DAY) if days else None


def _has_events(catalog: Catalog, era: Era) -> bool:
    return int(events_between(catalog, era).select(pl.len()).collect().item()) > 0


def _behind(catalog: Catalog, through_us: int | None, ignore: bool) -> list[Followed]:
    """Followed sources that might have brought events known before `through_us`."""
    behind = [] if through_us is None else [each for each in catalog.followed() if each.watermark_us < through_us]
    first = next((each for each in behind if each.alive), None)
    if first is not None and not ignore:
        raise SealError(
            "a followed source has not got so far yet",
            where=f"{first.source.path}, followed by {first.follower}",
            expected=f"a watermark past {iso(through_us or 0)}",
            got=iso(first.watermark_us),
            hint="wait for it, or seal with --ignore-watermarks: what it brings later is known from its arrival",
        )
    return behind


def _paths(behind: Sequence[Followed], *, alive: bool) -> tuple[str, ...]:
    return tuple(each.source.path for each in behind if each.alive == alive)


def _mark(table: Table, through_us: int) -> None:
    """Say on a table through when it is sealed, unless it says so already."""
    if (table.transaction(SEAL) or 0) >= through_us:
        return
    try:
        table.mark(transactions={SEAL: through_us})
    except CommitConflictError:
        if (table.transaction(SEAL) or 0) < through_us:
            raise
