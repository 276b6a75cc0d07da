"""A Great Expectations suite, compiled once per contract to one Polars selection. No Great Expectations at run time.

The suite is GX 1.24's own JSON. What becomes of an unmet expectation is its severity, `meta.severity`, because GX's own
`severity` knows no "error":

    critical   the batch is stopped, nothing of it is admitted
    error      the rows that fail are rejected (expectations about rows only)
    warning    recorded

Left out, expectations about rows are "error" and those about the batch "warning"; GX's own `severity` then lowers the
first to "warning" ("warning", "info") and raises the second to "critical".
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, get_args

import numpy as np
import polars as pl
import pyarrow as pa

from ..schemas.errors import SuiteError
from ..schemas.failures import POLARS_FAILURES
from . import batch_checks, coverage, drift, list_checks, order_checks, row_checks
from .columns import Column, columns_of
from .conditions import compile_condition
from .expectation import BatchCheck, Check, Expectation, RowCheck, Severity
from .facts import SMALL_ROWS, Facts

_ENTRIES = frozenset(
    {"type", "kwargs", "meta", "id", "description", "notes", "severity", "rendered_content", "windows"}
)
# Great Expectations' own, and those that reclake adds, which its engines know once `reclake.quality.gx` is imported.
ROW_RULES = row_checks.RULES | list_checks.RULES | order_checks.RULES | coverage.RULES
BATCH_RULES = batch_checks.RULES | drift.RULES
SUPPORTED: tuple[str, ...] = (*ROW_RULES, *BATCH_RULES)
_NO_ROWS = np.empty(0, np.uint32)


@dataclass(frozen=True, slots=True)
class Answers:
    """What the checks of a suite found in a batch.

    `found`: `{i}.fails`, a Series of the rows that fail check i (UInt32, rising); `{i}.evaluated`, a count; `{i}.{j}`,
    observations. Where Polars cannot evaluate a check on these rows, `{i}.error` says why, and there is nothing else.
    Beside `{i}.fails` there may be `{i}.seen`: what was found in those rows, or of a warning in the first of them.
    `frame` has the columns of all checks of which any row fails.
    """

    found: dict[str, Any]
    frame: pl.DataFrame


@dataclass(frozen=True, slots=True)
class CompiledSuite:
    """The checks of a suite, in its order, and what answers them: proofs, and one selection of all they leave open.

    `plan` has expressions a check, which give one row: those of `Answers.found`, with `fails` as a list. `same` names
    the answers that are another's: most checks of a column count the same rows.
    """

    name: str
    checks: tuple[Check, ...]
    columns: Mapping[str, pa.DataType]
    plan: tuple[tuple[pl.Expr, ...], ...]
    same: Mapping[str, str]
    roots: tuple[frozenset[str], ...]  # the columns that each check needs

    def run(self, batch: pa.Table) -> Answers:
        """Answers every check about a batch that has the suite's columns."""
        found = self._proved(batch)
        rest = [i for i in range(len(self.checks)) if f"{i}.evaluated" not in found]
        frame = self.frame_of(batch, rest)
        plan = [expr for i in rest for expr in self.plan[i]]
        try:
            found |= _selected(frame, plan)
        except POLARS_FAILURES:
            found |= self._one_by_one(frame, rest)
        return Answers(found | {name: found[other] for name, other in self.same.items() if other in found}, frame)

    def _proved(self, batch: pa.Table) -> dict[str, Any]:
        """The answers of checks that no row fails, as far as their proofs see it, and what facts say of the batch."""
        found: dict[str, Any] = {}
        facts = Facts(batch)
        for i, check in enumerate(self.checks):
            if isinstance(check, BatchCheck):
                values = check.known(facts) if check.known else None
                if values is not None:
                    found[f"{i}.evaluated"] = facts.rows
                    found |= {f"{i}.{j}": value for j, value in enumerate(values)}
            elif check.proof is not None:
                evaluated = check.proof(facts)
                if evaluated is not None:
                    found[f"{i}.evaluated"], found[f"{i}.fails"] = evaluated, _NO_ROWS
        return found

    def frame_of(self, batch: pa.Table, checks: Iterable[int]) -> pl.DataFrame:
        """The columns that some of the checks look at (one at least, for the count of rows)."""
        names = sorted({name for i in checks for name in self.roots[i]})
        if not names:
            return pl.DataFrame({"row": pl.int_range(batch.num_rows, eager=True)})
        # Column by column: threads, as pl.from_arrow has them, take longer than a small batch does.
        return pl.DataFrame([pl.Series(name, _whole(batch[name])) for name in names])

    def _one_by_one(self, frame: pl.DataFrame, checks: Sequence[int]) -> dict[str, Any]:
        answers: dict[str, Any] = {}
        for i in checks:
            try:
                answers |= _selected(frame, self.plan[i])
            except POLARS_FAILURES as error:
                answers[f"{i}.error"] = " ".join(str(error).split())[:200]
                # What this count would have been, others may need: it does not depend on what broke.
                with suppress(*POLARS_FAILURES):
                    answers |= _selected(frame, self.plan[i][:1])
        return answers

    @property
    def learning(self) -> list[tuple[int, BatchCheck]]:
        """The checks that take bounds from history, each with its place."""
        return [(i, c) for i, c in enumerate(self.checks) if isinstance(c, BatchCheck) and c.history is not None]

    def with_checks(self, others: Mapping[int, BatchCheck]) -> CompiledSuite:
        """The suite with other checks at some places, which ask the same and judge otherwise."""
        return replace(self, checks=tuple(others.get(i, check) for i, check in enumerate(self.checks)))

    def only(self, kept: Collection[int]) -> CompiledSuite:
        """The suite of some of its checks, by place."""
        checks = [check for i, check in enumerate(self.checks) if i in kept]
        return self if len(checks) == len(self.checks) else _planned(self.name, checks, self.columns)


