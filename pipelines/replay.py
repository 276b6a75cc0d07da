"""Replay: give quarantined rows to the contract as it is now. Run again, and only what is still out is tried."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from ..quality import gate
from ..schemas import shapes
from ..schemas.errors import CommitConflictError
from ..storage.catalog import Catalog
from ..storage.locks import deriving
from . import resolving, sources
from .ingest import Target, fresh_rows, stamp_and_admit, target_of
from .knowing import TIME
from .run import Run

_RANK = {"duplicate": 0, "admitted": 1, "quarantined": 2}  # of a row's events the highest is the row's outcome


@dataclass(frozen=True, slots=True)
class ReplayResult:
    """What one replay did, in quarantined events: read = admitted + quarantined (again) + duplicates."""

    read: int
    admitted: int
    quarantined: int
    duplicates: int
    version: int


def outstanding(catalog: Catalog, contract: str | None = None) -> pl.DataFrame:
    """Quarantined rows that no replay has brought in yet, oldest first: columns of shapes.QUARANTINE."""
    table = catalog.table("quarantine")
    if not table.exists:
        return pl.DataFrame(schema=pl.DataFrame(shapes.QUARANTINE.empty_table()).schema)
    rows = table.scan()
    if contract is not None:
        rows = rows.filter(pl.col("contract") == contract)
    replays = catalog.table("replays")
    if replays.exists:
        settled = replays.scan().filter(pl.col("outcome") != "quarantined").select("quarantine_id")
        rows = rows.join(settled, on="quarantine_id", how="anti")
    return rows.sort("quarantined_at", "source", "row", "emit").collect()


def replay(catalog: Catalog, contract_name: str, *, run: Run | None = None) -> ReplayResult:
    """Resolve, gate and append every outstanding row of a contract.

    The rows keep their claims of when they happened and were available; what an era sealed meanwhile does not believe
    is known from now. The outcome of each row is kept in `replays`, the gate's verdict in `verdicts`.
    """
    run = run or Run()
    target = target_of(catalog, catalog.contract(contract_name))
    with deriving(catalog.root):
        return _replay(catalog, target, run)


def _replay(catalog: Catalog, target: Target, run: Run) -> ReplayResult:
    rows = outstanding(catalog, target.contract.name)
    if rows.is_empty():
        return ReplayResult(0, 0, 0, 0, target.table.version)
    frame, bad = sources.raw_to_frame(rows["raw"].to_list(), target.contract)
    readable = np.setdiff1d(np.arange(rows.height), np.asarray(bad, dtype=np.int64))
    resolved = resolving.resolve(frame, target.contract)
    wanted = rows.select("emit")[readable].with_row_index("_row").select(pl.col("_row").cast(pl.Int64), "emit")
    candidates = _wanted(resolved.rows, wanted)
    rejected = _wanted(resolved.rejected, wanted)
    version, admission, placed = _admit(target, candidates, run)
    outcome = outcomes(rows["quarantine_id"], readable, placed, rejected["_row"])
    counts = dict(outcome.group_by("outcome").len().iter_rows())
    result = ReplayResult(
        read=rows.height,
        admitted=counts.get("admitted", 0),
        quarantined=counts.get("quarantined", 0),
        duplicates=counts.get("duplicate", 0),
        version=version,
    )
    _store(catalog, target, outcome, admission, result, run)
    return result


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
    return kept.filter((pl.col("emit") == -1) | (pl.col("emit") == pl.col("_emit"))).drop("emit")


def _admit(target: Target, candidates: pl.DataFrame, run: Run) -> tuple[int, gate.Admission, pl.DataFrame]:
    """Gate and append; the table's version, the admission, and (_row, _outcome) of every candidate."""
    while True:
        version = target.table.version
        _, admission = stamp_and_admit(target, candidates, arrival_us=run.now_us(), verdict_id=f"replay-{run.id}")
        outcome = np.full(candidates.height, "quarantined", dtype=object)
        if admission.verdict != "stop":
            passed = np.setdiff1d(np.arange(candidates.height), admission.rejected["index"].to_numpy())
            fresh = fresh_rows(target, admission.admitted, version)
            admitted = admission.admitted.keep(fresh)
            try:
                if admitted.rows.num_rows:
                    version = target.table.append(admitted, metadata={"reclake.replay": run.id}, after=version)
            except CommitConflictError:
                continue  # somebody wrote meanwhile: what is a duplicate may be another now
            outcome[passed] = np.where(fresh.to_numpy(), "admitted", "duplicate")
        placed = candidates.select("_row").with_columns(pl.Series("_outcome", outcome, dtype=pl.String))
        return version, admission, placed


def _store(
    catalog: Catalog, target: Target, outcome: pl.DataFrame, admission: gate.Admission, result: ReplayResult, run: Run
) -> None:
    at_us = run.now_us()
    ledger = outcome.with_columns(
        pl.lit(target.contract.version, dtype=pl.Int32).alias("contract_version"),
        pl.lit(at_us).cast(TIME).alias("replayed_at"),
        pl.lit(run.id).alias("run_id"),
    ).select(shapes.REPLAYS.names)
    catalog.table("replays").append(gate.record(ledger.to_arrow(), shapes.REPLAYS, name="replays"))
    verdict = gate.verdict_rows(
        admission,
        run_id=run.id,
        at_us=at_us,
        table=target.table.name,
        source=shapes.REPLAYED,
        event_day=None,
        read=result.read,
        admitted=result.admitted,
        quarantined=result.quarantined,
        duplicates=result.duplicates,
        late=0,
    )
    catalog.table("verdicts").append(gate.record(verdict, shapes.VERDICTS, name="verdicts"))
