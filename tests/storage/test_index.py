"""Indexes: they follow a table's log, and a table that lost rows, or an index that was deleted, is read afresh."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from reclake.quality import gate
from reclake.storage import index as module
from reclake.storage import log
from reclake.storage.compaction import compact
from reclake.storage.index import Follower, Index, Int64s, Pairs, keep_all, keep_greatest
from reclake.storage.table import Layout, Table

SCHEMA = pa.schema([pa.field("key", pa.int64(), nullable=False), pa.field("value", pa.int64(), nullable=False)])


class Followed:
    """A table of pairs, an index of it, and how many files the index has read."""

    def __init__(self, folder: Path, fold: module.Callable[[Int64s, Int64s], Pairs] = keep_all) -> None:
        self.table = Table(folder / "pairs", "pairs", Layout())
        self.files_read = 0
        self.index = Index(folder / "cache", self.table, self.read, fold)

    def read(self, files: Sequence[Path]) -> Pairs:
        self.files_read += len(files)
        rows = pl.read_parquet(files)
        return rows["key"].to_numpy(), rows["value"].to_numpy()

    def append(self, *pairs: tuple[int, int]) -> None:
        keys, values = zip(*pairs, strict=True)
        self.table.append(gate.record(pa.table([keys, values], schema=SCHEMA), SCHEMA, name="pairs"))

    def find(self, *keys: int) -> list[tuple[int, int]]:
        places, values = self.index.find(np.array(keys, dtype=np.int64))
        return sorted((keys[place], value) for place, value in zip(places.tolist(), values.tolist(), strict=True))


def test_every_pair_of_a_key_is_found_in_the_order_of_no_commit(tmp_path: Path) -> None:
    pairs = Followed(tmp_path)
    pairs.append((5, 1), (-3, 2), (5, 0))
    pairs.append((5, 9), (7, 7))
    assert pairs.find(5, 6, -3) == [(-3, 2), (5, 0), (5, 1), (5, 9)]
    assert pairs.find() == []


def test_a_look_reads_only_what_was_committed_since_the_last_look(tmp_path: Path) -> None:
    pairs = Followed(tmp_path)
    for number in range(40):
        pairs.append((number, number))
        assert pairs.find(number, number + 1) == [(number, number)]
    assert pairs.files_read == 40
    assert len(list((tmp_path / "cache").rglob("*.npy"))) <= 7
    assert pairs.find(*range(40)) == [(n, n) for n in range(40)]


def test_of_each_key_the_greatest_value_can_be_all_that_is_kept(tmp_path: Path) -> None:
    pairs = Followed(tmp_path, keep_greatest)
    for number in range(5):
        pairs.append((1, number), (2, -number))
    assert max(pairs.find(1)) == (1, 4)
    assert max(pairs.find(2)) == (2, 0)


def test_an_index_that_was_deleted_is_built_again(tmp_path: Path) -> None:
    pairs = Followed(tmp_path)
    pairs.append((1, 1))
    pairs.append((2, 2))
    assert pairs.find(1, 2) == [(1, 1), (2, 2)]
    shutil.rmtree(tmp_path / "cache")
    assert pairs.find(1, 2) == [(1, 1), (2, 2)]


def test_rows_that_were_deleted_are_not_found_any_more(tmp_path: Path) -> None:
    pairs = Followed(tmp_path)
    pairs.append((1, 1), (2, 2))
    assert pairs.find(1, 2) == [(1, 1), (2, 2)]
    pairs.table.delete("key = 1")
    assert pairs.find(1, 2) == [(2, 2)]


def test_compaction_is_no_reason_to_read_anything_again(tmp_path: Path) -> None:
    pairs = Followed(tmp_path)
    pairs.append((1, 1))
    pairs.append((2, 2))
    pairs.find(1)
    compact(pairs.table)
    assert pairs.find(1, 2) == [(1, 1), (2, 2)]
    assert pairs.files_read == 2


def test_files_that_were_compacted_and_vacuumed_before_they_were_read_are_not_looked_for(tmp_path: Path) -> None:
    pairs = Followed(tmp_path)
    pairs.append((1, 1))
    pairs.find(1)
    pairs.append((2, 2))
    pairs.append((3, 3))
    compact(pairs.table)
    pairs.table.vacuum(retention_hours=0, keep=[], dry_run=False)
    assert pairs.find(1, 2, 3) == [(n, n) for n in (1, 2, 3)]
    shutil.rmtree(tmp_path / "cache")
    assert pairs.find(1, 2, 3) == [(n, n) for n in (1, 2, 3)]


def test_a_table_made_anew_at_the_same_place_has_an_index_of_its_own(tmp_path: Path) -> None:
    pairs = Followed(tmp_path)
    pairs.append((1, 1))
    assert pairs.find(1) == [(1, 1)]
    shutil.rmtree(pairs.table.root)
    pairs.append((2, 2))
    assert pairs.find(1, 2) == [(2, 2)]


def test_a_log_that_has_forgotten_commits_is_no_hindrance(tmp_path: Path) -> None:
    pairs = Followed(tmp_path)
    pairs.append((1, 1))
    pairs.append((2, 2))
    pairs.find(1)
    pairs.append((3, 3))
    pairs.append((4, 4))
    from deltalake import DeltaTable

    DeltaTable(pairs.table.uri).create_checkpoint()
    for version in range(3):
        (pairs.table.root / "_delta_log" / f"{version:020d}.json").unlink()
    shutil.rmtree(tmp_path / "cache")
    assert pairs.find(1, 2, 3, 4) == [(n, n) for n in range(1, 5)]


def test_an_index_too_large_for_one_run_is_several(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RUN_ROWS", 3)
    pairs = Followed(tmp_path)
    for number in range(5):
        pairs.append((number, 0), (number + 10, 0))
    assert pairs.find(*range(20)) == [(n, 0) for n in (*range(5), *range(10, 15))]
    pairs.append((5, 0), (15, 0))
    assert pairs.find(*range(20)) == [(n, 0) for n in (*range(6), *range(10, 16))]
    assert pairs.files_read == 6


def test_runs_whose_writer_was_killed_half_way_are_not_used(tmp_path: Path) -> None:
    pairs = Followed(tmp_path)
    pairs.append((1, 1))
    pairs.find(1)
    pairs.append((2, 2))
    run = next((tmp_path / "cache").rglob("*.npy"))
    (run.parent / "tmpkilled").write_bytes(b"half")
    (run.parent / f"{0:020d}-{2:020d}-0000-0002.npy").write_bytes(run.read_bytes())  # the first of two parts
    assert pairs.find(1, 2) == [(1, 1), (2, 2)]


class Beside(Followed):
    """The same, looked at by a follower that is told what it adds itself."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.append((0, 0))
        self.follower = Follower(self.index)

    def add(self, *pairs: tuple[int, int]) -> None:
        """Append what the follower is told of."""
        self.append(*pairs)
        keys, values = zip(*pairs, strict=True)
        self.follower.add(log.version(self.table.root), (np.array(keys), np.array(values)))

    def find(self, *keys: int) -> list[tuple[int, int]]:
        found = self.follower.find(np.array(keys, dtype=np.int64), log.version(self.table.root))
        told = sorted((keys[place], value) for place, value in zip(*(part.tolist() for part in found), strict=True))
        files_read = self.files_read
        assert told == super().find(*keys)
        self.files_read = files_read
        return told


