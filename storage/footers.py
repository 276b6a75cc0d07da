"""Two columns of ten thousand: reading a few columns of a wide Parquet file without reading its whole footer.

A Parquet footer describes every column of every row group and is parsed as one piece: of 10,000 columns that costs
more than the data. Here it is walked once a file, for where each column's pieces of it begin and end; a later read
takes the pieces of the columns it wants, puts them together as a footer of their own, and gives that to pyarrow with
the file. The file stays plain Parquet, and any other reader reads it as before.

The walk is kept in a cache beside the lake. Delete it whenever you like.

The format is Thrift's compact protocol (github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md) and
FileMetaData of github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from ..schemas.errors import StorageError
from . import thrift
from .faults import translated

_MAGIC = b"PAR1"
_KEPT = 64  # indexes in memory; mapped from the cache where it can be written
_Read = Callable[[int, int], bytes]


@dataclass(frozen=True, slots=True)
class FooterIndex:
    """Where the pieces of a file's footer are.

    Attributes:
        start: where the footer begins in the file.
        group_rows: rows of each row group.
        names: a digest of each top-level column's name.
        columns: (columns, 4 + 2 * groups): begin and end of its schema elements, how many they are, how many leaves it
            has; then begin and end of its column chunks in each row group. Offsets count from `start`.
    """

    start: int
    group_rows: npt.NDArray[np.int64]
    names: npt.NDArray[np.int64]
    columns: npt.NDArray[np.int64]

    def place(self, name: str) -> int | None:
        """Which column has that name; None where none has."""
        at = np.flatnonzero(self.names == _digest(name.encode()))
        return int(at[0]) if len(at) else None


def narrow(path: Path, columns: Sequence[str], cache: Path | None) -> pq.ParquetFile:
    """The file as if it had only these of its columns; those that it lacks are left out. Close it after use.

    The first time a file is seen its footer is walked, about 10 µs a column and row group; from then on a read costs in
    proportion to the columns it asks for. Types are Parquet's own: what Arrow notes beside them is not read.

    Args:
        cache: a folder that remembers the walk; None: only this process does.

    Raises:
        StorageError: the file is no Parquet file.
    """
    size = path.stat().st_size
    index = _index(path, size, cache)
    with path.open("rb") as file:
        footer = narrow_footer(
            index,
            [place for name in columns if (place := index.place(name)) is not None],
            lambda begin, end: os.pread(file.fileno(), end - begin, index.start + begin),
        )
    whole = _MAGIC + footer + len(footer).to_bytes(4, "little") + _MAGIC
    return pq.ParquetFile(path, metadata=pq.read_metadata(pa.BufferReader(whole)))


def narrow_footer(index: FooterIndex, places: Sequence[int], read: _Read) -> bytes:
    """A footer of some of the columns. `read` gives the bytes of the whole one from an offset to another."""
    wanted = index.columns[list(places)]
    leaves, groups = int(wanted[:, 3].sum()), len(index.group_rows)
    root = thrift.put_binary(4, b"schema") + thrift.put_integer(1, thrift.I32, len(places)) + b"\0"
    parts = [
        thrift.put_integer(1, thrift.I32, 2),  # version
        thrift.put_list(1, 1 + int(wanted[:, 2].sum())) + root,
        *(read(int(begin), int(end)) for begin, end in wanted[:, :2]),
        thrift.put_integer(1, thrift.I64, int(index.group_rows.sum())),
        thrift.put_list(1, groups),
    ]
    for group, rows in enumerate(index.group_rows):
        parts.append(thrift.put_list(1, leaves))
        parts += [read(int(begin), int(end)) for begin, end in wanted[:, 4 + 2 * group : 6 + 2 * group]]
        parts.append(thrift.put_integer(1, thrift.I64, 0) + thrift.put_integer(1, thrift.I64, int(rows)) + b"\0")
    # Without orders a reader must not trust minima and maxima; there is one, and this is it.
    return b"".join(parts) + thrift.put_list(3, leaves) + b"\x1c\0\0" * leaves + b"\0"


def walk(footer: bytes, start: int) -> FooterIndex:
    """The index of a footer that begins at `start` in its file.

    Raises:
        ValueError, IndexError: it is no footer.
    """
    names: list[int] = []
    schema: list[tuple[int, int, int, int]] = []
    groups: list[tuple[int, list[int]]] = []
    cursor = thrift.Cursor(footer)
    for number in cursor.fields():
        if number == 2:
            names, schema = _walk_schema(cursor)
        elif number == 4:
            groups = [_walk_group(cursor) for _ in range(cursor.elements())]
    columns = np.zeros((len(schema), 4 + 2 * len(groups)), dtype=np.int64)
    columns[:, :4] = schema
    last = np.cumsum(columns[:, 3])
    for group, (_, ends) in enumerate(groups):
        at_leaf = np.array(ends, dtype=np.int64)
        columns[:, 4 + 2 * group] = at_leaf[last - columns[:, 3]]
        columns[:, 5 + 2 * group] = at_leaf[last]
    rows_of = np.array([rows for rows, _ in groups], dtype=np.int64)
    return FooterIndex(start, rows_of, np.array(names, dtype=np.int64), columns)


def _walk_schema(cursor: thrift.Cursor) -> tuple[list[int], list[tuple[int, int, int, int]]]:
    """Of each top-level column: its name's digest; begin and end of its elements, their number, and that of leaves."""
    count = cursor.elements()
    _element(cursor)  # the root
    names: list[int] = []
    columns: list[tuple[int, int, int, int]] = []
    seen = 1
    while seen < count:
        begin, below, elements, leaves = cursor.at, 1, 0, 0
        while below:  # a column's elements follow each other, each before its children
            name, children = _element(cursor)
            if not elements:
                names.append(_digest(name))
            elements += 1
            leaves += not children
            below += children - 1
        columns.append((begin, cursor.at, elements, leaves))
        seen += elements
    return names, columns


