"""Findings: what was not as expected of a batch, in the few lines that somebody reads first."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, TypedDict

import polars as pl

from .gate import Admission

CELL_CHARS_MAX = 48
HEADS = ("check", "column", "severity", "expected", "observed", "rows", "e.g.", "went")


@dataclass(frozen=True, slots=True)
class Finding:
    """An unmet check. `rows` fail it, of the `evaluated` it looked at (0: of the whole batch, or before the gate).

    `went`: what became of those rows: "quarantine", "table" (only recorded) or "nowhere" (the batch was stopped).
    """

    check: str
    column: str | None
    severity: str
    expected: str
    observed: str
    rows: int
    evaluated: int
    example: str | None
    went: str

    @property
    def line(self) -> tuple[str, ...]:
        """The finding under HEADS."""
        rows = f"{self.rows:,}" if self.rows else ""
        seen = f"{self.rows:,} of {self.evaluated:,} rows" if self.rows and self.evaluated else self.observed
        shown = self.check, self.column or "", self.severity, self.expected, seen, rows, self.example or "", self.went
        return tuple(map(str, shown))


def findings(admission: Admission, reasons: Sequence[pl.DataFrame] = ()) -> tuple[Finding, ...]:
    """What a gate found, worst first, and why rows did not get so far: frames of their `reasons`, see shapes.REASON."""
    stopped = admission.verdict == "stop"
    gone = "nowhere" if stopped else "quarantine"
    found = [
        Finding(
            result.check,
            result.column,
            result.severity,
            result.expected,
            result.observed,
            result.unexpected,
            result.evaluated,
            result.example,
            "table" if not stopped and (result.severity == "warning" or not result.unexpected) else gone,
        )
        for result in admission.checks
        if not result.success
    ]
    return merged([found, _before(reasons, gone)])


def _before(reasons: Sequence[pl.DataFrame], went: str) -> list[Finding]:
    frames = [frame.select("reasons").explode("reasons").unnest("reasons") for frame in reasons if frame.height]
    if not frames:
        return []
    counted = (
        pl.concat(frames)
        .group_by("check", "column", "expected", maintain_order=True)
        .agg(pl.col("severity").first(), pl.col("got").first(), pl.len().alias("rows"))
    )
    return [
        Finding(row["check"], row["column"], row["severity"], row["expected"], "", row["rows"], 0, row["got"], went)
        for row in counted.iter_rows(named=True)
    ]


def merged(of_batches: Iterable[Iterable[Finding]]) -> tuple[Finding, ...]:
    """The findings of many batches as those of one, the worst and most frequent first."""
    together: dict[tuple[str | None, ...], Finding] = {}
    for found in of_batches:
        for one in found:
            key = (one.check, one.column, one.severity, one.expected, one.went)
            known = together.get(key)
            if known is not None:
                one = replace(
                    one,
                    rows=one.rows + known.rows,
                    evaluated=one.evaluated + known.evaluated,
                    example=known.example or one.example,
                )
            together[key] = one
    worst = {"critical": 0, "error": 1}
    return tuple(sorted(together.values(), key=lambda one: (worst.get(one.severity, 2), -one.rows, one.check)))


class Told(TypedDict):
    """What an error says of findings, to people and to machines."""

    table: list[str]
    findings: list[dict[str, Any]]


def told(found: Sequence[Finding]) -> Told:
    """The findings as parts of a GateError."""
    return {"table": table_of(found), "findings": [asdict(one) for one in found]}


def table_of(found: Sequence[Finding], *, lines_max: int = 12) -> list[str]:
    """The findings as lines of text with aligned columns, long cells cut, for where nothing draws tables."""
    rows = [HEADS, *[one.line for one in found[:lines_max]]]
    cells = [[_cut(cell) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in cells) for i in range(len(HEADS))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
    more = len(found) - lines_max
    return lines + ([f"and {more} more"] if more > 0 else [])


def _cut(cell: str) -> str:
    cell = cell.replace("\n", "\\n").replace("\t", "\\t")  # the table's own lines and columns stay as they are
    return cell if len(cell) <= CELL_CHARS_MAX else cell[: CELL_CHARS_MAX - 1] + "…"
