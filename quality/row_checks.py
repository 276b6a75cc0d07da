"""Expectations that have an answer for every row, as Polars expressions.

Meaning is that of GX 1.24's pandas engine: a missing value (null, or a float NaN) is passed over, except by the checks
for null; a pair is compared with whatever is there unless `ignore_row_if` says otherwise. Two departures, both where
pandas would check the text of a Python object: lengths of lists are counts of values, and regular expressions
and lengths are refused on numbers.
"""

from __future__ import annotations

import functools
import itertools
import operator
from collections.abc import Callable, Iterable

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from . import proofs
from .columns import HASHABLE, NUMBERS, ORDERED, Column, Kind, comparable, short
from .expectation import COMMON_KEYS, Bounds, Expectation, RowCheck
from .facts import Proof
from .patterns import to_rust

# GX takes numbers and times as bounds, not other strings.
_BOUNDED: frozenset[Kind] = NUMBERS | {"time", "date"}
_TEXT: frozenset[Kind] = frozenset({"string"})
_MEASURABLE: frozenset[Kind] = frozenset({"string", "list"})
_FEW = 4
BOUNDS = frozenset({"min_value", "max_value", "strict_min", "strict_max"})


def _check(
    e: Expectation,
    columns: Iterable[Column],
    *,
    meets: pl.Expr,
    considered: pl.Expr | None,
    expected: str,
    got: pl.Expr,
    certain: bool = False,
    together: Iterable[Column] = (),
    proof: Proof | None = None,
) -> RowCheck:
    """A row check; `considered` None: all rows. A comparison that has no answer is a failure.

    `certain`: `meets` is null for rows that are not considered, and for no other: a few steps less for the same.
    """
    columns = list(columns)
    if certain:
        fails = ~meets if considered is None else meets.eq_missing(False)
    else:
        fails = meets.ne_missing(True)
        if considered is not None:
            fails = considered & fails
    return RowCheck(
        type=e.type,
        columns=tuple(column.name for column in columns),
        severity=e.severity,
        expected=expected,
        mostly=e.mostly,
        fails=e.within(fails),
        evaluated=e.rows if considered is None else e.within(considered).sum(),
        got=got,
        together=frozenset(column.name for column in together),
        # Facts are of all rows, and of columns of the batch.
        proof=proof if e.domain is None and all(column.inside is None for column in columns) else None,
    )


def on_present(
    e: Expectation,
    column: Column,
    meets: pl.Expr,
    expected: str,
    got: pl.Expr | None = None,
    *,
    certain: bool = False,
    together: Iterable[Column] = (),
    proof: Proof | None = None,
) -> RowCheck:
    return _check(
        e,
        [column],
        meets=meets,
        considered=column.present,
        expected=expected,
        got=column.text if got is None else got,
        certain=certain,
        together=together,
        proof=proof,
    )


def not_null(e: Expectation) -> RowCheck:
    column = e.column()
    meets, got = column.present, pl.lit("null")
    proof = proofs.not_null(column)
    return _check(e, [column], meets=meets, considered=None, expected="not null", got=got, certain=True, proof=proof)


def null(e: Expectation) -> RowCheck:
    column = e.column()
    meets, proof = ~column.present, proofs.null(column)
    return _check(e, [column], meets=meets, considered=None, expected="null", got=column.text, proof=proof)


def between(e: Expectation) -> RowCheck:
    column = e.column(_BOUNDED)

    def fit(key: str) -> object:
        raw = e.kwargs.get(key)
        return None if raw is None else column.literal(raw, where=f"{e.where}, {key}")

    bounds = Bounds.of(e, fit, required=True)
    meets, proof = bounds.holds_for(column.value), proofs.between(column, bounds)
    return on_present(e, column, meets, bounds.show(column.show), certain=True, proof=proof)


def in_set(e: Expectation) -> RowCheck:
    column = e.column(HASHABLE)
    values = e.values(column, empty_allowed=True)
    expected = "one of " + short([column.show(v) for v in values])
    proof = proofs.one_of(column, values)
    return on_present(e, column, _is_in(column, values), expected, certain=bool(values), proof=proof)


def not_in_set(e: Expectation) -> RowCheck:
    column = e.column(HASHABLE)
    values = e.values(column, empty_allowed=True)
    expected = "none of " + short([column.show(v) for v in values])
    proof = proofs.none_of(column, values)
    return on_present(e, column, ~_is_in(column, values), expected, certain=bool(values), proof=proof)


def _is_in(column: Column, values: list[object]) -> pl.Expr:
    if 0 < len(values) <= _FEW and column.kind != "float":  # in a third to two thirds of the time
        return pl.any_horizontal([column.value == pl.lit(value) for value in values])
    return column.value.is_in(values) if values else column.value.is_null()


