"""Ordinals: the kernels of sealing. Engines differ in how they bring events here, not in what happens to them."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl
import pyarrow as pa

from ..quality.suite import compile_suite
from ..schemas import shapes
from ..schemas.contract import shipped_suite
from ..storage.table import Staged, Table
from .record import judge


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

    staged: Staged
    directory: pa.Table
    verdict: pa.Table
    refused: str | None
    rows: int


def seal_part(
    timelines: Table, events: pl.DataFrame, first: pl.DataFrame, era: str, schema: pa.Schema, *, run_id: str, at_us: int
) -> SealedPart:
    """Seal some users' events of an era: the kernels, the gate, and files staged. Any engine's worker runs this."""
    ordered = give_ordinals(events, first, era)
    suite = compile_suite(shipped_suite("timelines"), schema, name="timelines")
    rows = ordered.select(schema.names).to_arrow()
    judged = judge(
        rows,
        suite,
        schema,
        table="timelines",
        source=era,
        verdict_id=f"{run_id}-timelines-{era}-{ordered[shapes.BUCKET].min()!r}",
        run_id=run_id,
        at_us=at_us,
    )
    return SealedPart(
        staged=Staged(()) if judged.refused else timelines.stage(judged.admitted),
        directory=directory_of(ordered).select(shapes.DIRECTORY.names).to_arrow(),
        verdict=judged.verdict,
        refused=judged.refused,
        rows=ordered.height,
    )
