"""GX's aggregate metrics as plans: what to ask of the frame, and what becomes of the answers.

Meaning is that of GX 1.24's pandas engine: missing values (null, NaN) are left out. An aggregate of nothing is None.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
from dateutil.parser import parse
from great_expectations.constants import MAX_DISTINCT_VALUES as DISTINCT_MAX
from great_expectations.expectations.metrics.column_aggregate_metrics.column_outlier_statistics import (
    OutlierStatistics,
)
from great_expectations.metrics.column.descriptive_stats import DescriptiveStats

from ..columns import HASHABLE, NUMBERS
from .conditions import Arguments, MapCondition, bounded, length
from .domain import Domain, fitted, literal
from .plan import Plan, of

_QUANTILES = ("linear", "lower", "higher", "midpoint", "nearest")


def number(domain: Domain) -> pl.Expr:
    """
    Raises:
        TypeError: the column is not one of numbers (or of booleans, which count as 0 and 1).
    """
    column = domain.column
    if column.kind not in NUMBERS | {"bool"}:
        raise TypeError(f"Column {column.name} is not numerical: it is of type {column.type}.")
    values = domain.values
    return values.cast(pl.Int64) if column.kind == "bool" else values


def number_or_time(domain: Domain) -> pl.Expr:
    return domain.values if domain.column.kind in ("time", "date") else number(domain)


def ordered(domain: Domain) -> pl.Expr:
    """
    Raises:
        TypeError: the column's values have no order.
    """
    if pa.types.is_nested(domain.column.type):
        raise TypeError(f"Values of column {domain.column.name} have no order: they are of type {domain.column.type}.")
    return domain.values


def total(domain: Domain, given: Arguments) -> Plan:
    values = number(domain)
    # Polars sums small integers in their own width, where they wrap.
    wide = values.cast(pl.Int128) if domain.column.kind in ("int", "bool") else values
    return of(wide.sum())


def standard_deviation(domain: Domain, given: Arguments) -> Plan:
    return of(number(domain).std(ddof=1))


def most_common(domain: Domain, given: Arguments) -> Plan:
    return Plan((domain.values.mode().sort().implode(),), domain.column.listed)


def quantiles(domain: Domain, given: Arguments) -> Plan:
    how = given.get("allow_relative_error") or "nearest"
    if how not in _QUANTILES:
        raise ValueError(
            "If specified for pandas, allow_relative_error must be one an allowed value for the 'interpolation'"
            f"parameter of .quantile() (one of {_QUANTILES})"
        )
    asked = np.asarray(given["quantiles"], dtype=float)
    # The count is that of the unsorted values: Polars 2.1 drops a sort that it also finds below a count.
    values, count = number_or_time(domain).sort(), number_or_time(domain).len()
    places = [(count.cast(pl.Float64) - 1) * share for share in asked]
    last = count.cast(pl.Int64) - 1
    if how == "nearest":
        found = [_at(values, place.round(mode="half_to_even"), last) for place in places]
    elif how in ("lower", "higher"):
        found = [_at(values, place.floor() if how == "lower" else place.ceil(), last) for place in places]
    else:
        found = []
        for place in places:
            low, high = _at(values, place.floor(), last), _at(values, place.ceil(), last)
            share = place - place.floor() if how == "linear" else pl.lit(0.5)
            found.append(low + (high - low) * share)
    nothing = None if domain.column.kind in ("time", "date") else math.nan  # what GX's partitions count on
    return Plan(tuple(found), lambda *values: [nothing if value is None else value for value in values])


def _at(values: pl.Expr, place: pl.Expr, last: pl.Expr) -> pl.Expr:
    index = place.cast(pl.Int64).clip(0, pl.max_horizontal(last, 0))
    return values.get(index, null_on_oob=True)


def distinct(domain: Domain, given: Arguments) -> Plan:
    missing = (domain.count - domain.present.len()) > 0
    return Plan(
        (domain.values.unique().implode(), missing), lambda found, some: set(found) | ({None} if some else set())
    )


def distinct_count(domain: Domain, given: Arguments) -> Plan:
    return of(domain.present.n_unique())


def distinct_below(domain: Domain, given: Arguments) -> Plan:
    return of(domain.present.n_unique() < given["threshold"])


def _expected(domain: Domain, given: Arguments) -> dict[Any, Any]:
    """The `value_set` by what the column's values are compared with; of what no value can equal, by itself."""
    column, expected = domain.column, {}
    if column.kind not in HASHABLE:
        raise TypeError(f"Values of column {column.name} do not compare: they are of type {column.type}.")
    for item in given.get("value_set") or []:
        found = fitted(column, [item])
        fit = found[0] if found else None
        shown = item
        if column.kind in ("time", "date") and isinstance(item, str) and fit is not None:
            shown = parse(item) if column.kind == "time" else parse(item).date()
        expected[("no value", item) if fit is None else ("value", fit)] = shown
    return expected