def regex(e: Expectation) -> RowCheck:
    column = e.column(_TEXT)
    meets = column.raw.str.contains(to_rust(e.kwargs.get("regex"), where=e.where))
    proof = proofs.matching(column, e.kwargs["regex"])
    return on_present(e, column, meets, f"matches {e.kwargs['regex']}", certain=True, proof=proof)


def not_regex(e: Expectation) -> RowCheck:
    column = e.column(_TEXT)
    meets = ~column.raw.str.contains(to_rust(e.kwargs.get("regex"), where=e.where))
    return on_present(e, column, meets, f"does not match {e.kwargs['regex']}")


def regex_list(e: Expectation) -> RowCheck:
    column = e.column(_TEXT)
    patterns = e.strings("regex_list")
    if not patterns:
        raise e.error("no regular expression", expected="regex_list: one or more", got="[]")
    match_on = e.choice("match_on", ("any", "all"))
    found = [column.raw.str.contains(to_rust(pattern, where=e.where)) for pattern in patterns]
    meets = functools.reduce(operator.or_ if match_on == "any" else operator.and_, found)
    return on_present(e, column, meets, f"matches {match_on} of {short(patterns)}")


def length_between(e: Expectation) -> RowCheck:
    column = e.column(_MEASURABLE)
    bounds = Bounds.of(e, lambda key: e.number(key, whole=True), required=True)
    expected = bounds.show(str, prefix="length ")
    meets, proof = bounds.holds_for(_length(column)), proofs.long(column, bounds.hold)
    return on_present(e, column, meets, expected, _long(column), certain=True, proof=proof)


def length_equal(e: Expectation) -> RowCheck:
    column = e.column(_MEASURABLE)
    value = e.number("value", whole=True)
    if value is None:
        raise e.error("no length", expected="value: a whole number", got="none")
    meets, proof = _length(column) == value, proofs.long(column, lambda length: length == value)
    return on_present(e, column, meets, f"length {value}", _long(column), certain=True, proof=proof)


def _length(column: Column) -> pl.Expr:
    return column.raw.str.len_chars() if column.kind == "string" else column.items.list.len()


def _long(column: Column) -> pl.Expr:
    return pl.concat_str(pl.lit("length "), _length(column).cast(pl.String))


def unique(e: Expectation) -> RowCheck:
    column = e.column(HASHABLE)
    # Rows outside the row condition are no duplicates of rows inside: the condition is part of what is compared.
    key = column.value if e.domain is None else pl.struct(e.domain.alias("in domain"), column.value)
    return on_present(e, column, ~key.is_duplicated(), "unique", together=[column])


def of_type(e: Expectation) -> RowCheck:
    return _typed(e, [e.kwargs.get("type_")])


def in_type_list(e: Expectation) -> RowCheck:
    return _typed(e, e.strings("type_list"))


_TYPES: dict[str, Callable[[pa.DataType], bool]] = {
    **dict.fromkeys(("int", "long", "int64"), pa.types.is_int64),
    "int32": pa.types.is_int32,
    **dict.fromkeys(("float", "float64", "double"), pa.types.is_float64),
    "float32": pa.types.is_float32,
    "bool": pa.types.is_boolean,
    **dict.fromkeys(("str", "string_types"), lambda t: pa.types.is_string(t) or pa.types.is_large_string(t)),
    "bytes": lambda t: pa.types.is_binary(t) or pa.types.is_large_binary(t) or pa.types.is_fixed_size_binary(t),
    "list": lambda t: pa.types.is_list(t) or pa.types.is_large_list(t),
    "dict": lambda t: pa.types.is_struct(t) or pa.types.is_map(t),
    "Timestamp": lambda t: pa.types.is_timestamp(t) and t.tz is not None,
    "datetime64": lambda t: pa.types.is_timestamp(t) and t.tz is None,
}


def _typed(e: Expectation, names: list[object] | list[str]) -> RowCheck:
    """The type is the schema's, so the answer is the same for every value that is present."""
    column = e.column()
    unknown = [name for name in names if name not in _TYPES]
    if unknown or not names:
        raise e.error("an unknown type", expected="one of " + ", ".join(_TYPES), got=unknown or names)
    fits = any(_TYPES[str(name)](column.type) for name in names)
    got = pl.lit(str(column.type))
    expected, proof = "of type " + " or ".join(map(str, names)), proofs.all_present(column) if fits else None
    return on_present(e, column, pl.lit(fits), expected, got, proof=proof)


def pair_greater(e: Expectation) -> RowCheck:
    a, b = _pair(e, ordered=True)
    or_equal = e.flag("or_equal")
    meets = a.value >= b.value if or_equal else a.value > b.value
    proof = proofs.ordered(a, b, pc.greater_equal if or_equal else pc.greater)
    return _pair_check(e, a, b, meets, f"{a.name} {'>=' if or_equal else '>'} {b.name}", proof)


