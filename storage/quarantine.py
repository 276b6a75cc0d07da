"""Quarantine: which rejected rows still wait, and the ledger of those that a replay has settled."""

from __future__ import annotations

import polars as pl

from ..schemas import shapes
from .catalog import Catalog


def waiting(catalog: Catalog, contract: str | None = None) -> pl.LazyFrame:
    """Rejected rows that no replay has settled yet, lazily: columns of shapes.QUARANTINE, in no order."""
    table = catalog.table("quarantine")
    if not table.exists:
        return pl.LazyFrame(shapes.QUARANTINE.empty_table())
    rows = table.scan()
    if contract is not None:
        rows = rows.filter(pl.col("contract") == contract)
    return rows.join(settled(catalog).select("quarantine_id"), on="quarantine_id", how="anti")


def settled(catalog: Catalog) -> pl.LazyFrame:
    """What replays have settled, lazily: columns of shapes.REPLAYS, a row for each quarantined row that left."""
    table = catalog.table("replays")
    if not table.exists:
        return pl.LazyFrame(shapes.REPLAYS.empty_table())
    return table.scan().filter(pl.col("outcome") != "quarantined")
