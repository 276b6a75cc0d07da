"""Ingest: decode, resolve, stamp, gate, append. Every source row is accounted for, and committed once.

A batch is one commit to its table: the rows, how far the source was read, and the batch's verdict travel together.
Rejected rows go to quarantine before that commit (deterministic, so a repeat changes nothing); the verdict rows
after it, from what the commit carries, so that a kill in between loses neither.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa

from ..quality import gate
from ..quality.findings import Finding, findings, merged
from ..quality.suite import CompiledSuite, compile_suite
from ..schemas import shapes
from ..schemas.buckets import bucket_of
from ..schemas.contract import Contract
from ..schemas.errors import CommitConflictError, ReclakeError, SourceError
from ..schemas.placing import stored_schema
from ..storage.catalog import Catalog
from ..storage.table import Table
from . import resolving, sources
from .carried import Carried, recover, settle
from .duplicates import held
from .knowing import TIME, available, known_at
from .learning import learnt
from .private import Shield, hidden
from .references import referred
from .refusal import refusal, refuse
from .run import Run

BATCH_ROWS = 250_000


@dataclass(frozen=True, slots=True)
class IngestResult:
    """What one ingest did. `rows` are source rows; the other counts are events, and read is their sum."""

    rows: int
    read: int
    admitted: int
    quarantined: int
    duplicates: int
    version: int
    files: int
    files_done_before: int
    bytes: int
    ignored_columns: tuple[str, ...]
    skipped_files: tuple[str, ...]
    findings: tuple[Finding, ...] = ()  # what was not as expected, worst first


@dataclass(frozen=True, slots=True)
class Counts:
    """Of one batch, in events; `rows` in source rows."""

    rows: int = 0
    read: int = 0
    admitted: int = 0
    quarantined: int = 0
    duplicates: int = 0
    findings: tuple[Finding, ...] = ()

    def plus(self, other: Counts) -> Counts:
        return Counts(
            self.rows + other.rows,
            self.read + other.read,
            self.admitted + other.admitted,
            self.quarantined + other.quarantined,
            self.duplicates + other.duplicates,
            merged([self.findings, other.findings]),
        )


@dataclass(frozen=True, slots=True)
class Target:
    """Where rows of a contract go, and by which laws. `stored`: the schema's columns as the table keeps them."""

    catalog: Catalog
    contract: Contract
    schema: pa.Schema
    stored: pa.Schema
    suite: CompiledSuite
    table: Table


def target_of(catalog: Catalog, contract: Contract) -> Target:
    """Where rows of this contract go; the suite is compiled here, once."""
    table = catalog.table(contract.table)
    schema = shapes.events(contract) if contract.kind == "events" else shapes.content(contract)
    suite = compile_suite(
        referred(catalog, contract.expectations), schema, name=contract.name, personal=contract.personal
    )
    return Target(catalog, contract, schema, stored_schema(contract, schema), suite, table)


def ingest(
    catalog: Catalog,
    contract_name: str,
    paths: Sequence[str | Path],
    *,
    run: Run | None = None,
    batch_rows: int = BATCH_ROWS,
) -> IngestResult:
    """Read files or folders into the contract's table. Run again after any interruption: each row lands once.

    A file that was read to its end before is left alone (`files_done_before`); its cursor is its absolute path and
    its content, so a file that changed is read afresh and its known events are found to be duplicates.

    Raises:
        SourceNotFoundError: a path is missing; nothing was read.
        SourceError: files are damaged or lack a required column; all others have been read.
        GateError: a critical check failed; nothing of that batch is written, and nothing after it is read.
        PiiKeyError: the contract hashes fields and there is no key; nothing was read.
    """
    run = run or Run()
    target = target_of(catalog, catalog.contract(contract_name))
    shield = Shield.of(catalog, target.contract)
    target.table.create(target.stored)
    found = sources.discover(paths)
    counts, ignored, done_before, size = Counts(), set[str](), 0, 0
    refused: list[SourceError] = []
    for path in found.files:
        try:
            source = sources.open_source(path, contract=target.contract, batch_rows=batch_rows)
            cursor = cursor_of(target.contract, source.key)
            start = target.table.transaction(cursor) or 0
            recover(catalog, target.table, cursor, start)
            size += path.stat().st_size
            rows_before, no_rows = counts.rows, start == 0
            for found_batch in source.batches(start):
                no_rows = False
                batch = hidden(found_batch, target.contract, shield)
                batch_counts, unread = ingest_batch(target, batch, source_name=str(path), key=source.key, run=run)
                counts = counts.plus(batch_counts)
                ignored.update(unread)
                run.progress(f"ingest {path.name}, rows", counts.rows, None)
            if no_rows:
                counts = counts.plus(_judge_nothing(target, source_name=str(path), key=source.key, run=run))
            done_before += start > 0 and counts.rows == rows_before
        except SourceError as error:
            refused.append(error)
    if refused:
        raise _of_several(refused, len(found.files), counts)
    return IngestResult(
        rows=counts.rows,
        read=counts.read,
        admitted=counts.admitted,
        quarantined=counts.quarantined,
        duplicates=counts.duplicates,
        version=target.table.version,
        files=len(found.files),
        files_done_before=done_before,
        bytes=size,
        ignored_columns=tuple(sorted(ignored)),
        skipped_files=tuple(str(path) for path in found.skipped),
        findings=counts.findings,
    )


