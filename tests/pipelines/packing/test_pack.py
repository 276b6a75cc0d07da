from __future__ import annotations

import gc
import pickle
import re
import subprocess
import sys
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

import reclake
from reclake.pipelines import reading
from reclake.pipelines.feed import Batch, Feed, Negatives
from reclake.pipelines.packing import PackResult, PinnedShards, pack, source
from reclake.pipelines.packing.content import ContentIndex, write_content
from reclake.pipelines.packing.rows import encode_strings, pack_bucket, row_starts
from reclake.quality.gate import record
from reclake.schemas import recipe as recipes
from reclake.schemas import shapes
from reclake.schemas.errors import FeedError, PinError, RecipeError, ShardError, StorageError
from reclake.storage import shard_content
from reclake.storage.catalog import Catalog
from reclake.storage.shard_content import Content, array_name, sums_name
from reclake.storage.shard_writer import ShardWriter
from reclake.storage.shards import ShardSet
from reclake.storage.staging import clear

US = pl.Datetime("us", "UTC")


def rows_of(world: Any, length: int, **options: Any) -> pa.Table:
    samples, _ = encode_strings(world.samples, ["place"], {})
    fields = ["item_id", "watch_ms"]
    return pack_bucket(
        samples, world.timeline, length=length, history_fields=fields, labels=["click"], features=["place"], **options
    )


def unpacked(rows: pa.Table, length: int) -> dict[int, tuple[int, list[int | None]]]:
    """sample_id -> (user, window of watch_ms), taken from the rows one by one."""
    found = {}
    for row in rows.to_pylist():
        for sample, seen in zip(row["samples"]["sample_id"], row["samples"]["seen"], strict=True):
            begin, end = max(seen - length, 0) - row["first_ordinal"], seen - row["first_ordinal"]
            assert begin >= 0
            found[sample] = (row["user_id"], row["history"]["watch_ms"][begin:end])
    return found


@pytest.mark.parametrize("length", [0, 1, 7, 1000])
@pytest.mark.parametrize("row_samples", [3, 1024])
def test_every_window_is_what_the_law_says(world: Any, length: int, row_samples: int) -> None:
    found = unpacked(rows_of(world, length, row_samples=row_samples), length)
    assert sorted(found) == sorted(world.samples["sample_id"].to_list())
    for sample, user, seen in world.samples.select("sample_id", "user_id", "seen").iter_rows():
        assert found[sample] == (user, world.window(user, seen, length, "watch_ms") if length else [])


def test_rows_are_sorted_and_do_not_depend_on_the_order_of_the_input(world: Any) -> None:
    again = type(world)(world.samples.reverse(), world.timeline.sample(fraction=1, shuffle=True, seed=3))
    assert rows_of(world, 32).equals(rows_of(again, 32))


def test_windows_that_do_not_touch_are_stored_apart() -> None:
    starts = row_starts(np.array([1, 1, 1, 2]), np.array([10, 14, 19, 19]), length=4)
    assert starts.tolist() == [0, 2, 3]


def test_where_no_window_is_shared_a_row_is_a_sample_with_its_own_window(world: Any) -> None:
    first = type(world)(world.samples.group_by("user_id", maintain_order=True).first(), world.timeline)
    rows = rows_of(first, 32)
    assert rows.num_rows == first.samples.height
    lengths = pc.list_value_length(pc.struct_field(rows["history"].combine_chunks(), [0]))
    assert lengths.to_pylist() == first.samples.sort("user_id")["seen"].clip(upper_bound=32).to_list()


@given(
    seen=st.lists(st.integers(0, 400_000), min_size=1, max_size=60).map(sorted),
    length=st.integers(0, 5000),
    row_samples=st.integers(1, 10),
)
def test_rows_stay_bounded_whatever_a_user_did(seen: list[int], length: int, row_samples: int) -> None:
    users = np.ones(len(seen), dtype=np.int64)
    starts = row_starts(users, np.array(seen), length=length, row_samples=row_samples)
    for begin, end in zip(starts, [*starts[1:], len(seen)], strict=True):
        assert end - begin <= row_samples
        assert seen[end - 1] - seen[begin] <= max(8 * length, 65_536)


