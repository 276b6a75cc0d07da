"""GX's `row_condition` as a Polars expression: which rows an expectation looks at.

Two forms, both GX 1.24's own and both with the meaning its pandas engine gives them: the structured one
(`{"type": "comparison", "column": {"name": "x"}, "operator": "==", "parameter": 1}`, and "nullity", "and", "or"), and
the text of a pandas query (`x == 1 and y in ["a", "b"]`), where `col("x")` may be written for `x`: see queries.py.
A comparison with a missing value is false, except `!=` and `not in`, which are true. A text is parsed, never run.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Mapping
from typing import Any

import polars as pl

from .columns import Column
from .queries import Query

_PARSERS = (None, "pandas", "great_expectations", "great_expectations__experimental__")


def compile_condition(raw: Any, parser: Any, columns: Mapping[str, Column], *, where: str) -> pl.Expr:
    """Rows for which the condition holds, as booleans without null.

    Raises:
        SuiteError: a form, column, operator or value that has no sound meaning here.
    """
    query = Query(columns, f"{where}, row_condition")
    if isinstance(raw, dict):
        return _structured(query, raw)
    if isinstance(raw, str) and parser in _PARSERS:
        return query.text(raw)
    raise query.error("a condition that cannot be evaluated", raw if parser in _PARSERS else f"parser {parser!r}")


def _structured(query: Query, node: Any) -> pl.Expr:
    match node:
        case {"type": "comparison", "column": {"name": name}, "operator": op, "parameter": parameter}:
            return query.compare(query.column(name), op, parameter)
        case {"type": "nullity", "column": {"name": name}, "is_null": bool(is_null)}:
            present = query.column(name).present
            return ~present if is_null else present
        case {"type": "and", "conditions": [_, *_] as parts}:
            return functools.reduce(operator.and_, [_structured(query, part) for part in parts])
        case {"type": "or", "conditions": [_, *_] as parts}:
            return functools.reduce(operator.or_, [_structured(query, part) for part in parts])
        case {"type": "pass_through", "pass_through_filter": str(text)}:
            return query.text(text)
    raise query.error("a condition that cannot be evaluated", repr(node))
