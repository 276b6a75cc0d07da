"""What the compiled loop reads of a shard is what Arrow reads of it."""

from __future__ import annotations

import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from reclake.storage import shard_pages, shard_writer
from reclake.storage.shard_layout import crc32
from reclake.storage.shard_manifest import Compression, Manifest, write_manifest
from reclake.storage.shard_writer import ShardWriter
from reclake.storage.shards import Chunk, ShardSet

compiled = pytest.mark.skipif(shard_pages.page is None, reason="installed without a compiler")

SAMPLES = {"sample_id": "int64", "item_id": "int64", "seen": "int64", "negative": "bool", "click": "int8"}
SAMPLES |= {"price": "float32", "place": "int32", "mature": "bool"}
HISTORY = {"item_id": "int64", "event_type": "int32", "watch": "float64", "at": "timestamp", "day": "date32"}
HISTORY |= {"flag": "uint8", "mark": "bool"}
NULLABLE = {"price", "place", "mature", "watch", "flag", "mark"}


def rows_of(counts: list[int], seed: int = 1) -> pa.Table:
    """A row for each count: so many events, and one to three samples. A third of the nullable values are null."""
    rng = np.random.default_rng(seed)
    events, samples = np.array(counts), rng.integers(1, 4, len(counts))

    def lists(columns: dict[str, str], lengths: np.ndarray) -> pa.StructArray:
        offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]))
        arrays, fields = [], []
        for name, kind in columns.items():
            type_ = pa.timestamp("us", "UTC") if kind == "timestamp" else pa.type_for_alias(kind)
            low, high = (0, 2) if kind in ("bool", "int8") else (0, 200)
            numbers = rng.integers(low, high, int(lengths.sum()))
            if kind in ("int64", "timestamp"):
                numbers = numbers * 10**13
            missing = rng.random(len(numbers)) < 1 / 3 if name in NULLABLE else None
            plain = numbers.astype({"bool": bool, "date32": np.int32}.get(kind, np.int64))
            values = pa.array(plain, mask=missing).cast(type_)
            type_ = pa.large_list(pa.field("element", values.type, nullable=name in NULLABLE))
            arrays.append(pa.LargeListArray.from_arrays(offsets, values, type=type_))
            fields.append(pa.field(name, type_, nullable=False))
        return pa.StructArray.from_arrays(arrays, fields=fields)

    seen = np.repeat(events, samples)
    asked = lists(SAMPLES, samples)
    place = asked.type.get_field_index("seen")
    asked_arrays = [asked.field(at) for at in range(asked.type.num_fields)]
    asked_arrays[place] = pa.LargeListArray.from_arrays(
        asked_arrays[place].offsets, pa.array(seen), type=asked.type.field(place).type
    )
    columns = {
        "user_id": pa.array(np.arange(len(counts))),
        "first_ordinal": pa.array(np.zeros(len(counts), dtype=np.int64)),
        "history": lists(HISTORY, events),
        "samples": pa.StructArray.from_arrays(asked_arrays, fields=list(asked.type)),
    }
    return pa.table(columns, schema=pa.schema([pa.field(n, c.type, nullable=False) for n, c in columns.items()]))


def write(folder: Path, rows: pa.Table, compression: Compression = "lz4", **limits: int) -> ShardSet:
    folder.mkdir()
    writer = ShardWriter(folder, compression=compression, **limits)
    writer.add(rows)
    samples, history, digest = writer.close()
    manifest = Manifest(
        recipe={"name": "r", "version": 1, "fingerprint": "00"},
        pin={"name": "p", "tables": {}},
        history_length=1000,
        window_us=0,
        labels=(),
        features=(),
        samples=samples,
        history=history,
        vocabularies={},
        content={},
        samples_blake2b=digest,
        users=writer.users,
        shards=tuple(writer.shards),
        compression=compression,
    )
    write_manifest(folder, manifest)
    return ShardSet(folder)


def read(shards: ShardSet, chunk: int, **more: Any) -> Chunk:
    return shards.read_chunk(chunk, samples=list(SAMPLES), history=list(HISTORY), **more)


def by_arrow(shards: ShardSet, chunk: int, monkeypatch: pytest.MonkeyPatch) -> Chunk:
    with monkeypatch.context() as patch:
        patch.setattr(shard_pages.Pages, "rows", lambda *_: None)
        return read(shards, chunk)


