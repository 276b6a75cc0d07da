"""The quality report: what came in, what was refused and why, check by check. Plain data in, one HTML document out.

Pure: no storage, no clock, no external load, no script.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from ...schemas import shapes, times
from . import page
from .checks import changes_section, every_section, failing_section, histories, with_refusals
from .commits import CommitSeen, commits_sections
from .rows import FailedRow, quarantine_section, rows_section

GATED = ("events", "content")  # what comes in from outside; all else reclake derives itself


@dataclass(frozen=True, slots=True)
class QualityData:
    """What a quality report is made of. Values that nobody is to be shown are masked before they come here.

    Attributes:
        verdicts: shaped shapes.VERDICTS.
        outcomes: outcome ("waiting", "admitted", "duplicate", "expired"), rows: where quarantined rows are now.
        refused: contract, source, day, events: what was quarantined from where and when, and is kept.
        reasons: contract, check, column, events: why; an event with several reasons is under each.
        before: see report_checks.BEFORE.
        failed: some rows that wait in quarantine.
        commits: newest first.
    """

    lake: str
    root: str
    generated_at_us: int
    verdicts: pl.DataFrame
    outcomes: pl.DataFrame
    refused: pl.DataFrame
    reasons: pl.DataFrame
    before: pl.DataFrame
    failed: Sequence[FailedRow]
    commits: Sequence[CommitSeen]


def render_quality(data: QualityData) -> str:
    """The report as one HTML document, the same for the same data."""
    generated = times.iso(data.generated_at_us // times.US_PER_SECOND * times.US_PER_SECOND)
    gated = data.verdicts.filter(pl.col("table").is_in(GATED), pl.col("source") != shapes.REPLAYED)
    found = histories(with_refusals(gated, data.before))
    if found:
        sections = [changes_section(found), failing_section(found)]
    else:
        body = page.empty("No verdicts yet: every write leaves some.", "reclake ingest LAKE CONTRACT SOURCE…")
        sections = [page.Section("changes", "What changed", "Is the newest as good as what came before it?", body)]
    sections += [quarantine_section(data.outcomes, data.refused, data.reasons), rows_section(data.failed, data.root)]
    sections += [every_section(found)] if found else []
    sections += commits_sections(data.verdicts, data.commits)
    return page.page(data.lake, [("Generated", generated)], sections, kind="quality report")
