from __future__ import annotations

import gc
import json
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from reclake.pipelines.feed import Batch, Feed, Jagged, Negatives, windows
from reclake.pipelines.feed import feed as feeds
from reclake.pipelines.feed.windows import Buffers
from reclake.schemas.errors import FeedError, FeedStateError, ShardError
from reclake.storage.shards import ShardSet

POOL = 200  # several pools an epoch, so that batches cross from one to the next


def feed_of(shards: Path, **given: Any) -> Feed:
    return Feed(shards, **({"batch_size": 50, "seed": 7, "pool_samples": POOL} | given))


def contents(batch: Batch) -> dict[str, list[Any]]:
    """All of a batch as lists."""
    read = {name: batch[name].tolist() for name in batch.keys()}  # noqa: SIM118 -- a batch is no mapping
    for name, jagged in batch.history.items():
        read[f"history.{name}"] = jagged.values.tolist()
        read[f"history.{name} offsets"] = jagged.offsets.tolist()
        read[f"history.{name} valid"] = [] if jagged.valid is None else jagged.valid.tolist()
    return read


def ids(batches: Iterator[Batch] | Feed) -> list[int]:
    return [int(i) for batch in batches for i in batch["sample_id"]]


@pytest.mark.parametrize("history", [None, 5, 0])
@pytest.mark.parametrize("order", ["shuffled", "stored"])
def test_every_sample_comes_once_with_the_window_the_law_says(
    world: Any, shards: Path, history: int | None, order: str
) -> None:
    given = {row["sample_id"]: row for row in world.samples.iter_rows(named=True)}
    feed = feed_of(shards, history=history, order=order)
    words = feed.vocabularies["event_type"]
    found = 0
    for batch in feed:
        valid, surface, watch = batch.valid("surface"), batch["surface"], batch.history["watch_ms"]
        for i, sample in enumerate(batch["sample_id"]):
            row = given.pop(int(sample))
            for name in ("user_id", "item_id", "seen", "negative", "click", "label_mature"):
                assert batch[name][i] == row[name]
            assert (int(surface[i]) if valid[i] else None) == row["surface"]
            begin, end = watch.offsets[i : i + 2]
            length = 32 if history is None else history
            window = world.window(row["user_id"], row["seen"], length, "watch_ms") if length else []
            got = np.where(watch.valid[begin:end], watch.values[begin:end], None)
            assert got.tolist() == window
            types = batch.history["event_type"].values[begin:end]
            expected = world.window(row["user_id"], row["seen"], length, "event_type") if length else []
            assert [words[code] if code >= 0 else None for code in types] == expected
            found += 1
    assert given == {}
    assert found == feed.samples


def test_an_order_never_changes(world: Any, set_writer: Callable[..., Path], tmp_path: Path) -> None:
    """A world by arithmetic (NumPy's random streams may change): user u has u events, a sample after every second."""
    user = np.repeat(np.arange(1, 41), np.arange(1, 41))
    ordinal = np.concatenate([np.arange(u) for u in range(1, 41)])
    timeline = pl.DataFrame({"user_id": user, "ordinal": ordinal, "known_at": 1000 * ordinal}).with_columns(
        pl.col("known_at").cast(pl.Datetime("us", "UTC")),
        item_id="ordinal",
        event_type=pl.lit("click"),
        event_time=pl.col("known_at").cast(pl.Datetime("us", "UTC")),
        watch_ms="ordinal",
    )
    samples = timeline.filter(pl.col("ordinal") % 2 == 0).select(
        pl.int_range(pl.len()).alias("sample_id"),
        "user_id",
        "item_id",
        (pl.col("ordinal") + 1).alias("seen"),
        (pl.col("known_at") + pl.duration(microseconds=1)).alias("request_time"),
        pl.lit(False).alias("negative"),
        pl.lit(1, dtype=pl.Int8).alias("click"),
        pl.lit(True).alias("label_mature"),
        pl.lit(1, dtype=pl.Int32).alias("surface"),
        pl.lit("home").alias("place"),
    )
    shards = set_writer(type(world)(samples, timeline), tmp_path / "set", length=8)
    assert feed_of(shards).manifest.fingerprint == "125a9acba27dd469f8dfe04661e1db97"
    assert ids(islice(feed_of(shards), 1))[:8] == [186, 264, 253, 218, 191, 339, 267, 228]
    assert ids(islice(feed_of(shards, epoch=1), 1))[:8] == [145, 130, 409, 242, 267, 131, 52, 243]
    weight, drawn = "0.5 if user_id % 2 else 1.5", Negatives("popularity", 2)
    weighted = feed_of(shards, where="seen > 4", weight=weight, negatives=drawn)
    batch = next(iter(weighted))
    assert batch["sample_id"][:8].tolist() == [190, 283, 267, 230, 198, 251, 287, 237]
    assert weighted.samples == 340
    assert batch.negatives["item_id"][:4].tolist() == [[24, 18], [14, 6], [20, 0], [6, 10]]
    assert ids(islice(feed_of(shards, order="stored"), 1))[:8] == [0, 1, 2, 3, 4, 5, 6, 7]