def same(one: Chunk, other: Chunk) -> None:
    for name in ("user_id", "first_ordinal", "sample_offsets", "history_offsets"):
        assert getattr(one, name).tobytes() == getattr(other, name).tobytes()
    for mine, theirs in ((one.samples, other.samples), (one.history, other.history)):
        assert mine.keys() == theirs.keys()
        for name, values in mine.items():
            assert values.array.dtype == theirs[name].array.dtype
            assert values.array.tobytes() == theirs[name].array.tobytes(), name
            flags, others = values.valid, theirs[name].valid
            assert (flags is None) == (others is None)
            assert flags is None or flags.tobytes() == others.tobytes()  # type: ignore[union-attr]


COUNTS = {
    "no event at all": [0, 0, 0],
    "rows without events among others": [0, 1, 0, 0, 7, 300, 0, 16, 17, 0],
    "short lists": [1, 2, 3] * 40,
    "pages that end within a list": [150_000, 3, 90_000],
}


@compiled
@pytest.mark.parametrize("compression", ["lz4", "zstd"])
@pytest.mark.parametrize("counts", COUNTS.values(), ids=COUNTS)
def test_pages_are_read_as_arrow_reads_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, counts: list[int], compression: Compression
) -> None:
    shards = write(tmp_path / "set", rows_of(counts), compression, chunk_samples=50)
    for chunk in range(len(shards.chunk_samples)):
        expected = by_arrow(shards, chunk, monkeypatch)
        with monkeypatch.context() as patch:
            patch.setattr("reclake.storage.shards.rows_of", None)  # Arrow is not asked
            same(read(shards, chunk), expected)
    assert all(column.nulls > 0 for column in shards.manifest.samples if column.name in NULLABLE)


@compiled
def test_histories_are_written_where_they_are_wanted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shards = write(tmp_path / "set", rows_of([5, 0, 80]))
    for expected in (read(shards, 0), by_arrow(shards, 0, monkeypatch)):
        into = {name: np.empty_like(values.array) for name, values in expected.history.items()}
        found = read(shards, 0, into=into)
        same(found, expected)
        assert all(found.history[name].array is out for name, out in into.items())


def test_sets_of_other_encodings_are_read_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = read(write(tmp_path / "set", rows_of([5, 0, 80])), 0)
    monkeypatch.setattr(shard_writer, "_encodings", lambda _: {"user_id": "DELTA_BINARY_PACKED"})
    same(read(write(tmp_path / "other", rows_of([5, 0, 80])), 0), expected)


@compiled
def test_no_bytes_make_the_loop_leave_what_it_was_given(tmp_path: Path) -> None:
    from reclake.storage._pages import join_bytes, list_levels, page

    shards = write(tmp_path / "set", rows_of([5, 0, 80, 3]))
    [shard] = (tmp_path / "set").glob("shard-*")
    assert shards.manifest.shards[0].file == shard.name
    whole, rng = bytearray(shard.read_bytes()), np.random.default_rng(3)
    starts, valid, out = np.empty(4, dtype=np.int64), np.empty(88, dtype=np.bool_), np.empty(88, dtype=np.int64)

    def tried(loop: Any, *given: Any) -> None:
        with suppress(ValueError):
            loop(*given)

    for _ in range(3000):
        begin = int(rng.integers(len(whole)))
        some = pa.py_buffer(bytes(whole[begin : begin + int(rng.integers(400))]))
        at, count, full = int(rng.integers(-2, 402)), int(rng.integers(-2, 200)), int(rng.integers(4))
        tried(page, some, at)
        tried(list_levels, some, count, full, starts, 0, 0, valid)
        tried(join_bytes, some, at, count, 8, out, 0)


@pytest.mark.parametrize("size", [0, 1, 15, 63, 64, 65, 80, 127, 128, 4097, 100_003])
def test_checksums_are_those_of_zlib(size: int) -> None:
    data = np.random.default_rng(size).integers(0, 256, size, dtype=np.uint8).tobytes()
    assert crc32(pa.py_buffer(data)) == zlib.crc32(data)
    assert crc32(pa.py_buffer(b"x" + data).slice(1)) == zlib.crc32(data)
