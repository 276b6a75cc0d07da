"""References: what expectations of a suite hold a batch against, read from tables of the lake.

    {"type": "expect_column_values_to_be_in_reference",
     "kwargs": {"column": "item_id", "mostly": 0.99, "reference": {"table": "content", "column": "item_id"}}}
    {"type": "expect_column_drift_to_be_less_than",
     "kwargs": {"column": "watch_ms", "threshold": 0.25,
                "reference": {"table": "events", "column": "watch_ms", "pin": "ctr-2024-03-01"}}}

With `pin` the table is read as it was pinned; without, as it is when the suite is compiled, at the beginning of a run.
With `days` only what was known in the last so many days that the table has: those before its newest `known_at`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import polars as pl

from ..quality.drift import reference_of
from ..schemas.errors import SuiteError
from ..storage.catalog import Catalog
from .reading import rows_of
from .run import wall_clock_us

_KEYS = {"table", "column", "pin", "days"}
_MAX_DAYS = 36_500
_KNOWN_AT = "known_at"


def referred(catalog: Catalog, suite: Mapping[str, Any]) -> Mapping[str, Any]:
    """The suite with what its references name; itself, and nothing is read, where none names a table.

    Raises:
        SuiteError: a reference names no table of the lake, or no column of it.
        PinError: there is no such pin, it has expired, or it does not hold the table.
    """
    entries = suite.get("expectations")
    if not isinstance(entries, list) or not any(_named(entry) for entry in entries):
        return suite
    return {**suite, "expectations": [_resolved(catalog, entry, i) for i, entry in enumerate(entries)]}


def _named(entry: Any) -> bool:
    kwargs = entry.get("kwargs") if isinstance(entry, Mapping) else None
    reference = kwargs.get("reference") if isinstance(kwargs, Mapping) else None
    return isinstance(reference, Mapping) and "table" in reference


def _resolved(catalog: Catalog, entry: Any, place: int) -> Any:
    if not _named(entry):
        return entry
    reference = entry["kwargs"]["reference"]
    where = f"expectation {place}, {entry.get('type')}, reference"
    drift = entry.get("type") == "expect_column_drift_to_be_less_than"
    column = _column(catalog, reference, where)
    values = (column if drift else column.unique()).collect(engine="streaming").to_series()
    if drift:
        try:
            found: Mapping[str, Any] = reference_of(values)
        except ValueError as error:
            raise SuiteError("a reference without a value", where=where, got=str(error)) from None
    else:
        found = {**reference, "values": values}
    return {**entry, "kwargs": {**entry["kwargs"], "reference": found}}


def _column(catalog: Catalog, reference: Mapping[str, Any], where: str) -> pl.LazyFrame:
    table, column, pin, days = (reference.get(key) for key in ("table", "column", "pin", "days"))
    whole = days is None or (type(days) is int and 1 <= days <= _MAX_DAYS)
    if set(reference) - _KEYS or not isinstance(column, str) or not isinstance(pin, str | None) or not whole:
        raise SuiteError(
            "not a reference to a table",
            where=where,
            expected='{"table": ..., "column": ...}, with "pin" or "days" (1 and more) or without',
            got=repr(dict(reference)),
        )
    pinned = None if pin is None else catalog.pin(pin).opened_at(wall_clock_us())
    if table not in (catalog.table_names() if pinned is None else pinned.tables):
        raise SuiteError(
            "a reference to a table that is not there",
            where=where,
            expected=", ".join(catalog.table_names() if pinned is None else sorted(pinned.tables)),
            got=str(table),
            hint="tables come with their first rows; register the suite then",
        )
    rows = rows_of(catalog, str(table), pin=pinned)
    if column not in rows.collect_schema():
        raise SuiteError(
            "a reference to a column that does not exist",
            where=where,
            expected="one of " + ", ".join(rows.collect_schema()),
            got=column,
        )
    if days is not None:
        rows = _last(rows, days, where)
    return rows.select(pl.col(column).drop_nulls())


def _last(rows: pl.LazyFrame, days: int, where: str) -> pl.LazyFrame:
    """What was known within so many days before the newest of the rows, that one included."""
    if _KNOWN_AT not in rows.collect_schema():
        raise SuiteError(
            "a reference to the last days of a table that does not say when its rows were known",
            where=where,
            expected=f"a table with a column {_KNOWN_AT}",
            got=", ".join(rows.collect_schema()),
        )
    newest = rows.select(pl.col(_KNOWN_AT).max()).collect(engine="streaming").item()
    return rows if newest is None else rows.filter(pl.col(_KNOWN_AT) > newest - timedelta(days=days))
