"""Great Expectations on Polars: importing this gives `context.data_sources.add_polars(name)`.

Needs Great Expectations 1.24.1, whose private API the engine stands on; nothing else of reclake is needed or loaded.
"""

from . import registration as registration
from .datasource import DataFrameAsset, PolarsDatasource
from .docs import offline_docs
from .engine import PolarsExecutionEngine

__all__ = ["DataFrameAsset", "PolarsDatasource", "PolarsExecutionEngine", "offline_docs"]
