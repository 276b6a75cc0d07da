"""Correlate: the lake's verdict history with its model metrics, by day."""

from __future__ import annotations

import polars as pl

from ...quality.correlation import CORRELATION, correlate_days, daily_metrics, daily_quality
from ...schemas import shapes
from ...storage.catalog import Catalog

SEED = 20220501  # of bootstrap and permutations: part of the method, so that the same rows give the same interval


def correlate(catalog: Catalog, *, pin: str | None = None) -> pl.DataFrame:
    """Correlation rows of a lake, shaped quality.correlation.CORRELATION; empty where verdicts or metrics are missing.

    `pin` takes only metrics of that pin.
    """
    verdicts, metrics = catalog.table("verdicts"), catalog.table("metrics")
    if not (verdicts.exists and metrics.exists):
        return pl.DataFrame(schema=CORRELATION)
    rows = metrics.scan() if pin is None else metrics.scan().filter(pl.col("pin") == pin)
    ingested = verdicts.scan().filter(pl.col("table") == "events", pl.col("source") != shapes.REPLAYED)
    return correlate_days(daily_quality(ingested.collect()), daily_metrics(rows.collect()), seed=SEED)