def test_a_missing_event_is_an_error_that_names_it(world: Any) -> None:
    user, seen = world.samples.filter(pl.col("seen") > 5).select("user_id", "seen").row(0)
    gone = (pl.col("user_id") == user) & (pl.col("ordinal") == seen - 2)
    with pytest.raises(ShardError, match=rf"user {user}[\s\S]*ordinal {seen - 2}"):
        rows_of(type(world)(world.samples, world.timeline.filter(~gone)), 32)
    with pytest.raises(ShardError, match="missing"):
        rows_of(type(world)(world.samples, world.timeline.filter(pl.col("user_id") != user)), 32)


def test_a_timeline_may_begin_where_the_windows_begin(world: Any) -> None:
    needs = world.samples.group_by("user_id").agg(pl.col("seen").min() - 32, pl.col("seen").max().alias("to"))
    part = world.timeline.join(needs, on="user_id").filter(
        pl.col("ordinal") >= pl.col("seen"), pl.col("ordinal") < pl.col("to")
    )
    assert part.height < world.timeline.height
    assert rows_of(type(world)(world.samples, part.drop("seen", "to")), 32).equals(rows_of(world, 32))


def test_an_event_that_was_not_known_before_the_request_is_an_error(world: Any) -> None:
    sample, seen = world.samples.filter(pl.col("seen") > 0).select("sample_id", "seen").row(0)
    ahead = pl.when(pl.col("sample_id") == sample).then(seen + 1).otherwise("seen").alias("seen")
    user = world.samples.filter(pl.col("sample_id") == sample)["user_id"][0]
    known = world.timeline.filter(pl.col("user_id") == user, pl.col("ordinal") == seen)
    assert known.height, "the user must have a later event"
    with pytest.raises(ShardError, match="not known before the request"):
        rows_of(type(world)(world.samples.with_columns(ahead), world.timeline), 32)


def test_a_type_that_shards_do_not_carry_is_an_error(world: Any) -> None:
    listed = world.timeline.with_columns(watch_ms=pl.concat_list("watch_ms"))
    with pytest.raises(ShardError, match="watch_ms"):
        rows_of(type(world)(world.samples, listed), 32)


def test_strings_become_codes_in_a_vocabulary_that_only_grows() -> None:
    first, words = encode_strings(pl.DataFrame({"a": ["y", None, "x"], "n": [1, 2, 3]}), ["a", "n"], {})
    assert first["a"].to_list() == [1, -1, 0]
    second, words = encode_strings(pl.DataFrame({"a": ["b", "y", "x"]}), ["a"], words)
    assert second["a"].to_list() == [2, 1, 0]
    assert words == {"a": ["x", "y", "b"]}
    assert second["a"].dtype == pl.Int32


