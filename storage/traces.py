"""Traces of identifiers in files: Parquet decoded column by column, everything else byte by byte.

Two kinds are told apart. An `identifier` is certain: a value of a column that holds users, or the eight bytes of an id
such that chance does not make them. A `text` is the id's decimal digits as a whole number somewhere in a text, or in
a column that does not hold users: for a short id that may be a count or a price, for a long one it is the user.
"""

from __future__ import annotations

import re
from collections import Counter
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

FORGOTTEN = b"(forgotten)"
_LARGE = 1 << 24  # smaller ids are five zero bytes or more: found in any file
_TELLING = 4  # bytes of an id that are neither 0 nor 255, as fill numbers and files everywhere
_PIECE = 16 << 20  # bytes of a file in memory at once
_GROUPS = 8  # row groups of a Parquet file in memory at once
_FEW = 16  # ids that are looked for one by one
_TEXTS = (
    pa.types.is_string,
    pa.types.is_large_string,
    pa.types.is_string_view,
    pa.types.is_binary,
    pa.types.is_large_binary,
    pa.types.is_fixed_size_binary,
)

Kind = Literal["identifier", "text"]


@dataclass(frozen=True, slots=True)
class Trace:
    """Where something was found, and how often."""

    path: str
    place: str
    kind: Kind
    count: int


class Wanted:
    """The ids that are looked for, in the forms they may take; `pseudonyms` are texts of 32 hex digits."""

    def __init__(self, users: Collection[int], pseudonyms: Collection[str] = ()) -> None:
        self.ids: npt.NDArray[np.int64] = np.unique(np.array(sorted(users), dtype=np.int64))
        self.values = pa.array(self.ids)
        self._pseudonyms = frozenset(pseudonyms)
        numbers = [str(abs(int(user))) for user in self.ids]
        self.texts = frozenset([*numbers, *pseudonyms])
        self._bytes = frozenset(text.encode() for text in self.texts)
        lengths = sorted(map(len, numbers)) or [1]
        self._longest = lengths[-1]
        words, self._word = rb"(?<![0-9])[0-9]{%d,%d}(?![0-9])" % (lengths[0], lengths[-1]), "[0-9]+"
        if pseudonyms:
            self._longest = max(self._longest, 32)
            # First, or a pseudonym that begins with digits would be taken for a number.
            words, self._word = rb"(?<![0-9a-f])[0-9a-f]{32}(?![0-9a-f])|" + words, "[0-9a-f]{32}|[0-9]+"
        self._words = re.compile(words)
        self.large: npt.NDArray[np.int64] = self.ids[np.abs(self.ids) >= _LARGE]
        self._known = frozenset(self.ids.tolist())

    @property
    def margin(self) -> int:
        """Bytes by which pieces of a file must overlap."""
        return max(self._longest + 2, 8)

    @property
    def certain(self) -> Wanted:
        """Those of them that chance does not make: large ids, and pseudonyms."""
        return Wanted(self.large.tolist(), self._pseudonyms)

    @property
    def telling(self) -> Wanted:
        """Those whose eight bytes chance does not make, as it does those of 2**24 or 2**63 - 1."""
        octets = self.large.astype("<i8").view(np.uint8).reshape(-1, 8)
        return Wanted(self.large[((octets != 0) & (octets != 255)).sum(axis=1) >= _TELLING].tolist())

    def in_bytes(self, data: bytes) -> int:
        """How many of the ids' decimal forms and pseudonyms there are, each as a whole word."""
        return sum(found in self._bytes for found in self._words.findall(data))

    def struck_out(self, text: str) -> str:
        """The text with each of the ids and pseudonyms in it replaced by what cannot be one."""
        return self._words.sub(lambda m: FORGOTTEN if m.group() in self._bytes else m.group(), text.encode()).decode()

    def rows_of(self, values: Sequence[bytes]) -> npt.NDArray[np.bool_]:
        """Which of many byte strings hold one of the ids' decimal forms as a whole number; one pass over all."""
        ends = np.cumsum([len(value) + 1 for value in values])
        hits = [m.start() for m in self._words.finditer(b"\n".join(values)) if m.group() in self._bytes]
        rows = np.zeros(len(values), dtype=bool)
        rows[np.searchsorted(ends, hits, side="right")] = True
        return rows

    def as_integers(self, data: bytes) -> int:
        """How many of the large ids there are as eight little-endian bytes, at any offset."""
        if len(self.large) <= _FEW:
            return sum(data.count(each.tobytes()) for each in self.large.astype("<i8"))
        low, high, count = self.large[0], self.large[-1], 0
        for offset in range(8):
            whole = (len(data) - offset) // 8
            if whole > 0:
                values = np.frombuffer(data, dtype="<i8", count=whole, offset=offset)
                near = values[(values >= low) & (values <= high)]
                count += int(np.isin(near, self.large).sum()) if len(near) else 0
        return count

    def in_texts(self, column: pl.Series) -> int:
        """How many values of a string column hold one of the ids as a whole number."""
        return int(self.rows_with(column).sum())

    def rows_with(self, column: pl.Series) -> pl.Series:
        """Which values of a string column hold one of the ids as a whole number; a null does not."""
        texts = sorted(self.texts)
        if not texts:
            return pl.Series(np.zeros(len(column), dtype=bool))
        some = column.str.contains_any(texts).fill_null(False)
        words = column.set(~some, "").str.extract_all(self._word) if some.any() else None
        return some if words is None else words.list.eval(pl.element().is_in(texts)).list.any().fill_null(False)

    def names(self, columns: Collection[str], column: str, value: Any) -> bool:
        """Whether a value of a column names one of the users: by the column if it holds users, else by its digits."""
        if isinstance(value, int) and column in columns:
            return value in self._known
        return isinstance(value, str) and self.in_bytes(value.encode()) > 0