@pytest.mark.parametrize("recent", [3, 1_000])
def test_a_follower_finds_what_it_adds_and_what_others_do_and_loses_what_is_deleted(
    recent: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RECENT_ROWS", recent)
    pairs = Beside(tmp_path)
    everything = range(40)
    assert pairs.find(*everything) == [(0, 0)]
    for number in range(1, 10):
        pairs.add((number, number), (2 * number, -1))
        assert (number, number) in pairs.find(*everything)
    pairs.append((30, 1))
    pairs.append((30, 2))
    compact(pairs.table)
    assert pairs.find(30, 31) == [(30, 1), (30, 2)]
    pairs.append((31, 1))
    pairs.add((31, 2))  # without a look at what came between
    assert pairs.find(30, 31) == [(30, 1), (30, 2), (31, 1), (31, 2)]
    pairs.table.delete("key < 31")
    assert pairs.find(*everything) == [(31, 1), (31, 2)]
    pairs.add((32, 0))
    assert pairs.find(*everything) == [(31, 1), (31, 2), (32, 0)]


def test_a_follower_reads_no_file_that_it_wrote_and_leaves_others_none_to_read(tmp_path: Path) -> None:
    pairs = Beside(tmp_path)
    look = np.arange(100)
    pairs.follower.find(look, 0)
    assert pairs.files_read == 1
    for number in range(50):
        pairs.add((number, 0))
        assert len(pairs.follower.find(look, log.version(pairs.table.root))[0]) == number + 2
    pairs.follower.keep()
    assert len(pairs.index.find(look)[0]) == 51
    assert pairs.files_read == 1
