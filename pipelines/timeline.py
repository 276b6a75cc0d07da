"""Timeline: what a server knew of a user at a time, the unsealed tail included."""

from __future__ import annotations

import polars as pl
import pyarrow as pa

from ..schemas import shapes
from ..schemas.buckets import bucket_of
from ..schemas.errors import ReclakeError
from ..storage.catalog import Catalog
from .knowing import TIME
from .ordinals import give_ordinals


def timeline(catalog: Catalog, user_id: int, *, before_us: int | None = None, last: int | None = None) -> pa.Table:
    """A user's events with `known_at` strictly before a time, oldest first, the last `last` of them.

    Sealed events have their final ordinals. Events not sealed yet follow with the ordinals they would get if sealing
    happened now, and `sealed` false.

    Args:
        before_us: µs since the epoch; None for all that is known.
        last: how many at most; None for all. The directory tells which eras hold them, older ones are not read.

    Returns:
        a table with the events' fields, known_at, ordinal, era (null: unsealed), bucket and sealed.
    """
    if last is not None and last < 0:
        raise ReclakeError("not a number of events", expected="last >= 0", got=last)
    bucket = int(bucket_of([user_id], catalog.buckets)[0])
    tail = _tail(catalog, user_id, bucket, before_us)
    wanted = None if last is None else max(last - tail.height, 0)
    sealed = _sealed(catalog, user_id, bucket, before_us, wanted)
    first = pl.DataFrame(
        {"user_id": [user_id], "next_ordinal": [_sealed_count(catalog, user_id, bucket)]},
        schema={"user_id": pl.Int64, "next_ordinal": pl.Int64},
    )
    tail = give_ordinals(tail, first, "").with_columns(pl.lit(None, dtype=pl.String).alias(shapes.ERA))
    parts = [sealed.with_columns(pl.lit(True).alias("sealed")), tail.with_columns(pl.lit(False).alias("sealed"))]
    rows = pl.concat([part for part in parts if part.width > 1], how="diagonal")
    return (rows if last is None else rows.tail(last)).to_arrow()


def _tail(catalog: Catalog, user_id: int, bucket: int, before_us: int | None) -> pl.DataFrame:
    """The user's events that no sealed era holds."""
    events = catalog.table("events")
    sealed = catalog.sealed_through_us
    rows = events.scan().filter(pl.col(shapes.BUCKET) == bucket, pl.col("user_id") == user_id)
    if sealed is not None:
        start = pl.lit(sealed).cast(TIME)
        rows = rows.filter(pl.col(shapes.DAY) >= start.dt.date(), pl.col("known_at") >= start)
    if before_us is not None:
        rows = rows.filter(pl.col("known_at") < pl.lit(before_us).cast(TIME))
    return rows.drop(shapes.DAY).collect()


def _entries(catalog: Catalog, user_id: int, bucket: int) -> pl.DataFrame:
    """The user's directory: one row an era, oldest first."""
    if catalog.sealed_through_us is None or not catalog.table("directory").exists:
        return pl.DataFrame(schema={"era": pl.String, "first_ordinal": pl.Int64, "count": pl.Int64})
    mine = (pl.col(shapes.BUCKET) == bucket) & (pl.col("user_id") == user_id)
    return catalog.table("directory").scan().filter(mine).select("era", "first_ordinal", "count").collect().sort("era")


def _sealed_count(catalog: Catalog, user_id: int, bucket: int) -> int:
    entries = _entries(catalog, user_id, bucket)
    return 0 if entries.is_empty() else int((entries["first_ordinal"] + entries["count"]).max())  # type: ignore[arg-type]


def _sealed(catalog: Catalog, user_id: int, bucket: int, before_us: int | None, wanted: int | None) -> pl.DataFrame:
    """The last `wanted` sealed events before a time, read from the newest era backwards until there are enough."""
    if catalog.sealed_through_us is None:
        return pl.DataFrame()
    scan = catalog.table("timelines").scan()
    mine = scan.filter(pl.col(shapes.BUCKET) == bucket, pl.col("user_id") == user_id)
    if before_us is not None:
        mine = mine.filter(pl.col("known_at") < pl.lit(before_us).cast(TIME))
    entries = _entries(catalog, user_id, bucket).sort("era", descending=True)
    if wanted is None:
        return mine.filter(pl.col(shapes.ERA).is_in(entries["era"].implode())).collect().sort("ordinal")
    found: list[pl.DataFrame] = []
    have = 0
    for era in entries["era"]:
        if have >= wanted:
            break
        part = mine.filter(pl.col(shapes.ERA) == era).collect()
        found.append(part)
        have += part.height
    if not found:
        return mine.head(0).collect()
    return pl.concat(found).sort("ordinal").tail(wanted)