def test_the_next_loop_is_the_next_epoch(shards: Path) -> None:
    feed = feed_of(shards)
    first, second = ids(feed), ids(feed)
    assert first != second
    assert sorted(first) == sorted(second)
    assert second == ids(feed_of(shards, epoch=1))
    assert feed.epoch == 2


@pytest.mark.parametrize("world_size", [1, 2, 3, 4, 7, 64])
@pytest.mark.parametrize("remainder", ["split", "drop"])
def test_ranks_in_order_are_the_global_order(shards: Path, world_size: int, remainder: str) -> None:
    batch_size = 9
    whole = ids(feed_of(shards))
    given: dict[str, Any] = {"batch_size": batch_size, "world_size": world_size, "remainder": remainder}
    ranks = [list(feed_of(shards, rank=r, **given)) for r in range(world_size)]
    taken = [int(i) for step in zip(*ranks, strict=True) for batch in step for i in batch["sample_id"]]
    kept = len(whole) // (batch_size * world_size) * batch_size * world_size if remainder == "drop" else len(whole)
    assert taken == whole[:kept]
    assert {len(own) for own in ranks} == {len(feed_of(shards, **given))}
    for step in zip(*ranks, strict=True):
        assert max(len(b) for b in step) - min(len(b) for b in step) <= 1


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_workers_change_nothing(shards: Path, workers: int) -> None:
    alone, helped = feed_of(shards), feed_of(shards, workers=workers)
    for _ in range(2):
        assert [contents(b) for b in helped] == [contents(b) for b in alone]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("stop", [1, 4, 11, 18, 19, 20, 30, 38])
def test_a_feed_resumed_anywhere_goes_on_as_if_uninterrupted(shards: Path, workers: int, stop: int) -> None:
    whole = feed_of(shards)
    expected = [contents(b) for _ in range(3) for b in whole]
    feed = feed_of(shards, workers=workers)
    per_epoch = len(feed)
    got: list[dict[str, list[Any]]] = []
    while len(got) < stop:
        loop = iter(feed)
        got += [contents(b) for b in islice(loop, stop - len(got))]
        del loop
    state = json.loads(json.dumps(feed.state_dict()))
    assert state["position"] == stop % per_epoch * 50
    resumed = feed_of(shards, workers=workers)
    resumed.load_state_dict(state)
    rest = [contents(b) for b in resumed]
    assert got + rest == expected[: stop + len(rest)]
    assert (stop + len(rest)) % per_epoch == 0


def test_a_state_survives_another_world_size_batch_size_and_workers(shards: Path) -> None:
    whole = ids(feed_of(shards))
    ranks = [feed_of(shards, rank=r, world_size=3) for r in range(3)]
    loops = [iter(feed) for feed in ranks]
    for loop in loops:
        next(loop), next(loop)
    states = [feed.state_dict() for feed in ranks]
    assert states[0] == states[1] == states[2]
    two = [feed_of(shards, rank=r, world_size=2, batch_size=40, workers=r) for r in range(2)]
    for feed in two:
        feed.load_state_dict(states[0])
    parts = [list(feed) for feed in two]
    assert [int(i) for step in zip(*parts, strict=True) for b in step for i in b["sample_id"]] == whole[300:]


def test_a_loop_left_early_is_continued_by_the_next(shards: Path) -> None:
    feed = feed_of(shards)
    first = ids(islice(iter(feed), 3))
    assert first + ids(feed) == ids(feed_of(shards))