def _of_several(refused: list[SourceError], files: int, counts: Counts) -> SourceError:
    """The error of the first refused file; where there were more files, its advice says what became of them."""
    first = refused[0]
    if files > 1:
        others = "".join(f"; also refused: {error.where}" for error in refused[1:6])
        more = f" and {len(refused) - 6} more" if len(refused) > 6 else ""
        rest = (
            f"{files - len(refused)} of {files} files were read ({counts.rows} rows, {counts.admitted} events admitted)"
        )
        first.hint = f"{first.hint or 'mend the file'}; {rest}{others}{more}; run it again when mended"
    return first


def cursor_of(contract: Contract, key: str) -> str:
    """The application transaction that says how many rows of a source are in the table."""
    return f"ingest/{contract.name}/{key}"


def ingest_batch(
    target: Target, batch: sources.SourceBatch, *, source_name: str, key: str, run: Run
) -> tuple[Counts, tuple[str, ...]]:
    """One batch, one commit. Returns its counts and the source columns that nobody read."""
    try:
        resolved = resolving.resolve(batch.frame, target.contract)
    except ReclakeError as error:
        raise error.within(source_name) from None
    arrival_us = run.now_us()
    refused = resolved.rejected.height + len(batch.undecodable)
    read = resolved.rows.height + refused
    unread = (*resolved.ignored, *batch.unread)
    verdict_id, cursor = f"{key}-{batch.end_row}", cursor_of(target.contract, key)
    while True:
        version = target.table.version
        stamped, admission = stamp_and_admit(
            target,
            resolved.rows,
            arrival_us=arrival_us,
            verdict_id=verdict_id,
            refused_before=refused,
            absent=resolved.absent,
        )
        fresh = fresh_rows(target, admission.admitted, version)
        admitted = admission.admitted.keep(fresh)
        quarantined = refused + admission.rejected.height
        counts = Counts(
            rows=batch.source_rows,
            read=read,
            admitted=admitted.rows.num_rows,
            quarantined=quarantined,
            duplicates=admission.admitted.rows.num_rows - admitted.rows.num_rows,
            findings=findings(admission, refused_reasons(batch, resolved)),
        )
        late = int(
            stamped.select((pl.col("known_at") - pl.col(happened(target.contract)) >= pl.duration(days=1)).sum()).item()
        )
        verdict = gate.verdict_rows(
            admission,
            run_id=run.id,
            at_us=arrival_us,
            table=target.table.name,
            source=source_name,
            event_day=_main_day(stamped, happened(target.contract)),
            read=read,
            admitted=counts.admitted,
            quarantined=quarantined,
            duplicates=counts.duplicates,
            late=late,
        )
        if admission.verdict == "stop":
            rows = f"rows {batch.first_row} to {batch.end_row - 1}"
            _stop(target, admission, verdict, source_name, rows, counts.findings)
        rejected = rejected_rows(batch, resolved, admission.rejected)
        _quarantine(target, batch, rejected, source_name=source_name, key=key, at_us=arrival_us, run=run)
        carried = Carried(cursor, batch.end_row, verdict)
        try:
            committed = target.table.append(
                admitted,
                transactions={cursor: batch.end_row},
                metadata=carried.metadata | {"reclake.contract": f"{target.contract.name}/{target.contract.version}"},
                after=version,
            )
        except CommitConflictError:
            if (target.table.transaction(cursor) or 0) >= batch.end_row:
                return Counts(), unread  # somebody else read the same rows of the same source
            continue
        settle(target.catalog, carried, committed)
        return counts, unread


