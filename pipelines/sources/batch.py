"""What a source gives: decoded rows, what could not be decoded, and where in the source they were."""

from __future__ import annotations

import base64
import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import polars as pl

Rows = npt.NDArray[np.int64]
RawFormat = Literal["json", "csv", "avro"]


@dataclass(frozen=True, slots=True)
class Undecodable:
    """A source row that is not what its format says: its place, its bytes as found, and a reason (shapes.REASON)."""

    row: int
    raw: bytes
    format: RawFormat
    reason: dict[str, str | None]


@dataclass(frozen=True, slots=True)
class SourceBatch:
    """Rows `first_row` to `end_row` (exclusive) of a source.

    `frame`: the rows that decode, source columns as they are; `rows`: the source row of each; `undecodable`: the
    others. A row number in neither is a blank line. A cursor at `end_row` resumes after this batch. `lines`: the
    rows of `frame` as they stand in the source, where the source is JSON lines. `unread`: columns that nobody reads and
    that come so late that `frame` does not have them, as far as a look at a thousand of the rows shows.
    """

    frame: pl.DataFrame
    rows: Rows
    first_row: int
    end_row: int
    undecodable: tuple[Undecodable, ...] = ()
    lines: tuple[bytes, ...] | None = None
    unread: tuple[str, ...] = ()

    @property
    def source_rows(self) -> int:
        """How many rows of the source these are: blank lines are none."""
        return len(self.rows) + len(self.undecodable)

    def raw(self, indexes: Sequence[int]) -> list[bytes]:
        """The source rows at these frame indexes as JSON, for quarantine: a JSON line as it stood, else one made."""
        if self.lines is not None:
            return [self.lines[index].rstrip(b"\r\n") for index in indexes]
        return to_json_lines(self.frame[list(indexes)])


def repeated(names: Sequence[str]) -> list[str]:
    """The names that are there more than once, in order."""
    return sorted(name for name, count in Counter(names).items() if count > 1)


def decode_reason(expected: str, got: str, *, column: str | None = None) -> dict[str, str | None]:
    """Why a row could not be decoded, shaped as shapes.REASON."""
    return {"check": "decode", "column": column, "severity": "error", "expected": expected, "got": got}


def to_json_lines(frame: pl.DataFrame) -> list[bytes]:
    """Each row as a JSON object from which the same values are read again.

    Infinities and NaN become text. Bytes become text where they are UTF-8, else `{"base64": …}`, which no contract
    field takes: a replay then refuses the row rather than guess.
    """
    if not frame.height:
        return []
    if all(_plain(column) for column in frame.get_columns()):
        return frame.write_ndjson().encode().splitlines()
    return [json.dumps(_writable(row), ensure_ascii=False).encode() for row in frame.iter_rows(named=True)]


def _plain(column: pl.Series) -> bool:
    """Whether Polars writes the column as JSON without loss."""
    dtype = column.dtype
    if dtype.is_float():
        return bool(column.is_finite().fill_null(True).all())
    return dtype.is_integer() or dtype in (
        pl.String,
        pl.Boolean,
        pl.Categorical,
        pl.Enum,
        pl.Datetime,
        pl.Date,
        pl.Time,
    )


def _writable(value: Any) -> Any:
    match value:
        case dict():
            return {str(key): _writable(item) for key, item in value.items()}
        case list() | tuple():
            return [_writable(item) for item in value]
        case bytes():
            try:
                return value.decode()
            except UnicodeDecodeError:
                return {"base64": base64.b64encode(value).decode()}
        case float() if not math.isfinite(value):
            return str(value)
        case None | bool() | int() | float() | str():
            return value
        case _:
            return value.isoformat() if hasattr(value, "isoformat") else str(value)
