from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from reclake.schemas.errors import ShardError
from reclake.storage.shard_manifest import Manifest, write_manifest
from reclake.storage.shard_writer import ShardWriter
from reclake.storage.shards import ShardSet


def rows_of(first: int, count: int) -> pa.Table:
    """`count` rows; row u has 1 + u % 3 samples and u % 5 events; every third event lacks its value."""
    users = np.arange(first, first + count)
    samples, events = 1 + users % 3, users % 5
    offsets = [pa.array(np.concatenate([[0], np.cumsum(n)])) for n in (samples, events)]
    ids = np.arange(samples.sum()) + first * 10
    values = [None if i % 3 == 0 else int(i) for i in range(int(events.sum()))]

    def lists(array: pa.Array, of: pa.Array) -> pa.Array:
        return pa.LargeListArray.from_arrays(of, array)

    return pa.table(
        {
            "user_id": users,
            "first_ordinal": np.zeros(count, dtype=np.int64),
            "history": pa.StructArray.from_arrays(
                [
                    lists(pa.array(values, pa.int64()), offsets[1]),
                    lists(pa.array(range(len(values)), pa.timestamp("us", "UTC")), offsets[1]),
                ],
                names=["watch_ms", "event_time"],
            ),
            "samples": pa.StructArray.from_arrays(
                [
                    lists(pa.array(ids), offsets[0]),
                    lists(pa.array(ids % 7), offsets[0]),
                    lists(pa.array(np.repeat(events, samples)), offsets[0]),
                    lists(pa.array(ids % 2 == 0), offsets[0]),
                ],
                names=["sample_id", "item_id", "seen", "negative"],
            ),
        }
    )


def write(folder: Path, parts: list[pa.Table], **limits: int) -> ShardSet:
    folder.mkdir()
    writer = ShardWriter(folder, **limits)
    for part in parts:
        writer.add(part)
    samples, history, digest = writer.close()
    manifest = Manifest(
        recipe={"name": "r", "version": 1, "fingerprint": "00"},
        pin={"name": "p", "tables": {"timelines": 3}},
        history_length=5,
        window_us=0,
        labels=(),
        features=(),
        samples=samples,
        history=history,
        vocabularies={"place": ("home", "search")},
        content={},
        samples_blake2b=digest,
        users=writer.users,
        shards=tuple(writer.shards),
    )
    write_manifest(folder, manifest)
    return ShardSet(folder)


def folder_of(shards: ShardSet) -> Path:
    return Path(shards.where)


@pytest.fixture
def shard_set(tmp_path: Path) -> ShardSet:
    return write(tmp_path / "set", [rows_of(0, 100)], chunk_samples=20, shard_bytes=4000)


def test_what_is_written_is_read(shard_set: ShardSet) -> None:
    rows = rows_of(0, 100)
    chunks = [
        shard_set.read_chunk(i, samples=["sample_id", "negative"], history=["watch_ms", "event_time"])
        for i in range(len(shard_set.chunk_samples))
    ]
    assert len(chunks) > 5
    assert len(shard_set.manifest.shards) > 1
    assert np.concatenate([c.user_id for c in chunks]).tolist() == list(range(100))
    ids = rows["samples"].combine_chunks().field("sample_id").flatten().to_pylist()
    assert np.concatenate([c.samples["sample_id"].array for c in chunks]).tolist() == ids
    watch = rows["history"].combine_chunks().field("watch_ms").flatten().to_pylist()
    read = [c.history["watch_ms"] for c in chunks]
    valid = np.concatenate([v.valid for v in read if v.valid is not None])
    assert valid.tolist() == [w is not None for w in watch]
    assert np.concatenate([v.array for v in read]).tolist() == [w or 0 for w in watch]
    assert chunks[0].history["event_time"].array.dtype == np.int64
    assert chunks[0].history["event_time"].valid is None
    assert chunks[0].samples["negative"].array.dtype == np.bool_


def test_chunks_are_bounded_in_samples_and_in_events(tmp_path: Path) -> None:
    by_samples = write(tmp_path / "a", [rows_of(0, 100)], chunk_samples=20)
    assert by_samples.chunk_samples.max() <= 20
    by_events = write(tmp_path / "b", [rows_of(0, 100)], chunk_events=9)
    assert by_events.chunk_events.max() <= 9
    one_row_each = write(tmp_path / "c", [rows_of(0, 10)], chunk_samples=1)
    assert one_row_each.chunk_samples.tolist() == (1 + np.arange(10) % 3).tolist()


def test_bytes_do_not_depend_on_how_rows_were_given(tmp_path: Path) -> None:
    rows = rows_of(0, 100)
    whole = write(tmp_path / "a", [rows], chunk_samples=20, shard_bytes=4000)
    parts = [rows.slice(0, 1), rows.slice(1, 52), rows.slice(53)]
    cut = write(tmp_path / "b", parts, chunk_samples=20, shard_bytes=4000)
    assert whole.manifest == cut.manifest
    for file in sorted(p.name for p in (tmp_path / "a").iterdir()):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    assert whole.manifest.users == 100


