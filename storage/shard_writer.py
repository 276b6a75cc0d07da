"""Writing shards: rows in, Parquet files of chunks out, the same bytes for the same rows."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ..schemas.errors import ShardError
from .shard_layout import column_ranges, crc32, footer_start, leaf_name, tier_name
from .shard_manifest import ITEMS, Column, Compression, ShardFile, digest_of, file_digest

# Higher levels of either take a few percent off the bytes, and three times as long to write.
_LEVELS: dict[Compression, int] = {"lz4": 4, "zstd": 9}
# Distinct items are counted part by part; parts are summed when they hold this many.
_ITEMS_PENDING = 1 << 20


# Rows, samples, events, the window and the events by tier of a chunk.
_Counts = tuple[int, int, int, int, tuple[int, ...]]


class ShardWriter:
    """Writes rows, given in order, as chunks of about `chunk_samples` samples into shards of about `shard_bytes`.

    The same rows give the same bytes, however they are cut into `add` calls. A chunk ends early where it would hold
    more than `chunk_events` events, and where the next rows are of another window of time.

    Beside the shards `items.parquet` says how often each item was shown: the popularity that negatives are drawn by.
    """

    def __init__(
        self,
        folder: Path,
        *,
        compression: Compression = "lz4",
        chunk_samples: int = 6144,
        chunk_events: int = 1 << 22,
        shard_bytes: int = 128 << 20,
    ) -> None:
        self.compression: Compression = compression
        self._folder = folder
        self._chunk_samples = chunk_samples
        self._chunk_events = chunk_events
        self._shard_bytes = shard_bytes
        self._pending: pa.Table | None = None
        self._schema: pa.Schema | None = None
        self._writer: pq.ParquetWriter | None = None
        self._sink: pa.NativeFile | None = None
        self._chunks: list[_Counts] = []  # of the open shard
        self._window = 0
        self._items: list[pa.Table] = []
        self._nulls: dict[tuple[str, str], int] = {}
        self._digest = hashlib.blake2b(digest_size=16)
        self._users: list[npt.NDArray[np.int64]] = []
        self.users = 0
        self.shards: list[ShardFile] = []

    def add(self, rows: pa.Table, *, window: int = 0) -> None:
        """Append rows shaped as the module says; full chunks are written, the rest waits.

        Args:
            window: the window of time that the rows' requests are in, at least that of the rows before.
        """
        if self._schema is None:
            self._schema = rows.schema
        if rows.schema != self._schema:
            raise ShardError("rows of another shape", where=self._folder, expected=self._schema, got=rows.schema)
        if window < self._window:
            raise ShardError("rows of an earlier window", where=self._folder, expected=self._window, got=window)
        if window != self._window and self._pending is not None:
            self._pending = self._write_full(self._pending, last=True)
        self._window = window
        self._users.append(np.unique(rows["user_id"].to_numpy()))
        pending = rows if self._pending is None else pa.concat_tables([self._pending, rows])
        self._pending = self._write_full(pending, last=False)

    def close(self) -> tuple[tuple[Column, ...], tuple[Column, ...], str]:
        """Write what waits and end the last shard. Returns the sample columns, history columns and samples' digest."""
        if self._pending is None or self._schema is None:
            raise ShardError("no samples to write", where=self._folder)
        self._write_full(self._pending, last=True)
        self._end_shard()
        self.users = len(np.unique(np.concatenate(self._users)))
        self._sum_items()
        pq.write_table(self._items[0].sort_by("item_id"), self._folder / ITEMS, compression="zstd")
        columns = [
            tuple(
                Column(f.name, str(f.type.value_type), self._nulls.get((struct, f.name), 0))
                for f in self._schema.field(struct).type
            )
            for struct in ("samples", "history")
        ]
        return columns[0], columns[1], self._digest.hexdigest()

    def abort(self) -> None:
        """Let go of the open file; what was written is of no use."""
        if self._sink is not None:
            self._sink.close()
            self._writer = self._sink = None

    def _write_full(self, table: pa.Table, *, last: bool) -> pa.Table:
        samples = np.concatenate([[0], np.cumsum(_list_lengths(table, "samples"))])
        tiers = [_list_lengths(table, name) for name in _tiers(table.schema)]
        events = np.concatenate([[0], np.cumsum(np.sum(tiers, axis=0))])
        begin = 0
        while begin < table.num_rows:
            by_samples = np.searchsorted(samples, samples[begin] + self._chunk_samples, side="right") - 1
            by_events = np.searchsorted(events, events[begin] + self._chunk_events, side="right") - 1
            end = max(begin + 1, int(min(by_samples, by_events)))
            if end >= table.num_rows and not last:
                break
            counts = (
                end - begin,
                int(samples[end] - samples[begin]),
                int(events[end] - events[begin]),
                self._window,
                tuple(int(own[begin:end].sum()) for own in tiers),
            )
            self._write_chunk(table.slice(begin, end - begin).combine_chunks(), counts)
            begin = end
        # A copy, so that the rows already written are freed.
        return table.slice(begin).combine_chunks()

    def _store(self, rows: pa.Table) -> None:
        """Write a chunk to the open shard, and open one before where there is none."""
        # Parquet has no struct without a field, which is what histories of no fields are.
        rows = rows.select([f.name for f in rows.schema if not pa.types.is_struct(f.type) or f.type.num_fields])
        if self._writer is None:
            self._sink = pa.OSFile(str(self._folder / f"shard-{len(self.shards):05d}.parquet"), "wb")
            self._writer = pq.ParquetWriter(
                self._sink,
                rows.schema,
                compression=self.compression,
                compression_level=_LEVELS[self.compression],
                use_dictionary=False,
                column_encoding=_encodings(rows.schema),
                write_statistics=["user_id"],
                write_page_checksum=True,
            )
        self._writer.write_table(rows, row_group_size=rows.num_rows)

    def _is_full(self) -> bool:
        return self._sink is not None and bool(self._sink.tell() >= self._shard_bytes)

    def _write_chunk(self, rows: pa.Table, counts: _Counts) -> None:
        self._store(rows)
        self._chunks.append(counts)
        for struct in ("samples", *_tiers(rows.schema)):
            lists = rows[struct].combine_chunks()
            for field in lists.type:
                self._count_nulls(struct.partition("_")[0], field.name, lists.field(field.name).flatten())
        samples = rows["samples"].combine_chunks()
        for array in (rows["user_id"], samples.field("sample_id").flatten(), samples.field("seen").flatten()):
            self._digest.update(np.ascontiguousarray(array.to_numpy()).tobytes())
        self._count_items(samples)
        if self._is_full():
            self._end_shard()

    def _count_nulls(self, struct: str, name: str, values: pa.Array) -> None:
        self._nulls[struct, name] = self._nulls.get((struct, name), 0) + values.null_count

    def _count_items(self, samples: pa.StructArray) -> None:
        shown = pc.filter(samples.field("item_id").flatten(), pc.invert(samples.field("negative").flatten()))
        values, counts = np.unique(shown.to_numpy(), return_counts=True)
        self._items.append(pa.table({"item_id": values, "count": counts}))
        if sum(part.num_rows for part in self._items) > _ITEMS_PENDING + 2 * self._items[0].num_rows:
            self._sum_items()

    def _sum_items(self) -> None:
        summed = pa.concat_tables(self._items).group_by("item_id").aggregate([("count", "sum")])
        self._items = [summed.rename_columns(["item_id", "count"])]

    def _end_shard(self) -> None:
        if self._writer is None or self._sink is None:
            return
        self._writer.close()
        self._sink.close()
        self._writer = self._sink = None
        path = self._folder / f"shard-{len(self.shards):05d}.parquet"
        rows, samples, events, windows, tiers = zip(*self._chunks, strict=True)
        with pa.memory_map(str(path)) as source:
            footer = pq.read_metadata(source)
            ranges = column_ranges(footer)
            start = footer_start(ranges)
            tail = source.read_at(source.size() - start, start)
            source.seek(0)
            data = source.read_buffer()
            sums = tuple(tuple(crc32(data.slice(*each)) for each in chunk) for chunk in ranges.tolist())
        self.shards.append(
            ShardFile(
                file=path.name,
                rows=sum(rows),
                samples=sum(samples),
                bytes=path.stat().st_size,
                blake2b=file_digest(path),
                footer_bytes=len(tail),
                footer_blake2b=digest_of(tail),
                chunk_rows=rows,
                chunk_samples=samples,
                chunk_events=events,
                chunk_tiers=tiers,
                chunk_windows=windows,
                chunk_crc32=sums,
            )
        )
        self._chunks = []


