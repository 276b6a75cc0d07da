"""What checks observed, without erased users: an example or an extreme in a verdict is a value of somebody's row.

A verdict stays, and its counts with it. Struck out are the users' ids in the example of a check of a column that holds
users, and everywhere those that chance does not make: in any other text a short id may be a count or a limit.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from .traces import Wanted

_EXAMPLE = ", e.g. "  # see quality.results.of_counts


class Observed:
    """The rows of `verdicts` that name users, and the same rows without them. `columns` are those that hold users."""

    column = "observed"
    read = ("column", "observed", "value")

    def __init__(self, wanted: Wanted, columns: Collection[str]) -> None:
        self._wanted = wanted
        self._certain = wanted.certain
        self._columns = frozenset(columns)
        self._numbers = [float(id_) for id_ in wanted.large.tolist()]

    def found(self, rows: pa.Table) -> pa.Array:
        """Kernel: which rows name one of the users."""
        frame = pl.DataFrame(rows.select(self.read))
        of_users = (
            frame["column"].is_in([name for name in frame["column"].unique() if self._of_users(name)]).fill_null(False)
        )
        examples = frame["observed"].set(~(of_users & frame["observed"].str.contains(_EXAMPLE, literal=True)), None)
        numbers = frame["value"].is_in(self._numbers).fill_null(False)
        named = np.zeros(frame.height, dtype=bool)
        for row in (self._wanted.rows_with(examples) | self._certain.rows_with(frame["observed"]) | numbers).arg_true():
            named[row] = self._struck(*frame.row(row)) != frame.row(row)[1:]
        return pa.array(named)

    def left(self, rows: pa.Table) -> pa.Table:
        """Kernel: all rows, those that name one of the users without that."""
        frame = pl.DataFrame(rows.select(self.read))
        texts, numbers = frame["observed"].to_list(), frame["value"].to_list()
        for row in np.flatnonzero(self.found(rows).to_numpy(zero_copy_only=False)):
            texts[row], numbers[row] = self._struck(*frame.row(int(row)))
        for name, values in (("observed", texts), ("value", numbers)):
            place = rows.schema.get_field_index(name)
            field = rows.schema.field(place)
            rows = rows.set_column(place, field, pa.array(values, field.type))
        return rows

    def in_json(self, verdict: str) -> str:
        """The same of a verdict as a commit carries it: rows as JSON."""
        rows: list[dict[str, Any]] = json.loads(verdict)
        struck = [
            row | dict(zip(self.read[1:], self._struck(*(row.get(name) for name in self.read)), strict=True))
            for row in rows
        ]
        return verdict if struck == rows else json.dumps(struck)

    def _struck(self, column: str | None, text: str | None, number: float | None) -> tuple[str | None, float | None]:
        of_users = self._of_users(column)
        if of_users and number is not None and number in self._numbers:
            number = None
        if text is not None:
            head, mark, example = text.partition(_EXAMPLE)
            example = self._wanted.struck_out(example) if of_users else self._certain.struck_out(example)
            text = self._certain.struck_out(head) + mark + example
        return text, number

    def _of_users(self, column: str | None) -> bool:
        return column is not None and not self._columns.isdisjoint(column.split(", "))
