"""The metrics' entries in Great Expectations' registry, made on import. The registry knows engines by class name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import polars as pl
from great_expectations.expectations import registry
from great_expectations.expectations.metrics.column_aggregate_metrics.column_partition import ColumnPartition
from great_expectations.expectations.metrics.metric_provider import MetricProvider
from great_expectations.validator.metric_configuration import MetricConfiguration

from . import wrappers
from .aggregates import AGGREGATES, matching_count
from .conditions import CONDITIONS, MapCondition
from .domain import Domain
from .engine import PolarsExecutionEngine
from .expectations import DRIFT_KEYS, DRIFT_METRIC, METRICS, VALUE_KEYS, drift_plan
from .failures import COUNTS, DETAILS, Metric
from .plan import Plan

PARTIAL = "aggregate_fn"
_COLUMN = ("batch_id", "table", "column", "row_condition", "condition_parser")
# GX's own provider answers from other metrics, whatever the engine.
COUNTED = {"column_values.match_regex.count": "match_regex", "column_values.not_match_regex.count": "not_match_regex"}


class PolarsMetric(MetricProvider):
    """A metric whose partial is a `Plan`; GX finds the partial by its name and bundles what has one."""


class FailureDetail(PolarsMetric):
    """A metric about failing rows: its plan waits for their count."""

    @classmethod
    def _get_evaluation_dependencies(
        cls,
        metric: MetricConfiguration,
        configuration: Any = None,
        execution_engine: Any = None,
        runtime_configuration: Any = None,
    ) -> dict[str, MetricConfiguration]:
        if not metric.metric_name.endswith(f".{PARTIAL}"):
            return dict(super()._get_evaluation_dependencies(metric, configuration, execution_engine))
        given = {key: value for key, value in metric.metric_value_kwargs.items() if key != "result_format"}
        base = metric.metric_name.removesuffix(f".{PARTIAL}").rpartition(".")[0]
        count = MetricConfiguration(f"{base}.unexpected_count", metric.metric_domain_kwargs, given)
        return {"unexpected_count": count}


Provider = Callable[..., tuple[Plan, dict[str, Any], dict[str, Any]]]


def _provider(plan: Callable[[Domain, Mapping[str, Any], Mapping[str, Any]], Plan]) -> Provider:
    def partial(
        cls: type[MetricProvider],
        execution_engine: PolarsExecutionEngine,
        metric_domain_kwargs: dict[str, Any],
        metric_value_kwargs: dict[str, Any],
        metrics: dict[str, Any],
        runtime_configuration: Any,
    ) -> tuple[Plan, dict[str, Any], dict[str, Any]]:
        domain = execution_engine.domain(metric_domain_kwargs)
        return plan(domain, metric_value_kwargs, metrics), metric_domain_kwargs, {}

    return partial


def _column_types(execution_engine: PolarsExecutionEngine, metric_domain_kwargs: Any, **_: Any) -> list[dict[str, Any]]:
    schema = execution_engine.batch(metric_domain_kwargs).schema
    return [{"name": name, "type": type_} for name, type_ in schema.items()]


def _columns(execution_engine: PolarsExecutionEngine, metric_domain_kwargs: Any, **_: Any) -> list[str]:
    return list(execution_engine.batch(metric_domain_kwargs).schema)


def _column_count(execution_engine: PolarsExecutionEngine, metric_domain_kwargs: Any, **_: Any) -> int:
    return len(execution_engine.batch(metric_domain_kwargs).schema)


def _head(
    execution_engine: PolarsExecutionEngine, metric_domain_kwargs: Any, metric_value_kwargs: Mapping[str, Any], **_: Any
) -> Any:
    rows: pl.LazyFrame = execution_engine.get_domain_records(metric_domain_kwargs)
    if not metric_value_kwargs.get("fetch_all"):
        wanted = metric_value_kwargs.get("n_rows")
        rows = rows.head(5 if wanted is None else wanted)
    return rows.collect().to_pandas()


def _keys(name: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The metric's keys as GX's own engines registered them."""
    known = registry._registered_metrics[name]
    return known["metric_domain_keys"], known["metric_value_keys"]


def register_plan(
    name: str, plan: Provider, domain_keys: tuple[str, ...], value_keys: tuple[str, ...], *, kind: type[MetricProvider]
) -> None:
    """A metric that is bundled: `name` itself has no function, `name`.aggregate_fn gives its plan."""
    if name in registry._registered_metrics:
        domain_keys, value_keys = _keys(name)
    for each, provider in ((name, None), (f"{name}.{PARTIAL}", plan)):
        registry.register_metric(each, domain_keys, value_keys, PolarsExecutionEngine, kind, provider)


def register_condition(
    name: str, condition: MapCondition, domain_keys: tuple[str, ...], value_keys: tuple[str, ...]
) -> None:
    """A map metric, with all the metrics that GX derives of one."""

    def counted(metric: Metric) -> Provider:
        return _provider(lambda domain, given, _: metric(condition, domain, given))

    def detailed(metric: Metric, nothing: Callable[[Domain], Any]) -> Provider:
        def plan(domain: Domain, given: Mapping[str, Any], metrics: Mapping[str, Any]) -> Plan:
            if metrics["unexpected_count"] == 0:
                return Plan((), lambda: nothing(domain))
            return metric(condition, domain, given)

        return _provider(plan)

    for suffix, metric in COUNTS.items():
        register_plan(f"{name}.{suffix}", counted(metric), domain_keys, value_keys, kind=PolarsMetric)
    for suffix, (metric, nothing) in DETAILS.items():
        keys = (*value_keys, "result_format")
        register_plan(f"{name}.{suffix}", detailed(metric, nothing), domain_keys, keys, kind=FailureDetail)


def _plans() -> Iterator[tuple[str, Provider]]:
    for name, aggregate in AGGREGATES.items():
        yield name, _provider(lambda domain, given, _, aggregate=aggregate: aggregate(domain, given))  # type: ignore[misc]
    for name, condition in COUNTED.items():
        count = matching_count(CONDITIONS[f"column_values.{condition}"])
        yield name, _provider(lambda domain, given, _, count=count: count(domain, given))  # type: ignore[misc]


def register() -> None:
    """All of the engine's metrics, and those of reclake's own expectations."""
    for name, plan in _plans():
        register_plan(name, plan, *_keys(name), kind=PolarsMetric)
    for name, condition in CONDITIONS.items():
        register_condition(name, condition, *_keys(f"{name}.unexpected_count"))
    for name, condition in METRICS.items():
        register_condition(name, condition, _COLUMN, VALUE_KEYS[name])
    drift = _provider(lambda domain, given, _: drift_plan(domain, given))
    register_plan(DRIFT_METRIC, drift, _COLUMN, DRIFT_KEYS, kind=PolarsMetric)
    direct: dict[str, Callable[..., Any]] = {
        "table.column_types": _column_types,
        "table.columns": _columns,
        "table.column_count": _column_count,
        "table.head": _head,
    }
    for name, function in direct.items():
        provider = _direct(function)
        registry.register_metric(name, *_keys(name), PolarsExecutionEngine, PolarsMetric, provider)
    # A partition is worked out of other metrics, as for every engine.
    registry.register_metric(
        "column.partition",
        *_keys("column.partition"),
        PolarsExecutionEngine,
        ColumnPartition,
        ColumnPartition._pandas,
    )


def _direct(function: Callable[..., Any]) -> Callable[..., Any]:
    def value(cls: type[MetricProvider], **given: Any) -> Any:
        return function(**given)

    return value


register()
wrappers.install()
