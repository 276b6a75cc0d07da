"""Audit: one answer for a partition that is made in parts, because nobody holds all of it in memory.

A check about a row alone is answered part by part, and so is one about rows that are never in two parts (an ordinal
twice for a user, where all of a user is in one part); the counts are added up. Every other check (an aggregate, a
value that is unique in the partition) looks at all rows of the partition at once, lazily.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl
import pyarrow as pa

from ..schemas.failures import POLARS_FAILURES
from . import gate
from .expectation import Check, RowCheck
from .results import CheckResult, not_evaluated, of_batch, of_counts
from .suite import CompiledSuite


@dataclass(frozen=True, slots=True)
class Seen:
    """What was seen in one part: its rows, and the answers of the schema and of the checks that a part can answer."""

    rows: int
    checks: tuple[CheckResult, ...]


@dataclass(frozen=True, slots=True)
class Audit:
    """A suite for a partition. `in_parts`: places of the checks that a part answers for itself, rising."""

    suite: CompiledSuite
    in_parts: tuple[int, ...]
    of_parts: CompiledSuite

    @classmethod
    def of(cls, suite: CompiledSuite, *, apart: Collection[str] | None) -> Audit:
        """`apart`: columns of which no value is in two parts; None where the partition is one part."""
        places = tuple(i for i, check in enumerate(suite.checks) if apart is None or _in_part(check, apart))
        return cls(suite, places, suite.only(places))

    @property
    def whole(self) -> bool:
        """Whether parts answer everything."""
        return len(self.in_parts) == len(self.suite.checks)

    def look(self, part: pa.Table, schema: pa.Schema, *, name: str) -> tuple[gate.Held, Seen]:
        """Kernel: a part's rows, to be staged, and what was seen in them. See gate.admit_part."""
        held, checks = gate.admit_part(part, self.of_parts, schema, name=name)
        return held, Seen(part.num_rows, checks)

    def judge(
        self,
        parts: Sequence[Seen],
        rows: pl.LazyFrame,
        schema: pa.Schema,
        *,
        contract: str,
        contract_version: int,
        verdict_id: str,
    ) -> gate.Admission:
        """The answer for the partition. `rows` are all of its rows; they are read only for checks that need them."""
        results: dict[int, CheckResult] = {}
        for number, place in enumerate(self.in_parts):
            results[place] = _added_up(self.suite.checks[place], [part.checks[number + 1] for part in parts])
        rest = {i: check for i, check in enumerate(self.suite.checks) if i not in results}
        results |= _over_all(rest, rows)
        checks = [_of_schema([part.checks[0] for part in parts]), *(results[i] for i in sorted(results))]
        return gate.admit_whole(
            checks, schema, contract=contract, contract_version=contract_version, verdict_id=verdict_id
        )


def _in_part(check: Check, apart: Collection[str]) -> bool:
    return isinstance(check, RowCheck) and (not check.together or bool(check.together & set(apart)))


def _added_up(check: Check, seen: Sequence[CheckResult]) -> CheckResult:
    """The answer for all parts. One that a part could not evaluate is unknown for all."""
    if len(seen) == 1:
        return seen[0]
    assert isinstance(check, RowCheck)
    for one in seen:
        if not one.success and not one.evaluated:
            return one
    evaluated, unexpected = sum(one.evaluated for one in seen), sum(one.unexpected for one in seen)
    example = next((one.example for one in seen if one.example is not None), None)
    return of_counts(check, evaluated, unexpected, check.met(evaluated, unexpected), example)


def _of_schema(seen: Sequence[CheckResult]) -> CheckResult:
    first = next((one for one in seen if not one.success), seen[0])
    return CheckResult(
        first.check,
        None,
        first.severity,
        first.success,
        sum(one.evaluated for one in seen),
        sum(one.unexpected for one in seen),
        first.expected,
        first.observed,
    )


def _over_all(checks: Mapping[int, Check], rows: pl.LazyFrame) -> dict[int, CheckResult]:
    """The answers of checks that need all rows."""
    answers = asked_of_all(checks, rows)
    return {place: _answer(place, check, rows, answers) for place, check in checks.items()}


def asked_of_all(checks: Mapping[int, Check], rows: pl.LazyFrame) -> dict[str, Any]:
    """What checks ask of all rows, by place, see CompiledSuite.run; of those about rows how many fail, `unexpected`.

    In one pass, unless Polars cannot evaluate one of them.
    """
    asked = {place: _asked(place, check) for place, check in checks.items()}
    try:
        return _select(rows, [expr for exprs in asked.values() for expr in exprs])
    except POLARS_FAILURES:
        answers: dict[str, Any] = {}
        for place, exprs in asked.items():
            try:
                answers |= _select(rows, exprs)
            except POLARS_FAILURES as error:
                answers[f"{place}.error"] = " ".join(str(error).split())[:200]
        return answers


def _asked(place: int, check: Check) -> list[pl.Expr]:
    evaluated = check.evaluated.alias(f"{place}.evaluated")
    if isinstance(check, RowCheck):
        return [evaluated, check.fails.sum().alias(f"{place}.unexpected")]
    return [evaluated, *(expr.alias(f"{place}.{j}") for j, expr in enumerate(check.observe))]


def _answer(place: int, check: Check, rows: pl.LazyFrame, answers: Mapping[str, Any]) -> CheckResult:
    if f"{place}.error" in answers:
        return not_evaluated(check, answers[f"{place}.error"])
    evaluated = int(answers[f"{place}.evaluated"])
    if not isinstance(check, RowCheck):
        return of_batch(check, evaluated, check.judge([answers[f"{place}.{j}"] for j in range(len(check.observe))]))
    unexpected, example = int(answers[f"{place}.unexpected"]), None
    if unexpected:
        got = pl.when(check.fails).then(check.got.fill_null("null")).drop_nulls().first().alias("got")
        example = str(_select(rows, [got])["got"])
    return of_counts(check, evaluated, unexpected, check.met(evaluated, unexpected), example)


def _select(rows: pl.LazyFrame, exprs: Sequence[pl.Expr]) -> dict[str, Any]:
    if not exprs:
        return {}
    answers = rows.select(exprs).collect(engine="streaming")
    return {answer.name: answer[0] for answer in answers}
