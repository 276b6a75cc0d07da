"""The report on what came in: is it as good as it was, what was refused, and why?"""

from __future__ import annotations

from typing import Any

import polars as pl

from .. import numbers
from ..periods import STATES, check_name, place, plain_name, state
from . import charts, page
from .charts import Cell, Point

REASONS_MAX = 40
STATE_NAMES = (
    ("pass", "met"),
    ("warn", "warning: recorded only"),
    ("quarantine", "rows quarantined"),
    ("stop", "critical: nothing of the batch written"),
)


def history_section(ingested: pl.DataFrame, verdicts: pl.DataFrame) -> page.Section:
    title, lead = "Quality history", "Is what comes in as good as it was?"
    if ingested.is_empty():
        body = page.empty("No verdicts yet: every write leaves some.", "reclake ingest LAKE CONTRACT SOURCE…")
        return page.Section("quality", title, lead, body)
    placed, unit = place(ingested)
    names = placed.group_by("period").agg(pl.col("name").first()).sort("period")["name"].to_list()
    batch = placed.filter(pl.col("check") == "batch").group_by("period", maintain_order=True)
    sums = batch.agg(pl.col("evaluated", "unexpected", "duplicates", "late").sum()).sort("period")
    figures = []
    for column, series, name in (
        ("unexpected", "quarantined", "Quarantined share"),
        ("duplicates", "duplicates", "Duplicate share"),
        ("late", "late", "Late share"),
    ):
        points = [
            Point(
                label,
                part / read if read else 0.0,
                note=f"{label}: {numbers.count(part)} of {numbers.count(read)} events",
            )
            for label, part, read in zip(names, sums[column].fill_null(0), sums["evaluated"], strict=True)
        ]
        chart = charts.columns(points, title=f"{name} by {unit}", axis=charts.PERCENT, series=series, width=340)
        figures.append(page.figure(name, "", chart))
    body = page.columns_of(figures) + page.heading(f"Checks by {unit}") + _checks(placed, names)
    body += page.legend(STATE_NAMES)
    about = "Days are those most events of a batch happened on, UTC. " if unit == "day" else ""
    about += "Shares are of the events read; late means known a day or more after it happened. "
    body += page.say(f"{about}A figure in a cell counts the events that failed.", "caption")
    derived = verdicts.filter(pl.col("table") != "events")
    if derived.height:
        body += _derived(derived)
    return page.Section("quality", title, lead, body)


def _checks(placed: pl.DataFrame, names: list[str]) -> str:
    """The grid: the verdict of each period, then each check of each contract."""
    cells = (
        placed.with_columns(
            state().alias("state"),
            pl.when(pl.col("check") == "batch").then(pl.lit("verdict")).otherwise(check_name()).alias("row"),
        )
        .group_by("contract", "row", "period")
        .agg(pl.col("state").max(), pl.col("unexpected").sum(), pl.col("evaluated").sum(), pl.col("observed").last())
        .sort("contract", pl.col("row") != "verdict", "row", "period")
    )
    rows: list[str] = []
    drawn: list[Cell] = []
    for (contract,), of_contract in cells.group_by("contract", maintain_order=True):
        rows.append(f"{contract}")
        for (name,), line in of_contract.group_by("row", maintain_order=True):
            for cell in line.iter_rows(named=True):
                drawn.append(_cell(cell, len(rows), names[cell["period"]]))
            rows.append(str(name))
    return charts.grid(rows, names, drawn, title="Checks met and not met")


def _cell(cell: dict[str, Any], row: int, period: str) -> Cell:
    state = STATES[cell["state"]]
    if state == "pass":
        return Cell(row, cell["period"], state)
    note = f"{period}, {cell['row']}: {numbers.count(cell['unexpected'])} of {numbers.count(cell['evaluated'])} events"
    note += f"; observed {cell['observed']}" if cell["observed"] else ""
    return Cell(row, cell["period"], state, numbers.compact(cell["unexpected"]) if cell["unexpected"] else "", note)


def _derived(derived: pl.DataFrame) -> str:
    """One sentence on the tables that reclake makes itself."""
    checks = derived.filter(pl.col("check") != "batch")
    unmet = checks.filter(~pl.col("success"))
    tables = ", ".join(sorted(derived["table"].unique()))
    what = f"{numbers.count(checks.height)} checks of rows that reclake derives itself ({tables})"
    if unmet.is_empty():
        return page.say(f"{what}: all met.", "caption")
    return page.say(
        f"{what}: {numbers.count(unmet.height)} not met, first {unmet['check'][0]} in {unmet['table'][0]}.", "bad"
    )


def quarantine_section(quarantine: pl.DataFrame, reasons: pl.DataFrame) -> page.Section:
    title, lead = "Quarantine", "What was refused, and why?"
    if quarantine.is_empty():
        body = page.say("Nothing was ever quarantined.", "good")
        return page.Section("quarantine", title, lead, body)
    now = dict(quarantine.select("outcome", "rows").iter_rows())
    back, there = now.get("admitted", 0), now.get("duplicate", 0)
    text = f"{numbers.several(now.get('waiting', 0), 'event waits', 'events wait')} in quarantine."
    if back or there:
        text += f" Replays brought {numbers.count(back)} back in; {numbers.count(there)} were there already."
    if now.get("waiting"):
        text += " Correct the contract, then `reclake quarantine replay`."
    rows = [
        [
            reason["contract"],
            reason["column"] or "",
            plain_name(reason["check"]),
            reason["severity"] or "",
            reason["expected"] or "",
            "\n".join(_cut(got) for got in reason["got"]),
            numbers.count(reason["rows"]),
        ]
        for reason in reasons.sort("rows", "contract", "check", descending=[True, False, False])
        .head(REASONS_MAX)
        .iter_rows(named=True)
    ]
    heads = [
        page.Column("Contract"),
        page.Column("Column", "name"),
        page.Column("Check"),
        page.Column("Severity"),
        page.Column("Expected"),
        page.Column("Got, for example", "code"),
        page.Column("Events", "number"),
    ]
    body = page.say(text) + (page.table(heads, rows) if rows else "")
    if reasons.height > REASONS_MAX:
        body += page.say(f"{reasons.height - REASONS_MAX} rarer reasons are not shown.", "caption")
    body += page.say("An event with several reasons counts under each.", "caption") if rows else ""
    return page.Section("quarantine", title, lead, body)


def _cut(text: str | None, room: int = 60) -> str:
    text = "null" if text is None else text
    return text if len(text) <= room else text[: room - 1] + "…"
