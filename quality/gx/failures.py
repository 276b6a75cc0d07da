"""GX's metrics about the rows that fail a map condition: how many, which, and what is in them, as plans.

The count is asked first. What fails is looked for only where the count is not 0: a batch without faults is read once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd
import polars as pl
from great_expectations.constants import MAX_RESULT_RECORDS
from great_expectations.expectations.metrics.util import get_dbms_compatible_column_names

from .conditions import Arguments, MapCondition
from .domain import WIDE, Domain, LooseColumn
from .plan import Plan, of

NO_COLUMN = (
    'Error: The unexpected_index_column "{column_name:s}" does not exist in Dataframe.'
    " Please check your configuration and try again."
)
# GX sorts records to count them, which Python does with these and not with None.
_MISSING: Mapping[str, Any] = {"int": math.nan, "float": math.nan, "time": pd.NaT}
ROW = pl.int_range(pl.len(), dtype=pl.UInt32)


def mask(condition: MapCondition, domain: Domain, given: Arguments) -> pl.Expr:
    """The rows that are looked at and do not meet the condition, null-free."""
    looked_at = domain.rows(skip_missing=condition.skip_missing)
    return looked_at & ~condition.meets(domain, given).fill_null(False)


def unexpected_count(condition: MapCondition, domain: Domain, given: Arguments) -> Plan:
    return of(mask(condition, domain, given).sum())


def filtered_row_count(condition: MapCondition, domain: Domain, given: Arguments) -> Plan:
    return of(domain.rows(skip_missing=condition.skip_missing).sum())


def condition_series(condition: MapCondition, domain: Domain, given: Arguments) -> Plan:
    """What GX calls the condition: which of the rows that are looked at fail, as a pandas series by row number."""
    looked_at = domain.rows(skip_missing=condition.skip_missing)
    fails = mask(condition, domain, given).filter(looked_at)
    name, kwargs = domain.all[0].name, dict(domain.kwargs)
    return Plan(
        (ROW.filter(looked_at).implode(), fails.implode()),
        lambda rows, fails: (pd.Series(fails.to_numpy(), index=rows.to_list(), name=name), kwargs, {}),
    )


def _limit(given: Arguments) -> int | None:
    """How many are wanted; None: all."""
    wanted = given["result_format"]
    return None if wanted["result_format"] == "COMPLETE" else int(wanted["partial_unexpected_count"])


def _failing(shown: pl.Expr, fails: pl.Expr, limit: int | None) -> pl.Expr:
    kept = shown.filter(fails)
    return (kept if limit is None else kept.head(limit)).implode()


def unexpected_values(condition: MapCondition, domain: Domain, given: Arguments) -> Plan:
    """Values of a column; of several columns a record each."""
    limit = _limit(given)
    fails = mask(condition, domain, given)
    names = [column.name for column in domain.all]
    limit = MAX_RESULT_RECORDS if limit is None else min(limit, MAX_RESULT_RECORDS)
    shown = dict(zip(names, [column.raw for column in domain.all], strict=True))
    asked = tuple(_failing(expr, fails, limit) for expr in shown.values())
    if "column" in domain.kwargs:
        return Plan(asked, domain.column.listed)
    by_name = {column.name: column for column in domain.all}
    missing = {name: _MISSING.get(column.kind) for name, column in by_name.items()}

    def records(*parts: pl.Series) -> list[Any]:
        columns = []
        for column, part in zip(by_name.values(), parts, strict=True):
            instead = missing[column.name]
            columns.append([instead if value is None else value for value in column.listed(part)])
        if "column_A" in domain.kwargs:
            return list(zip(columns[0], columns[-1], strict=True))
        return [dict(zip(missing, row, strict=True)) for row in zip(*columns, strict=True)]

    return Plan(asked, records)


def unexpected_value_counts(condition: MapCondition, domain: Domain, given: Arguments) -> Plan:
    counted = domain.column.raw.filter(mask(condition, domain, given)).value_counts(sort=True, name="n")
    counted = counted if (limit := _limit(given)) is None else counted.head(limit)
    return Plan(
        (counted.struct[0].implode(), counted.struct["n"].implode()),
        lambda values, counts: pd.Series(
            counts.to_list(), index=domain.column.listed(values), name="count", dtype="int64"
        ),
    )


def unexpected_index_list(condition: MapCondition, domain: Domain, given: Arguments) -> Plan:
    """Row numbers from 0; with `unexpected_index_column_names` a record of those columns and the domain's."""
    limit, fails, wanted = _limit(given), mask(condition, domain, given), given["result_format"]
    keys = wanted.get("unexpected_index_column_names")
    if not keys:
        return Plan((_failing(ROW, fails, limit),), pl.Series.to_list)
    found = get_dbms_compatible_column_names([keys] if isinstance(keys, str) else keys, list(domain.columns), NO_COLUMN)
    keys = [str(key) for key in found]
    bare = wanted.get("exclude_unexpected_values", False)
    names = keys if bare else list(dict.fromkeys([domain.all[0].name, *keys, *(c.name for c in domain.all)]))
    shown = {name: domain.columns[name] for name in keys} | {column.name: column for column in domain.all}
    asked = tuple(_failing(shown[name].raw, fails, limit) for name in names)

    def records(*parts: pl.Series) -> list[Any]:
        values = {name: shown[name].listed(part) for name, part in zip(names, parts, strict=True)}
        return [values] if bare else [dict(zip(names, row, strict=True)) for row in zip(*values.values(), strict=True)]

    return Plan(asked, records)


