"""What the app's servers logged: events of the shipped contract `events`, with the faults that real logs have.

Pure functions on Polars frames. Every fault is counted, so that a test can reconcile what a lake made of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from .world import Exposures, World

TIME = pl.Datetime("us", "UTC")
COLUMNS: dict[str, pl.DataType] = {
    "event_id": pl.String(),
    "user_id": pl.Int64(),
    "item_id": pl.Int64(),
    "event_type": pl.String(),
    "event_time": TIME,
    "available_at": TIME,
    "request_id": pl.String(),
    "surface": pl.Int32(),
    "position": pl.Int32(),
    "watch_ms": pl.Int64(),
    "duration_ms": pl.Int64(),
    "value": pl.Float64(),
    "propensity": pl.Float64(),
}

SLOW_SHARE = 0.005  # known minutes to hours after they happened
LATE_SHARE = 0.003  # known a day or more after they happened
RESENT_SHARE = 0.003  # sent twice in the same file
RESENT_NEXT_DAY_SHARE = 0.001  # sent again with the next day's file
MALFORMED_SHARE = 0.0005  # of the rows of a JSON file, of each kind; at least 2
DISORDER_S = 60.0  # standard deviation of a row's place in a file, around its available_at

_MINUTE_US, _HOUR_US = 60_000_000, 3_600_000_000


@dataclass(frozen=True, slots=True)
class Delivery:
    """The events of one span, by the way they travel. Together with nothing else they are all of its events."""

    on_time: pl.DataFrame  # in the day's file, out of order
    late: pl.DataFrame  # known a day or more later


def events(world: World, exposures: Exposures, *, prefix: str) -> pl.DataFrame:
    """One row for each exposure, click, long_view, short_view and like, without `available_at`.

    An outcome's event_time is when it happened: a view ends when playing stops, and only then carries `watch_ms`.
    """
    x, users, items = exposures, world.users, world.items
    base = pl.DataFrame(
        {
            "request": x.request,
            "slot": x.slot,
            "user_id": users.id[x.user],
            "item_id": items.id[x.item],
            "surface": x.surface.astype(np.int32),
            "position": x.slot.astype(np.int32),
            "duration_ms": items.duration_ms[x.item],
            "propensity": x.propensity,
            "watch_ms": x.watch_ms,
        }
    )
    viewed = x.click_us >= 0
    parts = (
        ("exposure", "e", x.shown_us, np.ones(len(viewed), dtype=bool)),
        ("click", "c", x.click_us, viewed),
        ("long_view", "v", x.stop_us, x.long_view),
        ("short_view", "v", x.stop_us, viewed & ~x.long_view),
        ("like", "l", x.like_us, x.like_us >= 0),
    )
    frames = [
        base.filter(pl.Series(mask)).with_columns(
            pl.lit(name).alias("event_type"), pl.lit(letter).alias("letter"), pl.Series("event_time", at_us[mask])
        )
        for name, letter, at_us, mask in parts
    ]
    request = pl.format("{}-{}", pl.lit(prefix), pl.col("request"))
    is_view = pl.col("event_type").is_in(["long_view", "short_view"])
    return (
        pl.concat(frames)
        .with_columns(
            pl.format("{}-{}{}", request, pl.col("letter"), pl.col("slot")).alias("event_id"),
            request.alias("request_id"),
            pl.col("event_time").cast(TIME),
            pl.when(is_view).then("watch_ms").alias("watch_ms"),
            pl.when(pl.col("event_type") == "exposure").then("propensity").alias("propensity"),
            pl.lit(None, dtype=pl.Float64).alias("value"),
        )
        .select(name for name in COLUMNS if name != "available_at")
    )


def deliver(rng: np.random.Generator, happened: pl.DataFrame) -> Delivery:
    """Give every event the time a server could first have read it, and part the late ones from the others."""
    count = len(happened)
    delay_us = 200_000 + (rng.exponential(1.5, count) * 1e6).astype(np.int64)
    draw = rng.random(count)
    slow = rng.integers(5 * _MINUTE_US, 6 * _HOUR_US, count)
    very_late = rng.integers(24 * _HOUR_US, 48 * _HOUR_US, count)
    is_late = draw < LATE_SHARE
    is_slow = ~is_late & (draw < LATE_SHARE + SLOW_SHARE)
    delay_us = np.where(is_late, very_late, np.where(is_slow, slow, delay_us))
    known = happened.with_columns(
        (pl.col("event_time") + pl.Series(delay_us).cast(pl.Duration("us"))).alias("available_at")
    ).select(list(COLUMNS))
    late = pl.Series(is_late)
    return Delivery(on_time=known.filter(~late), late=known.filter(late))


def sample(rng: np.random.Generator, rows: pl.DataFrame, share: float) -> pl.DataFrame:
    """About `share` of the rows, but at least one where there are any."""
    count = min(len(rows), max(1, round(len(rows) * share)))
    return rows[np.sort(rng.choice(len(rows), count, replace=False))]


def resent(rng: np.random.Generator, rows: pl.DataFrame) -> pl.DataFrame:
    """The same events sent once more on the next day: the same ids and contents, available a day later."""
    delay_us = rng.integers(24 * _HOUR_US, 30 * _HOUR_US, len(rows))
    return rows.with_columns(pl.col("available_at") + pl.Series(delay_us).cast(pl.Duration("us")))


def disordered(rng: np.random.Generator, rows: pl.DataFrame) -> pl.DataFrame:
    """The rows roughly in the order they became available, as several producers write them."""
    at_us = rows["available_at"].to_physical().to_numpy().astype(np.float64)
    return rows[np.argsort(at_us + rng.normal(0.0, DISORDER_S * 1e6, len(rows)), kind="stable")]


def malformed_lines(rng: np.random.Generator, rows: pl.DataFrame, *, prefix: str) -> dict[str, list[str]]:
    """JSON lines that are no events, by what is wrong with each. Made from rows, under ids of their own."""
    each = max(2, round(len(rows) * MALFORMED_SHARE))
    spoilt: dict[str, list[str]] = {}
    kinds = {
        "broken JSON": pl.col("user_id"),
        "user_id is no number": pl.lit("abc").alias("user_id"),
        "negative watch_ms": pl.lit(-1, dtype=pl.Int64).alias("watch_ms"),
        "no item_id": pl.col("user_id"),
    }
    for number, (kind, change) in enumerate(kinds.items()):
        chosen = rows[np.sort(rng.choice(len(rows), min(each, len(rows)), replace=False))]
        chosen = chosen.with_columns(
            pl.format("{}-bad{}-{}", pl.lit(prefix), pl.lit(number), pl.int_range(pl.len())).alias("event_id"), change
        )
        lines = json_lines(chosen.drop("item_id") if kind == "no item_id" else chosen).to_list()
        spoilt[kind] = [line[: len(line) // 2] for line in lines] if kind == "broken JSON" else lines
    return spoilt


def json_lines(rows: pl.DataFrame) -> pl.Series:
    """One JSON object for each row; times as ISO 8601."""
    return rows.select(pl.struct(iso_times(rows)).struct.json_encode().alias("line"))["line"]


def iso_times(rows: pl.DataFrame) -> list[pl.Expr]:
    """The columns, with times as text such as 2024-03-01T12:00:00.000250Z."""
    return [
        pl.col(name).dt.strftime("%Y-%m-%dT%H:%M:%S%.6fZ") if dtype == TIME else pl.col(name)
        for name, dtype in rows.schema.items()
    ]
