"""reclake's own expectations for Great Expectations: what is inside lists, what comes before what, and drift.

Each is the gate's own rule: the metric behind it is made of the expression that the gate compiles, so that a suite says
the same of a batch whether it is checked on write or validated with Great Expectations. They need the Polars engine.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import polars as pl
from great_expectations.expectations.expectation import ColumnAggregateExpectation, ColumnMapExpectation

from .. import coverage, drift, list_checks, order_checks
from ..expectation import Expectation
from ..row_checks import Rule
from .conditions import Arguments, MapCondition
from .domain import Domain
from .plan import Plan
from .wording import Worded


def _expectation(type_: str, domain: Domain, given: Arguments) -> Expectation:
    kwargs = {"column": domain.kwargs["column"], **given}
    return Expectation(type_, kwargs, domain.columns, "error", domain.condition, type_)


def _condition(type_: str, rule: Rule) -> MapCondition:
    build, _ = rule

    def meets(domain: Domain, given: Arguments) -> pl.Expr:
        return ~build(_expectation(type_, domain, given)).fails

    return MapCondition(meets)


def drift_plan(domain: Domain, given: Arguments) -> Plan:
    given = {"threshold": 0, **given}  # the metric is the distance; what is allowed is the expectation's
    check = drift.drift(_expectation("expect_column_drift_to_be_less_than", domain, given))
    return Plan(check.observe, lambda *counts: check.judge(counts).value)


OWN = list_checks.RULES | order_checks.RULES | coverage.RULES
METRICS: Mapping[str, MapCondition] = {f"reclake.{type_}": _condition(type_, rule) for type_, rule in OWN.items()}
VALUE_KEYS: Mapping[str, tuple[str, ...]] = {
    f"reclake.{type_}": tuple(sorted(keys - {"column", "mostly", "row_condition", "condition_parser", "batch_id"}))
    for type_, (_, keys) in OWN.items()
}
DRIFT_METRIC = "column.drift"
DRIFT_KEYS = ("measure", "reference")


class ExpectColumnListValuesToNotBeNull(Worded, ColumnMapExpectation):
    """Lists hold no null and no NaN."""

    said: ClassVar[str] = "lists must hold no null and no NaN"
    map_metric: ClassVar[str] = "reclake.expect_column_list_values_to_not_be_null"


class ExpectColumnListValuesToBeBetween(Worded, ColumnMapExpectation):
    """All numbers of a list are between the bounds; a null inside is passed over, NaN is above all."""

    min_value: float | None = None
    max_value: float | None = None
    strict_min: bool = False
    strict_max: bool = False

    map_metric: ClassVar[str] = "reclake.expect_column_list_values_to_be_between"
    success_keys: ClassVar[tuple[str, ...]] = ("mostly", "min_value", "max_value", "strict_min", "strict_max")

    @classmethod
    def sentence(cls, given: Mapping[str, Any]) -> str:
        low, high = (">" if given.get("strict_min") else "≥"), ("<" if given.get("strict_max") else "≤")
        bounds = [f"{low} $min_value"] if given.get("min_value") is not None else []
        bounds += [f"{high} $max_value"] if given.get("max_value") is not None else []
        return "numbers inside of lists must be " + " and ".join(bounds)


class ExpectColumnListValuesToBeFinite(Worded, ColumnMapExpectation):
    """Vectors hold finite numbers: no null, no NaN, no infinity."""

    said: ClassVar[str] = "vectors must hold finite numbers alone"
    map_metric: ClassVar[str] = "reclake.expect_column_list_values_to_be_finite"


class ExpectColumnListValuesToBeBefore(Worded, ColumnMapExpectation):
    """No future in a history: all times of a list are strictly before `before_column`."""

    before_column: str

    said: ClassVar[str] = "times inside of lists must be before $before_column"
    map_metric: ClassVar[str] = "reclake.expect_column_list_values_to_be_before"
    success_keys: ClassVar[tuple[str, ...]] = ("mostly", "before_column")


class ExpectColumnVectorsToBeUnitNorm(Worded, ColumnMapExpectation):
    """Vectors have norm 1, give or take `tolerance` (0.001)."""

    tolerance: float | None = None

    said: ClassVar[str] = "vectors must have norm 1"
    map_metric: ClassVar[str] = "reclake.expect_column_vectors_to_be_unit_norm"
    success_keys: ClassVar[tuple[str, ...]] = ("mostly", "tolerance")


class ExpectColumnValuesToBeIncreasingWithinGroup(Worded, ColumnMapExpectation):
    """Values do not fall from row to row of the same `group_column`: a user's events are in order."""

    group_column: str
    strictly: bool = False

    said: ClassVar[str] = "values must be in order within the same $group_column"
    map_metric: ClassVar[str] = "reclake.expect_column_values_to_be_increasing_within_group"
    success_keys: ClassVar[tuple[str, ...]] = ("mostly", "group_column", "strictly")


