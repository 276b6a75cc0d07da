"""Shard sets: what a trainer reads. One row per user with its union window once, and all its samples pointing into it.

A shard set is a folder:

    manifest.json          what the set is (recipe, pin, columns, vocabularies) and what it holds (files, chunks)
    shard-00000.parquet …  plain Parquet, zstd; each row group is one chunk, the unit that is shuffled and read
    content/NAME.npy       float32 (rows, D), memory-mapped; samples name a row of it by `content_row`
    content/index.parquet  which item, known when, each content row is

A row of a shard:

    user_id, first_ordinal                      int64; the ordinal of the first event of the row's window
    history: struct<FIELD: list<...>>           the events [first_ordinal, max(seen)) of the user, oldest first
    samples: struct<sample_id: list<int64> …>   the user's samples; `timeline[seen-L : seen]` is inside the window

A user has several rows where that costs nothing (windows that do not touch) or keeps a chunk bounded (very many
samples or events): see `pipelines.pack`. Times are µs UTC; strings are codes into the manifest's vocabularies, -1 for
null. This module imports numpy and pyarrow only: trainers load it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from ..schemas.errors import ShardError
from .shard_manifest import Column, ShardFile, file_digest, read_manifest

CONTENT = "content"
CONTENT_ROW = "content_row"

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Values:
    """Values as NumPy, nulls filled with 0 or NaN; `valid` tells them apart where the set has any, else None."""

    array: Array
    valid: npt.NDArray[np.bool_] | None


@dataclass(frozen=True, slots=True)
class Chunk:
    """One row group, R rows, S samples, E events. Offsets are (R+1,) int64; histories are empty if none was read."""

    user_id: npt.NDArray[np.int64]
    first_ordinal: npt.NDArray[np.int64]
    sample_offsets: npt.NDArray[np.int64]
    samples: dict[str, Values]
    history_offsets: npt.NDArray[np.int64]
    history: dict[str, Values]


@dataclass(frozen=True, slots=True)
class Content:
    """A memory-mapped array of content vectors (rows, D), and which rows hold one."""

    vectors: npt.NDArray[np.float32]
    present: npt.NDArray[np.bool_]


class ShardSet:
    """A shard set open for reading; `ShardSet(folder)` checks the manifest and the sizes of all files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.manifest = read_manifest(folder)
        self._footers: dict[int, pq.FileMetaData] = {}
        for shard in self.manifest.shards:
            self._check_size(shard)

    @cached_property
    def chunk_samples(self) -> npt.NDArray[np.int64]:
        """Samples of each chunk, in storage order."""
        return np.array([n for s in self.manifest.shards for n in s.chunk_samples], dtype=np.int64)

    @cached_property
    def chunk_events(self) -> npt.NDArray[np.int64]:
        """Events of each chunk, in storage order."""
        return np.array([n for s in self.manifest.shards for n in s.chunk_events], dtype=np.int64)

    @cached_property
    def _first_chunks(self) -> npt.NDArray[np.int64]:
        return np.cumsum([0] + [len(s.chunk_samples) for s in self.manifest.shards])

    def read_chunk(self, chunk: int, *, samples: Sequence[str], history: Sequence[str]) -> Chunk:
        """Read the named columns of one chunk; nothing else of it is decoded. Safe to call from several threads.

        Raises:
            ShardError: the file is missing, truncated, corrupt, or does not hold what the manifest says.
        """
        index = int(np.searchsorted(self._first_chunks, chunk, side="right")) - 1
        shard = self.manifest.shards[index]
        group = chunk - int(self._first_chunks[index])
        columns = ["user_id", "first_ordinal"]
        columns += [f"samples.{name}" for name in samples] + [f"history.{name}" for name in history]
        path = self.folder / shard.file
        try:
            with self._open(index, path) as file:
                table = file.read_row_group(group, columns=columns, use_threads=False)
        except (OSError, pa.ArrowException) as error:
            raise ShardError("a shard cannot be read", where=path, expected="valid Parquet", got=str(error)) from error
        return self._chunk(table, shard, group, samples, history)

    def content(self, name: str) -> Content:
        """The vectors of one content column.

        Raises:
            ShardError: the array is missing, or not of the shape the manifest says.
        """
        entry = self.manifest.content[name]
        path = self.folder / entry["file"]
        try:
            vectors = np.load(path, mmap_mode="r")
            present = pq.read_table(self.folder / CONTENT / "index.parquet", columns=[name])[name]
        except (OSError, ValueError, pa.ArrowException) as error:
            raise ShardError("content cannot be read", where=path, expected="a NumPy array", got=str(error)) from error
        shape = (entry["rows"], entry["dimensions"])
        if vectors.shape != shape or len(present) != shape[0]:
            raise ShardError("not the content that was packed", where=path, expected=shape, got=vectors.shape)
        return Content(vectors, _numpy(present))

    def verify(self) -> int:
        """Digest every shard and compare with the manifest; returns the bytes that were read.

        Raises:
            ShardError: naming the first file that differs.
        """
        for shard in self.manifest.shards:
            self._check_size(shard)
            digest = file_digest(self.folder / shard.file)
            if digest != shard.blake2b:
                where = self.folder / shard.file
                raise ShardError(
                    "a shard was changed after it was packed", where=where, expected=shard.blake2b, got=digest
                )
        return sum(shard.bytes for shard in self.manifest.shards)

    def _check_size(self, shard: ShardFile) -> None:
        path = self.folder / shard.file
        hint = "copy the file again, or pack again"
        if not path.is_file():
            raise ShardError(
                "a shard is missing", where=path, expected=f"{shard.bytes} bytes", got="no file", hint=hint
            )
        size = path.stat().st_size
        if size != shard.bytes:
            raise ShardError(
                "a shard is not as long as it was packed",
                where=path,
                expected=f"{shard.bytes} bytes",
                got=f"{size} bytes",
                hint=hint,
            )

    def _open(self, index: int, path: Path) -> pq.ParquetFile:
        # A ParquetFile must not be shared by threads; its parsed footer may be, and parsing is what costs.
        footer = self._footers.get(index)
        file = pq.ParquetFile(path, metadata=footer, memory_map=True, page_checksum_verification=True)
        if footer is None:
            self._check_footer(self.manifest.shards[index], path, file.metadata)
            self._footers[index] = file.metadata
        return file

    def _check_footer(self, shard: ShardFile, path: Path, footer: pq.FileMetaData) -> None:
        self._check_size(shard)
        rows = tuple(footer.row_group(group).num_rows for group in range(footer.num_row_groups))
        if rows != shard.chunk_rows:
            raise ShardError("not the rows that were packed", where=path, expected=shard.chunk_rows, got=rows)
        leaves = sorted(footer.schema.column(i).path for i in range(len(footer.schema)))
        expected = ["first_ordinal", "user_id"]
        expected += [f"history.{c.name}.list.element" for c in self.manifest.history]
        expected += [f"samples.{c.name}.list.element" for c in self.manifest.samples]
        if leaves != sorted(expected):
            raise ShardError("not the columns that were packed", where=path, expected=sorted(expected), got=leaves)

    def _chunk(
        self, table: pa.Table, shard: ShardFile, group: int, samples: Sequence[str], history: Sequence[str]
    ) -> Chunk:
        path = self.folder / shard.file
        sample_offsets, sample_values = _lists(table, "samples", _pick(self.manifest.samples, samples), path)
        history_offsets, history_values = _lists(table, "history", _pick(self.manifest.history, history), path)
        got = f"{table.num_rows} rows, {sample_offsets[-1]} samples, {history_offsets[-1]} events"
        events = shard.chunk_events[group] if history else 0
        expected = f"{shard.chunk_rows[group]} rows, {shard.chunk_samples[group]} samples, {events} events"
        if got != expected:
            raise ShardError(
                "not the chunk that was packed",
                where=f"{path}, row group {group}",
                expected=expected,
                got=got,
            )
        return Chunk(
            user_id=_numpy(table["user_id"]),
            first_ordinal=_numpy(table["first_ordinal"]),
            sample_offsets=sample_offsets,
            samples=sample_values,
            history_offsets=history_offsets,
            history=history_values,
        )


