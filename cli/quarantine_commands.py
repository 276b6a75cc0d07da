"""quarantine list | show | replay | expire."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import click
import polars as pl

from ..pipelines.check import summary
from ..pipelines.lake import Lake
from ..pipelines.quarantine.replay import outstanding
from ..pipelines.run import Run
from ..schemas.times import US_PER_DAY, from_us
from ..storage.quarantine import REJECTED_AGAIN, quarantined
from .options import TIME, json_option, lake_argument
from .output import Output, count, plain


@click.group()
def quarantine() -> None:
    """Rejected rows: raw bytes, reasons, source position. Nothing is lost, and all of it can be replayed."""


@quarantine.command(name="list")
@lake_argument
@click.option("--contract", help="Only rows of this contract.")
@click.option("--source", help="Only rows of this source.")
@click.option("--reason", help="Only rows that failed this check, or a check of this column.")
@click.option("--day", "at", type=TIME, help="Only rows quarantined on this UTC day.")
@json_option
def list_(
    lake: str, contract: str | None, source: str | None, reason: str | None, at: int | None, machine: bool
) -> None:
    """Count what is in quarantine: by contract, source and day, and by reason."""
    output = Output(machine)
    catalog = Lake.open(lake).catalog
    if contract is not None:
        catalog.contract(contract)  # an unknown one is a mistake, not an empty quarantine
    rows = outstanding(catalog, contract).with_columns(pl.col("quarantined_at").dt.date().alias("day"))
    if source is not None:
        rows = rows.filter(pl.col("source") == source)
    if at is not None:
        rows = rows.filter(pl.col("day") == from_us(at).date())
    if reason is not None:
        of = pl.element().struct.field("check").eq(reason) | pl.element().struct.field("column").eq(reason)
        rows = rows.filter(pl.col("reasons").list.eval(of.fill_null(False)).list.any())
    places = ["contract", "source", "day"]
    sources = rows.group_by(places).agg(pl.len().alias("rows")).sort(places)
    reasons = summary([rows.select("reasons").explode("reasons").unnest("reasons")] if rows.height else [])
    if rows.is_empty():
        output.line("quarantine is empty" if (source, reason, at) == (None, None, None) else "no such rows")
    else:
        output.table("quarantine", [*places, "events"], [list(r) for r in sources.iter_rows()])
        heads = ["check", "column", "severity", "expected", "got, e.g.", "events"]
        output.table("why", heads, [list(r) for r in reasons.iter_rows()])
        output.line(f"one of them: reclake quarantine show {lake} {rows['quarantine_id'][0]}")
    one = rows["quarantine_id"].head(1).to_list()
    output.result(
        {
            "rows": rows.height,
            "sources": sources.to_dicts(),
            "reasons": reasons.to_dicts(),
            "one_of_them": [*one, None][0],
        }
    )


@quarantine.command()
@lake_argument
@click.argument("quarantine_id", required=False)
@click.option("--limit", type=click.IntRange(min=1), default=10, show_default=True, help="How many, without an id.")
@json_option
def show(lake: str, quarantine_id: str | None, limit: int, machine: bool) -> int:
    """Show rejected rows whole: where they came from, the raw bytes, what they decode to, every reason, and since when.

    With an id also what became of the row: replays that rejected it again, or brought it in.
    """
    from ..pipelines.quarantine.decoded import decoded
    from ..storage.quarantine import history_of

    output = Output(machine)
    catalog = Lake.open(lake).catalog
    rows = outstanding(catalog) if quarantine_id is None else quarantined(catalog, quarantine_id)
    shown = rows.head(limit)
    found = shown.to_dicts()
    for row, values in zip(found, decoded(catalog, shown), strict=True):
        row["raw"] = bytes(row["raw"]).decode("utf-8", errors="backslashreplace")
        row["decoded"] = values
        row["history"] = [] if quarantine_id is None else history_of(catalog, quarantine_id).to_dicts()
        _show(row, output)
    if not found:
        output.line("nothing found" if quarantine_id else "quarantine is empty")
    output.result({"rows": found})
    return 1 if quarantine_id and not found else 0


def _show(row: dict[str, Any], output: Output) -> None:
    made_by, at = f"contract {row['contract']}/{row['contract_version']}", _when(row["quarantined_at"])
    output.line(f"{row['quarantine_id']}   {row['source']}, row {row['row']}, {made_by}, {at}")
    output.line(f"  raw ({row['format']}): {row['raw']}")
    if row["decoded"] is not None:
        output.line("  decoded: " + ", ".join(f"{name} = {value}" for name, value in row["decoded"].items()))
    for reason in row["reasons"]:
        output.line(f"  {_told(reason)}, got {reason['got']}")
    for line in row["history"]:
        why = "; ".join(map(_told, line["reasons"] or []))
        outcome = "rejected again: " + why if line["outcome"] == REJECTED_AGAIN else line["outcome"]
        output.line(f"  {_when(line['replayed_at'])}, {row['contract']}/{line['contract_version']}: {outcome}")


def _told(reason: Mapping[str, Any]) -> str:
    column = "" if reason["column"] is None else f" {reason['column']}"
    return f"{reason['check']}{column}: expected {reason['expected']}"


def _when(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S}Z"


@quarantine.command()
@lake_argument
@click.option("--older-than", "days", type=click.IntRange(min=0), required=True, help="Days in quarantine.")
@click.option("--contract", help="Only rows of this contract.")
@json_option
def expire(lake: str, days: int, contract: str | None, machine: bool) -> None:
    """Remove rows that have been in quarantine for more days than this; the ledger keeps that they were there."""
    from ..pipelines.quarantine.retention import expire as remove

    output = Output(machine)
    catalog = Lake.open(lake).catalog
    if contract is not None:
        catalog.contract(contract)
    run = Run()
    done = remove(catalog, before_us=run.now_us() - days * US_PER_DAY, contract=contract, run=run)
    output.line(
        f"expire  {count(done.waiting)} rows given up, {count(done.settled)} removed that had come in;"
        f" their bytes go with: reclake vacuum {lake}"
    )
    output.result({"step": "expire"} | plain(done))


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
    output.findings(result.findings)
    if result.quarantined:
        output.line(f"        more: reclake quarantine list {lake} --contract {contract}")
    output.result({"step": "replay"} | plain(result))
