"""A suite proposed from data: Great Expectations' own JSON, with the reason for each line.

What the shape of the data makes a law (never negative, a share, a fixed dimension, one time never before another) sets
rows aside, "error". What is only a guess from what was seen (a range, a set of values, a median) is a "warning": data
that is new is not wrong. Every line holds for the data it was made from, by the gate's own rules.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import polars as pl
import pyarrow as pa

from .columns import Column, columns_of, kind_of, short
from .expectation import BatchCheck, RowCheck
from .list_checks import NORM_TOLERANCE
from .suite import CompiledSuite, compile_suite

ROWS_MIN = 100  # fewer rows say nothing of what will come
VALUES_MAX = 30  # of a column that has a set of values
REPEATS_MIN = 20  # how often a value of a set is there on average
FAR_OUT = 3.0  # interquartile ranges beyond the quartiles (Tukey, Exploratory Data Analysis, 1977)
LISTS_MAX = 50_000  # of lists, what is inside is looked at in so many rows

_PATTERNS = {
    "a UUID": "^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$",
    "a web address": "^https?://[^\\s]+$",
    "digits": "^[0-9]+$",
    "hex digits": "^[0-9a-fA-F]+$",
    "a word of letters, digits and _.:-": "^[A-Za-z0-9_.:-]+$",
}


@dataclass(frozen=True, slots=True)
class Proposal:
    """One line of a suite, and why it is there."""

    type: str
    kwargs: Mapping[str, Any]
    severity: Literal["error", "warning"]
    reason: str

    @property
    def expectation(self) -> dict[str, Any]:
        """As it stands in a suite; Great Expectations calls the reason `notes`."""
        meta = {"severity": self.severity}
        return {"type": self.type, "kwargs": dict(self.kwargs), "meta": meta, "notes": self.reason}


def propose(rows: pa.Table, schema: pa.Schema, *, personal: Collection[str] = ()) -> list[Proposal]:
    """The lines that the rows suggest, column by column; of `personal` columns none that would name values.

    Fields that the schema requires are not asked for once more. Fewer than ROWS_MIN rows suggest nothing, and fewer
    than ROWS_MIN values nothing but how often there is one.
    """
    frame = pl.DataFrame(pl.from_arrow(rows))
    if frame.height < ROWS_MIN:
        return []
    columns = columns_of(schema)
    found: list[Proposal] = []
    for column in columns.values():
        values = frame.select(column.value.alias("value"))["value"]
        found += _presence(column, values, required=not schema.field(column.name).nullable)
        values = values.drop_nulls()
        if column.name not in personal and len(values) >= ROWS_MIN:
            found += _of_column(column, frame, values)
    found += _orders([column for column in columns.values() if column.kind == "time"], frame, set(personal))
    return [one for one in found if _holds(one, rows, schema)]


def _of_column(column: Column, frame: pl.DataFrame, values: pl.Series) -> Iterator[Proposal]:
    match column.kind:
        case "string":
            yield from _text(column, values)
        case "int" | "float":
            yield from _number(column, values)
        case "list":
            yield from _list(column, frame)


def _presence(column: Column, values: pl.Series, *, required: bool) -> Iterator[Proposal]:
    rows, missing = len(values), values.null_count()
    if missing == 0 and not required:
        reason = f"no value is missing in {rows:,} rows"
        yield Proposal("expect_column_values_to_not_be_null", {"column": column.name}, "warning", reason)
    elif 0 < missing < rows:
        share = 1 - missing / rows
        # Three standard errors of a share, or a tenth of what is missing now: no alarm for chance.
        low = share - max(3 * math.sqrt(share * (1 - share) / rows), 0.1 * (1 - share))
        reason = f"{share:.1%} of {rows:,} rows have a value; chance alone explains no less than the bound"
        if low < 0.001:
            return
        yield Proposal(
            "expect_column_proportion_of_non_null_values_to_be_between",
            {"column": column.name, "min_value": math.floor(low * 1000) / 1000},
            "warning",
            reason,
        )


def _text(column: Column, values: pl.Series) -> Iterator[Proposal]:
    distinct = values.n_unique()
    if distinct <= VALUES_MAX and distinct * REPEATS_MIN <= len(values):
        known = sorted(values.unique().to_list())
        reason = f"only {distinct} distinct values in {len(values):,}: {short([str(v) for v in known], items_max=5)}"
        kwargs = {"column": column.name, "value_set": known}
        yield Proposal("expect_column_values_to_be_in_set", kwargs, "warning", reason)
        return
    for name, pattern in _PATTERNS.items():
        if values.str.contains(pattern).all():
            reason = f"every one of {len(values):,} values is {name}"
            kwargs = {"column": column.name, "regex": pattern}
            yield Proposal("expect_column_values_to_match_regex", kwargs, "warning", reason)
            break
    lengths = values.str.len_chars()
    shortest, longest = _whole(lengths.min()), _whole(lengths.max())
    bounds: dict[str, Any] = {"column": column.name, "min_value": min(1, shortest), "max_value": 2 * longest}
    reason = f"{shortest} to {longest} characters; twice the longest is allowed"
    yield Proposal("expect_column_value_lengths_to_be_between", bounds, "warning", reason)


def _number(column: Column, values: pl.Series) -> Iterator[Proposal]:
    finite = values.cast(pl.Float64).filter(values.cast(pl.Float64).is_finite())
    if finite.is_empty() or column.name.endswith("_id"):  # the size of an id means nothing
        return
    low, high = _float(finite.min()), _float(finite.max())
    kwargs: dict[str, Any] = {"column": column.name, "min_value": 0}
    share = column.kind == "float" and low >= 0 and 0 < high <= 1
    if share:
        reason = f"a share: {low:.4g} to {high:.4g} in {len(values):,} values"
        yield Proposal("expect_column_values_to_be_between", kwargs | {"max_value": 1}, "error", reason)
    elif low >= 0:
        reason = f"never negative in {len(values):,} values, from {low:.6g}"
        yield Proposal("expect_column_values_to_be_between", kwargs, "error", reason)
    first, third = _float(finite.quantile(0.25, "linear")), _float(finite.quantile(0.75, "linear"))
    far = FAR_OUT * (third - first)
    if third > first and math.isfinite(first - far) and math.isfinite(third + far):
        below, above = math.floor(min(low, first - far)), math.ceil(max(high, third + far))
        if not share:
            reason = f"{low:.6g} to {high:.6g} was seen; {FAR_OUT:g} quartile ranges beyond the quartiles are allowed"
            lowest = {} if low >= 0 else {"min_value": below}
            kwargs = {"column": column.name, **lowest, "max_value": above}
            yield Proposal("expect_column_values_to_be_between", kwargs, "warning", reason)
        middle = _float(finite.median())
        reason = f"the median is {middle:.6g}; that of a batch should lie between the quartiles"
        kwargs = {"column": column.name, "min_value": first, "max_value": third}
        yield Proposal("expect_column_median_to_be_between", kwargs, "warning", reason)


def _list(column: Column, frame: pl.DataFrame) -> Iterator[Proposal]:
    lists = frame.head(LISTS_MAX).select(column.items.alias("lists"))["lists"].drop_nulls()
    if lists.is_empty():
        return
    lengths = lists.list.len()
    shortest, longest = _whole(lengths.min()), _whole(lengths.max())
    named = {"column": column.name}
    inside = kind_of(column.type.value_type)
    if shortest == longest > 1:
        reason = f"every one of {len(lists):,} lists has {longest} values"
        kwargs = named | {"value": longest}
        yield Proposal("expect_column_value_lengths_to_equal", kwargs, "error", reason)
        if inside == "float":
            norms = lists.list.eval(pl.element().cast(pl.Float64).pow(2)).list.sum().sqrt()
            reason = f"no null, NaN or infinity in {len(lists):,} vectors"
            yield Proposal("expect_column_list_values_to_be_finite", named, "error", reason)
            if ((norms - 1).abs() <= NORM_TOLERANCE).all():
                reason = f"every one of {len(lists):,} vectors has norm 1"
                yield Proposal("expect_column_vectors_to_be_unit_norm", named, "error", reason)
        return
    reason = f"{shortest} to {longest} values; twice the longest is allowed"
    kwargs = named | {"max_value": max(1, 2 * longest)}
    yield Proposal("expect_column_value_lengths_to_be_between", kwargs, "warning", reason)
    reason = f"no null inside of {len(lists):,} lists"
    yield Proposal("expect_column_list_values_to_not_be_null", named, "error", reason)


def _orders(times: list[Column], frame: pl.DataFrame, personal: set[str]) -> Iterator[Proposal]:
    for a, b in itertools.permutations(times, 2):
        if {a.name, b.name} & personal:
            continue
        both = frame.select((a.value >= b.value).alias("ordered"))["ordered"].drop_nulls()
        same = frame.select((a.value == b.value).alias("same"))["same"].drop_nulls()
        if len(both) >= ROWS_MIN and both.all() and not same.all():
            reason = f"{a.name} was never before {b.name} in {len(both):,} rows"
            kwargs = {"column_A": a.name, "column_B": b.name, "or_equal": True}
            kwargs["ignore_row_if"] = "either_value_is_missing"
            yield Proposal("expect_column_pair_values_a_to_be_greater_than_b", kwargs, "error", reason)


def _holds(one: Proposal, rows: pa.Table, schema: pa.Schema) -> bool:
    """Whether the gate, by this line, would find nothing amiss in the rows themselves."""
    suite = compile_suite({"name": "proposed", "expectations": [one.expectation]}, schema, name="proposed")
    return _met(suite, rows)


def _met(suite: CompiledSuite, rows: pa.Table) -> bool:
    answers = suite.run(rows).found
    (check,) = suite.checks
    match check:
        case RowCheck():
            return "0.error" not in answers and len(answers["0.fails"]) == 0
        case BatchCheck():
            observed = [answers.get(f"0.{j}") for j in range(len(check.observe))]
            return "0.error" not in answers and check.judge(observed).success


def _whole(value: Any) -> int:
    return int(value)


def _float(value: Any) -> float:
    return float(value)