def _pick(columns: Sequence[Column], names: Sequence[str]) -> list[Column]:
    by_name = {column.name: column for column in columns}
    return [by_name[name] for name in names]


def _lists(
    table: pa.Table, struct: str, columns: Sequence[Column], path: Path
) -> tuple[npt.NDArray[np.int64], dict[str, Values]]:
    """Offsets (R+1,) and flat values of the lists of a struct column. All its lists must be equally long."""
    if not columns:
        return np.zeros(table.num_rows + 1, dtype=np.int64), {}
    rows = table[struct].combine_chunks()
    offsets: npt.NDArray[np.int64] | None = None
    values = {}
    for column in columns:
        lists = rows.field(column.name)
        own = _numpy(lists.offsets)
        offsets = own if offsets is None else offsets
        if not np.array_equal(own, offsets):
            raise ShardError("lists of one row differ in length", where=f"{path}, {struct}.{column.name}")
        values[column.name] = _values(lists.values, column)
    assert offsets is not None
    return offsets, values


def _values(array: pa.Array, column: Column) -> Values:
    values, valid = _numpy(array), _numpy(array.is_valid()) if column.nulls else None
    if array.null_count:
        # What lies under a null is undefined; the same input must give the same bytes.
        values = np.where(
            _numpy(array.is_valid()), values, values.dtype.type(np.nan if values.dtype.kind == "f" else 0)
        )
    return Values(values, valid)


def _numpy(array: pa.Array | pa.ChunkedArray) -> Array:
    """The values of an Arrow array, undefined where it is null; times as integers. Copies booleans only.

    Arrow's own to_numpy (and pa.scalar) imports pandas wherever that is installed: half a second for every process.
    """
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    data, first = array.buffers()[1], array.offset
    if pa.types.is_boolean(array.type):
        bits = np.unpackbits(np.frombuffer(data, dtype=np.uint8), count=first + len(array), bitorder="little")
        return bits[first:].view(np.bool_)
    dtype = Column("", str(array.type)).dtype
    if len(array) == 0:
        return np.empty(0, dtype=dtype)
    return np.frombuffer(data, dtype=dtype, count=len(array), offset=first * dtype.itemsize)
