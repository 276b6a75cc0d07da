"""Quarantine: which rejected rows still wait, and the ledger of what became of them: settled, or rejected again."""

from __future__ import annotations

import polars as pl

from ..schemas import shapes
from .catalog import Catalog

REJECTED_AGAIN = "quarantined"  # an outcome that leaves a row where it is


def waiting(catalog: Catalog, contract: str | None = None) -> pl.LazyFrame:
    """Rejected rows that no replay has settled yet, lazily: columns of shapes.QUARANTINE, in no order."""
    table = catalog.table("quarantine")
    if not table.exists:
        return pl.LazyFrame(shapes.QUARANTINE.empty_table())
    rows = table.scan()
    if contract is not None:
        rows = rows.filter(pl.col("contract") == contract)
    return rows.join(settled(catalog).select("quarantine_id"), on="quarantine_id", how="anti")


def quarantined(catalog: Catalog, quarantine_id: str) -> pl.DataFrame:
    """The row of an id, whatever became of it: columns of shapes.QUARANTINE."""
    table = catalog.table("quarantine")
    rows = table.scan() if table.exists else pl.LazyFrame(shapes.QUARANTINE.empty_table())
    return rows.filter(pl.col("quarantine_id") == quarantine_id).collect()


def settled(catalog: Catalog) -> pl.LazyFrame:
    """What replays have settled, lazily: columns of shapes.REPLAYS, a row for each quarantined row that left."""
    table = catalog.table("replays")
    if not table.exists:
        return pl.LazyFrame(shapes.REPLAYS.empty_table())
    return table.scan().filter(pl.col("outcome") != REJECTED_AGAIN)


def last_rejections(catalog: Catalog, ids: pl.Series) -> pl.DataFrame:
    """quarantine_id, contract_version and reasons of the last rejection of rows: in a replay, or the first one."""
    again = pl.LazyFrame(shapes.REPLAYS.empty_table())
    if catalog.table("replays").exists:
        again = _history(catalog).filter(pl.col("quarantine_id").is_in(ids.implode()))
    first = catalog.table("quarantine").scan().filter(pl.col("quarantine_id").is_in(ids.implode()))
    columns = ["quarantine_id", "contract_version", "reasons"]
    replayed = again.filter(pl.col("outcome") == REJECTED_AGAIN).sort("replayed_at").select(columns)
    return (
        pl.concat([first.select(columns), replayed], how="vertical_relaxed")
        .unique("quarantine_id", keep="last", maintain_order=True)
        .collect()
    )


def history_of(catalog: Catalog, quarantine_id: str) -> pl.DataFrame:
    """What became of a row since it was quarantined, oldest first: columns of shapes.REPLAYS."""
    if not catalog.table("replays").exists:
        return pl.DataFrame(shapes.REPLAYS.empty_table())
    return _history(catalog).filter(pl.col("quarantine_id") == quarantine_id).sort("replayed_at").collect()


def _history(catalog: Catalog) -> pl.LazyFrame:
    """The ledger; one from before it had reasons has none."""
    rows = catalog.table("replays").scan()
    if "reasons" not in rows.collect_schema().names():
        dtype = pl.DataFrame(shapes.REPLAYS.empty_table()).schema["reasons"]
        rows = rows.with_columns(pl.lit(None, dtype=dtype).alias("reasons"))
    return rows.select(shapes.REPLAYS.names)
