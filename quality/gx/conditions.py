"""GX's map metrics: for every row, whether it meets an expectation. Meaning is that of GX 1.24's pandas engine.

Each function gives booleans for all rows; null means that a comparison has no answer, which is a row that fails. Which
rows are looked at at all is the domain's business.
"""

from __future__ import annotations

import itertools
import json
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import polars as pl
from dateutil.parser import parse

from ..columns import HASHABLE, NUMBERS, ORDERED, Column
from ..patterns import like_to_regex
from .domain import Domain, LooseColumn, by_value, fitted, joined, literal, text
from .mixed import key_of
from .patterns import matches
from .typenames import fits_any

Arguments = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class MapCondition:
    """`meets` of a domain and a metric's arguments; `skip_missing`: missing values of a column are passed over."""

    meets: Callable[[Domain, Arguments], pl.Expr]
    skip_missing: bool = True


def bounded(value: pl.Expr, given: Arguments, fit: Callable[[Any], Any]) -> pl.Expr:
    """`min_value` <= value <= `max_value`, or strictly; `fit` makes of a bound what the value compares with."""
    low, high = given.get("min_value"), given.get("max_value")
    if low is None and high is None:
        raise ValueError("min_value and max_value cannot both be None")
    low, high = None if low is None else fit(low), None if high is None else fit(high)
    parts = []
    if low is not None:
        parts.append(value > pl.lit(low) if given.get("strict_min") else value >= pl.lit(low))
    if high is not None:
        parts.append(value < pl.lit(high) if given.get("strict_max") else value <= pl.lit(high))
    return joined(parts, operator.and_)


def between(domain: Domain, given: Arguments) -> pl.Expr:
    column = domain.column
    low, high = given.get("min_value"), given.get("max_value")
    if low is not None and high is not None and isinstance(low, str) == isinstance(high, str) and low > high:
        raise ValueError("min_value cannot be greater than max_value")
    if column.kind == "bool":
        return bounded(column.value.cast(pl.Int8), given, float)
    return bounded(column.value, given, lambda raw: literal(column, raw))


def in_set(domain: Domain, given: Arguments) -> pl.Expr:
    return is_in(domain.column, given.get("value_set"))


def not_in_set(domain: Domain, given: Arguments) -> pl.Expr:
    return ~is_in(domain.column, given.get("value_set")) if given.get("value_set") is not None else pl.lit(True)


def is_in(column: LooseColumn, raw: Sequence[Any] | None) -> pl.Expr:
    if raw is None:
        return pl.lit(True)
    _comparable([column], HASHABLE)
    values = fitted(column, raw)
    if column.kind == "int":
        values = [value for value in values if isinstance(value, int)]
    return column.value.is_in(values) if values else pl.lit(False)


def unique(domain: Domain, given: Arguments) -> pl.Expr:
    # Rows that are passed over are no duplicates of rows that are not: that is part of what is compared.
    key = pl.struct(domain.rows(skip_missing=True).alias("looked at"), domain.column.value)
    return ~key.is_duplicated()


def increasing(domain: Domain, given: Arguments) -> pl.Expr:
    return _in_order(domain, operator.gt if given.get("strictly") else operator.ge)


def decreasing(domain: Domain, given: Arguments) -> pl.Expr:
    return _in_order(domain, operator.lt if given.get("strictly") else operator.le)


def _in_order(domain: Domain, compare: Callable[[Any, Any], Any]) -> pl.Expr:
    column = domain.column
    if column.kind not in NUMBERS | {"time", "date", "bool"}:
        raise TypeError(f"An order of column {column.name} is not defined: it is of type {column.type}.")
    looked_at = pl.when(domain.rows(skip_missing=True)).then(column.value)
    before = looked_at.forward_fill().shift(1)
    return before.is_null() | compare(column.value, before)  # type: ignore[no-any-return]


def regex(domain: Domain, given: Arguments) -> pl.Expr:
    return matches(text(domain.column), given["regex"])


def regex_list(domain: Domain, given: Arguments) -> pl.Expr:
    return _matches_of(domain, given["regex_list"], given.get("match_on") or "any")


def _matches_of(domain: Domain, patterns: Sequence[str], match_on: str) -> pl.Expr:
    if match_on not in ("any", "all"):
        raise ValueError("match_on must be either 'any' or 'all'")
    if not patterns:
        raise ValueError("No objects to concatenate: a list of patterns is empty")
    found = [matches(text(domain.column), pattern) for pattern in patterns]
    return joined(found, operator.or_ if match_on == "any" else operator.and_)


def like(domain: Domain, given: Arguments) -> pl.Expr:
    return matches(text(domain.column), like_to_regex(given["like_pattern"], given.get("escape")))


def like_list(domain: Domain, given: Arguments) -> pl.Expr:
    patterns = [like_to_regex(pattern, given.get("escape")) for pattern in given["like_pattern_list"]]
    return _matches_of(domain, patterns, given.get("match_on") or "any")