def _tiers(schema: pa.Schema) -> list[str]:
    """The struct columns of histories, the newest tier first."""
    return [name for name in map(tier_name, range(len(schema.names))) if name in schema.names]


def _list_lengths(table: pa.Table, struct: str) -> npt.NDArray[np.int64]:
    """How many elements each row's lists of a struct column have; 0 where the struct has no fields."""
    rows = table[struct].combine_chunks()
    if rows.type.num_fields == 0:
        return np.zeros(table.num_rows, dtype=np.int64)
    lengths: npt.NDArray[np.int64] = pc.list_value_length(pc.struct_field(rows, [0])).to_numpy(zero_copy_only=False)
    return lengths


def _encodings(schema: pa.Schema) -> dict[str, str]:
    """Parquet encodings by leaf: bytes of equal rank are stored together, of everything but booleans.

    Ids, codes and times of a user have their high bytes in common, and then compress to half of what plain or
    dictionary pages take; nothing is faster to put together again. Differences of neighbours (DELTA_BINARY_PACKED) are
    larger than that wherever the low bytes are random, and smaller only for ids that count up.
    """
    leaves = ["user_id", "first_ordinal"]
    for struct in ("samples", *_tiers(schema)):
        fields = [f for f in schema.field(struct).type if not pa.types.is_boolean(f.type.value_type)]
        leaves += [leaf_name(struct, field.name) for field in fields]
    return dict.fromkeys(leaves, "BYTE_STREAM_SPLIT")
