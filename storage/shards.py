"""Shard sets: what a trainer reads. One row per user with its union window once, and all its samples pointing into it.

A shard set is a folder:

    manifest.json          what the set is (recipe, pin, columns, vocabularies) and what it holds (files, chunks)
    shard-00000.parquet …  plain Parquet, lz4 or zstd; each row group is one chunk, the unit that is shuffled and read
    content/NAME.npy       float32 (rows, D), memory-mapped; samples name a row of it by `content_row`
    content/NAME.crc32.npy a checksum of each block of it
    content/index.parquet  which item, known when, each content row is

A row of a shard:

    user_id, first_ordinal                      int64; the ordinal of the first event of the row's window
    history: struct<FIELD: list<...>>           the events [first_ordinal, max(seen)) of the user, oldest first; of long
                                                windows the newest, and the rest in history_1, history_2: shard_layout;
                                                not there where the recipe has no history fields
    samples: struct<sample_id: list<int64> …>   the user's samples; `timeline[seen-L : seen]` is inside the window

A user has several rows where that costs nothing (windows that do not touch) or keeps a chunk bounded (very many
samples or events): see `pipelines.pack`. Times are µs UTC; strings are codes into the manifest's vocabularies, -1 for
null. This module imports numpy and pyarrow only: trainers load it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from ..schemas.errors import ShardError
from .shard_arrays import Array, Rows, Values, joined, rows_of
from .shard_content import CONTENT, Content, sums_name
from .shard_files import Cache, OpenShard, files_of
from .shard_layout import Ranges, column_ranges, crc32, leaf_name, places_of, tier_name, tiers_read
from .shard_layout import tiers as tiers_of
from .shard_manifest import Column, ShardFile, digest_of, file_digest, parse_manifest
from .shard_pages import ChunkBytes, Pages

CONTENT_ROW = "content_row"


@dataclass(frozen=True, slots=True)
class Footer:
    """Of a file: parsed, where each column chunk lies, the names of its columns, and how its pages are read, if so."""

    parsed: pq.FileMetaData
    ranges: Ranges
    names: list[str]
    pages: Pages | None


@dataclass(frozen=True, slots=True)
class Chunk:
    """One row group, R rows, S samples, E events. Offsets are (R+1,) int64; histories are empty if none was read."""

    user_id: npt.NDArray[np.int64]
    first_ordinal: npt.NDArray[np.int64]
    sample_offsets: npt.NDArray[np.int64]
    samples: dict[str, Values]
    history_offsets: npt.NDArray[np.int64]
    history: dict[str, Values]


class ShardSet:
    """A shard set open for reading; `ShardSet(path)` checks the manifest and the sizes of all files.

    Args:
        path: a folder, or the URI of one.
        cache: where chunks of remote shards are kept.

    Raises:
        ShardError: there is no shard set, or its manifest or a file is not what was written.
    """

    def __init__(self, path: str | os.PathLike[str], cache: Cache | None = None) -> None:
        self._files = files_of(path, cache)
        self.where = self._files.where
        exists = "://" in self.where or Path(self.where).exists()
        self.manifest = parse_manifest(self._files.manifest(), self.where, exists)
        self._footers: dict[int, Footer] = {}
        for shard in self.manifest.shards:
            self._files.check(shard)

    def __getstate__(self) -> dict[str, Any]:
        """Another process reads footers itself: what reads their pages cannot be sent."""
        return self.__dict__ | {"_footers": {}}

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

    @cached_property
    def chunk_windows(self) -> npt.NDArray[np.int64]:
        """The window of time of each chunk, in storage order; see `Manifest.window_us`."""
        return np.array([n for s in self.manifest.shards for n in s.chunk_windows], dtype=np.int64)

    def events_read(self, length: int) -> npt.NDArray[np.int64]:
        """Events that each chunk gives where windows of `length` are read, in storage order."""
        count = tiers_read(self.manifest.history_length, length)
        return np.array([sum(n[:count]) for s in self.manifest.shards for n in s.chunk_tiers], dtype=np.int64)

    def read_chunk(
        self,
        chunk: int,
        *,
        samples: Sequence[str],
        history: Sequence[str],
        length: int | None = None,
        into: Mapping[str, Array] | None = None,
    ) -> Chunk:
        """Read the named columns of one chunk; nothing else of it is read. Safe to call from several threads.

        Args:
            length: events of a window that are needed at most; all by default. With it `samples` must name `seen`.
            into: (E,) by history field: where its values go, and are in the chunk that is returned.

        Raises:
            ShardError: naming the file: it is missing, truncated, corrupt, or does not hold what the manifest says.
        """
        index = int(np.searchsorted(self._first_chunks, chunk, side="right")) - 1
        shard = self.manifest.shards[index]
        group = chunk - int(self._first_chunks[index])
        structs = self._structs(samples, history, length)
        try:
            with self._files.open(shard) as opened:
                footer = self._footer(index, opened)
                rows = self._read_rows(shard, group, opened, footer, structs, into or {})
        except (OSError, pa.ArrowException) as error:
            raise ShardError(
                "a shard cannot be read", where=self._at(shard), expected="valid Parquet", got=str(error)
            ) from error
        return self._chunk(rows, shard, group, into or {})

    def _structs(
        self, samples: Sequence[str], history: Sequence[str], length: int | None
    ) -> Mapping[str, Sequence[Column]]:
        """The struct columns that hold what is wanted, the samples first, then the tiers; of each the fields."""
        packed = self.manifest.history_length
        count = tiers_read(packed, packed if length is None else length) if history else 0
        fields = _pick(self.manifest.history, history)
        tiers = {tier_name(tier): fields for tier in range(count)}
        return {"samples": _pick(self.manifest.samples, samples), **tiers}

    def _read_rows(
        self,
        shard: ShardFile,
        group: int,
        opened: OpenShard,
        footer: Footer,
        structs: Mapping[str, Sequence[Column]],
        into: Mapping[str, Array],
    ) -> Rows:
        """The rows of a chunk whose checksums are right."""
        columns = ["user_id", "first_ordinal"]
        leaves = {*columns, *(leaf_name(struct, c.name) for struct, fields in structs.items() for c in fields)}
        ranges = footer.ranges[group]
        self._check_chunk(
            shard, group, opened, ranges, footer.names, [p for p, name in enumerate(footer.names) if name in leaves]
        )
        where = f"{self._at(shard)}, row group {group}"
        if footer.pages is not None:
            counts = (shard.chunk_samples[group], *shard.chunk_tiers[group])
            counted = {struct: (n, fields) for (struct, fields), n in zip(structs.items(), counts, strict=False)}
            # Of several tiers the values are put in order behind it.
            places = {leaf_name("history", n): out for n, out in into.items()} if len(structs) == 2 else {}
            chunk = ChunkBytes(opened.data, ranges, shard.chunk_rows[group])
            rows = footer.pages.rows(chunk, counted, places, where)
            if rows is not None:
                return rows
        columns += [f"{struct}.{c.name}" for struct, fields in structs.items() for c in fields]
        # A ParquetFile must not be shared by threads; its parsed footer may be, and parsing is what costs.
        with pq.ParquetFile(opened.source, metadata=footer.parsed) as file:
            table = file.read_row_group(group, columns=columns, use_threads=False)
        return rows_of(table, structs, where)

    def content(self, name: str) -> Content:
        """The vectors of one content column.

        Raises:
            ShardError: the array is missing, or not of the shape the manifest says.
        """
        entry, files = self.manifest.content[name], self.manifest.files
        sums = sums_name(name) if sums_name(name) in files else None
        array = self.whole(entry["file"]) if sums else self.right(entry["file"])  # older sets have none
        return Content.open(
            array,
            self.right(f"{CONTENT}/index.parquet"),
            None if sums is None else self.right(sums),
            name,
            (entry["rows"], entry["dimensions"]),
            files[entry["file"]]["blake2b"],
        )

    def right(self, name: str) -> Path:
        """As `whole`, of a small file: its digest is compared too.

        Raises:
            ShardError: it is not there, or not what was packed.
        """
        path, known = self.whole(name), self.manifest.files[name]["blake2b"]
        digest = file_digest(path)
        if digest != known:
            raise _changed(path, known, digest)
        return path

    def whole(self, name: str) -> Path:
        """The local path of a file beside the shards; its length is checked.

        Raises:
            ShardError: it is not there, or not as long as it was packed.
        """
        known = self.manifest.files[name]
        path = self._files.whole(name, known["blake2b"])
        size = path.stat().st_size if path.is_file() else None
        if size != known["bytes"]:
            raise ShardError(
                "a file of a shard set is not as it was packed",
                where=path,
                expected=f"{known['bytes']} bytes",
                got="no file" if size is None else f"{size} bytes",
                hint="copy the file again, or pack again",
            )
        return path

    def verify(self) -> int:
        """Digest every file and compare with the manifest; returns the bytes that were read.

        Raises:
            ShardError: naming the first file that differs.
        """
        for shard in self.manifest.shards:
            self._files.check(shard)
        files = {shard.file: (shard.bytes, shard.blake2b) for shard in self.manifest.shards}
        files |= {name: (known["bytes"], known["blake2b"]) for name, known in self.manifest.files.items()}
        for name, (_, expected) in files.items():
            digest = file_digest(self._files.whole(name, expected))
            if digest != expected:
                raise _changed(f"{self.where}/{name}", expected, digest)
        return sum(size for size, _ in files.values())

    def _at(self, shard: ShardFile) -> str:
        return f"{self.where}/{shard.file}"

    def _footer(self, index: int, opened: OpenShard) -> Footer:
        known = self._footers.get(index)
        if known is not None:
            return known
        shard = self.manifest.shards[index]
        self._files.check(shard)
        begin = shard.bytes - shard.footer_bytes

        def wrong() -> bool:
            return digest_of(opened.source.read_at(shard.footer_bytes, begin)) != shard.footer_blake2b

        if wrong():
            opened.fetch(begin, shard.bytes, wrong)
            if wrong():
                raise _damaged(self._at(shard), "its footer")
        footer = pq.read_metadata(opened.source)
        rows = tuple(footer.row_group(group).num_rows for group in range(footer.num_row_groups))
        if rows != shard.chunk_rows:
            raise ShardError(
                "not the rows that were packed", where=self._at(shard), expected=shard.chunk_rows, got=rows
            )
        self._check_schema(shard, footer)
        names = [footer.schema.column(place).path for place in range(footer.num_columns)]
        self._footers[index] = Footer(footer, column_ranges(footer), names, Pages.of(footer))
        return self._footers[index]

    def _check_schema(self, shard: ShardFile, footer: pq.FileMetaData) -> None:
        fields = [pa.field("user_id", "int64"), pa.field("first_ordinal", "int64")]
        found = footer.schema.to_arrow_schema()
        got = {name: str(found.field(name).type) for name in ("user_id", "first_ordinal") if name in found.names}
        expected = {field.name: str(field.type) for field in fields}
        tiers = [(tier_name(n), self.manifest.history) for n in range(len(tiers_of(self.manifest.history_length)))]
        for struct, columns in (*tiers, ("samples", self.manifest.samples)):
            expected |= {f"{struct}.{c.name}": c.type for c in columns}
            children = found.field(struct).type if struct in found.names else []
            got |= {f"{struct}.{child.name}": str(child.type.value_type) for child in children}
        if got != expected:
            raise ShardError("not the columns that were packed", where=self._at(shard), expected=expected, got=got)

    def _check_chunk(
        self, shard: ShardFile, group: int, opened: OpenShard, ranges: Ranges, names: list[str], places: list[int]
    ) -> None:
        """The bytes of the columns that are read have the manifest's checksums; remote ones are fetched first.

        Args:
            ranges: (columns, 2) of this chunk
            places: which columns are read
        """

        def wrong() -> list[int]:
            sums = shard.chunk_crc32[group]
            return [p for p in places if crc32(opened.data.slice(*ranges[p].tolist())) != sums[p]]

        bad = wrong()
        if bad:
            opened.fetch(int(ranges[:, 0].min()), int(ranges.sum(axis=1).max()), lambda: bool(wrong()))
            bad = wrong()
        if bad:
            raise _damaged(self._at(shard), f"row group {group}, column {names[bad[0]]}")

    def _chunk(self, rows: Rows, shard: ShardFile, group: int, into: Mapping[str, Array]) -> Chunk:
        """A chunk of rows whose tiers are put together. `into`: as `read_chunk` has it."""
        sample_offsets, sample_values = rows.lists["samples"]
        read = [lists for struct, lists in rows.lists.items() if struct != "samples"]
        tiers, count = len(read), len(rows.user_id)
        history_offsets, places = places_of([offsets for offsets, _ in read] or [np.zeros(count + 1, dtype=np.int64)])
        history = {
            name: joined(
                [(place, values[name]) for place, (_, values) in zip(places, read, strict=True)], into.get(name)
            )
            for name in (read[0][1] if read else ())
        }
        first_ordinal = rows.first_ordinal
        if 0 < tiers < len(shard.chunk_tiers[group]):
            reach = tiers_of(self.manifest.history_length)[tiers - 1]
            first_seen = sample_values["seen"].array[sample_offsets[:-1]]  # the row's smallest: rows are in its order
            first_ordinal = np.maximum(first_ordinal, first_seen - reach)
        got = f"{count} rows, {sample_offsets[-1]} samples, {history_offsets[-1]} events"
        events = sum(shard.chunk_tiers[group][:tiers])
        expected = f"{shard.chunk_rows[group]} rows, {shard.chunk_samples[group]} samples, {events} events"
        if got != expected:
            raise ShardError(
                "not the chunk that was packed",
                where=f"{self._at(shard)}, row group {group}",
                expected=expected,
                got=got,
            )
        return Chunk(
            user_id=rows.user_id,
            first_ordinal=first_ordinal,
            sample_offsets=sample_offsets,
            samples=sample_values,
            history_offsets=history_offsets,
            history=history,
        )


def _damaged(path: str, place: str) -> ShardError:
    return ShardError(
        "a shard is damaged",
        where=f"{path}, {place}",
        expected="the bytes that were packed",
        got="other bytes",
        hint="copy the file again, or pack again",
    )


def _changed(path: object, expected: str, digest: str) -> ShardError:
    return ShardError(
        "a file was changed after it was packed",
        where=path,
        expected=f"the digest {expected}",
        got=digest,
        hint="copy the file again, or pack again",
    )


def _pick(columns: Sequence[Column], names: Sequence[str]) -> list[Column]:
    by_name = {column.name: column for column in columns}
    return [by_name[name] for name in names]
