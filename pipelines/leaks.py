"""The leak audit: every event of every pinned sample's history against the law of known_at. Reads, changes nothing.

It trusts neither the order of the timelines nor how samples were assembled. Per user it takes the greatest known_at and
the greatest event_time of all events before each ordinal, so that one comparison a sample is a comparison with each
event before its `seen`: a window of whatever length is among them. Nor does it trust what timelines say of an event:
the log of events has to say the same. What cannot be compared, because something is missing, is not proved, and counts
as broken.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import polars as pl

from ..schemas.errors import PinError
from ..schemas.recipe import Recipe
from ..schemas.times import from_us
from ..storage.catalog import Catalog
from ..storage.pins import Pin
from .doctor import Finding
from .reading import rows_of
from .run import Run

ORDINAL = pl.col("ordinal")


@dataclass(frozen=True, slots=True)
class _Count:
    """Of some samples: what was compared, what did not hold, and one sample of which it did not."""

    compared: int = 0
    broken: int = 0
    example: int | None = None

    def __add__(self, other: _Count) -> _Count:
        example = self.example if self.example is not None else other.example
        return _Count(self.compared + other.compared, self.broken + other.broken, example)

    def finding(self, promise: str, what: str) -> Finding:
        shown = "" if self.example is None else f", such as sample {self.example}"
        return Finding(promise, self.broken == 0, f"{self.compared:,} {what}, {self.broken:,} broken{shown}")


def audit(catalog: Catalog, pin: str, *, run: Run | None = None) -> list[Finding]:
    """What holds of the samples of each recipe at a pin, one bucket in memory at a time.

    Raises:
        PinError: there is no such pin, it has expired, or it holds no samples.
    """
    pinned = catalog.pin(pin).opened_at((run or Run()).now_us())
    recipes = [
        catalog.recipe(name, version)
        for name, version in sorted(pinned.recipes.items())
        if pinned.tables.get(f"samples/{name}", -1) >= 0
    ]
    if not recipes:
        raise PinError("the pin holds no samples", where=f"pin {pin}", expected="samples of a recipe", got="none")
    found: list[Finding] = []
    for recipe in recipes:
        samples = rows_of(catalog, f"samples/{recipe.name}", pin=pinned)
        timelines = rows_of(catalog, "timelines", pin=pinned, names=recipe.match)
        found += _of_recipe(recipe, samples, timelines, range(catalog.buckets), run)
    return [*found, *_as_written(catalog, pinned)]


def _as_written(catalog: Catalog, pin: Pin) -> Iterator[Finding]:
    """Of each user the events of the timelines are those of the log, by a sum of their digests."""
    if pin.tables.get("events", -1) < 0 or pin.sealed_through_us is None:
        return
    names = ("event_id", "user_id", "event_time", "available_at", "known_at")
    of_user = [pl.len().alias("events"), pl.struct(names).hash().sum().alias("digest")]
    events, timelines = (
        rows_of(catalog, table, pin=pin, only=names).select(names) for table in ("events", "timelines")
    )
    written = events.filter(pl.col("known_at") < from_us(pin.sealed_through_us)).group_by("user_id").agg(of_user)
    both = written.join(timelines.group_by("user_id").agg(of_user), on="user_id", how="full", coalesce=True).collect()
    same = pl.all_horizontal(pl.col(name).eq_missing(pl.col(f"{name}_right")) for name in ("events", "digest"))
    off = both.filter(~same)["user_id"].sort()
    shown = f", such as user {off[0]}" if len(off) else ""
    yield Finding(
        "timelines hold the events that were written, with their times",
        not len(off),
        f"{both['events'].sum():,} events of {both.height:,} users, {len(off):,} users off{shown}",
    )


def _of_recipe(
    recipe: Recipe, samples: pl.LazyFrame, timelines: pl.LazyFrame, buckets: range, run: Run | None
) -> Iterator[Finding]:
    totals = {name: _Count() for name in ("whole", "known", "happened", "claimed", "complete", "own", "order")}
    events, looked_at = 0, 0
    for bucket in buckets:
        if run is not None:
            run.progress(f"leaks {recipe.name}", bucket, len(buckets))
        names = ("sample_id", "user_id", "event_id", "ordinal", "seen", "request_time", "negative")
        own = samples.filter(pl.col("bucket") == bucket).select(names).collect()
        looked_at += own.height
        if own.height:
            timeline = _timeline(timelines.filter(pl.col("bucket") == bucket), own, recipe)
            counted = {**_prefixes(own, timeline), "own": _feedback(own, timeline, recipe)}
            totals = {name: total + counted[name] for name, total in totals.items()}
            events += int(own["seen"].sum())
    stray = int(samples.select(pl.len()).collect().item()) - looked_at  # in a bucket that there is not
    totals["whole"] += _Count(stray, stray)
    of = f"{recipe.name}: "
    yield totals["whole"].finding(of + "every event before `seen` is in the timeline", f"samples, {events:,} events")
    yield totals["known"].finding(of + "every one was known before the request", f"samples, {events:,} events")
    yield totals["happened"].finding(of + "and happened before it", f"samples, {events:,} events")
    yield totals["claimed"].finding(of + "none was known before it happened or arrived", "events of these users")
    yield totals["complete"].finding(of + "all that was known by then is before `seen`", "samples")
    yield totals["own"].finding(of + "no sample sees itself or its own feedback", "exposures and feedback events")
    yield totals["order"].finding(of + "ordinals are in the order of known_at, then event_id", "events of these users")


def _timeline(timelines: pl.LazyFrame, samples: pl.DataFrame, recipe: Recipe) -> pl.DataFrame:
    """The events of the samples' users, with the greatest times of all up to each."""
    before = [pl.col(name).shift().over("user_id") for name in ("known_at", "event_id")]
    names = ["user_id", "event_id", "ordinal", "event_type", "event_time", "available_at", "known_at"]
    return (
        timelines.select(list(dict.fromkeys([*names, *recipe.match])))
        .join(samples.lazy().select("user_id").unique(), on="user_id", how="semi")
        .sort("user_id", "ordinal")
        .with_columns(
            pl.col("known_at").cum_max().over("user_id").alias("latest_known"),
            pl.col("event_time").cum_max().over("user_id").alias("latest_event"),
            (pl.int_range(pl.len()).over("user_id") == ORDINAL).alias("in_place"),
            (
                (pl.col("known_at") < before[0])
                | ((pl.col("known_at") == before[0]) & (pl.col("event_id") < before[1]))
            ).alias("behind"),
        )
        .with_columns(pl.col("in_place").cast(pl.Int8).cum_min().over("user_id").cast(pl.Boolean))
        .collect()
    )