@pytest.fixture(scope="module")
def lake(world_maker: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> tuple[Catalog, Any]:
    """A lake with timelines, content and samples of a recipe with content, pinned as `p`."""
    world = world_maker(users=40, events=60, samples=9, seed=5)
    catalog = Catalog.create(tmp_path_factory.mktemp("lake") / "lake", buckets=4)
    catalog.add_recipe(
        recipes.parse(
            {
                "name": "mine",
                "exposure": "exposure",
                "labels": {"click": {"event_type": "click", "window": "1h"}},
                "features": ["surface"],
                "history": {"length": 16, "fields": ["item_id", "event_type", "watch_ms"]},
                "content": ["image_embedding"],
            }
        )
    )
    schema = shapes.timelines(shapes.events(catalog.contract("events")))
    timeline = world.timeline.with_columns(
        event_id=pl.format("{}-{}", "user_id", "ordinal"),
        event_type=pl.col("event_type").fill_null("other"),
        available_at="known_at",
        era=pl.lit("20220415T000000-20220416T000000"),
        bucket=(pl.col("user_id") % 4).cast(pl.Int32),
    )
    # Items 0..4 have content, known at two times; the newest vector of item 4 is null.
    content = pl.DataFrame({"item_id": [0, 1, 2, 3, 4] * 2, "at": [0] * 5 + [1] * 5}).with_columns(
        image_embedding=pl.concat_list(pl.col("item_id") + 10 * pl.col("at"), pl.lit(1)).cast(pl.List(pl.Float32)),
    )
    content = content.with_columns(
        image_embedding=pl.when((pl.col("item_id") == 4) & (pl.col("at") == 1)).then(None).otherwise("image_embedding"),
        known_at=pl.col("at").cast(US),
        plan=pl.lit("plan"),
    )
    samples = world.samples.with_columns(
        item_id=pl.col("sample_id") % 7,
        event_id=pl.lit("e"),
        ordinal="seen",
        content_known_at=pl.when(pl.col("sample_id") % 7 < 5).then((pl.col("sample_id") % 2).cast(US)),
        bucket=(pl.col("user_id") % 4).cast(pl.Int32),
        day=pl.lit(date(2022, 4, 15)),
    )
    tables = [
        ("timelines", timeline, schema),
        ("content", content, shapes.content(catalog.contract("content"))),
        ("samples/mine", samples, shapes.samples(catalog.recipe("mine"), schema)),
    ]
    for name, frame, shape in tables:
        arrays = [
            frame[f.name].to_arrow().cast(f.type) if f.name in frame.columns else pa.nulls(frame.height, f.type)
            for f in shape
        ]
        made = {catalog.recipe("mine").transaction(date(2022, 4, 15)): 1} if name == "samples/mine" else {}
        catalog.table(name).append(record(pa.table(arrays, schema=shape), shape, name=name), transactions=made)
    catalog.create_pin("p")
    return catalog, type(world)(samples, timeline)


def folder_bytes(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}


def test_the_verb_packs_what_the_pin_holds(lake: tuple[Catalog, Any], tmp_path: Path) -> None:
    catalog, world = lake
    done: list[tuple[int, int]] = []
    result = pack(catalog, "mine", pin="p", out=tmp_path / "out", progress=lambda *at: done.append(at))
    assert (result.samples, result.users) == (world.samples.height, world.samples["user_id"].n_unique())
    assert done == [(1, 4), (2, 4), (3, 4), (4, 4)]
    manifest = ShardSet(tmp_path / "out").manifest
    tables = {name: catalog.pin("p").tables[name] for name in ("content", "samples/mine", "timelines")}
    assert manifest.pin == {"name": "p", "tables": tables}
    assert manifest.history_length == 16
    assert [c.name for c in manifest.history] == ["item_id", "event_type", "watch_ms"]
    assert set(manifest.vocabularies) == {"event_type"}


def test_the_same_pin_gives_the_same_bytes(lake: tuple[Catalog, Any], tmp_path: Path) -> None:
    for name in ("a", "b"):
        pack(lake[0], "mine", pin="p", out=tmp_path / name)
    assert folder_bytes(tmp_path / "a") == folder_bytes(tmp_path / "b")


def test_either_compression_gives_the_same_batches_and_the_manifest_says_which(
    lake: tuple[Catalog, Any], tmp_path: Path
) -> None:
    for compression in ("lz4", "zstd"):
        result = reclake.Lake(lake[0]).pack("mine", pin="p", out=tmp_path / compression, compression=compression)
        assert ShardSet(tmp_path / compression).manifest.compression == compression
        [shard] = (tmp_path / compression).glob("shard-*")
        footer = pq.read_metadata(shard).row_group(0)
        used = {footer.column(at).compression for at in range(footer.num_columns)}
        assert used == {compression.upper()}
    one, other = (
        Feed(tmp_path / name, batch_size=64, seed=3, negatives=Negatives("uniform", 2)) for name in ("lz4", "zstd")
    )
    assert one.manifest.fingerprint == other.manifest.fingerprint == result.fingerprint
    for left, right in zip(one, other, strict=True):
        same(left, right)
    with pytest.raises(ShardError, match=r"another shard set[\s\S]*expected: compression lz4"):
        reclake.Lake(lake[0]).pack("mine", pin="p", out=tmp_path / "zstd")
    with pytest.raises(ShardError, match="lz4, zstd"):
        reclake.Lake(lake[0]).pack("mine", pin="p", out=tmp_path / "gz", compression="gzip")  # type: ignore[arg-type]


def test_a_set_that_is_there_is_kept_and_another_is_not_overwritten(lake: tuple[Catalog, Any], tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert not pack(lake[0], "mine", pin="p", out=out).kept
    before = folder_bytes(out)
    assert pack(lake[0], "mine", pin="p", out=out).kept == "before"
    with pytest.raises(ShardError, match="another shard set"):
        pack(lake[0], "mine", pin="p", out=out, history=8)
    assert folder_bytes(out) == before
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("mine")
    with pytest.raises(ShardError, match="something else"):
        pack(lake[0], "mine", pin="p", out=tmp_path / "notes")


def test_what_a_killed_pack_left_is_removed_and_what_a_living_one_makes_is_not(
    lake: tuple[Catalog, Any], tmp_path: Path
) -> None:
    for name in ("dead", "alive"):
        (tmp_path / f".out.packing-{name}").mkdir()
        (tmp_path / f".out.packing-{name}" / "shard-00000.parquet").write_bytes(b"half")
    holder = "import sys; from reclake.storage import locks; locks.hold(sys.argv[1]); print(1, flush=True); input()"
    command = [sys.executable, "-c", holder, str(tmp_path / ".out.packing-alive")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"1\n"
        pack(lake[0], "mine", pin="p", out=tmp_path / "out")
        assert sorted(path.name for path in tmp_path.iterdir()) == [".out.packing-alive", "out"]
        process.kill()
    pack(lake[0], "mine", pin="p", out=tmp_path / "out")
    clear(tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


@pytest.mark.parametrize("history", [None, 8])
def test_of_two_packs_to_one_folder_at_once_one_wins_and_the_other_says_so(
    lake: tuple[Catalog, Any], tmp_path: Path, history: int | None
) -> None:
    out = tmp_path / "out"
    others: list[PackResult] = []

    def other(done: int, buckets: int) -> None:
        if done == 2:
            others.append(pack(lake[0], "mine", pin="p", out=out, history=history))

    if history is None:
        mine = pack(lake[0], "mine", pin="p", out=out, progress=other)
        assert (mine.kept, mine.fingerprint) == ("meanwhile", others[0].fingerprint)
    else:
        with pytest.raises(ShardError, match="another shard set"):
            pack(lake[0], "mine", pin="p", out=out, progress=other)
    assert others[0].kept is None
    assert ShardSet(out).manifest.fingerprint == others[0].fingerprint
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


def test_an_error_leaves_no_folder(lake: tuple[Catalog, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("reclake.pipelines.packing.verb.write_manifest", full)
    with pytest.raises(StorageError, match="No space left"):
        pack(lake[0], "mine", pin="p", out=tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_content_is_gathered_as_it_was_known_at_the_request(lake: tuple[Catalog, Any], tmp_path: Path) -> None:
    catalog, world = lake
    pack(catalog, "mine", pin="p", out=tmp_path / "out")
    known = dict(zip(world.samples["sample_id"], world.samples["content_known_at"].dt.timestamp("us"), strict=True))
    rows = 0
    for batch in Feed(tmp_path / "out", batch_size=16, seed=1, workers=1):
        vectors, mask = batch.content("image_embedding"), batch.content_mask("image_embedding")
        assert vectors.dtype == np.float32
        for sample, item, vector, there in zip(batch["sample_id"], batch["item_id"], vectors, mask, strict=True):
            at = known[int(sample)]
            expected = None if at is None or (item == 4 and at == 1) else [item + 10 * at, 1]
            assert there == (expected is not None)
            assert vector.tolist() == (expected or [0, 0])
            rows += 1
    assert rows == world.samples.height


def gathered(folder: Path) -> bytes:
    """All that is not in shards, as a feed gives it."""
    feed = Feed(folder, batch_size=64, seed=3, negatives=Negatives("popularity", 2))
    parts = [(b.content("image_embedding"), b.content_mask("image_embedding"), *b.negatives.values()) for b in feed]
    return b"".join(array.tobytes() for part in parts for array in part)


def test_no_flipped_bit_beside_the_shards_gives_a_wrong_vector_or_negative(
    lake: tuple[Catalog, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shard_content, "BLOCK_BYTES", 256)
    out = tmp_path / "out"
    pack(lake[0], "mine", pin="p", out=out)
    good = gathered(out)
    beside = [name for name in folder_bytes(out) if not name.startswith(("shard-", "manifest"))]
    assert sorted(beside) == [
        "content/image_embedding.crc32.npy",
        "content/image_embedding.npy",
        "content/index.parquet",
        "items.parquet",
    ]
    for name in beside:
        whole = (out / name).read_bytes()
        for at in np.linspace(0, len(whole) - 1, 12).astype(int).tolist():
            (out / name).write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
            with pytest.raises(ShardError, match=re.escape(name)):
                gathered(out)
        (out / name).write_bytes(whole)
    assert gathered(out) == good


def test_a_set_whose_samples_know_no_content_is_fed_without_any(lake: tuple[Catalog, Any], tmp_path: Path) -> None:
    """As on the first day, when media were looked at after the requests."""
    catalog, _ = lake
    (tmp_path / "content").mkdir()
    none = ContentIndex(pl.DataFrame(schema={"content_row": pl.Int32, "item_id": pl.Int64, "content_known_at": US}))
    rows = reading.rows_of(catalog, "content", pin=catalog.pin("p"))
    (tmp_path / "set").mkdir()
    entry = write_content(tmp_path / "set", none, rows, ["image_embedding"])["image_embedding"]
    assert entry == {"file": "content/image_embedding.npy", "rows": 0, "dimensions": 2}
    array, sums = tmp_path / "set" / array_name("image_embedding"), tmp_path / "set" / sums_name("image_embedding")
    index = tmp_path / "set" / "content" / "index.parquet"
    content = Content.open(array, index, sums, "image_embedding", (0, 2), "")
    assert content.gather(np.empty(0, dtype=np.int32)).shape == (0, 2)
    assert len(content.present) == 0


def same(one: Batch, other: Batch) -> None:
    """Two batches are equal byte for byte."""
    assert one.keys() == other.keys()
    assert one.state == other.state
    for name in one.keys():  # noqa: SIM118 -- a batch is no mapping
        assert one[name].tobytes() == other[name].tobytes()
    assert one.history.keys() == other.history.keys()
    for name, jagged in one.history.items():
        assert jagged.values.tobytes() == other.history[name].values.tobytes()
        assert jagged.offsets.tobytes() == other.history[name].offsets.tobytes()
        assert (jagged.valid is None) == (other.history[name].valid is None)
    assert one.negatives["item_id"].tobytes() == other.negatives["item_id"].tobytes()
    assert one.content("image_embedding").tobytes() == other.content("image_embedding").tobytes()


@pytest.mark.parametrize("given", [{}, {"history": 5, "fields": ["watch_ms"]}, {"where": "click", "workers": 2}])
@pytest.mark.parametrize(("window_us", "part_events"), [(0, 1 << 22), (0, 300), (500_000_000, 300)])
def test_a_feed_straight_from_a_pin_gives_the_batches_of_its_shards(
    lake: tuple[Catalog, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    given: dict[str, Any],
    window_us: int,
    part_events: int,
) -> None:
    monkeypatch.setitem(ShardWriter.__init__.__kwdefaults__, "chunk_samples", 40)  # chunks within and across buckets
    monkeypatch.setattr(source, "PART_EVENTS", part_events)
    pack(lake[0], "mine", pin="p", out=tmp_path / "out", window_us=window_us)
    options: dict[str, Any] = {"batch_size": 64, "seed": 3, "pool_samples": 200, "negatives": Negatives("uniform", 2)}
    options |= given | ({"order": "chronological"} if window_us else {})
    packed = Feed(tmp_path / "out", **options)
    window = f"{window_us // 1_000_000}s" if window_us else None
    pinned = reclake.Lake(lake[0]).feed("mine", pin="p", window=window, **options)
    assert pinned.manifest.fingerprint == packed.manifest.fingerprint
    assert pinned.vocabularies == packed.vocabularies
    assert len(pinned.manifest.shards[0].chunk_rows) > 5
    for one, other in zip(pinned, packed, strict=True):
        same(one, other)
    again = pickle.loads(pickle.dumps(pinned))
    packed.load_state_dict(again.state_dict())
    same(next(iter(again)), next(iter(packed)))


def test_a_pin_is_not_read_in_a_forked_process_and_the_error_says_what_to_do(
    lake: tuple[Catalog, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A forked process has none of the threads in which tables are read; one that was given the feed has its own."""
    feed = reclake.Lake(lake[0]).feed("mine", pin="p", batch_size=64, seed=3)
    monkeypatch.setattr("os.getpid", lambda: -1)
    with pytest.raises(FeedError, match=r"forked[\s\S]*spawn"):
        next(iter(feed))
    assert len(next(iter(pickle.loads(pickle.dumps(feed))))) == 64


def test_what_stands_beside_pinned_shards_goes_with_them(lake: tuple[Catalog, Any]) -> None:
    shards = PinnedShards(lake[0], "mine", pin="p")
    folder = shards.whole("items.parquet").parent
    assert folder.exists()
    del shards
    gc.collect()
    assert not folder.exists()


def test_a_set_holds_the_same_samples_however_little_is_in_memory_at_once(
    lake: tuple[Catalog, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Offsets are 64-bit, and what is made, written and read at once is bounded: here by a few hundred events."""
    pack(lake[0], "mine", pin="p", out=tmp_path / "whole")
    monkeypatch.setattr(source, "PART_EVENTS", 150)
    monkeypatch.setitem(ShardWriter.__init__.__kwdefaults__, "chunk_events", 200)
    monkeypatch.setattr("reclake.pipelines.feed.feed.POOL_EVENTS", 400)
    parts: list[int] = []
    pack(lake[0], "mine", pin="p", out=tmp_path / "cut", progress=lambda done, _: parts.append(done))
    feeds = [Feed(tmp_path / name, batch_size=64, seed=3, order="stored") for name in ("whole", "cut")]
    assert len(parts) > 4
    assert feeds[1].manifest.shards[0].chunk_events[0] <= 200 < feeds[0].manifest.shards[0].chunk_events[0]
    words = [np.array(["", *feed.vocabularies["event_type"]]) for feed in feeds]  # in the order they were met
    for one, other in zip(*feeds, strict=True):
        assert one["sample_id"].tolist() == other["sample_id"].tolist()
        histories = one.history, other.history
        for name in ("item_id", "watch_ms"):
            assert histories[0][name].values.tolist() == histories[1][name].values.tolist()
        types = [word[1 + history["event_type"].values] for word, history in zip(words, histories, strict=True)]
        assert types[0].tolist() == types[1].tolist()


def test_a_pin_or_recipe_that_is_not_there_is_an_error(lake: tuple[Catalog, Any], tmp_path: Path) -> None:
    with pytest.raises(PinError, match="unknown pin"):
        pack(lake[0], "mine", pin="q", out=tmp_path / "out")
    with pytest.raises(RecipeError, match="does not hold this recipe"):
        pack(lake[0], "yours", pin="p", out=tmp_path / "out")
    with pytest.raises(PinError, match="samples/ctr"):
        pack(lake[0], "ctr", pin="p", out=tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_times_are_times_in_the_files(lake: tuple[Catalog, Any], tmp_path: Path) -> None:
    pack(lake[0], "mine", pin="p", out=tmp_path / "out")
    frame = pl.read_parquet(tmp_path / "out" / "shard-00000.parquet")
    assert frame["samples"].struct.field("request_time").dtype == pl.List(US)
