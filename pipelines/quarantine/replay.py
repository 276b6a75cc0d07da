"""Replay: give quarantined rows to the contract as it is now. Run again, and only what is still out is tried."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
import polars as pl
import pyarrow as pa

from ...quality import gate
from ...quality.expectation import BatchCheck
from ...quality.findings import Finding, findings, merged
from ...quality.verdicts import uncommitted
from ...schemas import shapes
from ...schemas.errors import CommitConflictError
from ...storage.catalog import Catalog, replay_cursor
from ...storage.locks import deriving
from ...storage.quarantine import REJECTED_AGAIN, last_rejections, waiting
from .. import resolving, sources
from ..carried import Carried, recover, settle
from ..duplicates import held
from ..ingest import Target, fresh_rows, stamp_and_admit, target_of
from ..knowing import TIME
from ..private import hidden_since
from ..run import Run
from ..sources.batch import Rows
from .emits import ALL, emits_now
from .rejected_again import news, reasons_of

BATCH_ROWS = 10_000  # in one commit, which carries what became of each

_OLDEST = ("quarantined_at", "source", "row", "emit")
_RANK = {"duplicate": 0, "admitted": 1, "quarantined": 2}  # of a row's events the highest is the row's outcome


@dataclass(frozen=True, slots=True)
class ReplayResult:
    """What one replay did, in quarantined events: read = admitted + quarantined (again) + duplicates.

    `findings`: why those that are quarantined still are, worst first.
    """

    read: int
    admitted: int
    quarantined: int
    duplicates: int
    version: int
    findings: tuple[Finding, ...] = ()


def outstanding(catalog: Catalog, contract: str | None = None) -> pl.DataFrame:
    """Quarantined rows that no replay has brought in yet, oldest first: columns of shapes.QUARANTINE."""
    return waiting(catalog, contract).sort(_OLDEST).collect()


def replay(
    catalog: Catalog, contract_name: str, *, run: Run | None = None, batch_rows: int = BATCH_ROWS
) -> ReplayResult:
    """Resolve, gate and append every outstanding row of a contract; run again after any interruption.

    The rows keep their claims of when they happened and were available; what an era sealed meanwhile does not believe
    is known from now. What became of the rows that leave quarantine is kept in `replays`, the gate's verdict in
    `verdicts`; both travel in the commit of the rows. What still fails stays; its history (`replays`) gets a line where
    the version that rejects it, or the reasons, are others than the last time. The same again changes nothing. A row
    whose events are there by now, as the source was mended and read again, is a duplicate, whatever is wrong with it.

    Checks of a whole batch are warnings here, and there is no budget. A critical check of rows stops a replay as it
    stops a batch.
    """
    run = run or Run()
    target = target_of(catalog, catalog.contract(contract_name))
    with deriving(catalog.root):
        cursor = replay_cursor(contract_name)
        recover(catalog, target.table, cursor, target.table.transaction(cursor) or 0)
        ids = waiting(catalog, contract_name).sort(_OLDEST).select("quarantine_id").collect().to_series()
        done: dict[str, int] = {}
        found: list[tuple[Finding, ...]] = []
        for start in range(0, len(ids), batch_rows):
            run.progress(f"replay {contract_name}, rows", start, len(ids))
            outcomes_of_batch, findings_of_batch = _replay_batch(target, ids[start : start + batch_rows], run)
            found.append(findings_of_batch)
            for outcome, rows in outcomes_of_batch.items():
                done[outcome] = done.get(outcome, 0) + rows
    return ReplayResult(
        read=sum(done.values()),
        admitted=done.get("admitted", 0),
        quarantined=done.get("quarantined", 0),
        duplicates=done.get("duplicate", 0),
        version=target.table.version,
        findings=merged(found),
    )


@dataclass(frozen=True, slots=True)
class _Read:
    """Quarantined rows, read again by the contract: `ids` of all, `readable` those that are JSON objects, and the
    events these give, by their place among the readable. `there`: those of events that are in the table by now,
    which no gate is asked about.
    """

    ids: pl.Series
    readable: Rows
    candidates: pl.DataFrame
    rejected: pl.DataFrame
    there: pl.DataFrame


def _replay_batch(target: Target, ids: pl.Series, run: Run) -> tuple[dict[str, int], tuple[Finding, ...]]:
    """Settle those of the rows that still wait, in one commit; how many had which outcome, and what was found."""
    target.table.create(target.stored)
    cursor = replay_cursor(target.contract.name)
    while True:
        # Looked at first: whoever settles some of these rows after this look takes the version that follows it.
        version, number = target.table.version, target.table.transaction(cursor) or 0
        recover(target.catalog, target.table, cursor, number)
        read = _read_again(target, ids)
        if read.ids.is_empty():
            return {}, ()
        admission, admitted, placed = _admit(target, read.candidates, version, run, f"{cursor}-{number + 1}")
        placed = pl.concat([placed, read.there])
        outcome = outcomes(read.ids, read.readable, placed, read.rejected["_row"])
        counts: dict[str, int] = dict(outcome.group_by("outcome").len().iter_rows())
        found = findings(admission, [read.rejected])
        settled = outcome.filter(pl.col("outcome") != REJECTED_AGAIN)
        again = _again(target, read, outcome, admission)
        carried = Carried(
            cursor,
            number + 1,
            _verdict(target, admission, counts, run),
            _ledger(target, pl.concat([settled, again], how="diagonal"), run),
        )
        if settled.is_empty() and again.is_empty() and not admitted.rows.num_rows:
            rows = gate.record(uncommitted(carried.verdict), shapes.VERDICTS, name="verdicts")
            target.catalog.table("verdicts").append(rows)
            return counts, found
        try:
            committed = target.table.append(
                admitted, transactions={cursor: number + 1}, metadata=carried.metadata, after=version
            )
        except CommitConflictError:
            continue  # somebody wrote meanwhile: what waits, is sealed or is a duplicate may be another now
        settle(target.catalog, carried, committed)
        return counts, found


def _read_again(target: Target, ids: pl.Series) -> _Read:
    """Those of the rows that still wait, decoded and resolved."""
    still = waiting(target.catalog, target.contract.name).filter(pl.col("quarantine_id").is_in(ids.implode()))
    rows = still.sort(_OLDEST).collect()
    frame, bad = sources.raw_to_frame(rows["raw"].to_list(), target.contract)
    readable = np.setdiff1d(np.arange(rows.height), np.asarray(bad, dtype=np.int64))
    frame, fits = hidden_since(target.catalog, target.contract, frame, rows[readable])
    readable = readable[fits]
    resolved = resolving.resolve(frame, target.contract)
    emits = emits_now(target.catalog, target.contract, rows[readable]).to_frame()
    wanted = emits.with_row_index("_row").select(pl.col("_row").cast(pl.Int64), "emit")
    candidates, rejected = _wanted(resolved.rows, wanted), _wanted(resolved.rejected, wanted)
    there = _there(target, candidates)
    placed = candidates.filter(there).select("_row", pl.lit("duplicate").alias("_outcome"))
    return _Read(rows["quarantine_id"], readable, candidates.filter(~there), rejected, placed)


def _there(target: Target, events: pl.DataFrame) -> pl.Series:
    """Which events are in the table: whoever mended the source and read it again brought them in."""
    if target.contract.kind != "events":
        return pl.Series(np.zeros(events.height, dtype=bool))
    ids = events["event_id"]
    return ids.is_not_null() & held(target.catalog, target.table.name, ids.fill_null(""))


def outcomes(ids: pl.Series, readable: np.ndarray, placed: pl.DataFrame, rejected: pl.Series) -> pl.DataFrame:
    """Kernel: quarantine_id and outcome of every row that was replayed.

    A row that is still rejected in part stays out as a whole; its other events will be duplicates next time. A row
    that gave no event at all stays out too.
    """
    ranked = pl.concat(
        [
            placed.select("_row", pl.col("_outcome").replace_strict(_RANK, return_dtype=pl.Int8).alias("rank")),
            rejected.to_frame("_row").select("_row", pl.lit(_RANK["quarantined"], dtype=pl.Int8).alias("rank")),
        ]
    )
    worst = ranked.group_by("_row").agg(pl.col("rank").max())
    worst = worst.with_columns(pl.Series("_row", readable[worst["_row"].to_numpy()], dtype=pl.Int64))
    names = {rank: name for name, rank in _RANK.items()}
    return (
        ids.to_frame("quarantine_id")
        .with_row_index("_row")
        .with_columns(pl.col("_row").cast(pl.Int64))
        .join(worst, on="_row", how="left", maintain_order="left")
        .select(
            "quarantine_id",
            pl.col("rank")
            .fill_null(_RANK["quarantined"])
            .replace_strict(names, return_dtype=pl.String)
            .alias("outcome"),
        )
    )


def _wanted(events: pl.DataFrame, wanted: pl.DataFrame) -> pl.DataFrame:
    """Of the events that rows give again, those that were quarantined: the others came in the first time."""
    kept = events.join(wanted, on="_row", how="left", maintain_order="left")
    return kept.filter((pl.col("emit") == ALL) | (pl.col("emit") == pl.col("_emit"))).drop("emit")


def _admit(
    target: Target, candidates: pl.DataFrame, version: int, run: Run, verdict_id: str
) -> tuple[gate.Admission, gate.Admitted, pl.DataFrame]:
    """The gate's answer, the rows to append after `version`, and (_row, _outcome) of every candidate."""
    # A budget bounds how many new rows may be set aside. These are: those that still fail hold no mended one back.
    contract = dataclasses.replace(target.contract, quarantine_limit=1.0, quarantine_limit_rows=None)
    # What was left over from many batches is no batch: its row count or mean is recorded, and stops nothing.
    recorded = {
        i: dataclasses.replace(check, severity="warning")
        for i, check in enumerate(target.suite.checks)
        if isinstance(check, BatchCheck)
    }
    unbounded = dataclasses.replace(target, contract=contract, suite=target.suite.with_checks(recorded))
    _, admission = stamp_and_admit(unbounded, candidates, arrival_us=run.now_us(), verdict_id=verdict_id)
    outcome = np.full(candidates.height, "quarantined", dtype=object)
    fresh = np.zeros(admission.admitted.rows.num_rows, dtype=bool)
    if admission.verdict != "stop":
        passed = np.setdiff1d(np.arange(candidates.height), admission.rejected["index"].to_numpy())
        fresh = fresh_rows(target, admission.admitted, version).to_numpy()
        outcome[passed] = np.where(fresh, "admitted", "duplicate")
    placed = candidates.select("_row").with_columns(pl.Series("_outcome", outcome, dtype=pl.String))
    return admission, admission.admitted.keep(fresh), placed


