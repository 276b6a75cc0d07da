"""The directory: which eras hold a user, and where the user's sealed timeline ends. Looked up, never scanned."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from ..schemas import shapes
from ..schemas.eras import Era, named
from ..storage.catalog import SEAL, Catalog
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


def next_ordinals(catalog: Catalog, era: Era, users: pl.Series) -> pl.DataFrame:
    """(user_id, next_ordinal) of those of the era's `users` who have events before it.

    Costs in proportion to the users, not to history: an index of the directory holds where each timeline ends.
    """
    directory = catalog.table("directory")
    if not directory.exists:
        return pl.DataFrame(schema={"user_id": pl.Int64, "next_ordinal": pl.Int64})
    places, ends = heads(catalog).find(users.to_numpy())
    # Looked at after the index was: had the era's entries been in what the index read, they would be seen here too.
    if (directory.transaction(SEAL) or 0) >= era.end_us:
        # They are there from a run that was killed between its two commits, and say what that run found.
        entries = directory.scan_partition({shapes.ERA: era.name})
        return entries.select("user_id", pl.col("first_ordinal").alias("next_ordinal")).collect()
    found = pl.DataFrame({"user_id": users.gather(places), "next_ordinal": ends})
    return found.group_by("user_id").agg(pl.col("next_ordinal").max())


def _timeline_ends(files: Sequence[Place]) -> Pairs:
    columns = pl.col("user_id"), (pl.col("first_ordinal") + pl.col("count")).alias("end")
    ends = scan(files, hive_partitioning=False).select(*columns).collect()
    return ends["user_id"].to_numpy(), ends["end"].to_numpy()


def _era_starts(files: Sequence[Place]) -> Pairs:
    users = [scan([file], hive_partitioning=False).select("user_id").collect()["user_id"] for file in files]
    starts = [named(file.parent.name.removeprefix(f"{shapes.ERA}=")).start_us for file in files]
    return pl.concat(users).to_numpy(), np.repeat(np.array(starts, dtype=np.int64), [len(part) for part in users])
