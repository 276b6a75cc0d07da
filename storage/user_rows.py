"""One user's newest rows of a sorted data file: only row groups that may hold the user, by the footer's statistics."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ..schemas import shapes
from .places import Place, parquet_file


def user_rows(
    path: Place, user_id: int, *, bucket: int | None = None, before_us: int | None = None, last: int | None = None
) -> pa.Table | None:
    """All columns of a user's rows in a file, in the file's order; None where it has none.

    Reads the footer, then row groups from the file's end, until `last` rows known before `before_us` were found. So in
    a file where a user's rows follow each other in time, those are the newest.

    Args:
        bucket: the user's, for files that hold several buckets; where they say which, others are left out.
        before_us: only rows with an earlier known_at count; later ones of the same row group come along.
    """
    found: list[pa.Table] = []
    have = 0
    with parquet_file(path) as file:
        for group in reversed(list(_groups(file, user_id, bucket, before_us))):
            if last is not None and have >= last:
                break
            rows = file.read_row_group(group, use_threads=False)
            here = np.flatnonzero(pc.equal(rows["user_id"], user_id).to_numpy())
            if not len(here):
                continue
            rows = rows.slice(here[0], here[-1] - here[0] + 1)
            if rows.num_rows > len(here):
                rows = rows.take(here - here[0])
            found.append(rows)
            have += rows.num_rows if before_us is None else known_before(rows, before_us)
    return pa.concat_tables(reversed(found)) if found else None


def known_before(rows: pa.Table, before_us: int) -> int:
    """How many rows have a known_at strictly before a time."""
    earlier = pc.less(rows["known_at"].cast(pa.int64()), before_us)
    return int(pc.sum(earlier).as_py() or 0)


def _groups(file: pq.ParquetFile, user_id: int, bucket: int | None, before_us: int | None) -> Iterator[int]:
    leaves = {file.metadata.schema.column(leaf).path: leaf for leaf in range(file.metadata.num_columns)}
    users = leaves["user_id"]
    buckets = leaves.get(shapes.BUCKET) if bucket is not None else None
    known = leaves.get("known_at") if before_us is not None else None
    for number in range(file.num_row_groups):
        group = file.metadata.row_group(number)
        if not _may_hold(group.column(users).statistics, user_id):
            continue
        if buckets is not None and not _may_hold(group.column(buckets).statistics, bucket):
            continue
        if known is not None and _all_later(group.column(known).statistics, before_us):
            continue
        yield number


def _may_hold(statistics: pq.Statistics | None, value: Any) -> bool:
    if statistics is None or not statistics.has_min_max:
        return True
    return bool(statistics.min <= value <= statistics.max)


def _all_later(statistics: pq.Statistics | None, before_us: Any) -> bool:
    if statistics is None or not statistics.has_min_max:
        return False
    return bool(statistics.min_raw >= before_us)
