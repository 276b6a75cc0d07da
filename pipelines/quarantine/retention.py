"""Retention: quarantined rows leave for good when they are older than somebody wants to keep them."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl
import pyarrow as pa

from ...quality import gate
from ...schemas import shapes
from ...storage.catalog import Catalog
from ...storage.erasure import Doomed, erase
from ...storage.locks import erasing
from ...storage.quarantine import waiting
from ..knowing import TIME
from ..run import Run

EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class Expired:
    """`waiting` rows were given up, `settled` ones had come in by a replay before; the raw bytes of all are gone."""

    waiting: int
    settled: int


def expire(catalog: Catalog, *, before_us: int, contract: str | None = None, run: Run | None = None) -> Expired:
    """Remove rows that were quarantined before a time; run again after any interruption.

    Rows that still waited are put on the ledger (`replays`) as expired first, so that every row stays accounted for.
    Their bytes are in older versions of the table until `vacuum` has taken those, and as long as pins hold them.

    Raises:
        LakeBusyError: somebody replays, seals, assembles, packs or erases right now.
    """
    run = run or Run()
    table = catalog.table("quarantine")
    if not table.exists:
        return Expired(0, 0)
    old = pl.col("quarantined_at") < pl.lit(before_us).cast(TIME)
    if contract is not None:
        old &= pl.col("contract") == contract
    with erasing(catalog.on_disk()):  # alone: a replay that brings one of these rows in would count it twice
        given_up = waiting(catalog, contract).filter(old).select("quarantine_id", "contract_version").collect()
        if given_up.height:
            ledger = given_up.with_columns(
                pl.lit(EXPIRED).alias("outcome"),
                pl.lit(run.now_us()).cast(TIME).alias("replayed_at"),
                pl.lit(run.id).alias("run_id"),
                pl.lit(None, dtype=pl.DataFrame(shapes.REPLAYS.empty_table()).schema["reasons"]).alias("reasons"),
            )
            rows = ledger.select(shapes.REPLAYS.names).to_arrow()
            catalog.table("replays").append(gate.record(rows, shapes.REPLAYS, name="replays"))
        ids = table.scan().filter(old).select("quarantine_id").collect()["quarantine_id"].sort()
        if ids.len():
            erase(table, Doomed("quarantine_id", pa.array(ids.to_list(), pa.string())), run_id=f"expire-{run.id}")
    return Expired(given_up.height, ids.len() - given_up.height)
