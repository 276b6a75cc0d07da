"""One user's rows of a sorted data file: only the row groups that may hold the user, by the footer's statistics."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq


def user_rows(path: str | Path, user_id: int) -> pa.Table | None:
    """All columns of a user's rows in a file; None where it has none.

    Reads the footer; of a row group whose user ids span the user, the ids; the rest of it only where the user is there.
    """
    found = []
    with pq.ParquetFile(path, memory_map=True) as file:
        column = file.schema_arrow.get_field_index("user_id")
        for group in range(file.num_row_groups):
            if not _may_hold(file.metadata.row_group(group).column(column).statistics, user_id):
                continue
            ids = file.read_row_group(group, columns=["user_id"])["user_id"]
            here = np.flatnonzero(pc.equal(ids, user_id).to_numpy())
            if len(here):
                found.append(file.read_row_group(group).take(here))
    return pa.concat_tables(found) if found else None


def _may_hold(statistics: pq.Statistics | None, user_id: int) -> bool:
    if statistics is None or not statistics.has_min_max:
        return True
    return bool(statistics.min <= user_id <= statistics.max)
