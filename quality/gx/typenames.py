"""Names of types: what `type_` of an expectation may say of a Polars column.

A column answers to the names of Polars ("Int64", "Datetime") and of Arrow ("int64", "timestamp[us]"), and to all that
its counterpart in pandas answers to: Great Expectations' own comparison is asked with that counterpart.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, time, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
from great_expectations.expectations.type_comparison import native_type_type_map

from .domain import WIDE, LooseColumn

OBJECTS = ("object", "object_", "O")
_PYTHON: dict[str, type] = {
    "string": str,
    "binary": bytes,
    "list": list,
    "date": date,
    "decimal": Decimal,
    "int": int,
    "float": float,
    "bool": bool,
    "time": pd.Timestamp,
}


def answers_to(dtype: pl.DataType, name: object) -> bool:
    """Whether `name` is one of the type's own, in Polars or in Arrow."""
    own = {str(dtype), str(dtype.base_type())}
    if dtype not in WIDE:  # of which Arrow knows nothing
        own.add(str(pl.Series([], dtype=dtype).to_arrow().type))
    if dtype == pl.String:
        own |= {"Utf8", "string"}
    return name in own


def as_pandas(dtype: pl.DataType) -> Any:
    """The pandas type that holds such values."""
    if dtype.is_numeric() and not dtype.is_decimal() and dtype not in WIDE:
        return np.dtype(str(dtype).lower())
    if dtype == pl.Boolean:
        return np.dtype(bool)
    if isinstance(dtype, pl.Datetime):
        return pd.DatetimeTZDtype("ns", dtype.time_zone) if dtype.time_zone else np.dtype("datetime64[ns]")
    if isinstance(dtype, pl.Duration):
        return np.dtype("timedelta64[ns]")
    return pd.CategoricalDtype() if dtype in (pl.Categorical, pl.Enum) else np.dtype(object)


def fits_any(column: LooseColumn, names: Sequence[str]) -> bool:
    """Whether values of the column are of one of the named types, as pandas sees Python's objects.

    Raises:
        ValueError: none of the names is one of a type.
    """
    dtype = pl.Series(pa.array([], type=column.type)).dtype
    if any(answers_to(dtype, name) for name in names):
        return True
    known: list[type] = []
    for name in names:
        try:
            known.append(np.dtype(name).type)
        except TypeError:
            found = [getattr(place, name, None) for place in (pd, pd.core.dtypes.dtypes)]
            known += [each for each in found if isinstance(each, type)]
        known += native_type_type_map(name) or ()
    if not known:
        raise ValueError(f"No recognized numpy/python type in list: {list(names)}")
    nested = {pl.Struct: dict, pl.Array: list, pl.Duration: timedelta, pl.Time: time}
    python = _PYTHON.get(column.kind) or nested.get(dtype.base_type(), object)
    return issubclass(python, tuple(known))
