"""The report: plain data in, one self-contained HTML document out. Pure: no storage, no clock, no external load."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from ...schemas import shapes, times
from .. import numbers
from . import charts, page
from .model import correlation_section, metrics_section
from .quality_sections import history_section, quarantine_section
from .samples import labels_section, lengths_section


@dataclass(frozen=True, slots=True)
class ReportData:
    """What a report is made of. Frames may be empty; each says its columns.

    Attributes:
        verdicts: shaped shapes.VERDICTS.
        reasons: contract, check, column, severity, expected, got (list of examples), rows: of outstanding quarantine.
        quarantine: outcome ("waiting", "admitted", "duplicate"), rows: where quarantined rows are now.
        labels: recipe, label, day, samples, mature, positives (of the mature): drawn negatives left out.
        history: recipe, low (the least `seen` of the bin), high (the greatest), samples.
        metrics: shaped shapes.METRICS.
        correlation: shaped quality.correlation.CORRELATION.
        days: day, rows, each of quality.correlation.MEASURES, and the metric's columns model, label, value: one row a
            day and model, what the correlation rests on.
        tables: table, rows, files, bytes, version, pinned (a version, or null).
        nouns: kind ("contract", "recipe"), name, version, fingerprint.
    """

    lake: str
    pin: str | None
    sealed_through_us: int | None
    generated_at_us: int
    verdicts: pl.DataFrame
    reasons: pl.DataFrame
    quarantine: pl.DataFrame
    labels: pl.DataFrame
    history: pl.DataFrame
    metrics: pl.DataFrame
    correlation: pl.DataFrame
    days: pl.DataFrame
    tables: pl.DataFrame
    nouns: pl.DataFrame


def render(data: ReportData) -> str:
    """The report as one HTML document, the same for the same data."""
    sealed = "nothing yet" if data.sealed_through_us is None else times.iso(data.sealed_through_us)
    facts = [
        ("Pin", data.pin or "none: newest versions"),
        ("Sealed through", sealed),
        ("Generated", times.iso(data.generated_at_us // times.US_PER_SECOND * times.US_PER_SECOND)),
    ]
    ingested = data.verdicts.filter(pl.col("table") == "events", pl.col("source") != shapes.REPLAYED)
    sections = [
        _summary(data, ingested),
        history_section(ingested, data.verdicts),
        quarantine_section(data.quarantine, data.reasons),
        labels_section(data.labels),
        lengths_section(data.history),
        metrics_section(data.metrics),
        correlation_section(data.correlation, data.days, data.metrics),
        _versions(data),
    ]
    return page.page(data.lake, facts, sections)


def _summary(data: ReportData, ingested: pl.DataFrame) -> page.Section:
    title, lead = "Summary", "Did every event that was read arrive somewhere?"
    batches = ingested.filter(pl.col("check") == "batch")
    if batches.is_empty():
        body = page.empty("Nothing was ingested yet.", "reclake ingest LAKE CONTRACT SOURCE…")
        return page.Section("summary", title, lead, body)
    stopped, written = batches.filter(pl.col("verdict") == "stop"), batches.filter(pl.col("verdict") != "stop")
    read, admitted, quarantined, duplicates, late = (
        int(written[name].fill_null(0).sum()) for name in ("evaluated", "admitted", "unexpected", "duplicates", "late")
    )

    def share(part: int) -> str:
        return f"{numbers.percent(part / read)} of all" if read else "of none"

    figures = [
        ("", "Events read", numbers.count(read), f"in {numbers.several(written.height, 'batch', 'batches')}"),
        ("admitted", "Admitted", numbers.count(admitted), share(admitted)),
        ("quarantined", "Quarantined", numbers.count(quarantined), share(quarantined)),
        ("duplicates", "Duplicates", numbers.count(duplicates), share(duplicates)),
        ("", "Late", numbers.count(late), "by a day or more"),
    ]
    if data.history.height:
        recipes = ", ".join(sorted(data.history["recipe"].unique()))
        figures.append(("", "Samples", numbers.count(int(data.history["samples"].sum())), f"of {recipes}"))
    parts = [("admitted", admitted), ("quarantined", quarantined), ("duplicates", duplicates)]
    bar = charts.shares([(name, name, size) for name, size in parts], title="Where the events that were read went")
    body = f"{page.tiles(figures)}{page.law(bar)}{_law(read, parts, written)}"
    if stopped.height:
        many = numbers.several(stopped.height, "batch was", "batches were")
        events = numbers.count(int(stopped["evaluated"].sum()))
        text = (
            f"{many} stopped by a critical check ({events} events read): nothing of them was written or counted above."
        )
        body += page.say(text, "bad")
    return page.Section("summary", title, lead, body)


def _law(read: int, parts: list[tuple[str, int]], batches: pl.DataFrame) -> str:
    """read = admitted + quarantined + duplicates, checked in every batch."""
    equation = " + ".join(f"{numbers.count(size)} {name}" for name, size in parts)
    accounted = pl.col("admitted").fill_null(0) + pl.col("unexpected") + pl.col("duplicates").fill_null(0)
    broken = batches.filter(accounted != pl.col("evaluated"))
    if broken.is_empty():
        each = "each of " if batches.height > 1 else ""
        checked = f"It holds in {each}{numbers.several(batches.height, 'batch', 'batches')}."
        return page.say(f"✓ {numbers.count(read)} read = {equation}. {checked}", "good")
    where = f"{numbers.several(broken.height, 'batch', 'batches')}, first in {broken['source'][0]}"
    gap = numbers.count(read - sum(size for _, size in parts))
    return page.say(f"✗ {numbers.count(read)} read, but {equation}: {gap} not accounted for, in {where}.", "bad")


def _versions(data: ReportData) -> page.Section:
    title = "Tables and versions"
    lead = f"What exactly does pin {data.pin} name?" if data.pin else "What exactly is in the lake?"
    if data.tables.is_empty():
        body = page.empty("No table was written yet.", "reclake ingest LAKE CONTRACT SOURCE…")
        return page.Section("versions", title, lead, body)
    heads = [
        page.Column("Table", "name"),
        *(page.Column(n, "number") for n in ("Rows", "Files", "Size", "Newest version", "Pinned version")),
    ]
    rows = [
        [
            t["table"],
            numbers.count(t["rows"]),
            numbers.count(t["files"]),
            numbers.size(t["bytes"]),
            str(t["version"]),
            numbers.DASH if t["pinned"] is None else str(t["pinned"]),
        ]
        for t in data.tables.sort("table").iter_rows(named=True)
    ]
    nouns = [
        [n["kind"], n["name"], str(n["version"]), n["fingerprint"]]
        for n in data.nouns.sort("kind", "name").iter_rows(named=True)
    ]
    body = page.table(heads, rows)
    if nouns:
        kinds = [
            page.Column("Kind"),
            page.Column("Name", "name"),
            page.Column("Version", "number"),
            page.Column("Fingerprint", "name"),
        ]
        body += page.heading("Contracts and recipes") + page.table(kinds, nouns)
    return page.Section("versions", title, lead, body)
