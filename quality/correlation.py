"""Does the quality of a day's data move the model's metric of that day? Pure functions on Polars frames.

Verdicts are summed up by the day their events happened on, metrics are taken from their "day" slice, and the two are
joined by day. Few days prove nothing, so every answer carries its number of days, and below five it is no answer.
"""

from __future__ import annotations

import polars as pl

from . import statistics

MIN_DAYS = 5
MEASURES = {
    "quarantined_share": "quarantined rows / rows read",
    "duplicate_share": "duplicates / rows read",
    "late_share": "rows known a day or more late / rows read",
    "failed_checks": "checks not met",
}
CORRELATION = pl.Schema(
    {
        "measure": pl.String,
        "model": pl.String,
        "label": pl.String,
        "metric": pl.String,
        "days": pl.Int64,
        "rho": pl.Float64,
        "low": pl.Float64,
        "high": pl.Float64,
        "p": pl.Float64,
        "note": pl.String,  # why there is no figure; empty where there is one
    }
)


def daily_quality(verdicts: pl.DataFrame) -> pl.DataFrame:
    """day, rows and each of MEASURES, from rows shaped shapes.VERDICTS. Batches without an event day are left out."""
    dated = verdicts.filter(pl.col("event_day").is_not_null()).rename({"event_day": "day"})
    batch = pl.col("check") == "batch"
    read = pl.col("evaluated").filter(batch).sum()
    return (
        dated.group_by("day")
        .agg(
            read.alias("rows"),
            (pl.col("unexpected").filter(batch).sum() / read).alias("quarantined_share"),
            (pl.col("duplicates").filter(batch).sum() / read).alias("duplicate_share"),
            (pl.col("late").filter(batch).sum() / read).alias("late_share"),
            (~batch & ~pl.col("success")).sum().cast(pl.Float64).alias("failed_checks"),
        )
        .filter(pl.col("rows") > 0)
        .sort("day")
    )


def daily_metrics(metrics: pl.DataFrame) -> pl.DataFrame:
    """model, label, metric, day, value, samples from rows shaped shapes.METRICS.

    A day that was evaluated more than once counts with the mean of its values, weighted by samples.
    """
    by_day = metrics.filter(pl.col("slice") == "day", pl.col("value").is_not_null())
    weighted = (pl.col("value") * pl.col("samples")).sum() / pl.col("samples").sum()
    return (
        by_day.with_columns(pl.col("slice_value").str.to_date("%Y-%m-%d").alias("day"))
        .group_by("model", "label", "metric", "day")
        .agg(weighted.alias("value"), pl.col("samples").max())
        .sort("model", "label", "metric", "day")
    )


def correlate_days(quality: pl.DataFrame, metrics: pl.DataFrame, *, seed: int) -> pl.DataFrame:
    """Spearman's rho of each measure with each metric over the days they share, weighted by the day's samples.

    95 % interval by bootstrap over days, p by permutation, both seeded. With fewer than MIN_DAYS days, or where one
    side never changes, `rho` is null and `note` says why.
    """
    joined = metrics.join(quality, on="day", how="inner").sort("model", "label", "metric", "day")
    rows = [
        {"measure": measure, "model": model, "label": label, "metric": metric, **_estimate(days, measure, seed)}
        for (model, label, metric), days in joined.group_by("model", "label", "metric", maintain_order=True)
        for measure in MEASURES
    ]
    return pl.DataFrame(rows, schema=CORRELATION)


def _estimate(days: pl.DataFrame, measure: str, seed: int) -> dict[str, object]:
    nothing = {"days": days.height, "rho": None, "low": None, "high": None, "p": None}
    if days.height < MIN_DAYS:
        return nothing | {"note": f"too few days: {days.height} of the {MIN_DAYS} it takes"}
    x, y, weights = (days[name].to_numpy() for name in (measure, "value", "samples"))
    for name, side in ((measure, x), ("the metric", y)):
        if (side == side[0]).all():
            return nothing | {"note": f"{name.replace('_', ' ')} is the same on every day"}
    found = statistics.rank_correlation_interval(x, y, seed=seed, weights=weights)
    p = statistics.permutation_p(x, y, seed=seed, weights=weights)
    return {"days": days.height, "rho": found.value, "low": found.low, "high": found.high, "p": p, "note": ""}