def _element(cursor: thrift.Cursor) -> tuple[bytes, int]:
    """A schema element's name and number of children."""
    name, children = b"", 0
    for number in cursor.fields():
        if number == 4:
            name = cursor.binary()
        elif number == 5:
            children = cursor.signed()
    return name, children


def _walk_group(cursor: thrift.Cursor) -> tuple[int, list[int]]:
    """A row group's rows; where its first chunk begins, and where each ends."""
    rows, ends = 0, [0]
    for number in cursor.fields():
        if number == 1:
            chunks = cursor.elements()
            ends = [cursor.at, *(cursor.skip(thrift.STRUCT) for _ in range(chunks))]
        elif number == 3:
            rows = cursor.signed()
    return rows, ends


@functools.lru_cache(maxsize=_KEPT)
def _index(path: Path, size: int, cache: Path | None) -> FooterIndex:
    if cache is None:
        return _walk_file(path, size)
    kept = cache / f"{_digest(str(path).encode()) % 2**64:016x}-{size}.npy"
    try:
        numbers = np.load(kept, mmap_mode="r")
    except (FileNotFoundError, ValueError):
        numbers = _numbers(_walk_file(path, size))
        with contextlib.suppress(StorageError):  # a cache that cannot be written is only slower
            _keep(kept, numbers)
    start, groups, columns = (int(number) for number in numbers[:3])
    group_rows, names, rest = np.split(numbers[3:], [groups, groups + columns])
    return FooterIndex(start, group_rows, names, rest.reshape(columns, -1))


def _walk_file(path: Path, size: int) -> FooterIndex:
    with path.open("rb") as file:
        file.seek(max(size - 8, 0))
        tail = file.read()
        length = int.from_bytes(tail[:4], "little")
        if tail[4:] != _MAGIC or length > size - 12:
            raise StorageError("not a Parquet file", where=path, expected="a footer at its end", got=f"{size} bytes")
        file.seek(size - 8 - length)
        try:
            return walk(file.read(length), size - 8 - length)
        except (IndexError, ValueError) as error:
            raise StorageError("a damaged Parquet file", where=path, expected="a footer", got=str(error)) from error


def _numbers(index: FooterIndex) -> npt.NDArray[np.int64]:
    head = np.array([index.start, len(index.group_rows), len(index.names)], dtype=np.int64)
    return np.concatenate([head, index.group_rows, index.names, index.columns.ravel()])


def _keep(path: Path, numbers: npt.NDArray[np.int64]) -> None:
    with translated(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as staged:
            np.save(staged, numbers)
        os.replace(staged.name, path)


def _digest(name: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "little", signed=True)
