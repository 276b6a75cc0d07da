"""Facts of a batch that prove what all of its rows have in common."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from .columns import Column

SMALL_ROWS = 20_000  # of more, all of Polars' threads compare in less time than one takes for what is no minimum

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

    def values(self, column: Column) -> pa.ChunkedArray:
        return self._batch.column(column.name)

    def present(self, column: Column) -> int | None:
        """How many values are not missing; None: there are NaNs, which are."""
        if column.name not in self._present:
            values = self.values(column)
            # Of half a float Arrow does not know.
            nan = column.kind == "float" and (pa.types.is_float16(column.type) or any_of(pc.is_nan(values)))
            self._present[column.name] = None if nan else self.rows - int(values.null_count)
        return self._present[column.name]

    def extremes(self, column: Column) -> tuple[Any, Any]:
        """Minimum and maximum as `Column.value` has them; None where nothing is there."""
        if column.name not in self._extremes:
            values = self.values(column)
            if column.kind in ("time", "date"):
                values = values.cast(pa.int64() if column.kind == "time" else pa.int32())
            self._extremes[column.name] = extremes_of(values)
        return self._extremes[column.name]


def any_of(answers: Values) -> bool:
    return bool(pc.any(answers).as_py())


def all_of(answers: Values) -> bool:
    return bool(pc.all(answers).as_py())


def extremes_of(values: Values) -> tuple[Any, Any]:
    found = pc.min_max(values)
    return found["min"].as_py(), found["max"].as_py()
