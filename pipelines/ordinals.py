"""Ordinals: the kernels of sealing. Engines differ in how they bring events here, not in what happens to them."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl
import pyarrow as pa

from ..schemas import shapes
from ..storage.table import Table
from .publish import Part, Suite, stage

APART = frozenset({"user_id", shapes.BUCKET})  # of these, no value is in two parts of an era


def give_ordinals(events: pl.DataFrame, first: pl.DataFrame, era: str) -> pl.DataFrame:
    """Kernel: the events of one era in timeline order, each with its ordinal.

    Args:
        events: one row an event, any order; user_id, known_at, event_id and more.
        first: (user_id, next_ordinal): where each user's timeline goes on; absent users start at 0.
        era: the era's name, set on every row.

    Returns:
        the events, each event_id once, sorted by (user_id, known_at, event_id), with `ordinal` and `era`.
    """
    return (
        events.sort("user_id", "known_at", "event_id")
        .unique(subset=["event_id"], keep="first", maintain_order=True)
        .join(first, on="user_id", how="left", maintain_order="left")
        .with_columns(
            (pl.col("next_ordinal").fill_null(0) + pl.int_range(pl.len(), dtype=pl.Int64).over("user_id")).alias(
                "ordinal"
            ),
            pl.lit(era).alias(shapes.ERA),
        )
        .drop("next_ordinal")
    )


def directory_of(timeline: pl.DataFrame) -> pl.DataFrame:
    """Kernel: for each user of an era: bucket, first ordinal and count."""
    return timeline.group_by(shapes.ERA, shapes.BUCKET, "user_id", maintain_order=True).agg(
        pl.col("ordinal").min().alias("first_ordinal"), pl.len().cast(pl.Int64).alias("count")
    )


@dataclass(frozen=True, slots=True)
class SealedPart:
    """What one task made of some users' events of an era: files that are not committed yet, and what goes with them."""

    part: Part
    directory: pa.Table


def seal_part(
    timelines: Table, events: pl.DataFrame, first: pl.DataFrame, era: str, schema: pa.Schema, suite: Suite
) -> SealedPart:
    """Seal some users' events of an era: the kernels, what the suite sees, files staged. Any engine's worker runs this.

    Users are in one part with all of their events.
    """
    ordered = give_ordinals(events, first, era)
    rows = ordered.select(schema.names).to_arrow()
    return SealedPart(
        part=stage(timelines, rows, suite.compiled(schema, apart=APART), schema),
        directory=directory_of(ordered).select(shapes.DIRECTORY.names).to_arrow(),
    )
