"""Expectations that have one answer for a batch: aggregates of a column, and the shape of the table.

Meaning is that of GX 1.24's pandas engine: missing values (null, NaN) are left out, an aggregate of nothing is not met
(but the sum of nothing is 0), the standard deviation is the sample's. One departure: `column_index` 0 is checked, which
GX passes over.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import polars as pl

from .columns import HASHABLE, NUMBERS, Column, Kind, short
from .expectation import COMMON_KEYS, BatchCheck, Bounds, Expectation, FromHistory, Outcome
from .facts import Facts, has_extremes

Builder = Callable[[Expectation], BatchCheck]
Judge = Callable[[Sequence[Any]], Outcome]

_BOUNDS = ("min_value", "max_value", "strict_min", "strict_max")
_EXTREMES: frozenset[Kind] = NUMBERS | {"time", "date"}
_COUNTABLE: frozenset[Kind] = HASHABLE - {"decimal", "binary"}
SAMPLE_MAX = 20


def batch_check(
    e: Expectation,
    columns: Sequence[Column],
    expected: str,
    observe: Sequence[pl.Expr],
    judge: Judge,
    *,
    names_values: bool = False,
    history: FromHistory | None = None,
    known: Callable[[Facts], tuple[Any, ...] | None] | None = None,
) -> BatchCheck:
    return BatchCheck(
        type=e.type,
        columns=tuple(column.name for column in columns),
        severity=e.severity,
        expected=expected,
        evaluated=e.rows,
        observe=tuple(observe),
        judge=judge,
        names_values=names_values,
        history=history,
        # Facts are of all rows, and of columns of the batch.
        known=known if e.domain is None and all(column.inside is None for column in columns) else None,
    )


def present_values(e: Expectation, column: Column) -> pl.Expr:
    """The column's values that are there and that the row condition keeps; decimals as float64, as GX takes them."""
    values = column.value if e.domain is None else column.value.filter(e.domain)
    values = values.drop_nulls()
    return values.cast(pl.Float64) if column.kind == "decimal" else values


def _bounded(
    e: Expectation,
    columns: Sequence[Column],
    name: str,
    observe: pl.Expr,
    *,
    whole: bool = False,
    known: Callable[[Facts], tuple[Any, ...] | None] | None = None,
) -> BatchCheck:
    """A number that is to lie within the expectation's bounds."""
    bounds, history = Bounds.of(e, lambda key: e.number(key, whole=whole), required=False), e.history
    expected = name if history and not history.fixed else bounds.show(_number, prefix=f"{name} ")
    return batch_check(e, columns, expected, [observe], _in_bounds(bounds, _number), history=history, known=known)


def _in_bounds(bounds: Bounds, show: Callable[[Any], str]) -> Judge:
    def judge(values: Sequence[Any]) -> Outcome:
        (value,) = values
        if value is None:
            return Outcome(False, None, "no value")
        return Outcome(bounds.hold(value), value, show(value))

    return judge


def _number(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) and not value.is_integer() else str(value)


def mean(e: Expectation) -> BatchCheck:
    column = e.column(NUMBERS)
    return _bounded(e, [column], "mean", present_values(e, column).mean())


def median(e: Expectation) -> BatchCheck:
    column = e.column(NUMBERS)
    return _bounded(e, [column], "median", present_values(e, column).median())


def stdev(e: Expectation) -> BatchCheck:
    column = e.column(NUMBERS)
    return _bounded(e, [column], "standard deviation", present_values(e, column).std(ddof=1))


def total(e: Expectation) -> BatchCheck:
    column = e.column(NUMBERS)
    values = present_values(e, column)
    # Polars sums integers in their own width, where they wrap.
    return _bounded(e, [column], "sum", (values.cast(pl.Int128) if column.kind == "int" else values).sum())


def minimum(e: Expectation) -> BatchCheck:
    return _extreme(e, "minimum", 0, pl.Expr.min)


def maximum(e: Expectation) -> BatchCheck:
    return _extreme(e, "maximum", 1, pl.Expr.max)


