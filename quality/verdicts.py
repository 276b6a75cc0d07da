"""Verdicts as rows: what a gate said of batches, a row a batch and a row a check, built for many batches at once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa

from ..schemas.shapes import VERDICTS
from .results import CheckResult

STOP = "stop"
BATCH = "batch"  # the row of the verdicts table that sums a batch up
EXPECTED_OF_BATCH = "no critical check unmet, quarantine within its limit"


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """What became of a batch, and what the checks saw. Unless stopped, read = admitted + quarantined + duplicates."""

    verdict_id: str
    run_id: str
    at_us: int
    table: str
    contract: str
    contract_version: int
    source: str
    event_day: date | None
    verdict: str
    stop_reason: str | None
    read: int
    admitted: int
    quarantined: int
    duplicates: int
    late: int
    checks: tuple[CheckResult, ...]


def rows_of(accounts: Sequence[Account]) -> pa.Table:
    """Rows of `shapes.VERDICTS`: of each batch, in order, one that sums it up, then one a check."""
    seen: dict[int, dict[str, list[Any]]] = {}  # most batches of a group share their checks
    columns: dict[str, list[Any]] = {name: [] for name in VERDICTS.names}
    for one in accounts:
        of_checks = seen.get(id(one.checks))
        if of_checks is None:
            of_checks = seen[id(one.checks)] = _of_checks(one.checks)
        for name, value in _of_batch(one).items():
            columns[name].append(value)
            columns[name] += of_checks[name]
    owners = pa.array(np.repeat(np.arange(len(accounts)), [1 + len(one.checks) for one in accounts]))
    arrays = []
    for field in VERDICTS:
        if field.name in _COMMON:
            values = [getattr(one, _COMMON[field.name]) for one in accounts]
            arrays.append(pa.array(values, field.type).take(owners))
        else:
            arrays.append(pa.array(columns[field.name] or [None] * len(owners), field.type))
    return pa.Table.from_arrays(arrays, schema=VERDICTS)


# What all rows of a batch say alike, and what an account calls it.
_COMMON = {
    name: {"at": "at_us"}.get(name, name)
    for name in (
        "verdict_id",
        "run_id",
        "at",
        "table",
        "contract",
        "contract_version",
        "source",
        "event_day",
        "verdict",
    )
}


def _of_batch(one: Account) -> dict[str, Any]:
    counted = f"{one.admitted} admitted, {one.quarantined} quarantined, {one.duplicates} duplicates"
    return {
        "check": BATCH,
        "column": None,
        "severity": "critical",
        "success": one.verdict != "stop",
        "evaluated": one.read,
        "unexpected": one.quarantined,
        "admitted": one.admitted,
        "duplicates": one.duplicates,
        "late": one.late,
        "expected": EXPECTED_OF_BATCH,
        "observed": one.stop_reason or counted,
        "value": None,
    }


def _of_checks(checks: Sequence[CheckResult]) -> dict[str, list[Any]]:
    nothing = [None] * len(checks)
    same = ("check", "column", "severity", "success", "evaluated", "unexpected", "expected", "observed")
    columns: dict[str, list[Any]] = {name: [getattr(result, name) for result in checks] for name in same}
    columns |= dict.fromkeys(("admitted", "duplicates", "late"), nothing)
    return columns | {"value": [_number(result) for result in checks]}


def _number(result: CheckResult) -> float | None:
    """What a check observed, if it is one number; null where it is none (NaN, infinity) or several."""
    value = result.value
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        return None
    return float(value) if math.isfinite(value) else None


def versioned(verdict: pa.Table, version: int) -> pa.Table:
    """Rows of a verdict, with the version of the table that holds the rows it is about; of "stop" none does, though
    what became of quarantined rows was committed.
    """
    if verdict.num_rows and verdict["verdict"][0].as_py() == STOP:
        return verdict
    at = verdict.schema.get_field_index("table_version")
    return verdict.set_column(at, verdict.schema.field(at), pa.array([version] * verdict.num_rows, pa.int64()))


def uncommitted(verdict: pa.Table) -> pa.Table:
    """Rows of one verdict that no commit carries, under an id of its own: what is tried again has the same id until a
    commit names it.
    """
    at = verdict.schema.get_field_index("verdict_id")
    told = f"{verdict['verdict_id'][0]}-at-{verdict['at'].cast(pa.int64())[0]}"
    return verdict.set_column(at, verdict.schema.field(at), pa.array([told] * verdict.num_rows, pa.string()))
