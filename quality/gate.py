"""The gate: a batch goes in, admitted rows, rejected rows with reasons, and a verdict come out.

Nothing else makes an `Admitted`, and storage writes nothing else. A batch is looked at in one Polars selection; only
the rows that are rejected are looked at again, for their reasons.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import InitVar, dataclass
from datetime import date
from decimal import Decimal
from typing import Literal

import numpy as np
import polars as pl
import pyarrow as pa

from ..schemas.errors import GateError
from ..schemas.shapes import CONTRACT, VERDICTS
from ..schemas.times import from_us
from .conform import check_shape, exactly, same
from .jointly import judge_each, merged
from .judging import Judged, judge
from .reasons import INDEX, REJECTED, collect, missing
from .results import CheckResult, told
from .suite import CompiledSuite

Verdict = Literal["pass", "warn", "quarantine", "stop"]

EXPECTED_OF_BATCH = "no critical check unmet, quarantine within its limit"
BATCH = "batch"  # the row of the verdicts table that sums a batch up

_SEAL = object()
_NONE_REJECTED = pl.DataFrame(schema=REJECTED)


@dataclass(frozen=True, slots=True)
class Admitted:
    """Rows that a gate has admitted: exactly of its schema, nothing null that may not be. Only the gate makes it.

    `contract_version` is 0 and `verdict_id` empty for reclake's own records (see `record`).
    """

    rows: pa.Table
    contract: str
    contract_version: int
    verdict_id: str
    seal: InitVar[object] = None
    part_of: tuple[pa.Table, int] | None = None  # rows that were admitted together, and where these begin among them

    def __post_init__(self, seal: object) -> None:
        if seal is not _SEAL:
            raise TypeError("only the gate makes Admitted rows: call reclake.quality.gate.admit")

    def keep(self, mask: pl.Series | np.ndarray) -> Admitted:
        """The rows where `mask` (one bool per row, no nulls) is true: part of an admitted batch is admitted too."""
        kept = mask.to_numpy() if isinstance(mask, pl.Series) else np.asarray(mask)
        if kept.dtype != np.bool_ or kept.shape != (self.rows.num_rows,):
            raise GateError(
                "not a mask of these rows",
                expected=f"{self.rows.num_rows} bools",
                got=f"{kept.dtype} of shape {kept.shape}",
            )
        rows = self.rows if kept.all() else self.rows.filter(pa.array(kept))
        return Admitted(rows, self.contract, self.contract_version, self.verdict_id, _SEAL)

    def parts(self, sizes: Sequence[int]) -> list[Admitted]:
        """The rows in consecutive parts of so many rows: parts of an admitted batch are admitted too."""
        if sum(sizes) != self.rows.num_rows or min(sizes, default=0) < 0:
            raise GateError("not the sizes of parts of these rows", expected=self.rows.num_rows, got=list(sizes))
        starts = np.cumsum([0, *sizes[:-1]]).tolist()
        return [
            Admitted(
                self.rows.slice(start, size),
                self.contract,
                self.contract_version,
                self.verdict_id,
                _SEAL,
                (self.rows, start),
            )
            for start, size in zip(starts, sizes, strict=True)
        ]

    def stored_as(self, schema: pa.Schema) -> Admitted:
        """The same rows as a table keeps them: the columns of `schema` in the order of the rows', under its names and
        types, then `contract`, what they were admitted by.
        """
        rows = _stored(self.rows, schema, self.contract, self.contract_version)
        return Admitted(rows, self.contract, self.contract_version, self.verdict_id, _SEAL)


@dataclass(frozen=True, slots=True)
class Held:
    """Rows of a part of a partition, in its schema: to be staged, and to be published once the gate has judged all of
    it. Only the gate makes it, see `admit_part` and `hold`.
    """

    rows: pa.Table
    seal: InitVar[object] = None

    def __post_init__(self, seal: object) -> None:
        if seal is not _SEAL:
            raise TypeError("only the gate makes Held rows: call reclake.quality.gate.admit_part")


def hold(part: pa.Table, schema: pa.Schema, stored: pa.Schema, *, contract: str, contract_version: int) -> Held:
    """Rows of a part as their table keeps them, see `Admitted.stored_as`; the gate has yet to say which of them stay.

    Raises:
        GateError: the part has other columns or types than `schema`.
    """
    check_shape(part, schema, contract)
    # A row without what the schema requires will be rejected, with its reason; until then it is where checks find it.
    found = [field.with_nullable(field.nullable or part[field.name].null_count > 0) for field in schema]
    kept = [field.with_nullable(known.nullable) for field, known in zip(stored, found, strict=True)]
    rows = exactly(part, pa.schema(found), contract)
    return Held(_stored(rows, pa.schema(kept), contract, contract_version), _SEAL)


def _stored(rows: pa.Table, schema: pa.Schema, contract: str, contract_version: int) -> pa.Table:
    told = pa.array([f"{contract}/{contract_version}"]).take(pa.array(np.zeros(rows.num_rows, "i4")))
    return exactly(rows.rename_columns(schema.names), schema, contract).append_column(CONTRACT, told)


def join(parts: Sequence[Admitted]) -> Admitted:
    """Admitted batches of one schema as one. It is of the first part's contract.

    The rows are in the order of the parts, unless they are all the rows of batches that were admitted together: those
    are in the order they had there, and need not be copied.
    """
    first = parts[0]
    rows = first.rows if len(parts) == 1 else _whole(parts)
    if rows is None:
        rows = pa.concat_tables([part.rows for part in parts]).combine_chunks()
    return Admitted(rows, first.contract, first.contract_version, first.verdict_id, _SEAL)


def _whole(parts: Sequence[Admitted]) -> pa.Table | None:
    """The rows that were admitted together, if these are their parts, each once."""
    if parts[0].part_of is None:
        return None
    whole = parts[0].part_of[0]
    some = [part for part in parts if part.rows.num_rows]
    places = {part.part_of[1] for part in some if part.part_of is not None and part.part_of[0] is whole}
    complete = len(places) == len(some) and sum(part.rows.num_rows for part in some) == whole.num_rows
    return whole if complete else None


@dataclass(frozen=True, slots=True)
class Admission:
    """A gate's answer for one batch.

    `rejected`: `index` (UInt32, row of the batch) and `reasons` (see `shapes.REASON`), by index: the rows that fail an
    unmet check of severity error or critical, each with every unmet check it fails, warnings included.
    On "stop" nothing is admitted, whether or not all rows have reasons, and `stop_reason` says why.
    """

    admitted: Admitted
    rejected: pl.DataFrame
    checks: tuple[CheckResult, ...]
    verdict: Verdict
    stop_reason: str | None


def admit(
    batch: pa.Table,
    suite: CompiledSuite,
    schema: pa.Schema,
    *,
    contract: str,
    contract_version: int,
    verdict_id: str,
    quarantine_limit: float = 1.0,
    quarantine_limit_rows: int | None = None,
    refused_before: int = 0,
    absent: Collection[str] = (),
) -> Admission:
    """Judges a batch that has the columns of `schema`, in any order, by `schema` and `suite`.

    A critical check that is unmet stops the batch, and so does a rejected share above `quarantine_limit` (0 to 1) or
    more rejected rows than `quarantine_limit_rows`, where the rows count that did not get so far as the gate
    (`refused_before`). Rows that fail a check whose `mostly` is met all the same are admitted.

    A check that cannot be evaluated is unmet. One whose column the source did not have (`absent`: the batch has nulls
    or defaults there) rejects no row. One that Polars cannot evaluate on these rows stops the batch unless it is a
    warning: nobody can say which rows fail it.

    Raises:
        GateError: the batch has other columns or types than `schema`, or than the suite was compiled for.
    """
    check_shape(batch, schema, contract)
    _check_suite(suite, schema, contract)
    answers = suite.run(batch)
    judged = judge(suite, answers, missing(batch, schema), absent)
    checks, failures = judged.checks, list(judged.failures.values())

    rejected = np.zeros(batch.num_rows, dtype=np.bool_)
    for failure in failures:
        if failure.severity != "warning":
            rejected[failure.rows] = True
    out = int(rejected.sum()) + refused_before
    all_rows = batch.num_rows + refused_before
    stop_reason = judged.unknown or _stop_reason(checks, out, all_rows, quarantine_limit, quarantine_limit_rows)
    rows = batch.slice(0, 0) if stop_reason else batch
    if rejected.any() and not stop_reason:
        rows = batch.filter(pa.array(~rejected))
    return Admission(
        admitted=Admitted(exactly(rows, schema, contract), contract, contract_version, verdict_id, _SEAL),
        rejected=collect(answers.frame, failures, rejected) if rejected.any() else _NONE_REJECTED.clone(),
        checks=checks,
        verdict=_verdict(checks, stop_reason, any_rejected=out > 0),
        stop_reason=stop_reason,
    )


def admit_each(
    batches: Sequence[pa.Table],
    suite: CompiledSuite,
    schema: pa.Schema,
    *,
    contract: str,
    contract_version: int,
    verdict_ids: Sequence[str],
    quarantine_limit: float = 1.0,
    quarantine_limit_rows: int | None = None,
    refused_before: Sequence[int] | None = None,
    absent: Collection[str] = (),
) -> list[Admission]:
    """What `admit` says of each batch, in about the time that one large batch takes.

    The checks run over all rows together, as far as that gives the answers that each batch would have alone: see
    `jointly`. What was admitted of all batches is one table, of which each has its part.
    """
    refused = [0] * len(batches) if refused_before is None else refused_before

    def alone(i: int) -> Admission:
        return admit(
            batches[i],
            suite,
            schema,
            contract=contract,
            contract_version=contract_version,
            verdict_id=verdict_ids[i],
            quarantine_limit=quarantine_limit,
            quarantine_limit_rows=quarantine_limit_rows,
            refused_before=refused[i],
            absent=absent,
        )

    alike = all(batch.schema == batches[0].schema for batch in batches[1:])
    if len(batches) < 2 or not alike:
        return [alone(i) for i in range(len(batches))]
    check_shape(batches[0], schema, contract)
    _check_suite(suite, schema, contract)
    whole = pa.concat_tables(batches).combine_chunks()
    sizes = np.array([batch.num_rows for batch in batches])
    starts = np.cumsum(sizes) - sizes
    nulls = missing(whole, schema)
    judged, frame = judge_each(suite, batches, whole, nulls, absent)
    rejected = np.zeros(whole.num_rows, dtype=np.bool_)
    for one, start in zip(judged, starts, strict=True):
        for failure in one.failures.values():
            if failure.severity != "warning":
                rejected[failure.rows + start] = True
    out = np.add.reduceat(np.append(rejected, False), starts) * (sizes > 0) + refused
    stops = [
        one.unknown or _stop_reason(one.checks, int(o), int(size) + r, quarantine_limit, quarantine_limit_rows)
        for one, o, size, r in zip(judged, out, sizes, refused, strict=True)
    ]
    keep = ~(rejected | np.repeat(np.array([stop is not None for stop in stops]), sizes))
    exact = exactly(whole if keep.all() else whole.filter(pa.array(keep)), schema, contract)
    kept = np.add.reduceat(np.append(keep, False), starts) * (sizes > 0)
    reasons = _NONE_REJECTED
    if rejected.any():
        reasons = collect(frame, merged([path for path, _ in nulls], judged, starts), rejected)
    bounds = np.searchsorted(reasons[INDEX].to_numpy(), np.append(starts, whole.num_rows))
    begins = np.cumsum(kept) - kept
    admissions = []
    for i, one in enumerate(judged):
        part = (exact, int(begins[i]))
        rows = exact.slice(part[1], int(kept[i]))
        mine = _NONE_REJECTED.clone()
        if bounds[i] < bounds[i + 1]:
            mine = reasons.slice(bounds[i], bounds[i + 1] - bounds[i])
            mine = mine.with_columns(mine[INDEX] - int(starts[i]))
        admitted = Admitted(rows, contract, contract_version, verdict_ids[i], _SEAL, part)
        verdict = _verdict(one.checks, stops[i], any_rejected=bool(out[i]))
        admissions.append(Admission(admitted, mine, one.checks, verdict, stops[i]))
    return admissions


def record(rows: pa.Table, schema: pa.Schema, *, name: str) -> Admitted:
    """Admits rows that reclake itself made (verdicts, quarantine, a directory ...): they must conform to `schema`.

    Raises:
        GateError: they do not; a ledger is written whole or not at all.
    """
    check_shape(rows, schema, name)
    for path, at in missing(rows, schema):
        raise GateError(
            "a null where the schema allows none",
            where=f"{name}, column {path}",
            expected="not null",
            got=f"null in {len(at)} of {rows.num_rows} rows, first in row {at[0]}",
        )
    return Admitted(exactly(rows, schema, name), name, 0, "", _SEAL)


def admit_part(
    part: pa.Table, suite: CompiledSuite, schema: pa.Schema, *, name: str
) -> tuple[Held, tuple[CheckResult, ...]]:
    """A part of a partition that is judged when all its parts are there: rows to stage, and what `suite` saw in them.

    A part that lacks what the schema requires has no rows.

    Raises:
        GateError: the part has other columns or types than `schema`, or than the suite was compiled for.
    """
    check_shape(part, schema, name)
    _check_suite(suite, schema, name)
    nulls = missing(part, schema)
    judged = judge(suite, suite.run(part), nulls, ())
    return Held(exactly(part.slice(0, 0) if nulls else part, schema, name), _SEAL), judged.checks


def admit_whole(
    checks: Sequence[CheckResult], schema: pa.Schema, *, contract: str, contract_version: int, verdict_id: str
) -> Admission:
    """The answer for a partition, by what every check saw in all of its rows: all of it is published, or nothing.

    Any unmet check that is more than a warning stops it: rows that reclake made have no quarantine to go to. The rows
    are in files and not here.
    """
    unmet = next((told(check) for check in checks if not check.success and check.severity != "warning"), None)
    return Admission(
        admitted=Admitted(schema.empty_table(), contract, contract_version, verdict_id, _SEAL),
        rejected=_NONE_REJECTED.clone(),
        checks=tuple(checks),
        verdict=_verdict(checks, unmet, any_rejected=False),
        stop_reason=unmet,
    )


def admit_pieces(
    judged: Judged,
    rows: int,
    schema: pa.Schema,
    *,
    contract: str,
    contract_version: int,
    verdict_id: str,
    quarantine_limit: float = 1.0,
    quarantine_limit_rows: int | None = None,
) -> Admission:
    """The answer of `admit` for a batch whose rows are in files; what was found in each that fails a check is here."""
    rejected = np.zeros(rows, dtype=np.bool_)
    for failure in judged.failures.values():
        if failure.severity != "warning":
            rejected[failure.rows] = True
    out = int(rejected.sum())
    stop_reason = judged.unknown or _stop_reason(judged.checks, out, rows, quarantine_limit, quarantine_limit_rows)
    mine = [failure.only(rejected) for failure in judged.failures.values()]
    return Admission(
        admitted=Admitted(schema.empty_table(), contract, contract_version, verdict_id, _SEAL),
        rejected=collect(pl.DataFrame(), mine, rejected),
        checks=judged.checks,
        verdict=_verdict(judged.checks, stop_reason, any_rejected=out > 0),
        stop_reason=stop_reason,
    )


def _stop_reason(
    checks: Sequence[CheckResult], rejected: int, rows: int, limit: float, limit_rows: int | None
) -> str | None:
    for result in checks:
        if result.severity == "critical" and not result.success:
            return told(result)
    if rows and rejected / rows > limit:
        return f"{rejected} of {rows} rows rejected, more than the contract's quarantine limit of {limit:.6g}"
    if limit_rows is not None and rejected > limit_rows:
        return f"{rejected} of {rows} rows rejected, more than the contract's quarantine limit of {limit_rows} rows"
    return None


def _verdict(checks: Sequence[CheckResult], stop_reason: str | None, *, any_rejected: bool) -> Verdict:
    if stop_reason is not None:
        return "stop"
    if any_rejected:
        return "quarantine"
    return "pass" if all(result.success for result in checks) else "warn"


def _check_suite(suite: CompiledSuite, schema: pa.Schema, name: str) -> None:
    for column, type_ in suite.columns.items():
        index = schema.get_field_index(column)
        if index < 0 or not same(schema.field(index).type, type_):
            raise GateError(
                "a suite that was compiled for another schema",
                where=f"{name}, suite of {suite.name}, column {column}",
                expected=type_,
                got="no such column" if index < 0 else schema.field(index).type,
                hint="compile the suite again with the contract's schema",
            )


def verdict_rows(
    admission: Admission,
    *,
    run_id: str,
    at_us: int,
    table: str,
    source: str,
    event_day: date | None,
    read: int,
    duplicates: int,
    late: int,
    admitted: int | None = None,
    quarantined: int | None = None,
) -> pa.Table:
    """The verdict as rows of `shapes.VERDICTS`: one for the batch, then one per check.

    `read`, `duplicates`, `late`, and where they differ from the gate's own counts `admitted` (duplicates left out) and
    `quarantined` (undecodable rows included), are counts of the whole batch as the run saw it.
    """
    rejected = admission.rejected.height if quarantined is None else quarantined
    kept = admission.admitted.rows.num_rows if admitted is None else admitted
    batch = {
        "check": BATCH,
        "column": None,
        "severity": "critical",
        "success": admission.verdict != "stop",
        "evaluated": read,
        "unexpected": rejected,
        "admitted": kept,
        "duplicates": duplicates,
        "late": late,
        "expected": EXPECTED_OF_BATCH,
        "observed": admission.stop_reason or f"{kept} admitted, {rejected} quarantined, {duplicates} duplicates",
    }
    keys = ("check", "column", "severity", "success", "evaluated", "unexpected", "expected", "observed")
    checks = [{key: getattr(result, key) for key in keys} | {"value": _number(result)} for result in admission.checks]
    common = {
        "verdict_id": admission.admitted.verdict_id,
        "run_id": run_id,
        "at": from_us(at_us),
        "table": table,
        "contract": admission.admitted.contract,
        "contract_version": admission.admitted.contract_version,
        "source": source,
        "event_day": event_day,
        "verdict": admission.verdict,
    }
    return pa.Table.from_pylist([common | row for row in [batch, *checks]], schema=VERDICTS)


def _number(result: CheckResult) -> float | None:
    """What a check observed, if it is one number; null where it is none (NaN, infinity) or several."""
    value = result.value
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        return None
    return float(value) if math.isfinite(value) else None


def versioned(verdict: pa.Table, version: int) -> pa.Table:
    """Rows of a verdict, with the version of the table that holds the rows it is about."""
    at = verdict.schema.get_field_index("table_version")
    return verdict.set_column(at, verdict.schema.field(at), pa.array([version] * verdict.num_rows, pa.int64()))
