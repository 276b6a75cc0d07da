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
from .shard_manifest import Column, ShardFile, file_digest


class ShardWriter:
    """Writes rows, given in order, as chunks of about `chunk_samples` samples into shards of about `shard_bytes`.

    The same rows give the same bytes, however they are cut into `add` calls. A chunk ends early where it would hold
    more than `chunk_events` events.
    """

    def __init__(
        self, folder: Path, *, chunk_samples: int = 6144, chunk_events: int = 1 << 22, shard_bytes: int = 128 << 20
    ) -> None:
        self._folder = folder
        self._chunk_samples = chunk_samples
        self._chunk_events = chunk_events
        self._shard_bytes = shard_bytes
        self._pending: pa.Table | None = None
        self._schema: pa.Schema | None = None
        self._writer: pq.ParquetWriter | None = None
        self._sink: pa.NativeFile | None = None
        self._chunks: list[tuple[int, int, int]] = []  # rows, samples, events of the open shard's chunks
        self._nulls: dict[tuple[str, str], int] = {}
        self._digest = hashlib.blake2b(digest_size=16)
        self._last_user: int | None = None
        self.users = 0
        self.shards: list[ShardFile] = []

    def add(self, rows: pa.Table) -> None:
        """Append rows shaped as the module says; full chunks are written, the rest waits."""
        if self._schema is None:
            self._schema = rows.schema
        if rows.schema != self._schema:
            raise ShardError("rows of another shape", where=self._folder, expected=self._schema, got=rows.schema)
        pending = rows if self._pending is None else pa.concat_tables([self._pending, rows])
        self._pending = self._write_full(pending, last=False)

    def close(self) -> tuple[tuple[Column, ...], tuple[Column, ...], str]:
        """Write what waits and end the last shard. Returns the sample columns, history columns and samples' digest."""
        if self._pending is None or self._schema is None:
            raise ShardError("no samples to write", where=self._folder)
        self._write_full(self._pending, last=True)
        self._end_shard()
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
        events = np.concatenate([[0], np.cumsum(_list_lengths(table, "history"))])
        begin = 0
        while begin < table.num_rows:
            by_samples = np.searchsorted(samples, samples[begin] + self._chunk_samples, side="right") - 1
            by_events = np.searchsorted(events, events[begin] + self._chunk_events, side="right") - 1
            end = max(begin + 1, int(min(by_samples, by_events)))
            if end >= table.num_rows and not last:
                break
            counts = (end - begin, int(samples[end] - samples[begin]), int(events[end] - events[begin]))
            self._write_chunk(table.slice(begin, end - begin).combine_chunks(), counts)
            begin = end
        # A copy, so that the rows already written are freed.
        return table.slice(begin).combine_chunks()

    def _write_chunk(self, rows: pa.Table, counts: tuple[int, int, int]) -> None:
        if self._writer is None:
            assert self._schema is not None
            self._sink = pa.OSFile(str(self._folder / f"shard-{len(self.shards):05d}.parquet"), "wb")
            self._writer = pq.ParquetWriter(
                self._sink,
                self._schema,
                compression="zstd",
                use_dictionary=False,
                column_encoding=_encodings(self._schema),
                write_statistics=["user_id"],
                write_page_checksum=True,
            )
        self._writer.write_table(rows, row_group_size=rows.num_rows)
        self._chunks.append(counts)
        for struct in ("samples", "history"):
            lists = rows[struct].combine_chunks()
            for field in lists.type:
                self._count_nulls(struct, field.name, lists.field(field.name).flatten())
        user = rows["user_id"].to_numpy()
        self.users += int(np.count_nonzero(user[1:] != user[:-1])) + int(user[0] != self._last_user)
        self._last_user = int(user[-1])
        samples = rows["samples"].combine_chunks()
        for array in (rows["user_id"], samples.field("sample_id").flatten(), samples.field("seen").flatten()):
            self._digest.update(np.ascontiguousarray(array.to_numpy()).tobytes())
        assert self._sink is not None
        if self._sink.tell() >= self._shard_bytes:
            self._end_shard()

    def _count_nulls(self, struct: str, name: str, values: pa.Array) -> None:
        self._nulls[struct, name] = self._nulls.get((struct, name), 0) + values.null_count

    def _end_shard(self) -> None:
        if self._writer is None or self._sink is None:
            return
        self._writer.close()
        self._sink.close()
        self._writer = self._sink = None
        path = self._folder / f"shard-{len(self.shards):05d}.parquet"
        rows, samples, events = zip(*self._chunks, strict=True)
        size, digest = path.stat().st_size, file_digest(path)
        self.shards.append(ShardFile(path.name, sum(rows), sum(samples), size, digest, rows, samples, events))
        self._chunks = []


def _list_lengths(table: pa.Table, struct: str) -> npt.NDArray[np.int64]:
    """How many elements each row's lists of a struct column have; 0 where the struct has no fields."""
    rows = table[struct].combine_chunks()
    if rows.type.num_fields == 0:
        return np.zeros(table.num_rows, dtype=np.int64)
    lengths: npt.NDArray[np.int64] = pc.list_value_length(pc.struct_field(rows, [0])).to_numpy(zero_copy_only=False)
    return lengths


def _encodings(schema: pa.Schema) -> dict[str, str]:
    """Parquet encodings by leaf: half the bytes of plain or dictionary pages under zstd, and faster to read.

    Times and codes are close to their neighbours, so differences are small; ids and floats are not, but their high
    bytes are alike, so bytes of equal rank are stored together.
    """
    encodings = {"user_id": "BYTE_STREAM_SPLIT", "first_ordinal": "DELTA_BINARY_PACKED"}
    for struct in ("samples", "history"):
        for field in schema.field(struct).type:
            kind = field.type.value_type
            leaf = f"{struct}.{field.name}.list.element"
            if pa.types.is_boolean(kind):
                continue
            wide = kind in (pa.int64(), pa.uint64()) and field.name not in ("sample_id", "seen")
            split = wide or pa.types.is_floating(kind)
            encodings[leaf] = "BYTE_STREAM_SPLIT" if split else "DELTA_BINARY_PACKED"
    return encodings
