"""The execution engine: a frame as a batch, and metrics asked of it together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, TypeAlias

import polars as pl
import pyarrow as pa
from great_expectations.core.batch import BatchData, BatchMarkers
from great_expectations.core.batch_spec import RuntimeDataBatchSpec
from great_expectations.exceptions import ExecutionEngineError, ValidationError
from great_expectations.execution_engine import ExecutionEngine
from great_expectations.expectations.row_conditions import (
    AndCondition,
    ComparisonCondition,
    Condition,
    NullityCondition,
    OrCondition,
)

from .domain import Domain, LooseColumn, columns_of, condition_of
from .mixed import alike, keyed
from .plan import Plan

Frame: TypeAlias = pl.DataFrame | pl.LazyFrame | pa.Table


class PolarsBatchData(BatchData):
    """A frame as metrics see it. `schema` is that of the frame as it was given."""

    def __init__(self, execution_engine: PolarsExecutionEngine, dataframe: Frame) -> None:
        super().__init__(execution_engine=execution_engine)
        given = pl.DataFrame(pl.from_arrow(dataframe, rechunk=False)) if isinstance(dataframe, pa.Table) else dataframe
        if pl.Object in given.collect_schema().dtypes():  # no lazy frame computes anything on them
            given = alike(given.collect() if isinstance(given, pl.LazyFrame) else given)
        self.schema = given.collect_schema()
        objects = [name for name, type_ in self.schema.items() if type_ == pl.Object]
        if isinstance(given, pl.DataFrame) and objects:
            given = given.with_columns([keyed(given[name]) for name in objects])
        self.dataframe: pl.LazyFrame = given.lazy()
        # In memory, the engine that streams takes longer than the one that does not.
        self._engine: Any = "in-memory" if isinstance(given, pl.DataFrame) else "streaming"
        # Metrics see categories as their strings, and a column of nothing as one of missing numbers.
        plain = [pl.col(name).cast(to) for name, to in _plainer(self.schema).items()]
        self._frame = self.dataframe.with_columns(plain) if plain else self.dataframe
        self.columns: Mapping[str, LooseColumn] = columns_of(self._frame, objects)

    def ask(self, asked: Iterable[pl.Expr]) -> list[Any]:
        """The value of each expression, from one pass over the frame; a list's is a Series."""
        numbered = [expr.alias(str(i)) for i, expr in enumerate(asked)]
        if not numbered:
            return []
        answers = self._frame.select(numbered).collect(engine=self._engine)
        return [answers[str(i)][0] for i in range(len(numbered))]

    def rows(self, condition: pl.Expr | None) -> pl.LazyFrame:
        return self._frame if condition is None else self._frame.filter(condition)


def _plainer(schema: Mapping[str, pl.DataType]) -> dict[str, Any]:
    plain: dict[str, Any] = {name: pl.String for name, type_ in schema.items() if type_ in (pl.Categorical, pl.Enum)}
    return plain | {name: pl.Float64 for name, type_ in schema.items() if type_ == pl.Null}


class PolarsExecutionEngine(ExecutionEngine[pl.Expr]):
    """Answers Great Expectations' metrics with Polars: all that can be asked at a time are one select over the frame.

    Every metric is a `Plan`, made of the schema alone; GX collects those whose plans are ready and hands them over as a
    bundle. So a suite's counts and aggregates come from one pass, and what fails, where something does, from another.
    """

    def load_batch_data(self, batch_id: str, batch_data: Any) -> None:
        if not isinstance(batch_data, PolarsBatchData):
            batch_data = PolarsBatchData(self, batch_data)
        super().load_batch_data(batch_id=batch_id, batch_data=batch_data)

    def get_batch_data_and_markers(self, batch_spec: Any) -> tuple[PolarsBatchData, BatchMarkers]:
        if not isinstance(batch_spec, RuntimeDataBatchSpec):
            raise ExecutionEngineError(f"A batch of Polars is made of a frame, not of {type(batch_spec).__name__}.")
        data = PolarsBatchData(self, batch_spec.batch_data)
        batch_spec.batch_data = "PolarsDataFrame"
        return data, BatchMarkers({"ge_load_time": datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")})

    def batch(self, domain_kwargs: Mapping[str, Any]) -> PolarsBatchData:
        """
        Raises:
            ValidationError: the batch that the domain names is not loaded.
        """
        name = domain_kwargs.get("batch_id") or self.batch_manager.active_batch_data_id
        data = self.batch_manager.batch_data_cache.get(name)  # type: ignore[arg-type]
        if not isinstance(data, PolarsBatchData):
            raise ValidationError(f"Unable to find batch with batch_id {name}")
        return data

    def domain(self, domain_kwargs: Mapping[str, Any]) -> Domain:
        return Domain.of(self.batch(domain_kwargs).columns, domain_kwargs)

    def get_domain_records(self, domain_kwargs: dict[str, Any]) -> pl.LazyFrame:
        return self.batch(domain_kwargs).rows(self.domain(domain_kwargs).rows(skip_missing=False))

    def get_compute_domain(
        self, domain_kwargs: dict[str, Any], domain_type: Any, accessor_keys: Iterable[str] | None = None
    ) -> tuple[pl.LazyFrame, dict[str, Any], dict[str, Any]]:
        parts = self._partition_domain_kwargs(domain_kwargs, domain_type, accessor_keys)
        return self.get_domain_records(domain_kwargs), parts.compute, parts.accessor

    def resolve_metric_bundle(self, metric_fn_bundle: Iterable[Any]) -> dict[Any, Any]:
        """The metrics' values, from one select for each batch that they are about."""
        bundles: dict[int, tuple[PolarsBatchData, list[tuple[Any, Plan]]]] = {}
        for each in metric_fn_bundle:
            data = self.batch(each.compute_domain_kwargs)
            _, metrics = bundles.setdefault(id(data), (data, []))
            metrics.append((each.metric_configuration.id, each.metric_fn))
        resolved: dict[Any, Any] = {}
        for data, metrics in bundles.values():
            answers = iter(data.ask(expr for _, plan in metrics for expr in plan.asked))
            for metric, plan in metrics:
                resolved[metric] = plan.finish(*[next(answers) for _ in plan.asked])
        return resolved

    # GX wants a clause for each kind of condition; ours come whole from `condition_of`, with the batch's columns.
    def condition_to_filter_clause(self, condition: Condition) -> pl.Expr:
        return condition_of(condition.dict(), None, self.batch({}).columns)

    def _comparison_condition_to_filter_clause(self, condition: ComparisonCondition) -> pl.Expr:
        return self.condition_to_filter_clause(condition)

    def _nullity_condition_to_filter_clause(self, condition: NullityCondition) -> pl.Expr:
        return self.condition_to_filter_clause(condition)

    def _and_condition_to_filter_clause(self, condition: AndCondition) -> pl.Expr:
        return self.condition_to_filter_clause(condition)

    def _or_condition_to_filter_clause(self, condition: OrCondition) -> pl.Expr:
        return self.condition_to_filter_clause(condition)
