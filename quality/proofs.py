"""Proofs that no row of a batch fails a check, by aggregates of its columns: a minimum says what a million comparisons
say.

Most batches meet most checks. A proof tells how many rows its check looks at where it can show that none of them
fails, and None where it cannot: then rows are compared one by one. It may give up, but not err.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from .columns import Column, kind_of
from .expectation import Bounds
from .facts import SMALL_ROWS, Facts, Proof, Values, all_of, extremes_of, has_extremes, may_have_nan

_TEXTS = (pa.string(), pa.large_string())


def _all_there(facts: Facts, column: Column) -> bool:
    return facts.present(column) == facts.rows


def not_null(column: Column) -> Proof:
    return lambda facts: facts.rows if _all_there(facts, column) else None


def null(column: Column) -> Proof:
    return lambda facts: facts.rows if facts.present(column) == 0 else None


def all_present(column: Column) -> Proof:
    """Of a check that the column's type alone decides."""
    return lambda facts: facts.present(column)


def between(column: Column, bounds: Bounds) -> Proof | None:
    if not has_extremes(column):
        return None
    # Polars compares a whole number with a fraction as floats, which Python does not.
    exact = float if column.kind == "float" else int
    if not all(type(bound) is exact or bound is None or exact(bound) == bound for bound in (bounds.low, bounds.high)):
        return None

    def proof(facts: Facts) -> int | None:
        present = facts.present(column)
        return present if not present or all(map(bounds.hold, facts.extremes(column))) else None

    return proof


def one_of(column: Column, values: Collection[Any]) -> Proof | None:
    return _members(column, values, inside=True)


def none_of(column: Column, values: Collection[Any]) -> Proof | None:
    return _members(column, values, inside=False)


def _members(column: Column, values: Collection[Any], *, inside: bool) -> Proof | None:
    if not (column.kind == "int" or column.type in _TEXTS) or not values:
        return None
    try:
        wanted = pc.SetLookupOptions(value_set=pa.array(values, column.type))
    except (pa.ArrowInvalid, OverflowError):  # a number that the column cannot hold
        return None

    low, high, members = min(values), max(values), frozenset(values)

    def proof(facts: Facts) -> int | None:
        present = facts.present(column)
        if column.kind == "int" and not inside and present:
            least, most = facts.extremes(column)
            if high < least or most < low:
                return present
        texts = facts.texts(column) if column.kind == "string" else None
        if texts is not None:
            return present if all(text is None or (text in members) == inside for text in texts) else None
        if not facts.small:
            return None
        found = pc.sum(pc.is_in(facts.values(column), options=wanted)).as_py() or 0
        return present if found == (present if inside else 0) else None

    return proof


def matching(column: Column, pattern: str) -> Proof | None:
    """Of few different texts, by Python's own `re`, where what Rust makes of the pattern cannot be another thing."""
    if not pattern.isascii() or column.type not in _TEXTS:
        return None
    compiled = re.compile(pattern)

    def proof(facts: Facts) -> int | None:
        texts = facts.texts(column)
        if texts is None:
            return None
        met = all(text is None or (text.isascii() and text.isprintable() and compiled.search(text)) for text in texts)
        return facts.present(column) if met else None

    return proof


def long(column: Column, holds: Callable[[int], bool]) -> Proof | None:
    """Of lengths of texts, in characters, and of lists; `holds` is true of what lies between two that it is true of."""
    text = column.kind == "string"
    if text and column.type not in _TEXTS:
        return None

    def proof(facts: Facts) -> int | None:
        values, present = facts.values(column), facts.present(column)
        lengths = pc.binary_length(values) if text else pc.list_value_length(values)
        shortest, longest = extremes_of(lengths) if present else (0, 0)
        if text:  # a character has one to four bytes
            shortest = -(-shortest // 4)
        if not present or (holds(shortest) and holds(longest)):
            return present
        if not text or not facts.small:
            return None
        return present if all(map(holds, extremes_of(pc.utf8_length(values)))) else None

    return proof


def ordered(a: Column, b: Column, compare: Callable[[Values, Values], Values]) -> Proof | None:
    """Of pairs both of which are there, in every row."""
    if a.type != b.type or not (has_extremes(a) or a.type in _TEXTS):
        return None

    def proof(facts: Facts) -> int | None:
        if not (_all_there(facts, a) and _all_there(facts, b)):
            return None
        return facts.rows if all_of(compare(facts.values(a), facts.values(b))) else None

    return proof


def filled_lists(column: Column) -> Proof | None:
    """No null, and no NaN, in any list."""
    return _within(column, lambda _: True)


def finite_lists(column: Column) -> Proof | None:
    return _within(column, lambda inner: all_of(pc.is_finite(inner))) if has_extremes(_inner(column)) else None


def lists_between(column: Column, bounds: Bounds) -> Proof | None:
    if _inner(column).kind not in ("int", "float"):
        return None
    return _within(column, lambda inner: len(inner) == 0 or all(map(bounds.hold, extremes_of(inner))))


def unit_vectors(column: Column, tolerance: float) -> Proof | None:
    """Of vectors that have all one length."""
    if not has_extremes(_inner(column)):
        return None

    # Sums in another order differ in their last digits.
    least, most = max(1 - tolerance, 0.0) + 1e-9, 1 + tolerance - 1e-9

    def near_one(vectors: npt.NDArray[Any]) -> bool:
        wide = vectors.astype(np.float64, copy=False)
        squares = np.einsum("ij,ij->i", wide, wide)
        return bool(least <= math.sqrt(squares.min()) and math.sqrt(squares.max()) <= most)

    def proof(facts: Facts) -> int | None:
        values, present = facts.values(column), facts.present(column)
        low, high = extremes_of(pc.list_value_length(values))
        if not present or low != high or not low:
            return None
        inner = pc.list_flatten(values)
        if inner.null_count or len(inner) != present * low:
            return None
        vectors = inner.to_numpy().reshape(-1, low)
        pieces = (vectors[start : start + SMALL_ROWS] for start in range(0, present, SMALL_ROWS))
        return present if all(map(near_one, pieces)) else None

    return proof


def _inner(column: Column) -> Column:
    type_ = column.type.value_type
    return Column(column.name, type_, kind_of(type_))


def _within(column: Column, holds: Callable[[pa.ChunkedArray], bool]) -> Proof | None:
    """Of lists whose values are all there, by all the values together."""
    inside = _inner(column)
    if inside.kind == "float" and not has_extremes(inside):  # of half a float Arrow cannot say whether it is NaN
        return None

    def proof(facts: Facts) -> int | None:
        inner = pc.list_flatten(facts.values(column))
        if inner.null_count or (inside.kind == "float" and may_have_nan(inner)):
            return None
        return facts.present(column) if holds(inner) else None

    return proof
