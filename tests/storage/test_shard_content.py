"""Content vectors: mapped, and checked block by block."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from reclake.schemas.errors import ShardError
from reclake.storage import shard_content
from reclake.storage.shard_content import Content


def test_a_block_of_content_is_looked_at_once_and_only_when_it_is_gathered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shard_content, "BLOCK_BYTES", 256)
    array, index, sums = tmp_path / "a.npy", tmp_path / "index.parquet", tmp_path / "a.crc32.npy"
    vectors = np.arange(1000 * 120, dtype=np.float32).reshape(1000, 120)  # a row of 480 bytes reaches into three blocks
    np.save(array, vectors)
    np.save(sums, shard_content.block_sums(array))
    pq.write_table(pa.table({"a": [True] * 1000}), index)
    content = Content.open(array, index, sums, "a", (1000, 120), "")
    assert content.right.sum() == 1
    assert np.array_equal(content.gather(np.array([0, 999])), vectors[[0, 999]])
    assert 3 <= content.right.sum() <= 6
    assert np.array_equal(content.gather(np.arange(1000)), vectors)
    assert content.right.all()
    assert pickle.loads(pickle.dumps(content)) is pickle.loads(pickle.dumps(content)), "a loader's batches share it"


def test_damage_where_nothing_is_gathered_stops_nobody(tmp_path: Path) -> None:
    array, index, sums = tmp_path / "a.npy", tmp_path / "index.parquet", tmp_path / "a.crc32.npy"
    vectors = np.ones((1 << 14, 8), dtype=np.float32)
    np.save(array, vectors)
    np.save(sums, shard_content.block_sums(array))
    pq.write_table(pa.table({"a": [True] * (1 << 14)}), index)
    with array.open("r+b") as file:
        file.seek(300_000)
        file.write(b"?")
    content = Content.open(array, index, sums, "a", (1 << 14, 8), "")
    assert content.gather(np.array([0, 1])).tolist() == [[1.0] * 8] * 2
    with pytest.raises(ShardError, match=r"a\.npy, from byte 262144 on"):
        content.gather(np.arange(1 << 14))
