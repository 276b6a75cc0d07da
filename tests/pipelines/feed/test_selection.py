"""What a feed selects, weighs, draws, mixes and orders by time: always a function of the seed, never of who asks."""

from __future__ import annotations

import json
import pickle
import time
from collections import Counter
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reclake.pipelines.feed import Feed, Mix, Negatives
from reclake.schemas.errors import FeedError, FeedStateError, ShardError
from reclake.storage.shards import ShardSet

Fixture = Callable[..., Any]


def test_a_predicate_gives_the_samples_for_which_it_holds(
    shards: Path, feed_of: Fixture, ids: Fixture, world: Any
) -> None:
    feed = feed_of(shards, where="surface == 1 and click and place != 'search'")
    rows = world.samples.filter((world.samples["surface"] == 1) & (world.samples["click"] == 1))
    expected = [row["sample_id"] for row in rows.iter_rows(named=True) if row["place"] == "home"]
    assert sorted(ids(feed)) == sorted(expected)
    assert feed.samples == len(expected)
    assert len(feed) == -(-len(expected) // 50)
    with pytest.raises(FeedError, match="not one batch"):
        feed_of(shards, where="seen < 0")


def test_windows_are_the_same_with_a_predicate(shards: Path, feed_of: Fixture) -> None:
    def windows(feed: Feed) -> dict[int, list[int]]:
        found = {}
        for batch in feed:
            jagged = batch.history["item_id"]
            for i, sample in enumerate(batch["sample_id"].tolist()):
                found[sample] = jagged.values[jagged.offsets[i] : jagged.offsets[i + 1]].tolist()
        return found

    whole, some = windows(feed_of(shards)), windows(feed_of(shards, where="seen % 3 == 0"))
    assert 0 < len(some) < len(whole)
    assert some == {sample: whole[sample] for sample in some}


@pytest.mark.parametrize("fields", [["item_id", "watch_ms"], None])
def test_only_the_events_that_are_asked_for_are_in_a_window(
    shards: Path, feed_of: Fixture, fields: list[str] | None
) -> None:
    feed = feed_of(shards, events="event_type in ('click', 'like') and watch_ms is not None", fields=fields, workers=1)
    for batch, whole in zip(feed, feed_of(shards), strict=True):
        kinds, watch = whole.history["event_type"], whole.history["watch_ms"]
        words = np.array(feed.vocabularies["event_type"])
        holds = (kinds.values >= 0) & np.isin(words[kinds.values], ["click", "like"]) & watch.valid
        assert list(batch.history) == (fields or list(whole.history))
        for name, jagged in batch.history.items():
            lengths = np.add.reduceat(np.append(holds, False), whole.history[name].offsets[:-1])
            lengths[whole.history[name].lengths == 0] = 0
            assert jagged.lengths.tolist() == lengths.tolist()
            assert np.array_equal(jagged.values, whole.history[name].values[holds])


def test_a_condition_without_a_column_holds_of_all_events_or_none(
    shards: Path, feed_of: Fixture, contents: Fixture
) -> None:
    whole = next(iter(feed_of(shards)))
    assert contents(next(iter(feed_of(shards, events="True")))) == contents(whole)
    assert next(iter(feed_of(shards, events="1 > 2"))).event_count == 0


def test_a_weight_is_how_often_a_sample_comes(shards: Path, feed_of: Fixture, ids: Fixture) -> None:
    feed = feed_of(shards, weight="2.25 if click else 0.25", columns=["click"])
    click = {
        int(i): int(c) for batch in feed_of(shards) for i, c in zip(batch["sample_id"], batch["click"], strict=True)
    }
    epochs = [Counter(ids(feed)) for _ in range(40)]
    assert len({tuple(sorted(epoch.items())) for epoch in epochs}) == 40
    for label, weight in ((0, 0.25), (1, 2.25)):
        own = [sample for sample, c in click.items() if c == label]
        times = np.array([[epoch[sample] for sample in own] for epoch in epochs])
        assert set(np.unique(times)) == {int(weight), int(weight) + 1}
        assert times.mean() == pytest.approx(weight, abs=0.01)
        assert times.mean(axis=0).std() < 0.1  # no sample is favoured: 40 coins have a deviation of 0.07


@pytest.mark.parametrize("weight", ["-1", "256", "surface"])
def test_what_is_no_weight_is_refused(shards: Path, feed_of: Fixture, weight: str) -> None:
    with pytest.raises(FeedError, match="not a weight"):
        feed_of(shards, weight=weight)


W = (0.5, 3)
GIVEN: dict[str, Any] = {
    "where": "label_mature and seen > 2",
    "weight": "1.5 if click else 0.5",
    "negatives": Negatives("popularity", 3),
}


@pytest.mark.parametrize("world_size", [2, 3, 5])
def test_all_of_it_is_one_global_order_for_every_world_size(shards: Path, feed_of: Fixture, world_size: int) -> None:
    def drawn(batches: Any) -> list[tuple[int, list[int]]]:
        pairs = [zip(b["sample_id"].tolist(), b.negatives["item_id"].tolist(), strict=True) for b in batches]
        return [pair for each in pairs for pair in each]

    whole = drawn(feed_of(shards, **GIVEN))
    ranks = [feed_of(shards, **GIVEN, batch_size=16, rank=r, world_size=world_size) for r in range(world_size)]
    steps = zip(*ranks, strict=True)
    assert [pair for step in steps for pair in drawn(step)] == whole


@pytest.mark.parametrize("workers", [0, 2])
def test_all_of_it_resumes(shards: Path, feed_of: Fixture, contents: Fixture, workers: int) -> None:
    whole = feed_of(shards, **GIVEN)
    expected = [contents(b) for _ in range(2) for b in whole]
    for stop in (3, len(expected) - 4):
        feed = feed_of(shards, workers=workers, **GIVEN)
        got: list[Any] = []
        while len(got) < stop:
            got += [contents(b) for b in islice(iter(feed), stop - len(got))]
        resumed = pickle.loads(pickle.dumps(feed))  # as a spawned process gets it
        got += [contents(b) for b in resumed]
        assert got == expected[: len(got)]
        fresh = feed_of(shards, **GIVEN)
        fresh.load_state_dict(json.loads(json.dumps(feed.state_dict())))
        assert contents(next(iter(fresh))) == contents(next(iter(feed)))


def test_a_state_of_another_selection_is_refused(shards: Path, feed_of: Fixture) -> None:
    state = feed_of(shards, where="click").state_dict()
    with pytest.raises(FeedStateError, match=r"differs in where, weight[\s\S]*expected: where None, weight '2'"):
        feed_of(shards, weight="2").load_state_dict(state)


def test_negatives_are_drawn_as_likely_as_they_say(shards: Path, feed_of: Fixture, world: Any) -> None:
    shown = Counter(world.samples.filter(~world.samples["negative"])["item_id"].to_list())
    for kind in ("uniform", "popularity"):
        feed = feed_of(shards, negatives=Negatives(kind, 20), history=0)
        batches = list(feed)
        items = np.concatenate([b.negatives["item_id"].ravel() for b in batches])
        logq = np.concatenate([b.negatives["logq"].ravel() for b in batches])
        q = {i: (n / sum(shown.values()) if kind == "popularity" else 1 / len(shown)) for i, n in shown.items()}
        assert set(items.tolist()) <= set(shown)
        assert np.allclose(np.exp(logq), [q[int(i)] for i in items])
        drawn = Counter(items.tolist())
        squares = sum((drawn[i] - len(items) * p) ** 2 / (len(items) * p) for i, p in q.items())
        assert abs(squares / len(q) - 1) < 0.2  # chi squared over its degrees of freedom
        own = np.concatenate([b["logq"] for b in batches])
        known = [q.get(int(i), 0.0) for b in batches for i in b["item_id"]]
        assert np.allclose(np.exp(own), known)


def test_in_batch_negatives_need_their_own_probability_only(shards: Path, feed_of: Fixture) -> None:
    batch = next(iter(feed_of(shards, negatives=Negatives("in-batch"), where="not negative")))
    assert batch.negatives == {}
    assert batch["logq"].dtype == np.float32
    assert np.isfinite(batch["logq"]).all()
    with pytest.raises(FeedError, match="not negatives"):
        feed_of(shards, negatives=Negatives("in-batch", 3))


@pytest.mark.parametrize(
    ("given", "times"),
    [
        ({}, lambda row: 1),
        ({"where": "surface == 1"}, lambda row: row["surface"] == 1),
        (
            {"where": "not negative", "weight": "3 if click else 0.5"},
            lambda row: (not row["negative"]) * W[row["click"]],
        ),
    ],
)
def test_an_item_is_as_likely_in_a_batch_as_the_feed_gives_it(
    set_writer: Fixture, world: Any, feed_of: Fixture, tmp_path: Path, given: dict[str, str], times: Any
) -> None:
    """Of the samples that it selects, by their weights: not of what was shown in the whole set."""
    few = type(world)(world.samples.with_columns(item_id=world.samples["sample_id"] % 9), world.timeline)
    expected: Counter[int] = Counter()
    for row in few.samples.iter_rows(named=True):
        expected[row["item_id"]] += times(row)
    for batch in feed_of(set_writer(few, tmp_path / "set", length=4), negatives=Negatives("in-batch"), **given):
        share = [expected[item] / sum(expected.values()) for item in batch["item_id"].tolist()]
        assert np.allclose(np.exp(batch["logq"]), share, rtol=1e-5)


def test_padding_fills_the_last_step_with_the_first_samples(shards: Path, feed_of: Fixture, ids: Fixture) -> None:
    whole = ids(feed_of(shards))
    ranks = [list(feed_of(shards, rank=r, world_size=3, batch_size=64, remainder="pad")) for r in range(3)]
    assert {len(batch) for own in ranks for batch in own} == {64}
    taken = [int(i) for step in zip(*ranks, strict=True) for batch in step for i in batch["sample_id"]]
    padding = sum(batch.padding for own in ranks for batch in own)
    assert taken == whole + whole[:padding]
    assert 0 < padding < 192


@pytest.mark.parametrize("workers", [0, 2])
def test_distinct_windows_come_once(shards: Path, feed_of: Fixture, workers: int) -> None:
    plain = feed_of(shards, history=3, batch_size=200)
    for batch, distinct in zip(
        plain, feed_of(shards, history=3, batch_size=200, deduplicate=True, workers=workers), strict=True
    ):
        for name, jagged in batch.history.items():
            rows = [jagged.values[a:b].tolist() for a, b in zip(jagged.offsets, jagged.offsets[1:], strict=False)]
            own = distinct.history[name]
            windows = [own.values[a:b].tolist() for a, b in zip(own.offsets, own.offsets[1:], strict=False)]
            assert [windows[i] for i in distinct.inverse] == rows
        assert distinct.dedup_factor == len(distinct) / len(windows) > 1
        assert batch.dedup_factor == 1


def test_a_window_that_comes_again_to_fill_a_batch_is_there_once(shards: Path, feed_of: Fixture) -> None:
    once = next(iter(feed_of(shards, batch_size=1000, deduplicate=True)))
    padded = next(iter(feed_of(shards, batch_size=3000, deduplicate=True, remainder="pad")))
    assert padded.padding > 2000
    for name, jagged in once.history.items():
        assert padded.history[name].values.tolist() == jagged.values.tolist()
        assert padded.history[name].offsets.tolist() == jagged.offsets.tolist()
    assert padded.inverse.tolist() == [*once.inverse, *once.inverse, *once.inverse, *once.inverse][:3000]


def test_an_epoch_of_which_nothing_is_selected_is_gone_behind_and_pickled(shards: Path, feed_of: Fixture) -> None:
    feed = feed_of(shards, where="sample_id < 1003", weight="0.4")
    sizes = []
    while 0 not in sizes:
        sizes.append(feed.samples)
        assert sum(len(batch) for batch in feed) == sizes[-1]
        assert feed.epoch == len(sizes)
    feed.set_epoch(len(sizes) - 1)
    assert pickle.loads(pickle.dumps(feed)).state_dict() == feed.state_dict()


def test_a_mix_gives_each_feed_its_share_and_resumes(shards: Path, feed_of: Fixture, ids: Fixture) -> None:
    def made(workers: int = 0) -> Mix:
        some = feed_of(shards, batch_size=30, where="click", workers=workers, remainder="drop")
        return Mix({"all": feed_of(shards, batch_size=90, workers=workers), "clicks": some}, steps=40)

    whole = [{name: batch["sample_id"].tolist() for name, batch in step.items()} for step in made()]
    assert len(whole) == 40
    assert {len(step["clicks"]) for step in whole} == {30}
    mix = made(2)
    for step, _ in enumerate(mix, 1):
        if step == 23:
            break
    resumed = made(1)
    resumed.load_state_dict(json.loads(json.dumps(mix.state_dict())))
    rest = [{name: batch["sample_id"].tolist() for name, batch in step.items()} for step in resumed]
    assert rest == whole[23:]
    state = mix.state_dict()
    for other in ({"steps": 41}, {"step": 40}, {"version": 0}):
        with pytest.raises(FeedStateError, match="another mix"):
            resumed.load_state_dict(state | other)
    with pytest.raises(FeedStateError, match="another mix"):
        Mix({"all": feed_of(shards)}, steps=40).load_state_dict(state)


def test_feeds_that_cannot_be_mixed_are_refused(shards: Path, feed_of: Fixture) -> None:
    feed = feed_of(shards)
    with pytest.raises(FeedError, match="under two names"):
        Mix({"a": feed, "b": feed}, steps=1)
    with pytest.raises(FeedError, match="several ranks"):
        Mix({"a": feed, "b": feed_of(shards, rank=1, world_size=2)}, steps=1)
    with pytest.raises(FeedError, match="not a mix"):
        Mix([feed], steps=1)  # type: ignore[arg-type]
    with pytest.raises(FeedError, match="'10' steps"):
        Mix({"a": feed}, steps="10")  # type: ignore[arg-type]


def test_a_state_that_one_feed_of_a_mix_refuses_moves_none(shards: Path, feed_of: Fixture) -> None:
    """Who starts without it then starts from the start."""
    mix = Mix({"a": feed_of(shards), "b": feed_of(shards, seed=8)}, steps=9)
    next(iter(mix))
    state = mix.state_dict()
    other = Mix({"a": feed_of(shards), "b": feed_of(shards, seed=9)}, steps=9)
    fresh = other.state_dict()
    with pytest.raises(FeedStateError, match="differs in seed"):
        other.load_state_dict(state)
    assert other.state_dict() == fresh
    with pytest.raises(FeedStateError, match="another mix"):
        other.load_state_dict(state | {"feeds": 5})


def test_chronological_order_follows_time_and_shuffles_within_a_window(
    set_writer: Fixture, world: Any, feed_of: Fixture, ids: Fixture, tmp_path: Path
) -> None:
    window_us = 50_000_000
    shards = set_writer(world, tmp_path / "set", length=32, window_us=window_us)
    feed = feed_of(shards, order="chronological", pool_samples=60)
    first, second = ([b["request_time"].tolist() for b in feed] for _ in range(2))
    windows = [time // window_us for batch in first for time in batch]
    assert windows == sorted(windows)
    assert len(set(windows)) == 20
    times = [time for batch in first for time in batch]
    assert times != sorted(times)
    assert first != second
    assert sorted(ids(feed)) == sorted(ids(feed_of(shards)))  # all may be shuffled across time, too
    halves = [
        feed_of(shards, order="chronological", pool_samples=60, rank=r, world_size=2, batch_size=25) for r in (0, 1)
    ]
    steps = [t for step in zip(*halves, strict=True) for b in step for t in b["request_time"].tolist()]
    assert steps == times


def test_chronological_order_needs_shards_that_follow_time(shards: Path, feed_of: Fixture) -> None:
    with pytest.raises(FeedError, match="--window"):
        feed_of(shards, order="chronological")


def test_shards_of_another_pin_are_refused(shards: Path, feed_of: Fixture) -> None:
    assert feed_of(shards, pin="p").manifest.pin["name"] == "p"
    with pytest.raises(ShardError, match=r"another pin[\s\S]*expected: q[\s\S]*got: p"):
        feed_of(shards, pin="q")


@pytest.mark.parametrize("workers", [0, 1])
def test_stats_name_the_stage_that_the_trainer_waits_for(shards: Path, feed_of: Fixture, workers: int) -> None:
    feed = feed_of(shards, workers=workers)
    for _ in feed:
        pass
    stats = feed.stats()
    assert stats["batches"] == len(feed)
    assert stats["samples"] == feed.samples
    assert stats["stall"] in ("read", "arrange", "cut")
    assert 0 <= stats["busy"] < 0.95
    assert set(stats["seconds"]) == {"read", "arrange", "cut", "wait", "away"}


def test_a_slow_disk_is_the_stage_that_stalls(shards: Path, feed_of: Fixture, monkeypatch: pytest.MonkeyPatch) -> None:
    read = ShardSet.read_chunk

    def slowly(*args: Any, **given: Any) -> Any:
        time.sleep(0.02)
        return read(*args, **given)

    monkeypatch.setattr(ShardSet, "read_chunk", slowly)
    feed = feed_of(shards, workers=1)
    for _ in feed:
        pass
    assert feed.stats()["stall"] == "read"


def test_a_trainer_that_takes_its_time_does_not_wait(shards: Path, feed_of: Fixture) -> None:
    feed = feed_of(shards, workers=2)
    batches = iter(feed)
    for _ in range(3):  # warm-up: the first pool is read
        next(batches)
    began = feed.stats()["seconds"]
    for _ in islice(batches, 12):
        time.sleep(0.05)  # the step of an accelerator
    spent = {stage: seconds - began[stage] for stage, seconds in feed.stats()["seconds"].items()}
    assert spent["away"] / (spent["away"] + spent["wait"]) >= 0.95