def _selected(frame: pl.DataFrame, plan: Sequence[pl.Expr]) -> dict[str, Any]:
    if not plan:
        return {}
    # The streaming engine, the default, takes twice as long on a frame that is in memory anyway; and of a small one
    # the search for what expressions share takes longer than what it saves, and so do threads.
    small = frame.height <= SMALL_ROWS
    optimizations = pl.QueryOptFlags.none()
    optimizations.comm_subexpr_elim = not small
    rows = frame.lazy()
    selected = rows.select_seq(plan) if small else rows.select(plan)
    answers = selected.collect(engine="in-memory", optimizations=optimizations)
    return {answer.name: answer[0] for answer in answers}


def _whole(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """The values as Polars takes them: of slices of lists of fixed length with nulls it says that they do not fit."""
    if not (pa.types.is_fixed_size_list(values.type) and values.null_count):
        return values
    return values.take(pa.array(np.arange(len(values))))


def compile_suite(
    suite: Mapping[str, Any], schema: pa.Schema, *, name: str, personal: Collection[str] = ()
) -> CompiledSuite:
    """The suite's checks against `schema`. `name` is that of the contract, for messages.

    Of columns that are `personal` no value is named, neither as an example nor as what was observed.

    Raises:
        SuiteError: the suite is malformed, or holds an expectation that is unknown, has an unknown or unfit argument,
            or names a column that is missing or of a type it cannot be evaluated on. It names the expectation.
    """
    raw = suite.get("expectations") if isinstance(suite, Mapping) else None
    if not isinstance(raw, list):
        raise SuiteError(
            "not a suite",
            where=f"suite of {name}",
            expected='{"name": ..., "expectations": [...]}',
            got=repr(suite)[:80],
        )
    columns = columns_of(schema)
    found = [_compile(entry, columns, f"suite of {name}, expectation {i}") for i, entry in enumerate(raw)]
    checks = tuple(check.masked() if roots(check) & set(personal) else check for check in found)
    _refuse_unlearnable(checks, set(personal), name)
    compiled = _planned(name, checks, {column.name: column.type for column in columns.values()})
    _try_out(compiled, schema)
    return compiled


def _refuse_unlearnable(checks: Sequence[Check], personal: set[str], name: str) -> None:
    """A check is found again in verdicts by its type and columns, and by what it observed there."""
    keys = [(check.type, check.columns) for check in checks]
    for i, check in enumerate(checks):
        if not isinstance(check, BatchCheck) or check.history is None:
            continue
        where = f"suite of {name}, expectation {i}, {check.type}"
        if keys.count(keys[i]) > 1:
            raise SuiteError(
                "bounds from history for one of two expectations that verdicts cannot tell apart",
                where=where,
                expected="one expectation of this type about " + (", ".join(check.columns) or "the rows"),
                got=f"{keys.count(keys[i])}",
            )
        if check.names_values and roots(check) & personal:
            raise SuiteError(
                "bounds from history of a value that no verdict keeps",
                where=where,
                expected="an expectation that observes no single value",
                got=f"{', '.join(check.columns)} is personal data",
            )


def _planned(name: str, checks: Sequence[Check], types: Mapping[str, pa.DataType]) -> CompiledSuite:
    plan: list[tuple[pl.Expr, ...]] = []
    needed: list[frozenset[str]] = []
    counted: dict[bytes, str] = {}
    same: dict[str, str] = {}
    for i, check in enumerate(checks):
        name_of_count = f"{i}.evaluated"
        known = counted.setdefault(check.evaluated.meta.serialize(), name_of_count)
        mine = [check.evaluated.alias(known)] if known == name_of_count else []
        if known != name_of_count:
            same[name_of_count] = known
        if isinstance(check, RowCheck):
            mine.append(check.fails.arg_true().implode().alias(f"{i}.fails"))
        else:
            mine += [expr.alias(f"{i}.{j}") for j, expr in enumerate(check.observe)]
        got = [check.got] if isinstance(check, RowCheck) else []
        found = {column for expr in [*mine, *got, check.evaluated] for column in expr.meta.root_names()}
        plan.append(tuple(mine))
        needed.append(frozenset(found))
    used = frozenset().union(*needed, *(check.columns for check in checks))
    types = {column: type_ for column, type_ in types.items() if column in used}
    return CompiledSuite(name, tuple(checks), types, tuple(plan), same, tuple(needed))


def _compile(raw: Any, columns: Mapping[str, Column], where: str) -> Check:
    if not isinstance(raw, Mapping) or not isinstance(raw.get("type"), str) or set(raw) - _ENTRIES:
        raise SuiteError(
            "not an expectation",
            where=where,
            expected='{"type": "expect_...", "kwargs": {...}, "meta": {"severity": ...}}',
            got=repr(raw)[:120],
        )
    type_ = raw["type"]
    where = f"{where}, {type_}"
    of_rows = ROW_RULES.get(type_)
    rule = of_rows or BATCH_RULES.get(type_)
    if rule is None:
        raise SuiteError(
            "an expectation that the gate cannot evaluate",
            where=where,
            expected="one of " + ", ".join(SUPPORTED),
            got=type_,
        )
    build, keys = rule
    kwargs = raw.get("kwargs") or {}
    unknown = sorted(set(kwargs) - keys)
    if unknown:
        raise SuiteError(
            "an unknown argument", where=where, expected="some of " + ", ".join(sorted(keys)), got=", ".join(unknown)
        )
    condition = kwargs.get("row_condition")
    domain = None
    if condition is not None:
        domain = compile_condition(condition, kwargs.get("condition_parser"), columns, where=where)
    severity = _severity(raw, where, of_rows=of_rows is not None)
    asked = Expectation(type_, kwargs, columns, severity, domain, where, (raw.get("meta") or {}).get("bounds"))
    check = build(asked)
    if asked.history is not None and not (isinstance(check, BatchCheck) and check.history):
        raise asked.error(
            "an expectation that cannot take its bounds from history",
            expected="one about a number of the batch: a count, share, sum, mean, median, standard deviation, extreme",
            got=type_,
        )
    return check


def _severity(raw: Mapping[str, Any], where: str, *, of_rows: bool) -> Severity:
    ours = (raw.get("meta") or {}).get("severity")
    theirs = raw.get("severity")
    if ours is None:
        if of_rows:
            return "warning" if theirs in ("warning", "info") else "error"
        return "critical" if theirs == "critical" else "warning"
    if ours not in get_args(Severity):
        raise SuiteError("an unknown severity", where=where, expected=" or ".join(get_args(Severity)), got=repr(ours))
    if ours == "error" and not of_rows:
        raise SuiteError(
            "an expectation about the batch cannot reject rows",
            where=where,
            expected='"severity": "critical" (stop the batch) or "warning"',
            got='"error"',
        )
    severity: Severity = ours
    return severity


def _try_out(compiled: CompiledSuite, schema: pa.Schema) -> None:
    """Runs the plan on no rows, so that what Polars cannot evaluate is found here and not on the first batch."""
    empty = compiled.frame_of(schema.empty_table(), range(len(compiled.checks)))
    for i, check in enumerate(compiled.checks):
        mine = compiled.plan[i]
        probes = [*mine, check.got.head(0).implode().alias("got")] if isinstance(check, RowCheck) else mine
        try:
            empty.select(probes) if probes else None
        except pl.exceptions.PolarsError as error:
            raise SuiteError(
                "an expectation that cannot be evaluated",
                where=f"suite of {compiled.name}, expectation {i}, {check.type}",
                got=" ".join(str(error).split())[:200],
            ) from None


def roots(check: Check) -> set[str]:
    """The columns of the table that a check looks at; of `history[].item_id` it is `history`."""
    return {re.split(r"[.\[]", column)[0] for column in check.columns} | set(check.columns)


def check_with_gx(suite: Mapping[str, Any]) -> None:
    """Proves that Great Expectations itself accepts the suite, expectation by expectation.

    Raises:
        SuiteError: it does not, with what it says.
    """
    entries = suite.get("expectations") if isinstance(suite, Mapping) else None
    if not isinstance(entries, list) or not isinstance(suite.get("name"), str):
        raise SuiteError("not a suite", expected='{"name": "...", "expectations": [...]}', got=repr(suite)[:80])
    # That GX 2 will drop what GX 1.24 accepts, and what its imports deprecate, is no fault of the suite.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from great_expectations.exceptions.exceptions import GreatExpectationsError
        from great_expectations.expectations.expectation_configuration import ExpectationConfiguration

        from . import gx  # noqa: F401  (registers the expectations that are ours)

        for i, entry in enumerate(entries):
            try:
                ExpectationConfiguration(**entry).to_domain_obj()
            except (GreatExpectationsError, ValueError, TypeError) as error:
                raise SuiteError(
                    "Great Expectations does not accept an expectation",
                    where=f"suite {suite['name']}, expectation {i}, {dict(entry).get('type')}",
                    got=" ".join(str(error).split())[:300],
                ) from None