class ExpectOutcomesToFollowExposures(Worded, ColumnMapExpectation):
    """Rows whose `column` is one of `outcomes` come at or after a row of the same keys whose `column` is `exposure`."""

    exposure: str
    outcomes: list[str]
    time_column: str
    key_columns: list[str]

    said: ClassVar[str] = "$outcomes must come with or after $exposure of the same $key_columns"
    map_metric: ClassVar[str] = "reclake.expect_outcomes_to_follow_exposures"
    success_keys: ClassVar[tuple[str, ...]] = ("mostly", "exposure", "outcomes", "time_column", "key_columns")


class ExpectLabelsToBeMature(Worded, ColumnMapExpectation):
    """`window_hours` after the column's time had passed at `as_of`, a time, or at the time in `as_of_column`."""

    window_hours: float
    as_of: str | None = None
    as_of_column: str | None = None

    map_metric: ClassVar[str] = "reclake.expect_labels_to_be_mature"
    success_keys: ClassVar[tuple[str, ...]] = ("mostly", "window_hours", "as_of", "as_of_column")

    @classmethod
    def sentence(cls, given: Mapping[str, Any]) -> str:
        end = "$as_of" if given.get("as_of") is not None else "$as_of_column"
        return f"and the $window_hours hours after it must have been over at {end}"


class ExpectColumnValuesToBeInReference(Worded, ColumnMapExpectation):
    """Values are of those of `reference`, `{"values": [...]}`; in a suite of a lake `{"table": ..., "column": ...}`."""

    reference: dict[str, Any]

    map_metric: ClassVar[str] = "reclake.expect_column_values_to_be_in_reference"
    success_keys: ClassVar[tuple[str, ...]] = ("mostly", "reference")

    @classmethod
    def sentence(cls, given: Mapping[str, Any]) -> str:
        values = (given.get("reference") or {}).get("values")
        return "values must be known" + (f": one of {len(values):,}" if isinstance(values, list) else "")


class ExpectColumnDriftToBeLessThan(Worded, ColumnAggregateExpectation):
    """A column's distribution is nearer to `reference` than `threshold`; see `reclake.quality.drift.reference_of`."""

    threshold: float
    measure: Literal["psi", "jensen_shannon", "l_infinity"] = "psi"
    reference: dict[str, Any]

    said: ClassVar[str] = "distribution must be nearer to its reference than $threshold"
    metric_dependencies: ClassVar[tuple[str, ...]] = (DRIFT_METRIC,)
    success_keys: ClassVar[tuple[str, ...]] = ("threshold", "measure", "reference")

    def _validate(
        self, metrics: dict[str, Any], runtime_configuration: Any = None, execution_engine: Any = None
    ) -> dict[str, Any]:
        value = metrics[DRIFT_METRIC]
        return {"success": value is not None and value < self.threshold, "result": {"observed_value": value}}