def _again(target: Target, read: _Read, outcome: pl.DataFrame, admission: gate.Admission) -> pl.DataFrame:
    """What the ledger says of rows that are rejected again, where that is new: quarantine_id, outcome, reasons."""
    places = read.candidates["_row"].gather(admission.rejected["index"])
    at_gate = admission.rejected.select(places.alias("_row"), "reasons")
    reasons = reasons_of(read.ids, read.readable, [read.rejected, at_gate], stopped=admission.verdict == "stop").filter(
        outcome["outcome"] == REJECTED_AGAIN
    )
    known = last_rejections(target.catalog, reasons["quarantine_id"])
    found = news(reasons, known, target.contract.version)
    return found.with_columns(pl.lit(REJECTED_AGAIN).alias("outcome"))


def _ledger(target: Target, settled: pl.DataFrame, run: Run) -> pa.Table:
    return (
        settled.with_columns(
            pl.lit(target.contract.version, dtype=pl.Int32).alias("contract_version"),
            pl.lit(run.now_us()).cast(TIME).alias("replayed_at"),
            pl.lit(run.id).alias("run_id"),
        )
        .select(shapes.REPLAYS.names)
        .to_arrow()
    )


def _verdict(target: Target, admission: gate.Admission, counts: dict[str, int], run: Run) -> pa.Table:
    return gate.verdict_rows(
        admission,
        run_id=run.id,
        at_us=run.now_us(),
        table=target.table.name,
        source=shapes.REPLAYED,
        event_day=None,
        read=sum(counts.values()),
        admitted=counts.get("admitted", 0),
        quarantined=counts.get("quarantined", 0),
        duplicates=counts.get("duplicate", 0),
        late=0,
    )
