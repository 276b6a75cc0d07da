"""Remote shards: what is cached, how much of it, and what two processes at one cache do."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reclake.pipelines.feed import Cache, Feed
from reclake.schemas.errors import FeedError, ShardError
from reclake.storage import shard_files
from reclake.storage.shards import ShardSet

READER = """
import sys, hashlib
import reclake
cache = reclake.Cache(sys.argv[2], int(sys.argv[3]))
feed = reclake.Feed(sys.argv[1], batch_size=50, seed=7, pool_samples=200, cache=cache)
found = hashlib.blake2b()
for _ in range(3):
    for batch in feed:
        found.update(batch["sample_id"].tobytes() + batch.history["item_id"].values.tobytes())
print(found.hexdigest())
"""


def read(path: str | Path, cache: Cache | None = None, **given: Any) -> list[list[int]]:
    feed = Feed(path, **({"batch_size": 50, "seed": 7, "pool_samples": 200, "cache": cache} | given))
    return [[*b["sample_id"].tolist(), *b.history["item_id"].values.tolist()] for b in feed]


def cached(folder: Path) -> int:
    """Bytes on disk of the cached shards."""
    return sum(path.stat().st_blocks * 512 for path in folder.glob("*.parquet"))


@pytest.mark.parametrize("workers", [0, 2])
def test_remote_shards_give_the_batches_that_local_ones_give(shards: Path, tmp_path: Path, workers: int) -> None:
    cache = Cache(tmp_path / "cache", 1 << 30)
    assert read(shards.as_uri(), cache, workers=workers) == read(shards)


def test_what_is_cached_is_not_fetched_again(shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = Cache(tmp_path / "cache", 1 << 30)
    first = read(shards.as_uri(), cache)

    def refused(*_: object) -> None:
        raise AssertionError("fetched again")

    monkeypatch.setattr(shard_files.CachedFiles, "_evict", refused)  # it follows every fetch
    assert read(shards.as_uri(), cache) == first


def test_only_the_chunks_that_are_read_are_fetched(shards: Path, tmp_path: Path) -> None:
    remote = ShardSet(shards.as_uri(), Cache(tmp_path / "cache", 1 << 30))
    shard = remote.manifest.shards[0]
    remote.read_chunk(0, samples=["sample_id"], history=[])
    own = tmp_path / "cache" / f"{shard.blake2b}.parquet"
    assert own.stat().st_size == shard.bytes
    assert own.stat().st_blocks * 512 < shard.bytes + 8192
    assert len(list((tmp_path / "cache").glob("*.parquet"))) == 1


def test_the_cache_keeps_within_its_bound(shards: Path, tmp_path: Path) -> None:
    whole = sum(path.stat().st_size for path in shards.glob("shard-*"))
    assert whole > 60_000
    for bound in (50_000, 0):
        cache = Cache(tmp_path / f"cache-{bound}", bound)
        assert read(shards.as_uri(), cache, workers=1) == read(shards)
        assert cached(tmp_path / f"cache-{bound}") <= bound


def test_a_damaged_cache_is_mended(shards: Path, tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache", 1 << 30)
    expected = read(shards.as_uri(), cache)
    for path in (tmp_path / "cache").glob("*.parquet"):
        data = bytearray(path.read_bytes())
        for at in random.Random(5).choices(range(len(data)), k=40):
            data[at] ^= 8
        path.write_bytes(data)
    assert read(shards.as_uri(), cache) == expected


def test_damage_at_the_remote_end_names_the_file_there(shards: Path, tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.mkdir()
    for path in shards.iterdir():
        (there / path.name).write_bytes(path.read_bytes())
    victim = there / "shard-00001.parquet"
    data = bytearray(victim.read_bytes())
    data[200] ^= 1
    victim.write_bytes(data)
    with pytest.raises(ShardError, match=r"damaged[\s\S]*there/shard-00001.parquet, row group 0, column history"):
        read(there.as_uri(), Cache(tmp_path / "cache", 1 << 30))
    victim.unlink()
    with pytest.raises(ShardError, match=r"missing[\s\S]*shard-00001"):
        read(there.as_uri(), Cache(tmp_path / "cache", 1 << 30))
    with pytest.raises(ShardError, match="no shard set here"):
        read((tmp_path / "nowhere").as_uri(), Cache(tmp_path / "cache", 1 << 30))


def test_a_remote_set_needs_a_cache(shards: Path) -> None:
    with pytest.raises(FeedError, match="cache=reclake"):
        read(shards.as_uri())


def test_a_cache_that_cannot_be_is_refused_at_once(shards: Path, tmp_path: Path) -> None:
    for size in ("50GB", -1):
        with pytest.raises(FeedError, match="not a size for a cache"):
            Cache(tmp_path, size)  # type: ignore[arg-type]
    (tmp_path / "file").touch()
    with pytest.raises(FeedError, match=r"the cache cannot be written[\s\S]*file/cache"):
        read(shards.as_uri(), Cache(tmp_path / "file" / "cache", 1 << 30))


@pytest.mark.slow
def test_processes_share_a_cache_that_is_far_too_small(shards: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", READER, shards.as_uri(), str(tmp_path / "cache"), "30000"]
    children = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    answers = {child.communicate()[0] for child in children}
    assert [child.returncode for child in children] == [0] * 4
    assert len(answers) == 1
    assert cached(tmp_path / "cache") <= 30_000


@pytest.fixture
def bucket() -> Iterator[str]:
    """The address of a bucket of an S3 server in this process."""
    server = pytest.importorskip("moto.server").ThreadedMotoServer(port=0)
    fs = pytest.importorskip("pyarrow.fs")
    os.environ |= {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x"}
    server.start()
    host, port = server.get_host_and_port()
    try:
        store = fs.S3FileSystem(
            endpoint_override=f"{host}:{port}", scheme="http", region="us-east-1", allow_bucket_creation=True
        )
        store.create_dir("sets")
        yield f"endpoint_override={host}:{port}&scheme=http&region=us-east-1"
    finally:
        server.stop()


@pytest.mark.slow
def test_shards_in_s3_give_the_batches_that_local_ones_give(shards: Path, bucket: str, tmp_path: Path) -> None:
    import pyarrow.fs as fs

    store, _ = fs.FileSystem.from_uri(f"s3://sets?{bucket}")
    fs.copy_files(str(shards), "sets/ctr", destination_filesystem=store)
    expected = read(shards)
    for bound in (1 << 30, 30_000):
        assert read(f"s3://sets/ctr?{bucket}", Cache(tmp_path / str(bound), bound), workers=2) == expected
