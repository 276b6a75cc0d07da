"""Regular expressions of Great Expectations: Rust's engine where it means the same, else Python's, once a value."""

from __future__ import annotations

import re

import polars as pl

from ...schemas.errors import SuiteError
from ..patterns import to_rust


def matches(words: pl.Expr, pattern: str) -> pl.Expr:
    """Whether the pattern is found in the string.

    Raises:
        re.error: not a pattern of Python's.
    """
    compiled = re.compile(pattern)
    try:
        return words.str.contains(to_rust(pattern, where="expectation"))
    except SuiteError:  # look-around, back-references and the like: only Python can
        return words.map_batches(lambda values: _search(values, compiled), return_dtype=pl.Boolean, is_elementwise=True)


def _search(values: pl.Series, compiled: re.Pattern[str]) -> pl.Series:
    distinct = values.drop_nulls().unique()
    found = [value for value in distinct.to_list() if compiled.search(value)]
    return values.is_in(pl.Series(found, dtype=pl.String).implode())