def test_a_state_counts_what_was_yielded_not_what_was_prefetched(shards: Path) -> None:
    feed = feed_of(shards, workers=4)
    for number, _ in enumerate(feed, 1):
        assert feed.state_dict()["position"] == number * 50 % 900 or number >= 18
        if number == 5:
            break
    assert feed.state_dict()["position"] == 250


def test_a_state_of_another_feed_is_refused_and_says_what_differs(
    shards: Path, world: Any, set_writer: Callable[..., Path], tmp_path: Path
) -> None:
    state = feed_of(shards).state_dict()
    with pytest.raises(FeedStateError, match=r"differs in seed[\s\S]*expected: seed 8[\s\S]*got: seed 7"):
        feed_of(shards, seed=8).load_state_dict(state)
    with pytest.raises(FeedStateError, match="differs in order"):
        feed_of(shards, order="stored").load_state_dict(state)
    with pytest.raises(FeedStateError, match="pool_samples"):
        feed_of(shards, pool_samples=100).load_state_dict(state)
    other = set_writer(world, tmp_path / "other", length=16)
    with pytest.raises(FeedStateError, match="fingerprint"):
        feed_of(other).load_state_dict(state)
    with pytest.raises(FeedStateError, match="no epoch"):
        feed_of(shards).load_state_dict({k: v for k, v in state.items() if k != "epoch"})
    with pytest.raises(FeedStateError, match="position"):
        feed_of(shards).load_state_dict(state | {"position": 10**9})
    with pytest.raises(FeedStateError, match="not a feed's state"):
        feed_of(shards).load_state_dict(None)  # type: ignore[arg-type]


def test_a_state_is_json_whatever_numbers_the_feed_was_made_with(shards: Path) -> None:
    numbers = {name: np.int64(7) for name in ("seed", "batch_size", "pool_samples", "history", "world_size")}
    made = feed_of(shards, **numbers, rank=np.int32(2))
    plain = feed_of(shards, **dict.fromkeys(numbers, 7), rank=2)
    assert contents(next(iter(made))) == contents(next(iter(plain)))
    assert json.loads(json.dumps(made.state_dict())) == plain.state_dict()


def test_a_loop_that_was_overtaken_is_an_error(shards: Path) -> None:
    feed = feed_of(shards)
    loop = iter(feed)
    next(loop)
    next(iter(feed))
    with pytest.raises(FeedError, match="loop is over"):
        next(loop)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"seed": None}, "needs a seed"),
        ({"history": 33}, r"expected: 0\.\.32"),
        ({"history": -1}, "history length"),
        ({"batch_size": 0}, "batch_size"),
        ({"batch_size": 4096.0}, "batch_size is not a whole number"),
        ({"world_size": "2"}, r"world_size is not a whole number[\s\S]*got: '2'[\s\S]*int\("),
        ({"seed": 7.5}, "seed is not a whole number"),
        ({"epoch": -1}, "epoch is too small"),
        ({"where": ""}, "not an expression"),
        ({"negatives": ("uniform", 3)}, "not negatives"),
        ({"rank": 2, "world_size": 2}, "no such rank"),
        ({"fields": ["price"]}, "item_id, event_type, event_time, watch_ms"),
        ({"columns": ["clicks"]}, "click, surface, place"),
        ({"batch_size": 10**6, "remainder": "drop"}, "not one batch"),
    ],
)
def test_an_argument_that_does_not_fit_is_an_error(shards: Path, given: dict[str, Any], message: str) -> None:
    with pytest.raises(FeedError, match=message):
        feed_of(shards, **given)


def test_fields_and_columns_that_are_not_asked_for_are_not_read(shards: Path) -> None:
    batch = next(iter(feed_of(shards, fields=["watch_ms"], columns=["click"])))
    full = next(iter(feed_of(shards)))
    assert list(batch.history) == ["watch_ms"]
    assert np.array_equal(batch.history["watch_ms"].values, full.history["watch_ms"].values)
    assert "click" in batch
    assert "surface" not in batch
    none = next(iter(feed_of(shards, fields=[], columns=[])))
    assert none.history == {}
    assert np.array_equal(none["sample_id"], full["sample_id"])


@pytest.mark.parametrize("workers", [0, 2])
def test_a_batch_that_is_kept_stays_as_it_was(shards: Path, workers: int) -> None:
    feed = feed_of(shards, workers=workers)
    kept = [(batch, contents(batch)) for _ in range(3) for batch in feed]
    gc.collect()
    assert all(contents(batch) == then for batch, then in kept)