def stamp_and_admit(
    target: Target,
    rows: pl.DataFrame,
    *,
    arrival_us: int,
    verdict_id: str,
    refused_before: int = 0,
    absent: Collection[str] = (),
) -> tuple[pl.DataFrame, gate.Admission]:
    """Resolved rows, stamped against what is sealed now, and what the gate says of them.

    Rows that are to be committed after a version of the table are stamped after that version was read.
    """
    stamped = stamp(
        rows.drop("_row", "_emit"),
        target.contract,
        arrival_us=arrival_us,
        sealed_us=target.catalog.barrier_us(target.table),
        buckets=target.catalog.buckets,
    )
    admission = admit_stamped(target, stamped, verdict_id=verdict_id, refused_before=refused_before, absent=absent)
    return stamped, admission


def admit_stamped(
    target: Target,
    stamped: pl.DataFrame,
    *,
    verdict_id: str,
    refused_before: int = 0,
    absent: Collection[str] = (),
) -> gate.Admission:
    """What the gate says of stamped rows; those it admits in the columns in which the table keeps them."""
    admission = gate.admit(
        stamped.select(target.schema.names).to_arrow(),
        suite_of_day(target, stamped) if target.suite.learning else target.suite,
        target.schema,
        contract=target.contract.name,
        contract_version=target.contract.version,
        verdict_id=verdict_id,
        quarantine_limit=target.contract.quarantine_limit,
        quarantine_limit_rows=target.contract.quarantine_limit_rows,
        refused_before=refused_before,
        absent=absent,
    )
    return replace(admission, admitted=admission.admitted.stored_as(target.stored))


def admit_nothing(target: Target, *, verdict_id: str) -> gate.Admission:
    """What the gate says of a source without a row: it is an empty batch."""
    return admit_stamped(target, pl.DataFrame(target.schema.empty_table()), verdict_id=verdict_id)


def _judge_nothing(target: Target, *, source_name: str, key: str, run: Run) -> Counts:
    """A file without a row leaves nothing to write, and is stopped where a critical check of the batch wants some."""
    admission = admit_nothing(target, verdict_id=f"{key}-0")
    found = findings(admission)
    if admission.verdict == "stop":
        verdict = gate.verdict_rows(
            admission,
            run_id=run.id,
            at_us=run.now_us(),
            table=target.table.name,
            source=source_name,
            event_day=None,
            read=0,
            duplicates=0,
            late=0,
        )
        _stop(target, admission, verdict, source_name, "no rows", found)
    return Counts(findings=found)


def suite_of_day(target: Target, stamped: pl.DataFrame) -> CompiledSuite:
    """The target's suite as it judges the day that most of the rows happened on."""
    day = _main_day(stamped, happened(target.contract))
    name, contract = target.table.name, target.contract.name
    return learnt(target.catalog, target.suite, table=name, contract=contract, day=day, partitions=False)


def stamp(
    rows: pl.DataFrame, contract: Contract, *, arrival_us: int, sealed_us: int | None, buckets: int
) -> pl.DataFrame:
    """Kernel: contract rows with available_at filled in, known_at, and where they belong."""
    at = happened(contract)
    stamped = rows.with_columns(
        available(contract, happened=at, arrival_us=arrival_us).alias("available_at")
    ).with_columns(
        known_at(contract, pl.max_horizontal(at, "available_at"), arrival_us=arrival_us, sealed_us=sealed_us).alias(
            "known_at"
        )
    )
    if contract.kind == "content":
        return stamped
    bucket = pl.Series(shapes.BUCKET, bucket_of(stamped["user_id"].to_numpy(), buckets), dtype=pl.Int32)
    return stamped.with_columns(bucket, pl.col("known_at").dt.date().alias(shapes.DAY))


def happened(contract: Contract) -> str:
    """The column that says when a row of the contract happened."""
    return "event_time" if contract.kind == "events" else "available_at"


def fresh_rows(target: Target, admitted: gate.Admitted, version: int) -> pl.Series:
    """Which admitted rows are not duplicates: by event_id, within the batch and against the whole table."""
    if target.contract.kind != "events":
        return pl.Series(np.ones(admitted.rows.num_rows, dtype=bool))
    ids = pl.Series(admitted.rows["event_id"])
    # What landed after `version` counts too: the commit must follow that version, so it is refused and tried again.
    return ids.is_first_distinct() & ~held(target.catalog, target.table.name, ids)


def _main_day(stamped: pl.DataFrame, column: str) -> date | None:
    """The UTC day that most rows happened on; the first of equals."""
    days = (
        stamped.select(pl.col(column).dt.date().alias("day"))
        .group_by("day")
        .len()
        .sort(["len", "day"], descending=[True, False])
    )
    return days["day"][0] if days.height else None


