"""Learning: what the checks of a suite that take bounds from history observed on the days before."""

from __future__ import annotations

from datetime import date, timedelta

import polars as pl

from ..quality.history import with_bounds
from ..quality.suite import CompiledSuite
from ..storage.catalog import Catalog

_READ = ("check", "column", "event_day", "source", "run_id", "at", "value")


def learnt(
    catalog: Catalog, suite: CompiledSuite, *, table: str, contract: str, day: date | None, partitions: bool
) -> CompiledSuite:
    """The suite as it judges a day; the suite itself, and nothing is read, where none of its checks learns.

    A day has one value a check: the median of what its published batches observed; of a partition that was made again
    (`partitions`), what was observed last. Verdicts of the day itself, of later days, and of what was never published
    are not looked at. Only files are opened that may hold the days that the checks ask for, by the log's statistics.
    """
    learning = suite.learning
    if not learning:
        return suite
    found = pl.DataFrame(schema={"check": pl.String, "column": pl.String, "event_day": pl.Date, "value": pl.Float64})
    verdicts = catalog.table("verdicts")
    if day is not None and verdicts.exists:
        first = day - timedelta(days=max(check.history.last for _, check in learning if check.history))
        rows = verdicts.scan().filter(
            pl.col("event_day").is_between(first, day, closed="left"),
            pl.col("table") == table,
            pl.col("contract") == contract,
            pl.col("check").is_in([check.type for _, check in learning]),
            pl.col("table_version").is_not_null(),
            pl.col("value").is_not_null(),
        )
        found = _a_day(rows.select(_READ).collect(), partitions=partitions)
    observed: dict[tuple[str, str | None], dict[date, float]] = {}
    for type_, column, on, value in found.iter_rows():
        observed.setdefault((type_, column), {})[on] = value
    return suite.with_checks(
        {
            place: with_bounds(check, observed.get((check.type, ", ".join(check.columns) or None), {}), day)
            for place, check in learning
        }
    )


def _a_day(rows: pl.DataFrame, *, partitions: bool) -> pl.DataFrame:
    """Kernel: check, column, event_day, and the value of that day."""
    if partitions:
        rows = rows.sort("at", "run_id").unique(["check", "column", "event_day", "source"], keep="last")
    return rows.group_by("check", "column", "event_day").agg(pl.col("value").median()).sort("event_day")