def test_the_fingerprint_names_the_samples_whatever_the_encoding(tmp_path: Path) -> None:
    a = write(tmp_path / "a", [rows_of(0, 50)], chunk_samples=20)
    b = write(tmp_path / "b", [rows_of(1, 50)], chunk_samples=20)
    c = write(tmp_path / "c", [rows_of(0, 50)], chunk_samples=10)
    assert len({s.manifest.fingerprint for s in (a, b, c)}) == 3
    assert a.manifest.fingerprint == "bccbe4f57308d58c6e4d27f5ff33a256"


def test_shards_are_plain_parquet(shard_set: ShardSet) -> None:
    tables = [pq.read_table(folder_of(shard_set) / s.file) for s in shard_set.manifest.shards]
    assert pa.concat_tables(tables).equals(rows_of(0, 100))


def test_only_the_named_columns_are_read(shard_set: ShardSet) -> None:
    chunk = shard_set.read_chunk(0, samples=["sample_id"], history=["event_time"])
    assert list(chunk.samples) == ["sample_id"]
    assert list(chunk.history) == ["event_time"]
    assert shard_set.read_chunk(0, samples=["sample_id"], history=[]).history_offsets.max() == 0


def test_no_samples_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(ShardError, match="no samples"):
        ShardWriter(tmp_path).close()


def test_a_folder_without_a_manifest_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ShardError, match="reclake pack"):
        ShardSet(tmp_path)
    with pytest.raises(ShardError, match="no such folder"):
        ShardSet(tmp_path / "nowhere")


def test_a_truncated_or_missing_shard_is_found_when_the_set_is_opened(shard_set: ShardSet) -> None:
    file = folder_of(shard_set) / shard_set.manifest.shards[1].file
    data = file.read_bytes()
    file.write_bytes(data[:-1])
    with pytest.raises(ShardError, match=rf"{file.name}[\s\S]*expected: {len(data)} bytes[\s\S]*got: {len(data) - 1} "):
        ShardSet(folder_of(shard_set))
    file.unlink()
    with pytest.raises(ShardError, match=file.name):
        ShardSet(folder_of(shard_set))


def test_a_shard_swapped_after_opening_is_found_when_it_is_read(tmp_path: Path, shard_set: ShardSet) -> None:
    other = write(tmp_path / "other", [rows_of(7, 100)], chunk_samples=13)
    name = shard_set.manifest.shards[0].file
    (folder_of(shard_set) / name).write_bytes((folder_of(other) / name).read_bytes())
    with pytest.raises(ShardError, match=name):
        shard_set.read_chunk(0, samples=["sample_id"], history=[])


def test_no_flipped_bit_gives_a_wrong_chunk(shard_set: ShardSet) -> None:
    """Pages and footer: an error that names the file, or the same values as before."""
    file = folder_of(shard_set) / shard_set.manifest.shards[0].file
    data = file.read_bytes()

    def read() -> list[list[int]]:
        fresh = ShardSet(folder_of(shard_set))
        chunk = fresh.read_chunk(0, samples=["sample_id", "seen"], history=["watch_ms", "event_time"])
        return [v.array.tolist() for v in (*chunk.samples.values(), *chunk.history.values())]

    good, refused = read(), list[str]()
    for at in range(4, len(data), 13):
        file.write_bytes(data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :])
        try:
            assert read() == good
        except ShardError as error:
            refused.append(str(error.where))
    assert len(refused) > 50
    assert all(file.name in where for where in refused)
    with pytest.raises(ShardError, match=file.name):
        ShardSet(folder_of(shard_set)).verify()


def test_a_changed_manifest_is_an_error(shard_set: ShardSet) -> None:
    path = folder_of(shard_set) / "manifest.json"
    document = json.loads(path.read_text())
    path.write_text(json.dumps(document | {"history_length": 6}))
    with pytest.raises(ShardError, match="changed"):
        ShardSet(folder_of(shard_set))
    path.write_text(json.dumps(document | {"format_version": 3}))
    with pytest.raises(ShardError, match="format_version 2"):
        ShardSet(folder_of(shard_set))
    path.write_text("{")
    with pytest.raises(ShardError, match="cannot be read"):
        ShardSet(folder_of(shard_set))


def test_an_untouched_set_verifies(shard_set: ShardSet) -> None:
    files = [path for path in folder_of(shard_set).iterdir() if path.name != "manifest.json"]
    assert shard_set.verify() == sum(path.stat().st_size for path in files)
    assert {path.name for path in files} > {"items.parquet"}