def _quarantine(
    target: Target,
    batch: sources.SourceBatch,
    rejected: pl.DataFrame,
    *,
    source_name: str,
    key: str,
    at_us: int,
    run: Run,
) -> None:
    """Put rejected rows where they live: raw bytes, reasons, position. Done before already: nothing happens."""
    table = target.catalog.table("quarantine")
    cursor = cursor_of(target.contract, key)
    done = table.transaction(cursor) or 0
    rejected = rejected.filter(pl.col("row") >= done)
    if rejected.is_empty():
        return
    rows = quarantine_rows(target, rejected, source_name=source_name, key=key, at_us=at_us, run=run)
    try:
        table.append(rows, transactions={cursor: batch.end_row})
    except CommitConflictError:
        if (table.transaction(cursor) or 0) < batch.end_row:
            raise


def quarantine_rows(
    target: Target,
    rejected: pl.DataFrame,
    *,
    source_name: str | pl.Series,
    key: str | pl.Series,
    at_us: int,
    run: Run,
) -> gate.Admitted:
    """Rejected events (see `rejected_rows`) as rows of the quarantine table.

    Of several sources there is a `source_name` and a `key` for each row.
    """
    rows = rejected.with_columns(
        pl.format("{}-{}-{}", pl.lit(key), "row", "emit").alias("quarantine_id"),
        pl.lit(target.contract.name).alias("contract"),
        pl.lit(target.contract.version, dtype=pl.Int32).alias("contract_version"),
        pl.lit(source_name).alias("source"),
        pl.lit(at_us).cast(TIME).alias("quarantined_at"),
        pl.lit(run.id).alias("run_id"),
    ).select(shapes.QUARANTINE.names)
    return gate.record(rows.to_arrow(), shapes.QUARANTINE, name="quarantine")


def refused_reasons(batch: sources.SourceBatch, resolved: resolving.Resolved) -> list[pl.DataFrame]:
    """Why rows did not get so far as the gate: frames of `reasons`."""
    undecodable = [[dict(bad.reason)] for bad in batch.undecodable]
    return [
        resolved.rejected,
        pl.DataFrame({"reasons": undecodable}, schema=resolved.rejected.select("reasons").schema),
    ]


def rejected_rows(batch: sources.SourceBatch, resolved: resolving.Resolved, rejected: pl.DataFrame) -> pl.DataFrame:
    """Kernel: every rejected event of a batch: source row, emit, format, raw bytes and reasons.

    `rejected`: those of the resolved rows that the gate rejected, see gate.Admission.
    """
    places = resolved.rows.select("_row", "_emit")
    at_gate = places[rejected["index"].to_numpy()].with_columns(rejected["reasons"])
    frames = [f.select("_row", "_emit", "reasons") for f in (resolved.rejected, at_gate) if f.height]
    parts = []
    if frames:
        events = pl.concat(frames).sort("_row", "_emit")
        indexes = events["_row"].to_numpy()
        parts.append(
            events.select(
                pl.Series("row", batch.rows[indexes], dtype=pl.Int64),
                pl.col("_emit").cast(pl.Int32).alias("emit"),
                pl.lit("json").alias("format"),
                pl.Series("raw", batch.raw(indexes.tolist()), dtype=pl.Binary),
                "reasons",
            )
        )
    if batch.undecodable:
        schema = pl.DataFrame(shapes.QUARANTINE.empty_table()).schema
        parts.append(
            pl.DataFrame(
                {
                    "row": [bad.row for bad in batch.undecodable],
                    "emit": [-1] * len(batch.undecodable),
                    "format": [bad.format for bad in batch.undecodable],
                    "raw": [bad.raw for bad in batch.undecodable],
                    "reasons": [[dict(bad.reason)] for bad in batch.undecodable],
                },
                schema={name: schema[name] for name in ("row", "emit", "format", "raw", "reasons")},
            )
        )
    empty = pl.DataFrame(shapes.QUARANTINE.empty_table()).select("row", "emit", "format", "raw", "reasons")
    return pl.concat([empty, *parts], how="vertical_relaxed").sort("row", "emit")


def _stop(
    target: Target,
    admission: gate.Admission,
    verdict: pa.Table,
    source_name: str,
    rows: str,
    found: Sequence[Finding],
) -> None:
    """Store the verdict of a batch that may not be written, and say so."""
    error = refusal(
        admission,
        "stopped at the gate: nothing of this batch was written",
        where=f"{source_name}, {rows}, contract {target.contract.name}",
        hint="mend the source or the contract, then run the same command again; it goes on where it stopped; more: "
        f"reclake contract check {target.catalog.root} {target.contract.name} {source_name}",
        found=found,
    )
    refuse(target.catalog, verdict, error)