def _prefixes(samples: pl.DataFrame, timeline: pl.DataFrame) -> dict[str, _Count]:
    """The events before each sample's `seen`, and the one at it."""
    last = timeline.select("user_id", (ORDINAL + 1).alias("seen"), "latest_known", "latest_event", "in_place")
    following = timeline.select("user_id", ORDINAL.alias("seen"), pl.col("known_at").alias("next_known"))
    joined = samples.join(last, on=["user_id", "seen"], how="left").join(following, on=["user_id", "seen"], how="left")
    some, request = pl.col("seen") > 0, pl.col("request_time")
    happened_or_arrived = pl.max_horizontal("event_time", "available_at")
    early = pl.col("event_time").is_null() | (pl.col("known_at") < happened_or_arrived)
    return {
        "whole": _count(joined, (pl.col("seen") < 0) | (some & ~pl.col("in_place").fill_null(False))),
        "known": _count(joined, request.is_null() | (some & (pl.col("latest_known") >= request))),
        "happened": _count(joined, request.is_null() | (some & (pl.col("latest_event") >= request))),
        "claimed": _Count(timeline.height, timeline.filter(early.fill_null(True)).height),
        "complete": _count(joined, (pl.col("next_known") < request).fill_null(False)),
        "order": _Count(timeline.height, timeline.filter("behind").height),
    }


def _feedback(samples: pl.DataFrame, timeline: pl.DataFrame, recipe: Recipe) -> _Count:
    """Each sample's own exposure, and the label events of the same user and match from its request on.

    The exposure is the event at its ordinal, and is found there: of another one's feedback nothing would follow.
    """
    shown = samples.filter(~pl.col("negative"))
    match = [name for name in recipe.match if name != "user_id"]
    exposures = shown.join(
        timeline.select("user_id", "ordinal", pl.col("event_id").alias("there"), *match),
        on=["user_id", "ordinal"],
        how="left",
    )
    types = [label.event_type for label in recipe.labels]
    feedback = timeline.filter(pl.col("event_type").is_in(types)).select(
        "user_id", *match, pl.col("event_time").alias("then"), ORDINAL.alias("place")
    )
    pairs = exposures.join(feedback, on=["user_id", *match]).filter(pl.col("then") >= pl.col("request_time"))
    itself = (pl.col("seen") > ORDINAL) | (pl.col("there") != pl.col("event_id"))
    return _count(exposures, itself) + _count(pairs, pl.col("place") < pl.col("seen"))


def _count(rows: pl.DataFrame, broken: pl.Expr) -> _Count:
    found = rows.filter(broken.fill_null(True))
    return _Count(rows.height, found.height, found["sample_id"][0] if found.height else None)
