"""Sealing and assembling a day, beside the same joins written by hand in Polars over one big frame."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import polars as pl
from compare import arguments, in_turn, report
from ingest import source

import reclake
from reclake.schemas.times import to_us


def by_hand(path: Path) -> pl.DataFrame:
    """Ordinals, seen and a click label, the way one would write it in a notebook: no eras, no gate, no commit."""
    events = pl.read_parquet(path).with_columns(pl.max_horizontal("event_time", "available_at").alias("known_at"))
    events = events.sort("user_id", "known_at", "event_id")
    events = events.with_columns(pl.int_range(pl.len()).over("user_id").alias("ordinal"))
    shown = events.filter(pl.col("event_type") == "exposure").sort("event_time")
    known = events.select("user_id", "known_at", (pl.col("ordinal") + 1).alias("seen")).sort("known_at")
    samples = shown.join_asof(
        known,
        left_on="event_time",
        right_on="known_at",
        by="user_id",
        allow_exact_matches=False,
        check_sortedness=False,
    )
    clicks = (
        events.filter(pl.col("event_type") == "click").select("user_id", "item_id", "event_time").sort("event_time")
    )
    credited = clicks.join_asof(
        shown.select("user_id", "item_id", "event_time", "event_id"),
        on="event_time",
        by=["user_id", "item_id"],
        tolerance="1h",
        check_sortedness=False,
    )
    return samples.with_columns(pl.col("event_id").is_in(credited["event_id"].unique().implode()).alias("click"))


def main() -> None:
    quick = arguments(__doc__ or "").quick
    rows, rounds = (300_000, 3) if quick else (3_000_000, 5)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = source(folder / "events.parquet", rows)
        reclake.Lake.create(folder / "ingested").ingest("events", path)

        def ours() -> None:
            shutil.rmtree(folder / "lake", ignore_errors=True)
            shutil.copytree(folder / "ingested", folder / "lake")
            lake = reclake.Lake.open(folder / "lake")
            lake.seal(through=to_us("2024-03-02"))
            lake.samples("ctr", day="2024-03-01")

        def plain() -> None:
            by_hand(path).write_parquet(folder / "samples.parquet")

        contenders = {"reclake seal + samples": ours, "Polars by hand, one file": plain}
        report(f"seal and assemble {rows:,} events", in_turn(contenders, rounds=rounds), rows=rows, unit="events")


if __name__ == "__main__":
    main()
