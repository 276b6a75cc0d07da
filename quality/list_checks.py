"""Expectations about what is inside a list: histories and embeddings. Ours, not Great Expectations'; one rule for both.

A missing list is passed over. Lengths and fixed dimensions are GX's own expectations about lengths, which count the
values of a list here.
"""

from __future__ import annotations

import polars as pl

from . import proofs
from .columns import NUMBERS, Column, Kind, kind_of
from .expectation import Bounds, Expectation, RowCheck
from .row_checks import BOUNDS, Rule, on_present, rule

NORM_TOLERANCE = 1e-3  # of a unit vector stored as float32 or float16


def no_nulls_inside(e: Expectation) -> RowCheck:
    column = _list(e)
    missing = pl.element().is_null()
    if _inner(column) == "float":
        missing |= pl.element().is_nan()
    meets = ~column.items.list.eval(missing).list.any()
    return on_present(e, column, meets, "no null inside", proof=proofs.filled_lists(column))


def all_between(e: Expectation) -> RowCheck:
    column = _list(e, NUMBERS)
    bounds = Bounds.of(e, e.number, required=True)
    meets = column.items.list.eval(bounds.holds_for(pl.element())).list.all()
    expected, proof = "all values " + bounds.show(lambda bound: f"{bound:g}"), proofs.lists_between(column, bounds)
    return on_present(e, column, meets, expected, proof=proof)


def all_finite(e: Expectation) -> RowCheck:
    column = _list(e, NUMBERS)
    meets = column.items.list.eval(pl.element().is_finite().fill_null(False)).list.all()
    return on_present(e, column, meets, "all values finite", proof=proofs.finite_lists(column))


def unit_norm(e: Expectation) -> RowCheck:
    column = _list(e, NUMBERS)
    tolerance = e.number("tolerance")
    allowed = NORM_TOLERANCE if tolerance is None else float(tolerance)
    norm = column.items.list.eval(pl.element().cast(pl.Float64).pow(2)).list.sum().sqrt()
    got = pl.concat_str(pl.lit("norm "), (norm + 0.0).round(6).cast(pl.String))  # of no values the sum is -0.0
    meets, proof = (norm - 1).abs() <= allowed, proofs.unit_vectors(column, allowed)
    return on_present(e, column, meets, f"norm 1 within {allowed:g}", got, proof=proof)


def all_before(e: Expectation) -> RowCheck:
    """No future in a history: all of its times are strictly before another column's."""
    column, other = _list(e, frozenset({"time", "int"})), e.column(frozenset({"time", "int"}), key="before_column")
    inner = Column("", column.type.value_type, _inner(column))
    if inner.kind != other.kind:
        raise e.error("columns that do not compare", expected="two of one kind", got=f"{column.type} and {other.type}")
    element = (
        pl.element().cast(pl.Datetime("us", inner.type.tz)).to_physical() if inner.kind == "time" else pl.element()
    )
    latest = column.items.list.eval(element).list.max()
    meets = (latest.is_null() & other.present) | (latest < other.value)
    return on_present(e, column, meets, f"all before {other.name}")


def _inner(column: Column) -> Kind:
    return kind_of(column.type.value_type)


def _list(e: Expectation, kinds: frozenset[Kind] | None = None) -> Column:
    """The column, if it is of lists; `kinds`: of what."""
    column = e.column(frozenset({"list"}))
    if kinds is not None and _inner(column) not in kinds:
        raise e.error(
            f"column {column.name} is of lists this expectation cannot be evaluated on",
            expected="lists of " + ", ".join(sorted(kinds)),
            got=column.type,
        )
    return column


RULES: dict[str, Rule] = {
    "expect_column_list_values_to_not_be_null": rule(no_nulls_inside, "column"),
    "expect_column_list_values_to_be_between": rule(all_between, "column", *BOUNDS),
    "expect_column_list_values_to_be_finite": rule(all_finite, "column"),
    "expect_column_list_values_to_be_before": rule(all_before, "column", "before_column"),
    "expect_column_vectors_to_be_unit_norm": rule(unit_norm, "column", "tolerance"),
}
