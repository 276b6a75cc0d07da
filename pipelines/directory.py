"""The directory: which eras hold a user, and where the user's sealed timeline ends. Looked up, never scanned."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from ..schemas import shapes
from ..schemas.eras import named
from ..storage.catalog import Catalog
from ..storage.index import Index, Pairs, keep_all, keep_greatest
from ..storage.places import Place, scan


def heads(catalog: Catalog) -> Index:
    """user_id → where the user's sealed timeline ends, of every entry that the directory got."""
    return Index(catalog.cache / "heads", catalog.table("directory"), _timeline_ends, keep_greatest)


def places(catalog: Catalog) -> Index:
    """user_id → the start (µs) of each era that got events of the user, as it was when it was sealed.

    Merging eras moves no start out of its era: the era that spans it now holds the events.
    """
    return Index(catalog.cache / "places", catalog.table("directory"), _era_starts, keep_all)


def _timeline_ends(files: Sequence[Place]) -> Pairs:
    columns = pl.col("user_id"), (pl.col("first_ordinal") + pl.col("count")).alias("end")
    ends = scan(files, hive_partitioning=False).select(*columns).collect()
    return ends["user_id"].to_numpy(), ends["end"].to_numpy()


def _era_starts(files: Sequence[Place]) -> Pairs:
    users = [scan([file], hive_partitioning=False).select("user_id").collect()["user_id"] for file in files]
    starts = [named(file.parent.name.removeprefix(f"{shapes.ERA}=")).start_us for file in files]
    return pl.concat(users).to_numpy(), np.repeat(np.array(starts, dtype=np.int64), [len(part) for part in users])
