"""Traces of identifiers in files: Parquet decoded column by column, everything else byte by byte.

Two kinds are told apart. An `identifier` is certain: a value of a column that holds users, or the eight bytes of an id
so large that chance does not make them. A `text` is the id's decimal digits as a whole number somewhere in a text: for
a short id that may be a count or a price, for a long one it is the user.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

_LARGE = 1 << 24  # smaller ids are five zero bytes or more: found in any file
_PIECE = 16 << 20  # bytes of a file in memory at once

Kind = Literal["identifier", "text"]


@dataclass(frozen=True, slots=True)
class Trace:
    """Where something was found, and how often."""

    path: str
    place: str
    kind: Kind
    count: int


class Wanted:
    """The ids that are looked for, in the forms they may take."""

    def __init__(self, users: Collection[int]) -> None:
        self.ids: npt.NDArray[np.int64] = np.unique(np.array(sorted(users), dtype=np.int64))
        self.values = pa.array(self.ids)
        self.texts = frozenset(str(abs(int(user))) for user in self.ids)
        self._bytes = frozenset(text.encode() for text in self.texts)
        lengths = sorted(map(len, self.texts)) or [1]
        self._longest = lengths[-1]
        self._digits = re.compile(rb"(?<![0-9])[0-9]{%d,%d}(?![0-9])" % (lengths[0], lengths[-1]))
        self._large = self.ids[np.abs(self.ids) >= _LARGE]

    @property
    def margin(self) -> int:
        """Bytes by which pieces of a file must overlap."""
        return max(self._longest + 2, 8)

    def in_bytes(self, data: bytes) -> int:
        """How many of the ids' decimal forms there are, each as a whole number."""
        return sum(found in self._bytes for found in self._digits.findall(data))

    def rows_of(self, values: Sequence[bytes]) -> npt.NDArray[np.bool_]:
        """Which of many byte strings hold one of the ids' decimal forms as a whole number; one pass over all."""
        ends = np.cumsum([len(value) + 1 for value in values])
        hits = [m.start() for m in self._digits.finditer(b"\n".join(values)) if m.group() in self._bytes]
        rows = np.zeros(len(values), dtype=bool)
        rows[np.searchsorted(ends, hits, side="right")] = True
        return rows

    def as_integers(self, data: bytes) -> int:
        """How many of the large ids there are as eight little-endian bytes, at any offset."""
        if not len(self._large):
            return 0
        low, high, count = self._large[0], self._large[-1], 0
        for offset in range(8):
            whole = (len(data) - offset) // 8
            if whole > 0:
                values = np.frombuffer(data, dtype="<i8", count=whole, offset=offset)
                count += int(np.isin(values[(values >= low) & (values <= high)], self._large).sum())
        return count

    def in_texts(self, column: pl.Series) -> int:
        """How many values of a string column hold one of the ids as a whole number."""
        return int(self.rows_with(column).sum())

    def rows_with(self, column: pl.Series) -> pl.Series:
        """Which values of a string column hold one of the ids as a whole number; a null does not."""
        texts = sorted(self.texts)
        some = column.str.contains_any(texts).fill_null(False)
        digits = column.set(~some, "").str.extract_all(r"[0-9]+") if some.any() else None
        return some if digits is None else digits.list.eval(pl.element().is_in(texts)).list.any().fill_null(False)

    def names(self, columns: Collection[str], column: str, value: Any) -> bool:
        """Whether a value of a column names one of the users: by the column if it holds users, else by its digits."""
        if isinstance(value, int) and column in columns:
            return bool(np.isin(value, self.ids))
        return isinstance(value, str) and self.in_bytes(value.encode()) > 0


def traces(path: Path, name: str, wanted: Wanted, columns: Collection[str]) -> list[Trace]:
    """Traces in one file; `columns` are those that hold users. `name` is what the file is called in what is found."""
    if path.suffix == ".parquet":
        found = list(_in_parquet(path, name, wanted, columns))
    else:
        found = [Trace(name, "raw bytes", "text", count) for count in [_raw(path, wanted.in_bytes, wanted)] if count]
    integers = _raw(path, wanted.as_integers, wanted)
    return found + ([Trace(name, "raw bytes", "identifier", integers)] if integers else [])


def _raw(path: Path, count: Callable[[bytes], int], wanted: Wanted) -> int:
    """What `count` finds in a file, a piece at a time; pieces overlap, so a find on a seam may count twice."""
    total = 0
    with path.open("rb") as file:
        before = b""
        while piece := file.read(_PIECE):
            total += count(before + piece)
            before = piece[-wanted.margin :]
    return total


def _in_parquet(path: Path, name: str, wanted: Wanted, columns: Collection[str]) -> Iterator[Trace]:
    file = pq.ParquetFile(path)
    counts: dict[tuple[str, Kind], int] = {}
    for group in range(file.metadata.num_row_groups):
        for leaf in range(file.metadata.num_columns):
            known = file.metadata.row_group(group).column(leaf)
            statistics = known.statistics
            if statistics is not None and statistics.has_min_max:
                top = known.path_in_schema.split(".")[0]
                named = any(_names(wanted, columns, top, v) for v in (statistics.min, statistics.max))
                if named:
                    key: tuple[str, Kind] = (f"statistics of {known.path_in_schema}", _kind(top, columns))
                    counts[key] = counts.get(key, 0) + 1
        for field in file.schema_arrow:
            column = file.read_row_group(group, columns=[field.name]).column(0).combine_chunks()
            count = sum(_in_leaf(leaf, wanted, field.name in columns) for leaf in _leaves(column))
            if count:
                key = (f"column {field.name}", _kind(field.name, columns))
                counts[key] = counts.get(key, 0) + count
    for (place, kind), count in counts.items():
        yield Trace(name, place, kind, count)


def _kind(column: str, columns: Collection[str]) -> Kind:
    return "identifier" if column in columns else "text"


def _names(wanted: Wanted, columns: Collection[str], column: str, value: Any) -> bool:
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
    return wanted.names(columns, column, text)


def _leaves(array: pa.Array) -> Iterator[pa.Array]:
    kind = array.type
    if pa.types.is_dictionary(kind):
        yield from _leaves(array.dictionary)
    elif pa.types.is_struct(kind):
        for child in array.flatten():
            yield from _leaves(child)
    elif pa.types.is_map(kind):
        yield from _leaves(array.keys)
        yield from _leaves(array.items)
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        yield from _leaves(array.flatten())
    else:
        yield array


def _in_leaf(values: pa.Array, wanted: Wanted, holds_users: bool) -> int:
    kind = values.type
    if pa.types.is_integer(kind):
        return int(pc.sum(pc.is_in(values, wanted.values.cast(kind))).as_py() or 0) if holds_users else 0
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return wanted.in_texts(pl.Series(values))
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return int(wanted.rows_of(values.drop_null().to_pylist()).sum())
    return 0
