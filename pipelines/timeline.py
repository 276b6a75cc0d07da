"""Timeline: what a server knew of a user at a time, the unsealed tail included."""

from __future__ import annotations

import polars as pl
import pyarrow as pa

from ..schemas import shapes
from ..schemas.buckets import bucket_of
from ..schemas.eras import start_prefix
from ..schemas.errors import ReclakeError
from ..schemas.times import from_us
from ..storage import log
from ..storage.catalog import Catalog
from ..storage.user_rows import user_rows
from .knowing import TIME
from .ordinals import give_ordinals


def timeline(catalog: Catalog, user_id: int, *, before_us: int | None = None, last: int | None = None) -> pa.Table:
    """A user's events with `known_at` strictly before a time, oldest first, the last `last` of them.

    Sealed events have their final ordinals. Events not sealed yet follow with the ordinals they would get if sealing
    happened now, and `sealed` false.

    Args:
        before_us: µs since the epoch; None for all that is known.
        last: how many at most; None for all. Eras older than those that hold them are not read.

    Returns:
        a table with the events' fields, known_at, ordinal, era (null: unsealed), bucket and sealed.
    """
    if last is not None and last < 0:
        raise ReclakeError("not a number of events", expected="last >= 0", got=last)
    bucket = int(bucket_of([user_id], catalog.buckets)[0])
    known = pl.lit(True) if before_us is None else pl.col("known_at") < pl.lit(before_us).cast(TIME)
    tail = _tail(catalog, user_id).filter(known)
    wanted = None if last is None else max(last - tail.height, 1)  # one tells where the tail's ordinals begin
    sealed = _sealed(catalog, user_id, bucket, before_us, wanted).filter(known)
    ends = pl.DataFrame(
        {"user_id": [user_id], "next_ordinal": [0 if sealed.is_empty() else sealed["ordinal"][-1] + 1]},
        schema={"user_id": pl.Int64, "next_ordinal": pl.Int64},
    )
    tail = give_ordinals(tail, ends, "").with_columns(pl.lit(None, dtype=pl.String).alias(shapes.ERA))
    parts = [sealed.with_columns(pl.lit(True).alias("sealed")), tail.with_columns(pl.lit(False).alias("sealed"))]
    rows = pl.concat([part for part in parts if part.width > 2], how="diagonal")
    return (rows if last is None else rows.tail(last)).to_arrow()


def _tail(catalog: Catalog, user_id: int) -> pl.DataFrame:
    """The user's events that no sealed era holds."""
    events = catalog.table("events")
    rows = pl.DataFrame(events.schema().empty_table()).drop(shapes.DAY)
    live = log.snapshot(events.root).files
    sealed = catalog.sealed_through_us
    if live.is_empty():
        return rows
    if sealed is not None:
        live = live.filter(pl.col(shapes.DAY) >= from_us(sealed).date())
    found = [rows, *[pl.DataFrame(part) for path in live["path"] if (part := user_rows(path, user_id)) is not None]]
    rows = pl.concat(found, how="diagonal_relaxed").select(rows.columns)
    return rows if sealed is None else rows.filter(pl.col("known_at") >= pl.lit(sealed).cast(TIME))


def _sealed(catalog: Catalog, user_id: int, bucket: int, before_us: int | None, wanted: int | None) -> pl.DataFrame:
    """The last `wanted` sealed events before a time, or some more, read from the newest era backwards.

    Of an era only the file of the user's bucket is opened, and of that only the row groups that may hold the user.
    """
    if catalog.sealed_through_us is None:
        return pl.DataFrame({"known_at": []}, schema={"known_at": TIME})
    timelines = catalog.table("timelines")
    none = pl.DataFrame(timelines.schema().empty_table())
    live = log.snapshot(timelines.root).files
    if live.is_empty():
        return none
    live = live.filter(pl.col(shapes.BUCKET) == bucket).sort(shapes.ERA, descending=True)
    if before_us is not None:
        live = live.filter(pl.col(shapes.ERA) < start_prefix(before_us))
    found: list[pl.DataFrame] = []
    have = 0
    for path, era in live.select("path", shapes.ERA).iter_rows():
        if wanted is not None and have >= wanted:
            break
        rows = user_rows(path, user_id)
        if rows is None:
            continue
        part = pl.DataFrame(rows).with_columns(
            pl.lit(era).alias(shapes.ERA), pl.lit(bucket, dtype=pl.Int32).alias(shapes.BUCKET)
        )
        found.append(part)
        have += part.height if before_us is None else int((part["known_at"].dt.epoch("us") < before_us).sum())
        if part["ordinal"].min() == 0:
            break
    return pl.concat([none, *found], how="diagonal_relaxed").select(none.columns).sort("ordinal")
