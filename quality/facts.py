"""Facts of a batch that prove what all of its rows have in common."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from .columns import Column

SMALL_ROWS = 20_000  # of more, all of Polars' threads compare in less time than one takes for what is no minimum
FEW = 64  # different texts of a column, which are looked at one by one

#: How many rows a check looks at, where the facts show that none of them fails it; else None.
Proof = Callable[["Facts"], int | None]
Values: TypeAlias = pa.ChunkedArray | pa.Array


class Facts:
    """What proofs ask of a batch, each thing found out once."""

    def __init__(self, batch: pa.Table) -> None:
        self.rows: int = batch.num_rows
        self.small = self.rows <= SMALL_ROWS
        self._batch = batch
        self._present: dict[str, int | None] = {}
        self._extremes: dict[str, tuple[Any, Any]] = {}
        self._texts: dict[str, list[str | None] | None] = {}

    def values(self, column: Column) -> pa.ChunkedArray:
        return self._batch.column(column.name)

    def present(self, column: Column) -> int | None:
        """How many values are not missing; None: there are NaNs, which are, or there may be."""
        if column.name not in self._present:
            values = self.values(column)
            nan = column.kind == "float" and may_have_nan(values)
            self._present[column.name] = None if nan else self.rows - int(values.null_count)
        return self._present[column.name]

    def extremes(self, column: Column) -> tuple[Any, Any]:
        """Minimum and maximum as `Column.value` has them; None where nothing is there."""
        if column.name not in self._extremes:
            self._extremes[column.name] = extremes_of(self.values(column), physical=column.kind in ("time", "date"))
        return self._extremes[column.name]

    def texts(self, column: Column) -> list[str | None] | None:
        """The different texts of a column; None if they are many, or the rows are."""
        if column.name not in self._texts:
            texts = pc.unique(self.values(column)) if self.small else None
            self._texts[column.name] = texts.to_pylist() if texts is not None and len(texts) <= FEW else None
        return self._texts[column.name]


def has_extremes(column: Column) -> bool:
    """Whether facts know the extremes of a column: of types whose numbers compare as they are stored."""
    match column.kind:
        case "int":
            return True
        case "float":
            return column.type in (pa.float32(), pa.float64())
        case "time":
            return bool(column.type == pa.timestamp("us", column.type.tz))
        case "date":
            return bool(column.type == pa.date32())
        case _:
            return False


def may_have_nan(values: Values) -> bool:
    """A sum is NaN where a value is; and where infinities of both signs are, and nobody knows of half floats."""
    return bool(pa.types.is_float16(values.type)) or math.isnan(pc.sum(values).as_py() or 0.0)


def all_of(answers: Values) -> bool:
    return bool(pc.all(answers).as_py())


def extremes_of(values: Values, *, physical: bool = False) -> tuple[Any, Any]:
    """`physical`: of times and days, as the numbers they are stored as."""
    found = pc.min_max(values)
    low, high = found["min"], found["max"]
    return (low.value, high.value) if physical else (low.as_py(), high.as_py())