def traces(path: Path, name: str, wanted: Wanted, columns: Collection[str]) -> list[Trace]:
    """Traces in one file; `columns` are those that hold users. `name` is what the file is called in what is found."""
    if path.suffix == ".parquet":
        found = list(_in_parquet(path, name, wanted, columns))
    else:
        found = [Trace(name, "raw bytes", "text", count) for count in [_raw(path, wanted.in_bytes, wanted)] if count]
    integers = _raw(path, wanted.as_integers, wanted)
    if not integers:
        return found
    certain = not _is_told(path, found) and _raw(path, wanted.telling.as_integers, wanted) > 0
    return [*found, Trace(name, "raw bytes", "identifier" if certain else "text", integers)]


def _is_told(path: Path, found: Sequence[Trace]) -> bool:
    """Whether bytes of ids in a file are values of a column that does not hold users, which was decoded and is listed:
    an id that another user's row names, as a friend's, stands in the file as it is.
    """
    places = {trace.place for trace in found}
    if path.suffix != ".parquet" or not places or any(trace.kind == "identifier" for trace in found):
        return False
    kinds = {f"column {field.name}": field.type for field in pq.read_schema(path)}
    return any(pa.types.is_integer(kinds[place]) or pa.types.is_nested(kinds[place]) for place in places & kinds.keys())


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
    counts: Counter[tuple[str, Kind]] = Counter()
    try:
        file = pq.ParquetFile(path)
    except pa.ArrowInvalid:
        # Nobody can say what is in it. A writer may be at work, or was killed.
        yield Trace(name, "cut off while it was written", "identifier", 1)
        return
    with file:
        counts.update(_in_statistics(file.metadata, wanted, columns))
        for start in range(0, file.metadata.num_row_groups, _GROUPS):
            groups = range(start, min(start + _GROUPS, file.metadata.num_row_groups))
            decoded = [f.name for f in file.schema_arrow if _may_hold(file.metadata, groups, f, wanted, columns)]
            # Files are looked at side by side, so one does not use threads of its own.
            rows = file.read_row_groups(list(groups), columns=decoded, use_threads=False)
            for field in rows.schema:
                for chunk in rows.column(field.name).chunks:
                    count = sum(_in_leaf(leaf, wanted, field.name in columns) for leaf in _leaves(chunk))
                    counts[f"column {field.name}", _kind(field.name, columns)] += count
    for (place, kind), count in counts.items():
        if count:
            yield Trace(name, place, kind, count)


def _in_statistics(footer: pq.FileMetaData, wanted: Wanted, columns: Collection[str]) -> Iterator[tuple[str, Kind]]:
    """The place of every minimum and maximum that names one of the users."""
    for leaf in range(footer.num_columns):
        path = footer.schema.column(leaf).path
        top = path.split(".")[0]
        # A number names a user only in a column that holds users.
        if footer.schema.column(leaf).physical_type != "BYTE_ARRAY" and top not in columns:
            continue
        for group in range(footer.num_row_groups):
            known = footer.row_group(group).column(leaf).statistics
            bounds = () if known is None or not known.has_min_max else (known.min, known.max)
            if any(_names(wanted, columns, top, value) for value in bounds):
                yield f"statistics of {path}", _kind(top, columns)


def _may_hold(
    footer: pq.FileMetaData, groups: Sequence[int], field: pa.Field, wanted: Wanted, columns: Collection[str]
) -> bool:
    """Whether a column has to be decoded: not where its type, or the bounds of its numbers, leave no room for an id."""
    if not pa.types.is_integer(field.type):
        return _has_texts(field.type)
    ids = wanted.ids if field.name in columns else wanted.large
    leaf = next(i for i in range(footer.num_columns) if footer.schema.column(i).path == field.name)
    for group in groups:
        known = footer.row_group(group).column(leaf).statistics
        if known is None or not known.has_min_max:
            return len(ids) > 0
        if np.searchsorted(ids, known.min, "left") < np.searchsorted(ids, known.max, "right"):
            return True
    return False


def _has_texts(kind: pa.DataType) -> bool:
    """Whether a column of this type holds text, bytes or, inside of lists and records, whole numbers."""
    if pa.types.is_nested(kind):
        inner = [kind.field(i).type for i in range(kind.num_fields)]
        return any(pa.types.is_integer(each) or _has_texts(each) for each in inner)
    if pa.types.is_dictionary(kind):
        return _has_texts(kind.value_type)
    return any(is_text(kind) for is_text in _TEXTS)


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
        # In any other column only an id that chance does not make says something.
        ids = wanted.ids if holds_users else wanted.large
        limits = np.iinfo(kind.to_pandas_dtype())
        fitting = pa.array(ids[(ids >= limits.min) & (ids <= limits.max)]).cast(kind)
        return int(pc.sum(pc.is_in(values, fitting)).as_py() or 0)
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind):
        raw = values.drop_null().to_pylist()
        return int(wanted.rows_of(raw).sum()) + wanted.as_integers(b"\xff".join(raw))
    return wanted.in_texts(pl.Series(values)) if any(is_text(kind) for is_text in _TEXTS) else 0
