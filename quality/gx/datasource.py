"""`context.data_sources.add_polars(name)`: a data source whose assets are frames in memory, or lazy scans of files.

Great Expectations adds the method by itself when it meets the class, and finds the type again in a stored context.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, TypeAlias, cast

import polars as pl
import pyarrow as pa
from great_expectations.compatibility import pydantic
from great_expectations.core import IDDict
from great_expectations.core.batch import LegacyBatchDefinition
from great_expectations.core.batch_definition import BatchDefinition
from great_expectations.core.batch_spec import RuntimeDataBatchSpec
from great_expectations.datasource.fluent import BatchRequest
from great_expectations.datasource.fluent.batch_identifier_util import make_batch_identifier
from great_expectations.datasource.fluent.constants import _DATA_CONNECTOR_NAME
from great_expectations.datasource.fluent.interfaces import Batch, DataAsset, Datasource
from great_expectations.exceptions import InvalidBatchRequestError
from great_expectations.exceptions.exceptions import BuildBatchRequestError

from .engine import PolarsExecutionEngine

_EngineType: TypeAlias = type[PolarsExecutionEngine]  # where `type` is a field of the model
FRAMES = (pl.DataFrame, pl.LazyFrame, pa.Table)


class DataFrameAsset(DataAsset[Any, Any]):
    """A frame that is given when a batch is asked for: a Polars DataFrame or LazyFrame, or an Arrow table."""

    type: Literal["dataframe"] = "dataframe"

    class Config:
        extra = pydantic.Extra.forbid

    def test_connection(self) -> None:
        """There is nothing to connect to."""

    def get_batch_parameters_keys(self, partitioner: Any = None) -> tuple[str, ...]:
        return ("dataframe",)

    def build_batch_request(
        self, options: Mapping[str, Any] | None = None, batch_slice: Any = None, partitioner: Any = None
    ) -> BatchRequest[Any]:
        """
        Raises:
            BuildBatchRequestError: `options` is not {"dataframe": frame}, or a slice or a partitioner is given.
        """
        if batch_slice is not None or partitioner is not None:
            raise BuildBatchRequestError(message="a frame is one batch: no batch_slice and no partitioner")
        if not (options is not None and set(options) == {"dataframe"}):
            raise BuildBatchRequestError(message="options must contain exactly 1 key, 'dataframe'.")
        if not isinstance(options["dataframe"], FRAMES):
            raise BuildBatchRequestError(
                message="expected a Polars DataFrame or LazyFrame or an Arrow table as 'dataframe',"
                f" got {type(options['dataframe']).__module__}.{type(options['dataframe']).__qualname__}"
            )
        return BatchRequest(datasource_name=self.datasource.name, data_asset_name=self.name, options=dict(options))

    def _validate_batch_request(self, batch_request: BatchRequest[Any]) -> None:
        options = batch_request.options or {}
        mine = (batch_request.datasource_name, batch_request.data_asset_name) == (self.datasource.name, self.name)
        if not mine or set(options) != {"dataframe"} or not isinstance(options["dataframe"], FRAMES):
            raise InvalidBatchRequestError(
                f"expected a BatchRequest of {self.datasource.name}, {self.name} with the option 'dataframe',"
                f" got {batch_request.datasource_name}, {batch_request.data_asset_name}, {sorted(options)}"
            )

    def get_batch_identifiers_list(self, batch_request: BatchRequest[Any]) -> list[dict[str, Any]]:
        return [IDDict(batch_request.options)]

    def get_batch(self, batch_request: BatchRequest[Any]) -> Batch:
        self._validate_batch_request(batch_request)
        spec = RuntimeDataBatchSpec(batch_data=batch_request.options["dataframe"])
        data, markers = self.datasource.get_execution_engine().get_batch_data_and_markers(batch_spec=spec)
        definition = LegacyBatchDefinition(
            datasource_name=self.datasource.name,
            data_connector_name=_DATA_CONNECTOR_NAME,
            data_asset_name=self.name,
            batch_identifiers=make_batch_identifier(batch_request.options),
            batch_spec_passthrough=None,
        )
        metadata = self._get_batch_metadata_from_batch_request(
            batch_request=batch_request, ignore_options=("dataframe",)
        )
        return Batch(
            datasource=self.datasource,
            data_asset=self,
            batch_request=batch_request,
            data=data,
            metadata=metadata,
            batch_markers=markers,
            batch_spec=spec,
            batch_definition=definition,
        )

    def add_batch_definition_whole_dataframe(self, name: str) -> BatchDefinition[Any]:
        """A batch definition that is the entire frame."""
        return self.add_batch_definition(name=name, partitioner=None)


class PolarsDatasource(Datasource[Any, PolarsExecutionEngine]):
    """Frames of Polars and Arrow, validated by `PolarsExecutionEngine`."""

    asset_types: ClassVar[list[type[DataAsset[Any, Any]]]] = [DataFrameAsset]

    type: Literal["polars"] = "polars"
    assets: list[DataFrameAsset] = []  # noqa: RUF012

    @property
    def execution_engine_type(self) -> _EngineType:
        return PolarsExecutionEngine

    def test_connection(self, test_assets: bool = True) -> None:
        """There is nothing to connect to."""

    def add_dataframe_asset(self, name: str, batch_metadata: dict[str, Any] | None = None) -> DataFrameAsset:
        """An asset whose frame is given with each batch; `batch_metadata` is inherited by its batches."""
        asset = DataFrameAsset(name=name, batch_metadata=batch_metadata or {})
        return cast(DataFrameAsset, self._add_asset(asset))

    def read_dataframe(
        self, dataframe: Any, asset_name: str = "#ephemeral_polars_asset", batch_metadata: dict[str, Any] | None = None
    ) -> Batch:
        """A batch of the frame, in one step."""
        if asset_name in self.get_asset_names():
            self.delete_asset(name=asset_name)
        asset = self.add_dataframe_asset(asset_name, batch_metadata)
        return asset.get_batch(asset.build_batch_request({"dataframe": dataframe}))