def _compared(domain: Domain) -> pl.Expr:
    value = domain.column.value
    return (value if domain.condition is None else value.filter(domain.condition)).drop_nulls()


def unexpected(domain: Domain, given: Arguments) -> pl.Expr:
    """Distinct values that are not in `value_set`, as they are stored."""
    fits = [key for kind, key in _expected(domain, given) if kind == "value"]
    if not fits:
        return domain.values.unique()
    return domain.values.filter(~_compared(domain).is_in(fits)).unique()


def not_in_set(domain: Domain, given: Arguments) -> Plan:
    limit = given.get("limit") or DISTINCT_MAX
    return Plan((unexpected(domain, given).sort().head(limit).implode(),), pl.Series.to_list)


def not_in_set_count(domain: Domain, given: Arguments) -> Plan:
    return of(unexpected(domain, given).len())


def missing_from_column(domain: Domain, given: Arguments) -> Plan:
    expected = _expected(domain, given)
    fits = [key for kind, key in expected if kind == "value"]

    def left(found: Any) -> list[Any]:
        have = set(found)
        return [shown for (kind, key), shown in expected.items() if kind != "value" or key not in have]

    if not fits:
        return Plan((), lambda: list(expected.values()))
    values = _compared(domain)
    return Plan((values.filter(values.is_in(fits)).unique().implode(),), left)


def missing_limited(domain: Domain, given: Arguments) -> Plan:
    plan, limit = missing_from_column(domain, given), given.get("limit") or DISTINCT_MAX
    return Plan(plan.asked, lambda *found: plan.finish(*found)[:limit])


def missing_count(domain: Domain, given: Arguments) -> Plan:
    plan = missing_from_column(domain, given)
    return Plan(plan.asked, lambda *found: len(plan.finish(*found)))


def value_counts(domain: Domain, given: Arguments) -> Plan:
    sort = given.get("sort") or "value"
    if sort not in ("value", "count", "none"):
        raise ValueError("sort must be either 'value', 'count', or 'none'")
    if given.get("collate") is not None:
        raise ValueError("collate parameter is not supported in PandasDataset")
    values = domain.values

    def series(distinct: Any, counts: Any) -> Any:
        index = pd.Index(domain.column.listed(distinct), name="value")
        return pd.Series(counts.to_list(), index=index, name="count", dtype="int64")

    if sort == "value":
        # By value: both sides are in the order of the sorted values.
        ordered = values.sort()
        return Plan((ordered.unique(maintain_order=True).implode(), ordered.unique_counts().implode()), series)
    counted = values.value_counts(sort=True, name="n")
    return Plan((counted.struct[0].implode(), counted.struct["n"].implode()), series)


def histogram(domain: Domain, given: Arguments) -> Plan:
    bins = list(given["bins"])

    def counted(values: pl.Series) -> pl.Series:
        return pl.Series([np.histogram(values.to_numpy(), bins, density=False)[0].tolist()], dtype=pl.List(pl.Int64))

    values = number_or_time(domain)
    asked = values.map_batches(counted, return_dtype=pl.List(pl.Int64), returns_scalar=True)
    return Plan((asked,), pl.Series.to_list)


