"""The quality report on commits: which verdict let the rows of a commit in, and which commit a verdict led to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import polars as pl

from .. import numbers
from ..periods import STATES, plain_name
from . import page
from .checks import WORDS
from .rows import short

VERDICTS_MAX = 60
VERDICTS_OF_COMMIT = 3  # shown; many producers' batches are committed at once
UNMET_MAX = 4  # of a verdict


@dataclass(frozen=True, slots=True)
class CommitSeen:
    """A commit of a table, as its log has it. `verdicts` are the ids of those that let its rows in."""

    table: str
    version: int
    at: datetime
    operation: str
    verdicts: tuple[str, ...]


def commits_sections(verdicts: pl.DataFrame, commits: Sequence[CommitSeen]) -> list[page.Section]:
    """Verdicts and commits, each with links to the other; from rows shaped shapes.VERDICTS."""
    batches = verdicts.filter(pl.col("check") == "batch").sort("at", "verdict_id", descending=True)
    states = dict(batches.select("verdict_id", "verdict").reverse().iter_rows())  # of the newest, where several
    worst = [_worst(commit, states) for commit in commits]
    named = [verdict_id for some in worst for verdict_id in some]
    kept = batches.with_row_index("_place").filter(
        (pl.col("_place") < VERDICTS_MAX) | pl.col("verdict_id").is_in(named)
    )
    seen = kept.to_dicts()
    # A batch that was stopped and was read again had the same verdict id once: its commit is the last one's.
    links = {
        row["verdict_id"]: (f"verdict-{place}", f"{WORDS[row['verdict']]}: {short(row['source'])}")
        for place, row in sorted(enumerate(seen), key=lambda one: -one[0])
    }
    there = {(commit.table, commit.version) for commit in commits}
    by_verdict = {v: (c.table, c.version) for c in commits for v in c.verdicts}
    unmet = _unmet(verdicts)
    lines = [_verdict(row, by_verdict, there, unmet) for row in seen]
    return [_verdicts_section(lines, batches.height), _commits_section(commits, worst, links)]


def _worst(commit: CommitSeen, states: Mapping[str, str]) -> list[str]:
    """The worst of a commit's verdicts, as many as are shown."""
    rank = {state: place for place, state in enumerate(STATES)}
    return sorted(commit.verdicts, key=lambda v: -rank.get(states.get(v, ""), -1))[:VERDICTS_OF_COMMIT]


def _verdicts_section(lines: list[list[str]], total: int) -> page.Section:
    title, lead = "Verdicts", "What did the gate say of each batch, and which commit has its rows?"
    if not lines:
        body = page.empty("No verdicts yet: every write leaves some.", "reclake ingest LAKE CONTRACT SOURCE…")
        return page.Section("verdicts", title, lead, body)
    heads = [
        page.Column("Commit", "short"),
        page.Column("Batch"),
        page.Column("Verdict"),
    ]
    heads += [page.Column(n, "number") for n in ("Read", "Admitted", "Quarantined", "Duplicates")]
    body = page.table(heads, lines, ids=[f"verdict-{place}" for place in range(len(lines))])
    if total > len(lines):
        body += page.say(
            f"The newest {len(lines)} of {numbers.count(total)}; all are in `LAKE/tables/verdicts`.", "caption"
        )
    return page.Section("verdicts", title, lead, body)


def _unmet(verdicts: pl.DataFrame) -> Mapping[tuple[str, datetime], str]:
    """By verdict's id and time, the checks that were not met, a line each."""
    bad = verdicts.filter(pl.col("check") != "batch", ~pl.col("success"))
    found: dict[tuple[str, datetime], list[str]] = {}
    for row in bad.iter_rows(named=True):
        column = f"{row['column']}: " if row["column"] else ""
        rows = f", {numbers.several(row['unexpected'], 'row', 'rows')}" if row["unexpected"] else ""
        found.setdefault((row["verdict_id"], row["at"]), []).append(f"{column}{plain_name(row['check'])}{rows}")
    return {
        verdict: "\n".join(
            lines[:UNMET_MAX] + ([f"and {len(lines) - UNMET_MAX} more"] if len(lines) > UNMET_MAX else [])
        )
        for verdict, lines in found.items()
    }


def _verdict(
    row: Mapping[str, Any],
    by_verdict: Mapping[str, tuple[str, int]],
    there: set[tuple[str, int]],
    unmet: Mapping[tuple[str, datetime], str],
) -> list[str]:
    known = None if row["table_version"] is None else (row["table"], row["table_version"])
    written = row["verdict"] != "stop"
    commit = known or (by_verdict.get(row["verdict_id"]) if written else None)
    anchor = None if commit is None or commit not in there else _anchor(*commit)
    nowhere = numbers.DASH if written else "nothing was written"
    link = nowhere if commit is None else page.link(f"{commit[0]} {commit[1]}", anchor)
    counts = [numbers.count(row["evaluated"])]
    counts += [numbers.count(row[n] or 0) if written else "0" for n in ("admitted", "unexpected", "duplicates")]
    reason = unmet.get((row["verdict_id"], row["at"]), "")
    if row["verdict"] == "stop" and not reason:
        reason = row["observed"] or ""
    note = f"{row['source']}, run {row['run_id']}"
    batch = page.under(
        page.link(f"{row['table']}: {short(row['source'])}", None, note=note),
        f"{_minute(row['at'])}\n{row['verdict_id']}",
    )
    verdict = page.badge(row["verdict"], WORDS[row["verdict"]])
    return [link, batch, page.under(verdict, reason) if reason else verdict, *counts]


def _minute(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M}"


def _commits_section(
    commits: Sequence[CommitSeen], worst: Sequence[Sequence[str]], verdicts: Mapping[str, tuple[str, str]]
) -> page.Section:
    """`worst`: of each commit the verdicts to show; `verdicts`: anchor and text of the link to each, by id."""
    title, lead = "Commits", "Which verdict let the rows of each version of a table in?"
    if not commits:
        body = page.empty("Nothing was written yet.", "reclake ingest LAKE CONTRACT SOURCE…")
        return page.Section("commits", title, lead, body)
    heads = [
        page.Column("Table", "name"),
        page.Column("Version", "number"),
        page.Column("At", "short"),
        page.Column("Verdict"),
    ]
    lines = []
    for commit, some in zip(commits, worst, strict=True):
        links = [page.link(text, anchor, note=v) for v in some for anchor, text in [verdicts.get(v, (None, v))]]
        more = len(commit.verdicts) - len(some)
        links += [page.Html(f"and {numbers.count(more)} more")] if more else []
        shown = page.Html(", ".join(links)) if links else f"names none ({commit.operation.lower()})"
        lines.append([commit.table, str(commit.version), _minute(commit.at), shown])
    ids = [_anchor(commit.table, commit.version) for commit in commits]
    body = page.table(heads, lines, ids=ids)
    return page.Section("commits", title, lead, body + page.say("Times are UTC.", "caption"))


def _anchor(table: str, version: int) -> str:
    return f"commit-{table}-{version}"
