"""Drift: how far a column's values are from a reference distribution. The reference is JSON and stands in the suite.

    psi              population stability index, sum (p - q) ln(p / q): below 0.1 little, above 0.25 much (Siddiqi,
                     Credit Risk Scorecards, 2006). Shares below 1e-4 count as 1e-4: no empty bin is infinitely far
    jensen_shannon   divergence in bits, 0 to 1 (Lin, IEEE Trans. Information Theory 37, 1991)
    l_infinity       the largest difference of two shares, 0 to 1

`reference_of` makes one of a pinned version, or of the last days: whatever frame it is given.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from .batch_checks import Builder, batch_check, present_values
from .batch_checks import rule as batch_rule
from .columns import HASHABLE, NUMBERS, Column
from .expectation import BatchCheck, Expectation, Outcome

SHARE_MIN = 1e-4
CATEGORIES_MAX = 50


def psi(p: np.ndarray, q: np.ndarray) -> float:
    p, q = np.maximum(p, SHARE_MIN), np.maximum(q, SHARE_MIN)
    return float(((p - q) * np.log(p / q)).sum())


def jensen_shannon(p: np.ndarray, q: np.ndarray) -> float:
    middle = (p + q) / 2

    def kullback_leibler(a: np.ndarray) -> float:
        there = a > 0
        return float((a[there] * np.log2(a[there] / middle[there])).sum())

    return (kullback_leibler(p) + kullback_leibler(q)) / 2


def l_infinity(p: np.ndarray, q: np.ndarray) -> float:
    return float(np.abs(p - q).max())


MEASURES: Mapping[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "psi": psi,
    "jensen_shannon": jensen_shannon,
    "l_infinity": l_infinity,
}


def reference_of(values: pl.Series, *, bins: int = 10) -> dict[str, list[Any]]:
    """The distribution of the values: `bins` of equal shares of numbers, or the commonest of other values, and weights.

    `{"bins": [edges], "weights": [shares]}`, one weight for each span between edges; what lies outside belongs to the
    outermost. Or `{"values": [...], "weights": [shares]}`; what is not named has the share that is left.

    Raises:
        ValueError: there is no value.
    """
    there = values.drop_nulls()
    there = there.filter(there.is_not_nan()) if there.dtype.is_float() else there
    if there.is_empty():
        raise ValueError("a reference needs values, and there are none")
    if there.dtype.is_numeric():
        shares = np.linspace(0, 1, bins + 1)
        edges = sorted({float(edge) for edge in np.quantile(there.to_numpy(), shares)})
        edges = edges if len(edges) > 1 else [edges[0], math.nextafter(edges[0], math.inf)]
        counts = there.to_frame("value").select(_in_bins(pl.col("value"), edges)).row(0)
        return {"bins": edges, "weights": [count / len(there) for count in counts]}
    named = there.value_counts(sort=True, name="count").head(CATEGORIES_MAX)
    weights = [count / len(there) for count in named["count"].to_list()]
    return {"values": named.to_series(0).to_list(), "weights": weights}


def _in_bins(values: pl.Expr, edges: Sequence[float]) -> list[pl.Expr]:
    inner = edges[1:-1]
    lows, highs = [None, *inner], [*inner, None]
    counts = []
    for i, (low, high) in enumerate(zip(lows, highs, strict=True)):
        parts = [] if low is None else [values >= low]
        parts += [] if high is None else [values < high]
        counts.append((pl.all_horizontal(parts) if parts else values.is_not_null()).sum().alias(str(i)))
    return counts


def drift(e: Expectation) -> BatchCheck:
    """
    Raises:
        SuiteError: the reference is no distribution, or not one of the column's values.
    """
    column, threshold = e.column(HASHABLE), e.number("threshold")
    if threshold is None:
        raise e.error("no threshold", expected="threshold: a number", got="none")
    name = e.choice("measure", tuple(MEASURES))
    asked, weights = _asked(e, column)
    measure, expected = MEASURES[name], np.asarray([*weights, max(0.0, 1.0 - sum(weights))])

    def judge(counts: Sequence[Any]) -> Outcome:
        total, found = counts[0], list(counts[1:])
        if total == 0:
            return Outcome(False, None, "no value")
        value = measure(np.asarray([*found, total - sum(found)]) / total, expected)
        return Outcome(value < threshold, value, f"{name} {value:.4g}")

    values = present_values(e, column)
    return batch_check(e, [column], f"{name} < {threshold:g}", [values.len(), *asked], judge)


def _asked(e: Expectation, column: Column) -> tuple[list[pl.Expr], list[float]]:
    """The counts to ask for, and the shares that are expected of them."""
    reference = e.kwargs.get("reference")
    given: Mapping[str, Any] = reference if isinstance(reference, Mapping) else {}
    weights, edges, values = given.get("weights"), given.get("bins"), given.get("values")
    spans = len(edges) - 1 if isinstance(edges, list) else len(values) if isinstance(values, list) else 0
    fits = isinstance(weights, list) and spans > 0 and len(weights) == spans and 0 < sum(weights) <= 1 + 1e-6
    if not fits or (isinstance(edges, list) and (column.kind not in NUMBERS or edges != sorted(edges))):
        raise e.error(
            "not a reference distribution of such a column",
            expected='{"bins": [rising edges], "weights": [...]} or {"values": [...], "weights": [...]}',
            got=repr(reference)[:80],
        )
    shown = present_values(e, column)
    if isinstance(edges, list):
        return _in_bins(shown, edges), list(weights)  # type: ignore[arg-type]
    fitted = [column.literal(value, where=e.where) for value in values or []]
    return [(shown == value).sum() for value in fitted], list(weights)  # type: ignore[arg-type]


RULES: dict[str, tuple[Builder, frozenset[str]]] = {
    "expect_column_drift_to_be_less_than": batch_rule(drift, "column", "threshold", "measure", "reference"),
}