def opposite(meets: Callable[[Domain, Arguments], pl.Expr]) -> Callable[[Domain, Arguments], pl.Expr]:
    return lambda domain, given: ~meets(domain, given)


def length_between(domain: Domain, given: Arguments) -> pl.Expr:
    return bounded(length(domain.column), given, int)


def length_equals(domain: Domain, given: Arguments) -> pl.Expr:
    return length(domain.column) == pl.lit(given["value"])


def length(column: LooseColumn) -> pl.Expr:
    """Of a list its values are counted; of all else the characters, as Python writes it."""
    return column.items.list.len() if column.kind == "list" else text(column).str.len_chars()


def z_score(domain: Domain, given: Arguments) -> pl.Expr:
    column, threshold = domain.column, float(given["threshold"])
    if column.kind not in NUMBERS:
        raise TypeError("Cannot complete Z-score calculations on a non-numerical column.")
    value = column.value.cast(pl.Float64)
    # Without rows or spread there is no score, and what has no score is under every threshold.
    score = (value - domain.values.mean()) / domain.values.std(ddof=1)
    sized = score.abs() < abs(threshold) if given.get("double_sided") else score < threshold
    return sized.fill_null(True) | score.is_nan()


def not_outlier(domain: Domain, given: Arguments) -> pl.Expr:
    column, method, multiplier = domain.column, given.get("method", "iqr"), float(given.get("multiplier", 1.5))
    if column.kind not in NUMBERS:
        raise TypeError(f"Cannot detect outliers in a non-numerical column: {column.name} is of type {column.type}.")
    value, values = column.value.cast(pl.Float64), domain.values.cast(pl.Float64)
    if method == "iqr":
        low, high = values.quantile(0.25, "linear"), values.quantile(0.75, "linear")
        reach = multiplier * (high - low)
        inside, basis = (value >= low - reach) & (value <= high + reach), [low, high]
    elif method == "std":
        centre, spread = values.mean(), values.std(ddof=1)
        reach = multiplier * spread
        inside = pl.when(reach <= 0).then(value == centre).otherwise((value - centre).abs() < reach)
        basis = [centre, spread]
    else:
        raise ValueError(f"method {method!r} has not been implemented")
    return inside | ~pl.all_horizontal([part.is_finite().fill_null(False) for part in basis])


def of_type(domain: Domain, given: Arguments) -> pl.Expr:
    return pl.lit(fits_any(domain.column, [given["type_"]]))


def in_type_list(domain: Domain, given: Arguments) -> pl.Expr:
    return pl.lit(fits_any(domain.column, given["type_list"]))


def strftime(domain: Domain, given: Arguments) -> pl.Expr:
    pattern = given["strftime_format"]
    asked_by = "expect_column_values_to_match_strftime_format"
    return by_value(domain.column, lambda value: _parses(lambda: datetime.strptime(value, pattern)), asked_by=asked_by)


def dateutil(domain: Domain, given: Arguments) -> pl.Expr:
    asked_by = "expect_column_values_to_be_dateutil_parseable"
    return by_value(domain.column, lambda value: _parses(lambda: parse(value)), asked_by=asked_by)


def json_parseable(domain: Domain, given: Arguments) -> pl.Expr:
    if domain.column.kind != "string":  # the JSON of no text: pandas has it that way
        return pl.lit(False)
    asked_by = "expect_column_values_to_be_json_parseable"
    return by_value(domain.column, lambda value: _parses(lambda: json.loads(value)), asked_by=asked_by)


def json_schema(domain: Domain, given: Arguments) -> pl.Expr:
    from jsonschema.validators import validator_for

    schema = given["json_schema"]
    validator = validator_for(schema)
    validator.check_schema(schema)
    asked = validator(schema)
    asked_by = "expect_column_values_to_match_json_schema"
    return by_value(domain.column, lambda value: bool(asked.is_valid(json.loads(value))), asked_by=asked_by)


def _parses(read: Callable[[], object]) -> bool:
    try:
        read()
    except (ValueError, OverflowError, RecursionError):
        return False
    return True


def pair_equal(domain: Domain, given: Arguments) -> pl.Expr:
    a, b = domain.pair
    return _as_compared(a, b) == _as_compared(b, a)


def pair_greater(domain: Domain, given: Arguments) -> pl.Expr:
    a, b = domain.pair
    _comparable([a, b], ORDERED | {"bool"})
    return a.value >= b.value if given.get("or_equal") else a.value > b.value


def _as_compared(column: LooseColumn, other: LooseColumn) -> pl.Expr:
    """Values of unlike kinds are never equal, and neither is what has no value."""
    if "mixed" in (column.kind, other.kind):
        return key_of(column)
    same = column.kind == other.kind or {column.kind, other.kind} <= NUMBERS
    return column.value if same else pl.lit(None, dtype=pl.Boolean)


