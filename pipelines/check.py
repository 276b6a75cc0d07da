"""Check: what a gate would say of a file, without writing anything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from ..quality import results
from ..quality.findings import Finding, findings, merged
from ..schemas.contract import Contract
from ..schemas.errors import ReclakeError
from ..storage.catalog import Catalog
from . import resolving, sources
from .ingest import BATCH_ROWS, admit_nothing, refused_reasons, rejected_rows, stamp_and_admit, target_of
from .private import Shield, hidden
from .run import Run


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What would happen: counts in events, and per check the rows it looked at and the rows that fail it.

    read = admitted + quarantined + stopped; `stopped` are the events of batches of which nothing would be written.
    """

    rows: int
    read: int
    admitted: int
    quarantined: int
    stopped: int
    verdict: str
    checks: pl.DataFrame  # check, column, severity, expected, evaluated, unexpected
    reasons: pl.DataFrame  # check, column, severity, expected, got, rows
    findings: tuple[Finding, ...]  # what would not be as expected, worst first
    stop_reason: str | None


def check(catalog: Catalog, contract: Contract, paths: Sequence[str | Path], *, run: Run | None = None) -> CheckResult:
    """Decode, resolve and gate files as ingest would, and write nothing. Duplicates are not looked for."""
    run = run or Run()
    target = target_of(catalog, contract)
    shield = Shield.for_a_look(contract)
    rows = read = admitted = quarantined = stopped = 0
    verdicts = set[str]()
    checks: list[results.CheckResult] = []
    reasons: list[pl.DataFrame] = []
    found: list[tuple[Finding, ...]] = []
    stop_reason = None
    for path in sources.discover(paths).files:
        judged = len(found)
        for read_batch in sources.open_source(path, contract=contract, batch_rows=BATCH_ROWS).batches(0):
            batch = hidden(read_batch, contract, shield)
            try:
                resolved = resolving.resolve(batch.frame, contract)
            except ReclakeError as error:
                raise error.within(path) from None
            refused = resolved.rejected.height + len(batch.undecodable)
            _, admission = stamp_and_admit(
                target,
                resolved.rows,
                arrival_us=run.now_us(),
                verdict_id="check",
                refused_before=refused,
                absent=resolved.absent,
            )
            found.append(findings(admission, refused_reasons(batch, resolved)))
            stop_reason = stop_reason or admission.stop_reason
            rejected = rejected_rows(batch, resolved, admission.rejected)
            rows += batch.source_rows
            events = resolved.rows.height + refused
            read += events
            if admission.verdict == "stop":
                stopped += events
            else:
                admitted += admission.admitted.rows.num_rows
                quarantined += rejected.height
            verdicts.add(admission.verdict)
            checks += admission.checks
            reasons.append(rejected.select("reasons").explode("reasons").unnest("reasons"))
        if len(found) == judged:
            admission = admit_nothing(target, verdict_id="check")
            found.append(findings(admission))
            stop_reason = stop_reason or admission.stop_reason
            verdicts.add(admission.verdict)
            checks += admission.checks
    return CheckResult(
        rows,
        read,
        admitted,
        quarantined,
        stopped,
        _worst(verdicts),
        _checks(checks),
        summary(reasons),
        merged(found),
        stop_reason,
    )


def summary(reasons: list[pl.DataFrame]) -> pl.DataFrame:
    """Reasons counted: check, column, severity, expected, an example of what was found, rows; most frequent first."""
    keys = ("check", "column", "severity", "expected")
    if not reasons:
        return pl.DataFrame(schema=dict.fromkeys([*keys, "got"], pl.String) | {"rows": pl.UInt32})
    return (
        pl.concat(reasons)
        .group_by(keys)
        .agg(pl.col("got").first(), pl.len().alias("rows"))
        .sort(["rows", *keys], descending=[True, False, False, False, False], nulls_last=True)
        .select(*keys, "got", "rows")
    )


def _checks(checks: list[results.CheckResult]) -> pl.DataFrame:
    schema = {"check": pl.String, "column": pl.String, "severity": pl.String, "expected": pl.String}
    frame = pl.DataFrame(
        {
            "check": [c.check for c in checks],
            "column": [c.column for c in checks],
            "severity": [c.severity for c in checks],
            "expected": [c.expected for c in checks],
            "evaluated": [c.evaluated for c in checks],
            "unexpected": [c.unexpected for c in checks],
        },
        schema=schema | {"evaluated": pl.Int64, "unexpected": pl.Int64},
    )
    return frame.group_by(list(schema), maintain_order=True).agg(pl.col("evaluated", "unexpected").sum())


def _worst(verdicts: set[str]) -> str:
    return next((v for v in ("stop", "quarantine", "warn") if v in verdicts), "pass")
