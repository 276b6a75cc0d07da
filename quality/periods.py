"""Verdicts by period: the days, or the batches of one day, that a page shows side by side. Pure."""

from __future__ import annotations

import polars as pl

PERIODS_MAX = 60  # days or batches shown; a page must stay readable
STATES = ("pass", "warn", "quarantine", "stop")  # from met to worst; of a check, and of a batch


def place(verdicts: pl.DataFrame) -> tuple[pl.DataFrame, str]:
    """Verdict rows with `period` (0 …, the newest PERIODS_MAX) and `name`: by day, or by batch if there is one day.

    A batch that no row of has a day (stopped too early) stands on the day it came.
    """
    if verdicts["event_day"].drop_nulls().n_unique() > 1:
        day = pl.coalesce("event_day", pl.col("at").dt.date())
        placed, unit = verdicts.with_columns(day.alias("key"), day.dt.strftime("%b %-d").alias("name")), "day"
    else:
        key = pl.concat_str(pl.col("at").dt.strftime("%Y%m%d%H%M%S%6f"), "verdict_id", separator=" ").alias("key")
        placed, unit = verdicts.with_columns(key), "batch"
    placed = placed.with_columns((pl.col("key").rank("dense") - 1).cast(pl.Int64).alias("period"))
    if unit == "batch":
        placed = placed.with_columns(pl.format("{}", pl.col("period") + 1).alias("name"))
    placed = placed.filter(pl.col("period") > pl.col("period").max() - PERIODS_MAX)
    return placed.with_columns(pl.col("period") - pl.col("period").min()), unit


def state() -> pl.Expr:
    """Of a verdict's row its place in STATES: what became of the batch, or of the rows that fail the check."""
    verdict = pl.col("verdict").replace_strict(STATES, range(4), return_dtype=pl.Int64)
    failed = pl.col("severity").replace_strict(
        ["warning", "error", "critical"], [1, 2, 3], default=2, return_dtype=pl.Int64
    )
    return pl.when(pl.col("check") == "batch").then(verdict).when("success").then(0).otherwise(failed)


def check_name() -> pl.Expr:
    """`price: values to be between`"""
    short = pl.col("check").str.strip_prefix("expect_column_").str.strip_prefix("expect_").str.replace_all("_", " ")
    return pl.when(pl.col("column").is_null()).then(short).otherwise(pl.format("{}: {}", "column", short))


def plain_name(check: str) -> str:
    """`values to be between`"""
    return check.removeprefix("expect_column_").removeprefix("expect_").replace("_", " ")
