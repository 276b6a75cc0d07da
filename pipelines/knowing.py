"""known_at: when the lake could first have known. The one place that decides it."""

from __future__ import annotations

import polars as pl

from ..schemas.contract import Contract

TIME = pl.Datetime("us", "UTC")


def available(contract: Contract, *, happened: str, arrival_us: int) -> pl.Expr:
    """Kernel: `available_at` as claimed; without a claim the arrival time, or what the contract declares."""
    arrival = pl.lit(arrival_us).cast(TIME)
    declared = pl.col(happened) if contract.available_at == "event_time" and happened != "available_at" else arrival
    return pl.coalesce("available_at", declared)


def known_at(contract: Contract, claimed: pl.Expr, *, arrival_us: int, sealed_us: int | None) -> pl.Expr:
    """Kernel: known_at of rows that claim to have been known at `claimed`, max(event_time, available_at).

    A claim inside a sealed era is not believed: the row is known from its arrival (live contracts) or from the end of
    the last sealed era (bootstrap loads). The claim stays in its own columns.
    """
    if sealed_us is None:
        return claimed
    sealed = pl.lit(sealed_us).cast(TIME)
    instead = pl.lit(max(arrival_us, sealed_us)).cast(TIME) if contract.feed == "live" else sealed
    return pl.when(claimed < sealed).then(instead).otherwise(claimed)