def pair_in_set(domain: Domain, given: Arguments) -> pl.Expr:
    pairs = given.get("value_pairs_set")
    if pairs is None:
        return pl.lit(True)
    (a, b), found = domain.pair, [pl.lit(False)]
    for left, right in pairs:
        fits = [column.fit(item) for column, item in ((a, left), (b, right))]
        if (fits[0] is None) == (left is None) and (fits[1] is None) == (right is None):
            found.append(a.value.eq_missing(pl.lit(fits[0])) & b.value.eq_missing(pl.lit(fits[1])))
    return pl.any_horizontal(found)


def record_unique(domain: Domain, given: Arguments) -> pl.Expr:
    columns = [column.value for column in dict.fromkeys(domain.record)]
    return ~pl.struct(domain.rows(skip_missing=True).alias("looked at"), *columns).is_duplicated()


def record_sum(domain: Domain, given: Arguments) -> pl.Expr:
    columns = domain.record
    _comparable(columns, NUMBERS | {"bool"})
    exact = all(column.kind in ("int", "bool") for column in columns)
    values = [column.value.cast(pl.Int64 if exact else pl.Float64) for column in columns]
    return joined(values, operator.add) == pl.lit(given["sum_total"])


def record_equal(domain: Domain, given: Arguments) -> pl.Expr:
    first, *others = domain.record
    same = [
        _as_compared(first, o) == _as_compared(o, first) if first.kind != o.kind else first.value.eq_missing(o.value)
        for o in others
    ]
    both_missing = [~first.present & ~other.present for other in others]
    return pl.all_horizontal([(a.fill_null(False)) | b for a, b in zip(same, both_missing, strict=True)])


def record_distinct(domain: Domain, given: Arguments) -> pl.Expr:
    pairs = itertools.combinations(domain.record, 2)
    same = [(_as_compared(a, b) == _as_compared(b, a)).fill_null(False) | (~a.present & ~b.present) for a, b in pairs]
    return ~pl.any_horizontal(same)


def _comparable(columns: Sequence[Column], kinds: frozenset[str] | set[str]) -> None:
    """
    Raises:
        TypeError: the values of a column do not compare, or not with those of the others.
    """
    for column in columns:
        if column.kind not in kinds:
            raise TypeError(f"Values of column {column.name} do not compare: they are of type {column.type}.")
    first = columns[0]
    for other in columns[1:]:
        if first.kind != other.kind and not {first.kind, other.kind} <= NUMBERS | {"bool"}:
            raise TypeError(f"Columns {first.name} ({first.type}) and {other.name} ({other.type}) do not compare.")


CONDITIONS: dict[str, MapCondition] = {
    "column_values.nonnull": MapCondition(lambda domain, _: domain.column.present, skip_missing=False),
    "column_values.null": MapCondition(lambda domain, _: ~domain.column.present, skip_missing=False),
    "column_values.between": MapCondition(between),
    "column_values.in_set": MapCondition(in_set),
    "column_values.not_in_set": MapCondition(not_in_set),
    "column_values.unique": MapCondition(unique),
    "column_values.increasing": MapCondition(increasing),
    "column_values.decreasing": MapCondition(decreasing),
    "column_values.match_regex": MapCondition(regex),
    "column_values.not_match_regex": MapCondition(opposite(regex)),
    "column_values.match_regex_list": MapCondition(regex_list),
    "column_values.not_match_regex_list": MapCondition(opposite(regex_list)),
    "column_values.match_like_pattern": MapCondition(like),
    "column_values.not_match_like_pattern": MapCondition(opposite(like)),
    "column_values.match_like_pattern_list": MapCondition(like_list),
    "column_values.not_match_like_pattern_list": MapCondition(opposite(like_list)),
    "column_values.value_length.between": MapCondition(length_between),
    "column_values.value_length.equals": MapCondition(length_equals),
    "column_values.z_score.under_threshold": MapCondition(z_score),
    "column_values.not_outliers": MapCondition(not_outlier),
    "column_values.of_type": MapCondition(of_type),
    "column_values.in_type_list": MapCondition(in_type_list),
    "column_values.match_strftime_format": MapCondition(strftime),
    "column_values.dateutil_parseable": MapCondition(dateutil),
    "column_values.json_parseable": MapCondition(json_parseable),
    "column_values.match_json_schema": MapCondition(json_schema),
    "column_pair_values.equal": MapCondition(pair_equal),
    "column_pair_values.a_greater_than_b": MapCondition(pair_greater),
    "column_pair_values.in_set": MapCondition(pair_in_set),
    "compound_columns.unique": MapCondition(record_unique),
    "multicolumn_sum.equal": MapCondition(record_sum),
    "multicolumn_values.equal": MapCondition(record_equal),
    "select_column_values.unique.within_record": MapCondition(record_distinct),
}