def _extreme(e: Expectation, name: str, end: int, aggregate: Callable[[pl.Expr], pl.Expr]) -> BatchCheck:
    column = e.column(_EXTREMES)

    def fit(key: str) -> object:
        raw = e.kwargs.get(key)
        return None if raw is None else column.literal(raw, where=f"{e.where}, {key}")

    bounds = Bounds.of(e, fit, required=False)
    history = e.history if column.kind in NUMBERS else None
    expected = name if history and not history.fixed else bounds.show(column.show, prefix=f"{name} ")
    observe, judge = [aggregate(present_values(e, column))], _in_bounds(bounds, column.show)

    def known(facts: Facts) -> tuple[Any, ...] | None:
        there = has_extremes(column) and facts.present(column) is not None
        return (facts.extremes(column)[end],) if there else None

    return batch_check(e, [column], expected, observe, judge, names_values=True, history=history, known=known)


def distinct_count(e: Expectation) -> BatchCheck:
    column = e.column(HASHABLE)
    return _bounded(e, [column], "distinct values", present_values(e, column).n_unique(), whole=True)


def distinct_proportion(e: Expectation) -> BatchCheck:
    column = e.column(HASHABLE)
    values = present_values(e, column)
    return _bounded(e, [column], "share of distinct values", _share(values.n_unique(), values.len()))


def present_proportion(e: Expectation) -> BatchCheck:
    column = e.column()
    return _bounded(e, [column], "share of non-null values", _share(e.within(column.present).sum(), e.rows))


def _share(part: pl.Expr, whole: pl.Expr) -> pl.Expr:
    """part / whole, 0 where there is nothing."""
    return pl.when(whole > 0).then(part / whole).otherwise(0.0)


def distinct_in_set(e: Expectation) -> BatchCheck:
    return _distinct(e, "distinct values in", outside_allowed=False, missing_allowed=True)


def distinct_contain_set(e: Expectation) -> BatchCheck:
    return _distinct(e, "distinct values contain", outside_allowed=True, missing_allowed=False)


def distinct_equal_set(e: Expectation) -> BatchCheck:
    return _distinct(e, "distinct values equal", outside_allowed=False, missing_allowed=False)


def _distinct(e: Expectation, name: str, *, outside_allowed: bool, missing_allowed: bool) -> BatchCheck:
    """Value: `unexpected`, how many distinct values are outside the set; `missing`, how many of it are not there."""
    column = e.column(_COUNTABLE)
    wanted = e.values(column, empty_allowed=False)
    values = present_values(e, column)
    inside = values.is_in(wanted)
    outside = values.filter(~inside).unique()

    def judge(observed: Sequence[Any]) -> Outcome:
        outside_count, outside_sample, found = observed
        missing = [value for value in wanted if value not in set(found)]
        parts = []
        if outside_count and not outside_allowed:
            parts.append(f"{outside_count} outside: {short([column.show(v) for v in outside_sample])}")
        if missing and not missing_allowed:
            parts.append(f"{len(missing)} missing: {short([column.show(v) for v in missing])}")
        value = {"unexpected": outside_count, "missing": len(missing)}
        return Outcome(not parts, value, "; ".join(parts) or "as expected")

    return batch_check(
        e,
        [column],
        f"{name} {short([column.show(v) for v in wanted])}",
        # A sample in order, so that the same batch gives the same verdict.
        [outside.len(), outside.bottom_k(SAMPLE_MAX).sort().implode(), values.filter(inside).unique().implode()],
        judge,
        names_values=True,
    )


def row_count_between(e: Expectation) -> BatchCheck:
    return _bounded(e, [], "rows", e.rows, whole=True, known=_rows)


def row_count_equal(e: Expectation) -> BatchCheck:
    value = _required_count(e)
    judge: Judge = lambda v: Outcome(v[0] == value, v[0], str(v[0]))  # noqa: E731
    return batch_check(e, [], f"rows == {value}", [e.rows], judge, known=_rows)


def _rows(facts: Facts) -> tuple[int]:
    return (facts.rows,)


def column_count_between(e: Expectation) -> BatchCheck:
    count = len(e.columns)
    bounds = Bounds.of(e, lambda key: e.number(key, whole=True), required=False)
    return _fixed(e, bounds.hold(count), count, bounds.show(str, prefix="columns "), str(count))