def pair_equal(e: Expectation) -> RowCheck:
    a, b = _pair(e, ordered=False)
    return _pair_check(e, a, b, a.value == b.value, f"{a.name} == {b.name}", proofs.ordered(a, b, pc.equal))


def _pair(e: Expectation, *, ordered: bool) -> tuple[Column, Column]:
    kinds = ORDERED if ordered else HASHABLE
    a, b = e.column(kinds, key="column_A"), e.column(kinds, key="column_B")
    if not comparable(a, b):
        raise e.error("columns that do not compare", expected="two of one kind", got=f"{a.type} and {b.type}")
    return a, b


def _pair_check(e: Expectation, a: Column, b: Column, meets: pl.Expr, expected: str, proof: Proof | None) -> RowCheck:
    considered = {
        "both_values_are_missing": a.present | b.present,
        "either_value_is_missing": a.present & b.present,
        "neither": None,
    }
    ignored = e.choice("ignore_row_if", tuple(considered))
    asked = considered[ignored]
    return _check(e, [a, b], meets=meets, considered=asked, expected=expected, got=_texts([a, b]), proof=proof)


def compound_unique(e: Expectation) -> RowCheck:
    columns = e.column_list(HASHABLE)
    considered = _any_of(e, columns)
    mine = pl.lit(True) if considered is None else considered
    # What is passed over is no duplicate of what is looked at, so that is part of the key.
    key = pl.struct(e.within(mine).alias("in domain"), *[column.value for column in columns])
    return _check(
        e,
        columns,
        meets=~key.is_duplicated(),
        considered=considered,
        expected="unique together",
        got=_texts(columns),
        together=columns,
    )


def unique_within_record(e: Expectation) -> RowCheck:
    columns = e.column_list(HASHABLE)
    for a, b in itertools.combinations(columns, 2):
        if not comparable(a, b):
            raise e.error("columns that do not compare", expected="columns of one kind", got=f"{a.type} and {b.type}")
    same = [a.value.eq_missing(b.value) for a, b in itertools.combinations(columns, 2)]
    return _check(
        e,
        columns,
        meets=~pl.any_horizontal(same),
        considered=_any_of(e, columns),
        expected="all different",
        got=_texts(columns),
    )


def _any_of(e: Expectation, columns: list[Column]) -> pl.Expr | None:
    present = [column.present for column in columns]
    considered = {
        "all_values_are_missing": pl.any_horizontal(present),
        "any_value_is_missing": pl.all_horizontal(present),
        "never": None,
    }
    return considered[e.choice("ignore_row_if", tuple(considered))]


def _texts(columns: list[Column]) -> pl.Expr:
    """`a = 1, b = "x"`"""
    parts: list[pl.Expr] = []
    for i, column in enumerate(columns):
        parts += [pl.lit(f"{', ' if i else ''}{column.name} = "), column.text.fill_null("null")]
    return pl.concat_str(parts)


Builder = Callable[[Expectation], RowCheck]
Rule = tuple[Builder, frozenset[str]]


def rule(build: Builder, *keys: str) -> Rule:
    return build, COMMON_KEYS | {"mostly", *keys}


RULES: dict[str, Rule] = {
    "expect_column_values_to_not_be_null": rule(not_null, "column"),
    "expect_column_values_to_be_null": rule(null, "column"),
    "expect_column_values_to_be_between": rule(between, "column", *BOUNDS),
    "expect_column_values_to_be_in_set": rule(in_set, "column", "value_set"),
    "expect_column_values_to_not_be_in_set": rule(not_in_set, "column", "value_set"),
    "expect_column_values_to_match_regex": rule(regex, "column", "regex"),
    "expect_column_values_to_not_match_regex": rule(not_regex, "column", "regex"),
    "expect_column_values_to_match_regex_list": rule(regex_list, "column", "regex_list", "match_on"),
    "expect_column_value_lengths_to_be_between": rule(length_between, "column", *BOUNDS),
    "expect_column_value_lengths_to_equal": rule(length_equal, "column", "value"),
    "expect_column_values_to_be_unique": rule(unique, "column"),
    "expect_column_values_to_be_of_type": rule(of_type, "column", "type_"),
    "expect_column_values_to_be_in_type_list": rule(in_type_list, "column", "type_list"),
    "expect_column_pair_values_a_to_be_greater_than_b": rule(
        pair_greater, "column_A", "column_B", "or_equal", "ignore_row_if"
    ),
    "expect_column_pair_values_to_be_equal": rule(pair_equal, "column_A", "column_B", "ignore_row_if"),
    "expect_compound_columns_to_be_unique": rule(compound_unique, "column_list", "ignore_row_if"),
    "expect_select_column_values_to_be_unique_within_record": rule(
        unique_within_record, "column_list", "ignore_row_if"
    ),
}