def test_a_view_of_a_batch_outlives_it(shards: Path) -> None:
    feed = feed_of(shards)
    views, copies = [], []
    for batch in feed:
        views.append(batch.history["item_id"].values[10:60:2])
        copies.append(views[-1].copy())
    assert all(np.array_equal(view, copy) for view, copy in zip(views, copies, strict=True))


def test_leaving_a_loop_early_leaves_no_threads(shards: Path) -> None:
    before = threading.active_count()
    for _ in feed_of(shards, workers=3, batch_size=5):
        break
    assert threading.active_count() <= before  # others may end meanwhile
    loop = iter(feed_of(shards, workers=3))
    next(loop)
    del loop
    gc.collect()
    assert threading.active_count() <= before  # others may end meanwhile


@pytest.mark.parametrize("workers", [0, 2])
def test_a_damaged_shard_is_an_error_not_a_wrong_batch(
    world: Any, set_writer: Callable[..., Path], tmp_path: Path, workers: int
) -> None:
    folder = set_writer(world, tmp_path / "set", length=32)
    file = folder / "shard-00001.parquet"
    data = bytearray(file.read_bytes())
    data[200] ^= 1
    file.write_bytes(data)
    before = threading.active_count()
    with pytest.raises(ShardError, match="shard-00001"):
        list(feed_of(folder, workers=workers))
    assert threading.active_count() <= before  # others may end meanwhile


def test_memory_is_bounded_by_pools_also_in_events(shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeds, "POOL_EVENTS", 3000)
    feed = feed_of(shards, pool_samples=10**9)
    assert len(set(ids(feed))) == feed.samples