def column_count_equal(e: Expectation) -> BatchCheck:
    value, count = _required_count(e), len(e.columns)
    return _fixed(e, count == value, count, f"columns == {value}", str(count))


def _required_count(e: Expectation) -> int:
    value = e.number("value", whole=True)
    if value is None:
        raise e.error("no count", expected="value: a whole number", got="none")
    return int(value)


def columns_match_set(e: Expectation) -> BatchCheck:
    wanted, have = set(e.strings("column_set")), set(e.columns)
    missing, more = sorted(wanted - have), sorted(have - wanted)
    exact = e.flag("exact_match", default=True)
    success = not missing and not (exact and more)
    said = [f"missing {short(missing)}"] * bool(missing) + [f"more {short(more)}"] * bool(exact and more)
    expected = ("the columns " if exact else "at least the columns ") + short(sorted(wanted))
    return _fixed(e, success, sorted(have), expected, "; ".join(said) or "as expected")


def columns_match_ordered_list(e: Expectation) -> BatchCheck:
    wanted, have = e.strings("column_list"), list(e.columns)
    return _fixed(e, wanted == have, have, "the columns " + short(wanted), short(have))


def column_exists(e: Expectation) -> BatchCheck:
    name = e.kwargs.get("column")
    if not isinstance(name, str):
        raise e.error("no column", expected='column: "name"', got=repr(name))
    index = e.number("column_index", whole=True)
    have = list(e.columns)
    place = have.index(name) if name in have else None
    success = place is not None and index in (None, place)
    expected = "exists" if index is None else f"is column {index}"
    said = "absent" if place is None else f"column {place}"
    return _fixed(e, success, place, f"{name} {expected}", said)


def _fixed(e: Expectation, success: bool, value: Any, expected: str, observed: str) -> BatchCheck:
    """An answer that the schema alone decides."""
    outcome = Outcome(success, value, observed)
    return batch_check(e, [], expected, [], lambda _: outcome)


def rule(build: Builder, *keys: str) -> tuple[Builder, frozenset[str]]:
    return build, COMMON_KEYS | set(keys)


RULES: dict[str, tuple[Builder, frozenset[str]]] = {
    "expect_column_mean_to_be_between": rule(mean, "column", *_BOUNDS),
    "expect_column_median_to_be_between": rule(median, "column", *_BOUNDS),
    "expect_column_stdev_to_be_between": rule(stdev, "column", *_BOUNDS),
    "expect_column_sum_to_be_between": rule(total, "column", *_BOUNDS),
    "expect_column_min_to_be_between": rule(minimum, "column", *_BOUNDS),
    "expect_column_max_to_be_between": rule(maximum, "column", *_BOUNDS),
    "expect_column_unique_value_count_to_be_between": rule(distinct_count, "column", *_BOUNDS),
    "expect_column_proportion_of_unique_values_to_be_between": rule(distinct_proportion, "column", *_BOUNDS),
    "expect_column_proportion_of_non_null_values_to_be_between": rule(present_proportion, "column", *_BOUNDS),
    "expect_column_distinct_values_to_be_in_set": rule(distinct_in_set, "column", "value_set"),
    "expect_column_distinct_values_to_contain_set": rule(distinct_contain_set, "column", "value_set"),
    "expect_column_distinct_values_to_equal_set": rule(distinct_equal_set, "column", "value_set"),
    "expect_table_row_count_to_be_between": rule(row_count_between, *_BOUNDS),
    "expect_table_row_count_to_equal": rule(row_count_equal, "value"),
    "expect_table_column_count_to_be_between": rule(column_count_between, *_BOUNDS),
    "expect_table_column_count_to_equal": rule(column_count_equal, "value"),
    "expect_table_columns_to_match_set": rule(columns_match_set, "column_set", "exact_match"),
    "expect_table_columns_to_match_ordered_list": rule(columns_match_ordered_list, "column_list"),
    "expect_column_to_exist": rule(column_exists, "column", "column_index"),
}
