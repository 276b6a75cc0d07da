"""Timeline: what a server knew of a user at a time, the unsealed tail included."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from ..schemas import shapes
from ..schemas.buckets import bucket_of, user_id_of
from ..schemas.eras import Era, named, start_prefix
from ..schemas.errors import StorageError, UsageError
from ..schemas.times import from_us
from ..storage import log
from ..storage.catalog import Catalog
from ..storage.places import beside
from ..storage.user_rows import known_before, user_rows
from .directory import places
from .knowing import TIME
from .ordinals import give_ordinals
from .reading import view


def timeline(catalog: Catalog, user_id: int, *, before_us: int | None = None, last: int | None = None) -> pa.Table:
    """A user's events with `known_at` strictly before a time, oldest first, the last `last` of them.

    Sealed events have their final ordinals. Events not sealed yet follow with the ordinals they would get if sealing
    happened now, and `sealed` false.

    Args:
        before_us: µs since the epoch; None for all that is known.
        last: how many at most; None for all. Eras older than those that hold them are not read.

    Returns:
        a table with the events' fields, known_at, ordinal, era (null: unsealed), bucket and sealed.

    Raises:
        UsageError: what is no user's id, or no number of events.
    """
    user_id = user_id_of(user_id)
    if last is not None and (not hasattr(last, "__index__") or last < 0):
        raise UsageError("not a number of events", expected="last >= 0", got=repr(last))
    bucket = int(bucket_of([user_id], catalog.buckets)[0])
    known = pl.lit(True) if before_us is None else pl.col("known_at") < pl.lit(before_us).cast(TIME)
    tail = _tail(catalog, user_id, bucket, before_us).filter(known)
    wanted = None if last is None else max(last - tail.height, 1)  # one tells where the tail's ordinals begin
    sealed = _sealed(catalog, user_id, bucket, before_us, wanted).filter(known)
    ends = pl.DataFrame(
        {"user_id": [user_id], "next_ordinal": [0 if sealed.is_empty() else sealed["ordinal"][-1] + 1]},
        schema={"user_id": pl.Int64, "next_ordinal": pl.Int64},
    )
    tail = give_ordinals(tail, ends, "").with_columns(pl.lit(None, dtype=pl.String).alias(shapes.ERA))
    parts = [sealed.with_columns(pl.lit(True).alias("sealed")), tail.with_columns(pl.lit(False).alias("sealed"))]
    rows = pl.concat([part for part in parts if part.width > 2], how="diagonal")
    rows = rows if last is None else rows.tail(last)
    return view(catalog, "timelines").of(rows.lazy()).collect().to_arrow()


def _tail(catalog: Catalog, user_id: int, bucket: int, before_us: int | None) -> pl.DataFrame:
    """The user's events that no sealed era holds; none where the time asked for is sealed."""
    events = catalog.table("events")
    rows = pl.DataFrame(events.schema().empty_table()).drop(shapes.DAY)
    sealed = catalog.sealed_through_us
    if sealed is not None and before_us is not None and before_us <= sealed:
        return rows
    live = log.snapshot(events.root).files
    if live.is_empty():
        return rows
    if sealed is not None:
        live = live.filter(pl.col(shapes.DAY) >= from_us(sealed).date())
    parts = [user_rows(beside(events.root, path), user_id, bucket=bucket) for path in live["path"]]
    found = [rows, *[pl.DataFrame(part) for part in parts if part is not None]]
    rows = pl.concat(found, how="diagonal_relaxed").select(rows.columns)
    return rows if sealed is None else rows.filter(pl.col("known_at") >= pl.lit(sealed).cast(TIME))


def _sealed(catalog: Catalog, user_id: int, bucket: int, before_us: int | None, wanted: int | None) -> pl.DataFrame:
    """The last `wanted` sealed events before a time, or some more, read from the newest era backwards.

    Only eras that the directory names for the user are opened; of such an era the files of the user's bucket whose
    users span this one, which is one file but for users with more than a file holds; of a file the row groups with
    the user. Eras merge as they age, so that the oldest history is a few dozen of them.
    """
    if catalog.sealed_through_us is None:
        return pl.DataFrame({"known_at": []}, schema={"known_at": TIME})
    timelines = catalog.table("timelines")
    none = pl.DataFrame(timelines.schema().empty_table())
    live = log.snapshot(timelines.root).files
    if live.is_empty():
        return none
    live = live.filter(pl.col(shapes.BUCKET) == bucket, log.may_hold("user_id", user_id))
    if before_us is not None:
        live = live.filter(pl.col(shapes.ERA) < start_prefix(before_us))
    starts = _starts(catalog, user_id)
    found: list[pl.DataFrame] = []
    have = 0
    for (name,), files in live.sort(shapes.ERA, descending=True).group_by(shapes.ERA, maintain_order=True):
        if wanted is not None and have >= wanted:
            break
        if not _spans(named(str(name)), starts):
            continue
        last = None if wanted is None else wanted - have
        for path in files["path"]:
            rows = user_rows(beside(timelines.root, path), user_id, before_us=before_us, last=last)
            if rows is not None:
                era, place = pl.lit(name).alias(shapes.ERA), pl.lit(bucket, dtype=pl.Int32).alias(shapes.BUCKET)
                found.append(pl.DataFrame(rows).with_columns(era, place))
                have += rows.num_rows if before_us is None else known_before(rows, before_us)
    return pl.concat([none, *found], how="diagonal_relaxed").select(none.columns).sort("ordinal")


def _starts(catalog: Catalog, user_id: int) -> npt.NDArray[np.int64] | None:
    """When the user's eras began as they were sealed, µs, ascending; None where the index cannot be kept."""
    try:
        _, starts = places(catalog).find(np.array([user_id], dtype=np.int64))
    except StorageError:
        return None  # a lake that may only be read: every era is looked into instead
    return np.sort(starts)


def _spans(era: Era, starts: npt.NDArray[np.int64] | None) -> bool:
    """Whether an era may hold events of the user."""
    if starts is None:
        return True
    low, high = np.searchsorted(starts, [era.start_us, era.end_us])
    return bool(low < high)