def between_count(domain: Domain, given: Arguments) -> Plan:
    column = domain.column
    meets = bounded(column.value, given, lambda raw: literal(column, raw))
    return of((domain.rows(skip_missing=True) & meets.fill_null(False)).sum())


def share_of_unique(domain: Domain, given: Arguments) -> Plan:
    values = domain.present
    return Plan((values.n_unique(), values.len()), lambda unique, present: unique / present if present else 0)


def share_of_present(domain: Domain, given: Arguments) -> Plan:
    return Plan((domain.present.len(), domain.count), lambda present, rows: present / rows if rows else 0)


def outlier_statistics(domain: Domain, given: Arguments) -> Plan:
    values, method = number(domain).cast(pl.Float64), given["method"]
    if method == "iqr":
        asked = (values.quantile(0.25, "linear"), values.quantile(0.75, "linear"))
        return Plan(asked, lambda low, high: OutlierStatistics(low, high, None if low is None else high - low))
    if method == "std":
        return Plan((values.mean(), values.std(ddof=1)), OutlierStatistics.symmetric)
    raise ValueError(f"method {method!r} has not been implemented")


def descriptive(domain: Domain, given: Arguments) -> Plan:
    values = number(domain)
    return Plan(
        (values.min(), values.max(), values.mean(), values.std(ddof=1)),
        lambda low, high, mean, spread: DescriptiveStats(min=low, max=high, mean=mean, standard_deviation=spread),
    )


def matching_count(condition: MapCondition) -> Callable[[Domain, Arguments], Plan]:
    """How many of the values that are looked at meet a condition."""

    def plan(domain: Domain, given: Arguments) -> Plan:
        meets = condition.meets(domain, given).fill_null(False)
        return of((domain.rows(skip_missing=condition.skip_missing) & meets).sum())

    return plan


AGGREGATES: Mapping[str, Callable[[Domain, Arguments], Plan]] = {
    "table.row_count": lambda domain, _: of(domain.count),
    "column.min": lambda domain, _: of(ordered(domain).min()),
    "column.max": lambda domain, _: of(ordered(domain).max()),
    "column.mean": lambda domain, _: of(number_or_time(domain).mean()),
    "column.median": lambda domain, _: of(number_or_time(domain).median()),
    "column.sum": total,
    "column.standard_deviation": standard_deviation,
    "column.most_common_value": most_common,
    "column.quantile_values": quantiles,
    "column.distinct_values": distinct,
    "column.distinct_values.count": distinct_count,
    "column.distinct_values.count.under_threshold": distinct_below,
    "column.distinct_values.not_in_set": not_in_set,
    "column.distinct_values.not_in_set.count": not_in_set_count,
    "column.distinct_values.missing_from_column": missing_limited,
    "column.distinct_values.missing_from_column.count": missing_count,
    "column.value_counts": value_counts,
    "column.histogram": histogram,
    "column.unique_proportion": share_of_unique,
    "column.non_null_proportion": share_of_present,
    "column.non_null_count": lambda domain, _: of(domain.present.len()),
    "column.outlier_statistics": outlier_statistics,
    "column.descriptive_stats": descriptive,
    # NumPy's integer: GX divides by it, and shares of nothing are NaN to it, not an error.
    "column_values.nonnull.count": lambda domain, _: Plan((domain.present.len(),), np.int64),
    "column_values.null.count": lambda domain, _: of(domain.count - domain.present.len()),
    "column_values.between.count": between_count,
    "column_values.length.min": lambda domain, _: of(
        length(domain.column).filter(domain.rows(skip_missing=True)).min()
    ),
    "column_values.length.max": lambda domain, _: of(
        length(domain.column).filter(domain.rows(skip_missing=True)).max()
    ),
}
