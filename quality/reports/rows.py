"""The quality report on rows: how many were quarantined, why, from where and when, and some of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from .. import numbers
from ..periods import plain_name
from . import charts, page
from .charts import Point

BARS_MAX = 12
DAYS_MAX = 60
CELL_CHARS_MAX = 240


@dataclass(frozen=True, slots=True)
class FailedRow:
    """A quarantined row as its source gave it. Values that nobody is to be shown are masked before they come here.

    Attributes:
        reasons: (check, column or "", expected, got) of each reason it was rejected for.
        values: (name, value) in the source's order; empty where the row does not decode, and `text` is shown.
    """

    quarantine_id: str
    contract: str
    source: str
    row: int
    reasons: tuple[tuple[str, str, str, str], ...]
    values: tuple[tuple[str, str], ...]
    text: str = ""


def quarantine_section(outcomes: pl.DataFrame, refused: pl.DataFrame, reasons: pl.DataFrame) -> page.Section:
    """See quality_report.QualityData."""
    title, lead = "Quarantine", "How much was refused: for which reason, from which source, on which day?"
    if outcomes["rows"].sum() == 0:
        return page.Section("quarantine", title, lead, page.say("✓ Nothing was ever quarantined.", "good"))
    now = dict(outcomes.iter_rows())
    tiles = [("quarantined", "Waits", numbers.count(now.get("waiting", 0)), "until contract or source are mended")]
    tiles += [("admitted", "Came back in", numbers.count(now.get("admitted", 0)), "by replays")]
    tiles += [("duplicates", "Was there already", numbers.count(now.get("duplicate", 0)), "found by replays")]
    if now.get("expired"):
        tiles.append(("", "Given up", numbers.count(now["expired"]), "older than its retention"))
    body = page.tiles(tiles)
    if refused.is_empty():
        return page.Section("quarantine", title, lead, body)
    name = [
        (f"{contract}, {column or 'the row'}: {plain_name(check)}", events)
        for contract, check, column, events in reasons.select("contract", "check", "column", "events").iter_rows()
    ]
    sources = refused.group_by("source").agg(pl.col("events").sum())
    body += page.figure("By reason", "An event with several reasons counts under each.", _bars(name))
    body += page.figure("By source", "", _bars([(short(s), n) for s, n in sources.iter_rows()]))
    days = refused.group_by("day").agg(pl.col("events").sum()).sort("day").tail(DAYS_MAX)
    if days.height > 1:
        points = [
            Point(numbers.day(day), events, note=f"{day}: {numbers.count(events)} events")
            for day, events in days.iter_rows()
        ]
        chart = charts.columns(
            points, title="By day", axis=charts.COUNT, series="quarantined", width=charts.width_of(1)
        )
        body += page.figure("By day", "The day they were quarantined, UTC.", chart)
    else:
        body += page.say(f"All of it was quarantined on {days['day'][0]}.", "caption")
    return page.Section("quarantine", title, lead, body)


def _bars(counted: Sequence[tuple[str, int]]) -> str:
    ordered = sorted(counted, key=lambda one: (-one[1], one[0]))
    rest = ordered[BARS_MAX:]
    shown = ordered[:BARS_MAX] + ([(f"{len(rest)} others", sum(n for _, n in rest))] if rest else [])
    return page.bars([(name, events, numbers.count(events)) for name, events in shown], series="quarantined")


def short(source: str) -> str:
    """The last two parts of a path or address."""
    parts = source.rstrip("/").split("/")
    return source if len(parts) < 3 else "…/" + "/".join(parts[-2:])


def rows_section(failed: Sequence[FailedRow], lake: str) -> page.Section:
    title, lead = "Failed rows", "What do rows that were refused look like?"
    if not failed:
        return page.Section("rows", title, lead, page.say("✓ None waits in quarantine.", "good"))
    heads = [page.Column("Source"), page.Column("Refused because", "row"), page.Column("The row", "row")]
    lines = []
    for one in failed:
        bad = {name.strip() for _, columns, _, _ in one.reasons for name in columns.split(",")}
        shown = page.pairs([(name, _cut(value), name in bad) for name, value in one.values])
        where = page.link(f"{short(one.source)}, row {numbers.count(one.row)}", None, note=one.source)
        lines.append([where, _why(one), shown if one.values else _cut(one.text)])
    body = page.table(heads, lines)
    body += page.say("Personal fields are not shown, whatever becomes of them in the lake.", "caption")
    body += page.say(f"One of them, whole: `reclake quarantine show {lake} {failed[0].quarantine_id}`", "caption")
    return page.Section("rows", title, lead, body)


def _why(one: FailedRow) -> str:
    lines = []
    for check, columns, expected, got in one.reasons:
        where = f"{columns}: " if columns else ""
        lines.append(f"{where}{plain_name(check)}\n  expected {_cut(expected)}\n  got {_cut(got)}")
    return "\n".join(lines)


def _cut(text: str) -> str:
    return text if len(text) <= CELL_CHARS_MAX else text[: CELL_CHARS_MAX - 1] + "…"
