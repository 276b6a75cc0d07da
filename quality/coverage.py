"""Coverage: ids of a batch that another table knows, as it was when it was pinned or as it is when a run begins.

Ours, not Great Expectations'; one rule for both. The rule is given the values. Who has a lake names its table in the
suite instead, and pipelines/references.py reads them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from .expectation import Expectation, RowCheck
from .row_checks import Rule, on_present, rule


def covered(e: Expectation) -> RowCheck:
    """Each value is one of the reference's.

    Raises:
        SuiteError: there is no reference, or its values are not of the column's kind.
    """
    column = e.column(frozenset({"int", "string"}))
    reference = e.kwargs.get("reference")
    given: Mapping[str, Any] = reference if isinstance(reference, Mapping) else {}
    known = _series(given.get("values"))
    if known is None or not (known.dtype.is_integer() if column.kind == "int" else known.dtype == pl.String):
        raise e.error(
            f"not a reference for column {column.name}, which is {column.type}",
            expected='{"table": "content", "column": "item_id"}, with "pin" or without, or {"values": [...]}',
            got=repr(reference)[:80] if known is None else f"values of type {known.dtype}",
        )
    said = "known values"
    if "table" in given:
        said = f"values of {given['table']}.{given['column']}" + (f" at pin {given['pin']}" if "pin" in given else "")
        said += f" in its last {given['days']} days" if "days" in given else ""
    return on_present(e, column, column.value.is_in(known.implode()), f"one of {len(known):,} {said}")


def _series(values: object) -> pl.Series | None:
    """The distinct values; None: they are no values, or of several kinds. Of none at all nobody knows the kind."""
    try:
        found = values if isinstance(values, pl.Series) else pl.Series(values) if isinstance(values, list) else None
    except (TypeError, OverflowError):
        return None
    return None if found is None else found.drop_nulls().unique()


RULES: dict[str, Rule] = {"expect_column_values_to_be_in_reference": rule(covered, "column", "reference")}
