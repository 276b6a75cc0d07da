"""What a check saw in a batch: the lines of which verdicts are made."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np

from .expectation import BatchCheck, Check, Outcome, RowCheck, Severity
from .suite import roots

SCHEMA = "schema"  # the check that rows conform to the schema


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What one check saw in one batch.

    `evaluated` and `unexpected` count rows; `value` is what was observed as a number (times in µs), for checks of the
    batch; `observed` says it for a person, `example` is a value of a row that fails. Unmet means `success` is false,
    `mostly` taken into account. A check that could not be evaluated is unmet, and `evaluated` is 0.
    """

    check: str
    column: str | None
    severity: Severity
    success: bool
    evaluated: int
    unexpected: int
    expected: str
    observed: str
    value: Any = None
    example: str | None = None


def column_of(check: Check) -> str | None:
    """The columns that a check is about, as a verdict names them."""
    return ", ".join(check.columns) or None


def not_there(
    check: Check, needs: Collection[str], evaluated: int, rows: int, absent: Collection[str]
) -> CheckResult | None:
    """The answer of a check that had nothing to look at, because the source lacks a column that it needs, be it in its
    row condition; else None.
    """
    lacking = sorted((roots(check) | set(needs)) & set(absent)) if absent and rows else []
    if not lacking or (evaluated and isinstance(check, RowCheck)):
        return None
    return not_evaluated(check, f"the source has no column {', '.join(lacking)}")


def not_evaluated(check: Check, why: str) -> CheckResult:
    return CheckResult(
        check.type, column_of(check), check.severity, False, 0, 0, check.expected, f"not evaluated: {why}"
    )


def of_batch(check: BatchCheck, evaluated: int, seen: Outcome) -> CheckResult:
    return CheckResult(
        check.type,
        column_of(check),
        check.severity,
        seen.success,
        evaluated,
        0,
        check.expected,
        seen.observed,
        seen.value,
    )


def of_counts(check: RowCheck, evaluated: int, unexpected: int, success: bool, example: str | None) -> CheckResult:
    observed = f"{unexpected} of {evaluated} rows" + ("" if example is None else f", e.g. {example}")
    expected = check.expected if check.mostly == 1 else f"{check.expected}, in {check.mostly:.6g} of rows or more"
    return CheckResult(
        check.type,
        column_of(check),
        check.severity,
        success,
        evaluated,
        unexpected,
        expected,
        observed,
        example=example,
    )


def of_schema(nulls: list[tuple[str, np.ndarray]], rows: int) -> CheckResult:
    bad = len(np.unique(np.concatenate([at for _, at in nulls]))) if nulls else 0
    observed = "; ".join(f"{path}: null in {len(at)} rows" for path, at in nulls) or "as expected"
    return CheckResult(SCHEMA, None, "error", bad == 0, rows, bad, "no null where the schema allows none", observed)


def told(result: CheckResult) -> str:
    of = f" of {result.column}" if result.column else ""
    return f"{result.check}{of}: expected {result.expected}, got {result.observed}"
