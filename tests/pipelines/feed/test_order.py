from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reclake.pipelines.feed import order
from reclake.pipelines.feed.order import (
    EpochOrder,
    Remainder,
    epoch_order,
    key,
    permutation,
    splitmix64,
    step_at,
    step_count,
    steps,
    words,
)

FINGERPRINT = "00112233445566778899aabbccddeeff"


def order_of(
    chunks: list[int], *, seed: int | None = 7, epoch: int = 0, pool: int = 8, events: int = 1000
) -> EpochOrder:
    return epoch_order(
        np.array(chunks, dtype=np.int64),
        np.full(len(chunks), 10, dtype=np.int64),
        fingerprint=FINGERPRINT,
        seed=seed,
        epoch=epoch,
        pool_samples=pool,
        pool_events=events,
    )


def positions(order: EpochOrder, chunks: list[int]) -> list[int]:
    """The whole order as storage positions."""
    first = np.concatenate([[0], np.cumsum(chunks)])
    whole: list[int] = []
    for pool in range(order.pools):
        laid_out = np.concatenate([np.arange(first[c], first[c + 1]) for c in order.chunks_of(pool)])
        whole += laid_out[order.within(pool)].tolist()
    return whole


def test_splitmix64_gives_the_published_outputs() -> None:
    # Seed 1234567: the reference outputs of Vigna's splitmix64.c, as Rosetta Code lists them.
    gamma = 0x9E3779B97F4A7C15
    outputs = [splitmix64((1234567 + i * gamma) % 2**64) for i in range(5)]
    assert outputs == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]


def test_a_permutation_never_changes() -> None:
    assert key(7, 0) == 0xB8B4C2977EABCE45
    assert permutation(12, 7).tolist() == [1, 10, 8, 5, 7, 0, 9, 4, 6, 3, 2, 11]
    assert sorted(permutation(1000, 3).tolist()) == list(range(1000))
    assert permutation(0, 3).tolist() == []


@pytest.mark.parametrize("n", [1, 2, 3, 4096, 5001])
@pytest.mark.parametrize("alike", [0, 40, 63])
def test_a_permutation_sorts_the_outputs_stably_however_alike_they_are(
    n: int, alike: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    outputs = words(np.arange(n), 5) >> np.uint64(alike) << np.uint64(alike)
    monkeypatch.setattr(order, "words", lambda *_: outputs)
    assert permutation(n, 5).tolist() == np.argsort(outputs, kind="stable").tolist()


def test_an_epoch_order_never_changes() -> None:
    order = order_of([3, 4, 2, 5, 1])
    assert order.chunks.tolist() == [4, 3, 2, 1, 0]
    assert order.pool_chunks.tolist() == [0, 3, 5]
    assert order.pool_samples.tolist() == [0, 8, 15]
    assert order.within(0).tolist() == [7, 4, 6, 2, 3, 0, 5, 1]
    assert order.within(1).tolist() == [0, 6, 1, 2, 5, 4, 3]


def test_without_a_shuffle_the_order_is_storage_order() -> None:
    chunks = [3, 4, 2, 5, 1]
    assert positions(order_of(chunks, seed=None), chunks) == list(range(15))


@given(
    chunks=st.lists(st.integers(1, 9), min_size=1, max_size=12),
    seed=st.integers(-(2**70), 2**70),
    epoch=st.integers(0, 5),
    pool=st.integers(1, 40),
    events=st.integers(1, 60),
)
def test_every_sample_comes_once_in_an_epoch(chunks: list[int], seed: int, epoch: int, pool: int, events: int) -> None:
    order = order_of(chunks, seed=seed, epoch=epoch, pool=pool, events=events)
    assert sorted(positions(order, chunks)) == list(range(sum(chunks)))


def test_seed_and_epoch_each_give_another_order() -> None:
    chunks = [5] * 6
    orders = [positions(order_of(chunks, seed=s, epoch=e), chunks) for s, e in [(1, 0), (1, 1), (2, 0)]]
    assert len({tuple(o) for o in orders}) == 3


def test_a_pool_is_bounded_in_samples_and_in_events() -> None:
    assert np.diff(order_of([5] * 6, pool=12).pool_samples).tolist() == [10, 10, 10]
    assert np.diff(order_of([5] * 6, pool=100, events=30).pool_samples).tolist() == [15, 15]
    assert np.diff(order_of([5] * 2, pool=1).pool_samples).tolist() == [5, 5]


@given(begin=st.integers(0, 30), length=st.integers(0, 30))
def test_pieces_cover_exactly_the_positions_that_were_asked_for(begin: int, length: int) -> None:
    order = order_of([3, 4, 2, 5, 1, 6, 9])
    end = min(begin + length, 30)
    pieces = order.pieces(begin, max(begin, end))
    covered = [int(order.pool_samples[p.pool]) + i for p in pieces for i in range(p.begin, p.end)]
    assert covered == list(range(begin, end))


@given(
    samples=st.integers(0, 200),
    position=st.integers(0, 200),
    batch=st.integers(1, 9),
    world=st.integers(1, 64),
    remainder=st.sampled_from(["split", "drop", "pad"]),
)
def test_ranks_in_order_are_the_global_order(
    samples: int, position: int, batch: int, world: int, remainder: Remainder
) -> None:
    position = min(position, samples)
    ranks = [list(steps(position, samples, batch, rank, world, remainder)) for rank in range(world)]
    count = step_count(position, samples, batch, world, remainder)
    assert {len(own) for own in ranks} == {count}
    taken = [
        p for step in zip(*ranks, strict=True) for own in step for begin, end in own.ranges for p in range(begin, end)
    ]
    whole = position + count * batch * world
    if remainder == "pad":
        assert taken == [p % samples for p in range(position, whole)]
    else:
        assert taken == list(range(position, min(whole, samples)))
    assert sum(own.padding for each in ranks for own in each) == len(taken) - len(range(position, min(whole, samples)))
    for step in zip(*ranks, strict=True):
        sizes = [sum(end - begin for begin, end in own.ranges) for own in step]
        assert max(sizes) <= batch
        assert max(sizes) - min(sizes) <= (0 if remainder == "pad" else 1)
        assert len({own.after for own in step}) == 1


def test_the_last_step_is_split_evenly() -> None:
    assert [step_at(8, 15, 4, rank, 4).ranges for rank in range(4)] == [
        ((8, 10),),
        ((10, 12),),
        ((12, 14),),
        ((14, 15),),
    ]


def test_a_padded_step_ends_with_samples_from_the_start_of_the_epoch() -> None:
    ranks = [step_at(8, 13, 4, rank, 2, "pad") for rank in range(2)]
    assert [rank.ranges for rank in ranks] == [((8, 12),), ((12, 13), (0, 3))]
    assert [rank.padding for rank in ranks] == [0, 3]
    assert step_at(0, 3, 8, 0, 1, "pad").ranges == ((0, 3), (0, 3), (0, 2))


@pytest.mark.parametrize("seed", [7, 8])
def test_shuffled_order_is_uncorrelated_with_storage_order(seed: int) -> None:
    chunks = [50] * 100
    order = np.array(positions(order_of(chunks, seed=seed, pool=1000, events=10_000), chunks))
    assert abs(np.corrcoef(order, np.arange(len(order)))[0, 1]) < 0.3  # 100 chunks: one chunk's place is the noise
    assert abs(np.corrcoef(order[:-1], order[1:])[0, 1]) < 0.3
