"""quarantine list | show | replay."""

from __future__ import annotations

import click
import polars as pl

from ..pipelines.check import summary
from ..pipelines.lake import Lake
from ..pipelines.replay import outstanding
from .options import json_option, lake_argument
from .output import Output, count, plain


@click.group()
def quarantine() -> None:
    """Rejected rows: raw bytes, reasons, source position. Nothing is lost, and all of it can be replayed."""


@quarantine.command(name="list")
@lake_argument
@click.option("--contract", help="Only rows of this contract.")
@json_option
def list_(lake: str, contract: str | None, machine: bool) -> None:
    """Count what is in quarantine, by source and by reason."""
    output = Output(machine)
    catalog = Lake.open(lake).catalog
    if contract is not None:
        catalog.contract(contract)  # an unknown one is a mistake, not an empty quarantine
    rows = outstanding(catalog, contract)
    sources = rows.group_by("contract", "source").agg(pl.len().alias("rows")).sort("contract", "source")
    reasons = summary([rows.select("reasons").explode("reasons").unnest("reasons")] if rows.height else [])
    if rows.is_empty():
        output.line("quarantine is empty")
    else:
        output.table("quarantine", ["contract", "source", "events"], [list(r) for r in sources.iter_rows()])
        output.table(
            "why", ["check", "column", "expected", "got, e.g.", "events"], [list(r) for r in reasons.iter_rows()]
        )
        output.line(f"one of them: reclake quarantine show {lake} {rows['quarantine_id'][0]}")
    output.result({"rows": rows.height, "sources": sources.to_dicts(), "reasons": reasons.to_dicts()})


@quarantine.command()
@lake_argument
@click.argument("quarantine_id", required=False)
@click.option("--limit", type=click.IntRange(min=1), default=10, show_default=True, help="How many, without an id.")
@json_option
def show(lake: str, quarantine_id: str | None, limit: int, machine: bool) -> int:
    """Show rejected rows whole: where they came from, the raw bytes, every reason."""
    output = Output(machine)
    rows = outstanding(Lake.open(lake).catalog)
    if quarantine_id is not None:
        rows = rows.filter(pl.col("quarantine_id") == quarantine_id)
    found = rows.head(limit).to_dicts()
    for row in found:
        row["raw"] = bytes(row["raw"]).decode("utf-8", errors="backslashreplace")
        made_by = f"contract {row['contract']}/{row['contract_version']}"
        output.line(f"{row['quarantine_id']}   {row['source']}, row {row['row']}, {made_by}")
        output.line(f"  raw ({row['format']}): {row['raw']}")
        for reason in row["reasons"]:
            column = "" if reason["column"] is None else f" {reason['column']}"
            output.line(f"  {reason['check']}{column}: expected {reason['expected']}, got {reason['got']}")
    if not found:
        output.line("nothing found" if quarantine_id else "quarantine is empty")
    output.result({"rows": found})
    return 1 if quarantine_id and not found else 0


@quarantine.command()
@lake_argument
@click.argument("contract")
@json_option
def replay(lake: str, contract: str, machine: bool) -> None:
    """Give what is in quarantine to CONTRACT as it is now; what passes is admitted, the rest stays."""
    output = Output(machine)
    result = Lake.open(lake).replay(contract)
    output.line(
        f"replay  {count(result.read)} quarantined = {count(result.admitted)} admitted"
        f" + {count(result.quarantined)} still quarantined + {count(result.duplicates)} duplicates"
    )
    output.result({"step": "replay"} | plain(result))
