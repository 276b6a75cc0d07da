"""Replay: give quarantined rows to the contract as it is now. Run again, and only what is still out is tried."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from ..quality import gate
from ..schemas import shapes
from ..storage.catalog import SEAL, Catalog
from . import resolve as resolving
from . import sources
from .ingest import Target, fresh_rows, stamp, target_of
from .run import Run

_TIME = pl.Datetime("us", "UTC")


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
        return pl.DataFrame(schema=pl.from_arrow(shapes.QUARANTINE.empty_table()).schema)  # type: ignore[union-attr]
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
    is known from now. The outcome of each row is kept in `replays`.
    """
    run = run or Run()
    target = target_of(catalog, catalog.contract(contract_name))
    rows = outstanding(catalog, contract_name)
    if rows.is_empty():
        return ReplayResult(0, 0, 0, 0, target.table.version)
    frame, bad = sources.raw_to_frame(rows["raw"].to_list(), target.contract)
    readable = np.setdiff1d(np.arange(rows.height), np.asarray(bad, dtype=np.int64))
    resolved = resolving.resolve(frame, target.contract)
    # A row that was quarantined for one of its events must not bring the others a second time.
    wanted_emit = pl.Series(rows["emit"].to_numpy()[readable][resolved.rows["_row"].to_numpy()])
    keep = (wanted_emit == -1) | (wanted_emit == resolved.rows["_emit"])
    candidates = resolved.rows.filter(keep)
    version, places = _admit(target, candidates, run)
    ids = rows["quarantine_id"].to_numpy()[readable]
    outcome = {str(q): "quarantined" for q in rows["quarantine_id"]}
    outcome |= {str(ids[i]): "duplicate" for i in places["_row"].filter(places["_outcome"] == "duplicate")}
    outcome |= {str(ids[i]): "admitted" for i in places["_row"].filter(places["_outcome"] == "admitted")}
    # A row that is still rejected in part stays out as a whole; its other events will be duplicates next time.
    still = pl.concat([resolved.rejected["_row"], places["_row"].filter(places["_outcome"] == "quarantined")])
    outcome |= {str(ids[i]): "quarantined" for i in still}
    _settle(catalog, target, outcome, run)
    values = list(outcome.values())
    return ReplayResult(
        read=rows.height,
        admitted=values.count("admitted"),
        quarantined=values.count("quarantined"),
        duplicates=values.count("duplicate"),
        version=version,
    )


def _admit(target: Target, candidates: pl.DataFrame, run: Run) -> tuple[int, pl.DataFrame]:
    """Gate and append; the table's version, and (_row, _outcome) of every candidate."""
    version = target.table.version
    stamped = stamp(
        candidates.drop("_row", "_emit"),
        target.contract,
        arrival_us=run.now_us(),
        sealed_us=target.table.transaction(SEAL),
        buckets=target.catalog.buckets,
    )
    admission = gate.admit(
        stamped.select(target.schema.names).to_arrow(),
        target.suite,
        target.schema,
        contract=target.contract.name,
        contract_version=target.contract.version,
        verdict_id=f"replay-{run.id}",
    )
    outcome = np.full(candidates.height, "quarantined", dtype=object)
    if admission.verdict != "stop":
        passed = np.setdiff1d(np.arange(candidates.height), admission.rejected["index"].to_numpy())
        fresh = fresh_rows(target, admission.admitted, version)
        admitted = admission.admitted.keep(fresh)
        if admitted.rows.num_rows:
            metadata = {"reclake.replay": run.id}
            version = target.table.append(admitted, metadata=metadata, after=version)
        outcome[passed] = np.where(fresh.to_numpy(), "admitted", "duplicate")
    return version, candidates.select("_row").with_columns(pl.Series("_outcome", outcome, dtype=pl.String))


def _settle(catalog: Catalog, target: Target, outcome: dict[str, str], run: Run) -> None:
    rows = pl.DataFrame({"quarantine_id": list(outcome), "outcome": list(outcome.values())}).with_columns(
        pl.lit(target.contract.version, dtype=pl.Int32).alias("contract_version"),
        pl.lit(run.now_us()).cast(_TIME).alias("replayed_at"),
        pl.lit(run.id).alias("run_id"),
    )
    ledger = rows.select(shapes.REPLAYS.names).to_arrow()
    catalog.table("replays").append(gate.record(ledger, shapes.REPLAYS, name="replays"))