def test_a_trainer_loads_numpy_and_pyarrow_only(shards: Path) -> None:
    code = f"""
import sys
from reclake.pipelines.feed import Feed
for workers in (0, 1):
    for batch in Feed({str(shards)!r}, batch_size=50, seed=7, workers=workers):
        batch.history["item_id"].padded(4)
heavy = {{"deltalake", "polars", "ray", "great_expectations", "torch", "pandas", "pyspark", "fastavro"}}
print(sorted(heavy & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_batch_becomes_torch_tensors_on_the_same_memory(shards: Path) -> None:
    torch = pytest.importorskip("torch")
    batch = next(iter(feed_of(shards)))
    tensors = batch.to_torch()
    assert len(tensors) == len(batch) == 50
    assert torch.equal(tensors["click"], torch.from_numpy(batch["click"]))
    jagged = tensors.history["watch_ms"]
    assert jagged.values.data_ptr() == batch.history["watch_ms"].values.ctypes.data
    assert jagged.offsets.dtype == torch.int64
    assert jagged.valid.dtype == torch.bool
    assert tensors.valid("surface").shape == (50,)


def test_padding_keeps_the_newest_events() -> None:
    jagged = Jagged(np.array([1, 2, 3, 4, 5, 6]), np.array([0, 2, 2, 6]))
    assert jagged.padded(3, fill=-1).tolist() == [[1, 2, -1], [-1, -1, -1], [4, 5, 6]]
    assert jagged.lengths.tolist() == [2, 0, 4]


def by_loop(parts: windows.Parts) -> windows.Array:
    return windows.by_loop(parts, Buffers().lend)


WAYS = [windows.by_arrow, by_loop]
if windows.copy_windows is None:
    WAYS = [windows.by_arrow, pytest.param(by_loop, marks=pytest.mark.skip("installed without a compiler"))]


@pytest.mark.parametrize("gather", WAYS)
@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.int16, np.int8, np.bool_, np.float32, np.float64])
def test_windows_are_gathered_as_slices_would_be(dtype: type[np.generic], gather: Callable[..., windows.Array]) -> None:
    rng = np.random.default_rng(3)
    sources = [rng.integers(0, 2 if dtype == np.bool_ else 100, n).astype(dtype) for n in (5000, 400, 0)]
    for longest in (0, 1, 2, 3, 13, 100, 256, 4096):
        lengths = [rng.integers(0, min(longest, len(source)) + 1, 500) for source in sources]
        starts = [rng.integers(0, len(s) - n + 1) for s, n in zip(sources, lengths, strict=True)]
        gathered = gather(list(zip(sources, starts, lengths, strict=True)))
        expected = [
            source[s : s + n]
            for source, begins, counts in zip(sources, starts, lengths, strict=True)
            for s, n in zip(begins, counts, strict=True)
        ]
        assert gathered.dtype == dtype
        assert gathered.flags.writeable
        assert np.array_equal(gathered, np.concatenate(expected))


def test_windows_are_gathered_from_more_memory_than_a_view_reaches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "_REACH", 64)
    rng = np.random.default_rng(3)
    sources = [rng.integers(0, 1 << 40, 1000), rng.integers(0, 1 << 40, 10)]
    starts, lengths = [rng.integers(0, 900, 50), np.zeros(2, dtype=np.int64)], [np.arange(50), np.array([10, 3])]
    expected = [sources[0][s : s + n] for s, n in zip(starts[0], lengths[0], strict=True)]
    gathered = windows.by_arrow(list(zip(sources, starts, lengths, strict=True)))
    assert np.array_equal(gathered, np.concatenate([*expected, sources[1], sources[1][:3]]))


@pytest.mark.skipif(windows.copy_windows is None, reason="installed without a compiler")
@pytest.mark.parametrize(
    ("start", "length", "room", "offset"),
    [
        (-1, 2, 90, 0),
        (0, -1, 90, 0),
        (5, 6, 90, 0),
        (11, 0, 90, 0),
        (1 << 62, 1 << 62, 90, 0),
        (0, 3, 5, 0),
        (0, 1, 8, 9),
    ],
)
def test_the_compiled_loop_refuses_windows_outside_of_its_arrays(
    start: int, length: int, room: int, offset: int
) -> None:
    out = np.zeros(room, dtype=np.int8)
    with pytest.raises(ValueError, match="copy_windows"):
        windows.copy_windows(np.ones(10, dtype=np.int16), np.array([0, start]), np.array([1, length]), 2, out, offset)
    assert not out.any()


@pytest.mark.skipif(windows.copy_windows is None, reason="installed without a compiler")
@pytest.mark.parametrize("longest", [7, 70, 700])
@pytest.mark.parametrize("offset", [0, 1, 63, 64, 101])
def test_a_large_batch_is_written_to_the_byte_and_nothing_beside_it(longest: int, offset: int) -> None:
    rng = np.random.default_rng(longest)
    source = rng.integers(0, 100, 5000).astype(np.int8)
    lengths = rng.integers(0, longest + 1, 5_000_000 // longest)  # more than two megabytes: past the caches
    starts = rng.integers(0, len(source) - lengths + 1)
    out = np.full(offset + int(lengths.sum()) + 100, -1, dtype=np.int8)
    windows.copy_windows(source, starts, lengths, 1, out, offset)
    places = np.repeat(starts - np.cumsum(lengths) + lengths, lengths) + np.arange(lengths.sum())
    assert np.array_equal(out[offset:-100], source[places])
    assert (out[:offset] == -1).all()
    assert (out[-100:] == -1).all()


def test_a_feed_without_the_compiled_loop_gives_the_same_windows(shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = [contents(batch) for batch in feed_of(shards)]
    monkeypatch.setattr(windows, "copy_windows", None)
    assert [contents(batch) for batch in feed_of(shards)] == compiled
    [last] = feed_of(shards, batch_size=1000, rank=999, world_size=1000)
    assert len(last) == 0, "the samples do not go round"
    assert [jagged.values.tolist() for jagged in last.history.values()] == [[]] * 4


def test_a_feed_of_an_open_set_is_sent_to_another_process_after_it_was_read(shards: Path) -> None:
    feed = feed_of(ShardSet(shards))
    next(batches := iter(feed))
    assert contents(next(iter(pickle.loads(pickle.dumps(feed))))) == contents(next(batches))


def test_lent_memory_is_used_again_only_when_nothing_refers_to_it() -> None:
    buffers = Buffers()
    first = buffers.lend(1000, np.dtype(np.int64))
    address, view = first.ctypes.data, first[5:9]
    del first
    assert buffers.lend(1000, np.dtype(np.int64)).ctypes.data != address
    del view
    held = [buffers.lend(1000, np.dtype(np.int64)) for _ in range(2)]
    assert address in [array.ctypes.data for array in held]
    assert buffers.lend(0, np.dtype(np.float32)).shape == (0,)