def unexpected_index_query(condition: MapCondition, domain: Domain, given: Arguments) -> Plan:
    """Polars code that gives the rows of a frame `df`."""
    if given["result_format"].get("return_unexpected_index_query") is False:
        return Plan((), lambda: None)
    return Plan((_failing(ROW, mask(condition, domain, given), None),), lambda rows: f"df[{rows.to_list()}]")


def unexpected_rows(condition: MapCondition, domain: Domain, given: Arguments) -> Plan:
    """Whole rows, as a pandas frame, which is what GX's results hold."""
    limit, fails = _limit(given), mask(condition, domain, given)
    limit = MAX_RESULT_RECORDS if limit is None else min(limit, MAX_RESULT_RECORDS)
    columns = list(domain.columns.values())
    asked = tuple(_failing(shown, fails, limit) for shown in (ROW, *(column.raw for column in columns)))

    def frame(rows: pl.Series, *parts: pl.Series) -> Any:
        held = {
            column.name: column.listed(part) if _by_value(column, part) else part.to_arrow().to_pandas()
            for column, part in zip(columns, parts, strict=True)
        }
        return pd.DataFrame(held).set_index(pd.Index(rows.to_list()))

    return Plan(asked, frame)


def _by_value(column: LooseColumn, part: pl.Series) -> bool:
    """Whether pandas is given Python's values: where Arrow has no such type, or JSON could not hold pandas' own."""
    return column.kind == "mixed" or part.dtype in WIDE or part.dtype == pl.Duration


Metric = Callable[[MapCondition, Domain, Arguments], Plan]
COUNTS: Mapping[str, Metric] = {
    "unexpected_count": unexpected_count,
    "filtered_row_count": filtered_row_count,
    "condition": condition_series,
}
# What is not looked for where nothing fails, and what is said then.
DETAILS: Mapping[str, tuple[Metric, Callable[[Domain], Any]]] = {
    "unexpected_values": (unexpected_values, lambda _: []),
    "unexpected_value_counts": (unexpected_value_counts, lambda _: pd.Series([], name="count", dtype="int64")),
    "unexpected_index_list": (unexpected_index_list, lambda _: []),
    "unexpected_index_query": (unexpected_index_query, lambda _: "df[[]]"),
    "unexpected_rows": (unexpected_rows, lambda domain: pd.DataFrame(columns=list(domain.columns))),
}
