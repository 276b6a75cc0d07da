"""Expectations that ask which engine they run on, wrapped so that they answer for Polars too; once, on import."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import polars as pl
from great_expectations.expectations.core import (
    ExpectColumnQuantileValuesToBeBetween,
    ExpectColumnTypeToBe,
    ExpectColumnValuesToBeInTypeList,
    ExpectColumnValuesToBeOfType,
)
from great_expectations.expectations.expectation import BatchExpectation, ColumnMapExpectation
from great_expectations.validator.metric_configuration import MetricConfiguration
from great_expectations.validator.validator import ValidationDependencies

from .engine import PolarsExecutionEngine
from .typenames import OBJECTS, answers_to, as_pandas


def _names(expectation: Any) -> Sequence[str] | None:
    kwargs = expectation.configuration.kwargs
    return [kwargs["type_"]] if kwargs.get("type_") is not None else kwargs.get("type_list")


def _type_of(expectation: Any, types: Sequence[dict[str, Any]]) -> pl.DataType:
    name = expectation.configuration.kwargs["column"]
    found: list[pl.DataType] = [each["type"] for each in types if each["name"] == name]
    if not found:
        raise ValueError(f'Error: The column "{name}" in BatchData does not exist.')
    return found[0]


def _by_rows(dtype: pl.DataType, names: Sequence[str] | None, *, objects_pass: bool) -> bool:
    """Whether GX asks the values, one by one, and not the column: where pandas would hold Python's objects."""
    if names is None or as_pandas(dtype) != np.dtype(object):
        return False
    return not (objects_pass and names[0] in OBJECTS)


def _wrap(expectation: Any, *, objects_pass: bool) -> None:
    dependencies, validate = expectation.get_validation_dependencies, expectation._validate

    def get_validation_dependencies(
        self: Any, execution_engine: Any = None, runtime_configuration: Any = None, **kwargs: Any
    ) -> ValidationDependencies:
        if not isinstance(execution_engine, PolarsExecutionEngine):
            return dependencies(self, execution_engine, runtime_configuration, **kwargs)  # type: ignore[no-any-return]
        types = MetricConfiguration("table.column_types", self.configuration.get_domain_kwargs(), {})
        dtype = _type_of(self, execution_engine.resolve_metrics([types])[types.id])
        by_rows = _by_rows(dtype, _names(self), objects_pass=objects_pass)
        asked = ColumnMapExpectation if by_rows else BatchExpectation
        found = asked.get_validation_dependencies(self, execution_engine, runtime_configuration)
        found.set_metric_configuration("table.column_types", types)
        return found

    def _validate(
        self: Any, metrics: Any, runtime_configuration: Any = None, execution_engine: Any = None
    ) -> dict[str, Any]:
        if not isinstance(execution_engine, PolarsExecutionEngine):
            return validate(self, metrics, runtime_configuration, execution_engine)  # type: ignore[no-any-return]
        dtype, names = _type_of(self, metrics["table.column_types"]), _names(self)
        if _by_rows(dtype, names, objects_pass=objects_pass):
            by_rows: dict[str, Any] = ColumnMapExpectation._validate(
                self, metrics, runtime_configuration, execution_engine
            )
            return by_rows
        own = [name for name in names or () if answers_to(dtype, name)]
        if own:
            return {"success": True, "result": {"observed_value": own[0]}}
        return self._validate_pandas(as_pandas(dtype), names[0] if objects_pass and names else names)  # type: ignore[no-any-return]

    expectation.get_validation_dependencies, expectation._validate = get_validation_dependencies, _validate


def _wrap_column_type(validate: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    def _validate(
        self: Any, metrics: Any, runtime_configuration: Any = None, execution_engine: Any = None
    ) -> dict[str, Any]:
        if isinstance(execution_engine, PolarsExecutionEngine):
            types = metrics["table.column_types"]
            names = {str(each["name"]).casefold(): each["type"] for each in types}
            dtype = names.get(str(self.configuration.kwargs["column"]).casefold())
            asked = self.configuration.kwargs["type_"]
            if dtype is not None and answers_to(dtype, asked):
                return {"success": True, "result": {"observed_value": asked}}
            counterparts = [{"name": each["name"], "type": as_pandas(each["type"])} for each in types]
            metrics = metrics | {"table.column_types": counterparts}
        return validate(self, metrics, runtime_configuration, execution_engine)

    return _validate


def _wrap_quantiles(validate: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    def _validate(
        self: Any, metrics: Any, runtime_configuration: Any = None, execution_engine: Any = None
    ) -> dict[str, Any]:
        result = validate(self, metrics, runtime_configuration, execution_engine)
        return result | {"success": bool(result["success"])}  # NumPy's own does not serialise

    return _validate


def install() -> None:
    """Lets Great Expectations' expectations about types answer for Polars, and its quantiles be written as JSON."""
    quantiles = ExpectColumnQuantileValuesToBeBetween
    quantiles._validate = _wrap_quantiles(quantiles._validate)  # type: ignore[method-assign]
    _wrap(ExpectColumnValuesToBeOfType, objects_pass=True)
    _wrap(ExpectColumnValuesToBeInTypeList, objects_pass=False)
    ExpectColumnTypeToBe._validate = _wrap_column_type(ExpectColumnTypeToBe._validate)  # type: ignore[method-assign]
