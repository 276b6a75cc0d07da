"""The gate: a batch goes in, admitted rows, rejected rows with reasons, and a verdict come out.

Nothing else makes an `Admitted`, and storage writes nothing else. A batch is looked at in one Polars selection; only
the rows that are rejected are looked at again, for their reasons.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import InitVar, dataclass, replace
from datetime import date
from typing import Literal

import numpy as np
import polars as pl
import pyarrow as pa

from ..schemas.errors import GateError
from ..schemas.shapes import CONTRACT
from .conform import check_shape, exactly, same
from .jointly import judge_each, merged
from .judging import Judged, judge
from .reasons import INDEX, REJECTED, collect, missing
from .results import CheckResult, told
from .suite import CompiledSuite
from .verdicts import Account, rows_of

Verdict = Literal["pass", "warn", "quarantine", "stop"]

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
        return _parts(self.rows, [self] * len(sizes), sizes)

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
    placed = sorted(parts, key=lambda part: (part.part_of[1] if part.part_of else 0, part.rows.num_rows))
    rows = first.rows if len(parts) == 1 else _whole(placed)
    if rows is None:
        rows = pa.concat_tables([part.rows for part in parts]).combine_chunks()
    return Admitted(rows, first.contract, first.contract_version, first.verdict_id, _SEAL)


def _whole(parts: Sequence[Admitted]) -> pa.Table | None:
    """The rows that were admitted together, if these are their parts, each once and in order."""
    if not parts or parts[0].part_of is None:
        return None
    whole, end = parts[0].part_of[0], 0
    for part in parts:
        if part.part_of is None or part.part_of[0] is not whole or part.part_of[1] != end:
            return None
        end += part.rows.num_rows
    return whole if end == whole.num_rows else None


def keep_each(parts: Sequence[Admitted], masks: Sequence[np.ndarray]) -> list[Admitted]:
    """`keep` of each. Of all that was admitted together it is one step, and joining what is kept is still no copy."""
    if all(mask.all() for mask in masks):
        return list(parts)
    whole = _whole(parts)
    if whole is None or len(parts) == 1:
        return [part.keep(mask) for part, mask in zip(parts, masks, strict=True)]
    together = replace(parts[0], rows=whole, seal=_SEAL).keep(np.concatenate(masks))
    return _parts(together.rows, parts, [int(mask.sum()) for mask in masks])


def stored_each(parts: Sequence[Admitted], schema: pa.Schema) -> list[Admitted]:
    """`stored_as` of each. Of all that was admitted together it is one step."""
    whole = _whole(parts)
    if whole is None:
        return [part.stored_as(schema) for part in parts]
    together = replace(parts[0], rows=whole, seal=_SEAL).stored_as(schema)
    return _parts(together.rows, parts, [part.rows.num_rows for part in parts])


def _parts(rows: pa.Table, told: Sequence[Admitted], sizes: Sequence[int]) -> list[Admitted]:
    """Admitted rows in consecutive parts, each of whom it says what it says in `told`."""
    starts = (np.cumsum(sizes, dtype=np.int64) - np.array(sizes, dtype=np.int64)).tolist()
    return [
        Admitted(rows.slice(start, size), one.contract, one.contract_version, one.verdict_id, _SEAL, (rows, start))
        for one, start, size in zip(told, starts, sizes, strict=True)
    ]


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
    rows: pa.Table,
    sizes: Sequence[int],
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
    """What `admit` says of each batch, in about the time that one large batch takes. Of `rows`, `sizes` are of each.

    The checks run over all rows together, as far as that gives the answers that each batch would have alone: see
    `jointly`. What was admitted of all batches is one table, of which each has its part.
    """
    ends = np.cumsum(sizes, dtype=np.int64)
    refused = [0] * len(sizes) if refused_before is None else refused_before
    if len(sizes) == 1:
        alone = admit(
            rows,
            suite,
            schema,
            contract=contract,
            contract_version=contract_version,
            verdict_id=verdict_ids[0],
            quarantine_limit=quarantine_limit,
            quarantine_limit_rows=quarantine_limit_rows,
            refused_before=refused[0],
            absent=absent,
        )
        return [alone]
    check_shape(rows, schema, contract)
    _check_suite(suite, schema, contract)
    nulls = missing(rows, schema)
    judged, frame = judge_each(suite, rows, ends, nulls, absent)
    starts = ends - sizes
    rejected = np.zeros(rows.num_rows, dtype=np.bool_)
    for one, start in zip(judged, starts, strict=True):
        for failure in one.failures.values():
            if failure.severity != "warning":
                rejected[failure.rows + start] = True
    out = _counts(rejected, ends) + refused
    stops = [
        one.unknown or _stop_reason(one.checks, bad, size + more, quarantine_limit, quarantine_limit_rows)
        for one, bad, size, more in zip(judged, out.tolist(), sizes, refused, strict=True)
    ]
    keep = ~(rejected | np.repeat(np.array([stop is not None for stop in stops], dtype=np.bool_), sizes))
    exact = exactly(rows if keep.all() else rows.filter(pa.array(keep)), schema, contract)
    told = [Admitted(exact, contract, contract_version, verdict_id, _SEAL) for verdict_id in verdict_ids]
    reasons = [_NONE_REJECTED] * len(sizes)
    if rejected.any():
        found = collect(frame, merged([path for path, _ in nulls], judged, starts), rejected)
        reasons = _cut(found, starts, _counts(rejected, ends))
    return [
        Admission(part, mine.clone(), one.checks, _verdict(one.checks, stop, any_rejected=bad > 0), stop)
        for part, mine, one, stop, bad in zip(
            _parts(exact, told, _counts(keep, ends).tolist()), reasons, judged, stops, out.tolist(), strict=True
        )
    ]


def _counts(mask: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """How many of a batch's rows it is true of, for each batch."""
    return np.diff(np.append(0, np.cumsum(mask))[ends], prepend=0)


def _cut(rejected: pl.DataFrame, starts: np.ndarray, sizes: np.ndarray) -> list[pl.DataFrame]:
    """Rejected rows of all batches as those of each, so many of it."""
    owners = np.repeat(starts, sizes).astype(np.uint32)
    local = rejected.with_columns(rejected[INDEX] - pl.Series(owners))
    firsts = np.cumsum(sizes) - sizes
    return [local.slice(first, size) for first, size in zip(firsts.tolist(), sizes.tolist(), strict=True)]


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
    account = Account(
        verdict_id=admission.admitted.verdict_id,
        run_id=run_id,
        at_us=at_us,
        table=table,
        contract=admission.admitted.contract,
        contract_version=admission.admitted.contract_version,
        source=source,
        event_day=event_day,
        verdict=admission.verdict,
        stop_reason=admission.stop_reason,
        read=read,
        admitted=admission.admitted.rows.num_rows if admitted is None else admitted,
        quarantined=admission.rejected.height if quarantined is None else quarantined,
        duplicates=duplicates,
        late=late,
        checks=admission.checks,
    )
    return rows_of([account])
