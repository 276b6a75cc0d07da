"""The order of samples: pure arithmetic, a function of (seed, epoch, shard set, selection) alone.

Two levels. The chunks (row groups) are permuted; consecutive chunks of that permutation form pools of about
`pool_samples` samples; the samples of a pool are permuted. So a sample moves anywhere among its pool's chunks, which
come from anywhere, and where position p is found takes one binary search: resuming never replays. A chronological
order does the same within each window of time, the windows one after the other.

A permutation is the stable argsort of SplitMix64 outputs (Steele, Lea, Flood: Fast Splittable Pseudorandom Number
Generators, OOPSLA 2014). It is fixed by its constants, on every platform and version; numpy.random's streams are not.
World size and batch size only cut the order: see `step_at`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

_MASK = (1 << 64) - 1
_GAMMA = 0x9E3779B97F4A7C15
_MIX_1 = 0xBF58476D1CE4E5B9
_MIX_2 = 0x94D049BB133111EB

Int64s = npt.NDArray[np.int64]
# What becomes of the samples at the end of an epoch that do not fill a step of all ranks.
Remainder = Literal["split", "drop", "pad"]


def splitmix64(state: int) -> int:
    """One output of SplitMix64 for a 64-bit state."""
    z = (state + _GAMMA) & _MASK
    z = ((z ^ (z >> 30)) * _MIX_1) & _MASK
    z = ((z ^ (z >> 27)) * _MIX_2) & _MASK
    return z ^ (z >> 31)


def key(*words: int) -> int:
    """A 64-bit key of any integers (taken modulo 2^64): each word is mixed into what came before it."""
    mixed = 0
    for word in words:
        mixed = splitmix64(mixed ^ (word & _MASK))
    return mixed


def words(states: Int64s, seed: int) -> npt.NDArray[np.uint64]:
    """(n,) uint64: output number i of SplitMix64 started at `seed`, for each i of `states`, from 0."""
    z = states.astype(np.uint64) + np.uint64(1)
    z *= np.uint64(_GAMMA)
    z += np.uint64(seed & _MASK)
    z ^= z >> np.uint64(30)
    z *= np.uint64(_MIX_1)
    z ^= z >> np.uint64(27)
    z *= np.uint64(_MIX_2)
    z ^= z >> np.uint64(31)
    return z


def permutation(n: int, seed: int) -> Int64s:
    """(n,) int64: the permutation that sorts the first n outputs of SplitMix64 started at `seed`, stably."""
    outputs, places = words(np.arange(n), seed), np.arange(n, dtype=np.uint64)
    # Values are sorted several times as fast as their places: each place stands in the low bits of its value. Where two
    # values are then not told apart (in one of thirty-five permutations of a million), their places are sorted.
    low = np.uint64((1 << max(n - 1, 0).bit_length()) - 1)
    marked = np.sort((outputs & ~low) | places)
    high = marked & ~low
    if (high[1:] == high[:-1]).any():
        return np.argsort(outputs, kind="stable")
    return (marked & low).astype(np.int64)


@dataclass(frozen=True, slots=True)
class Piece:
    """Samples [begin, end) of a pool, in its order."""

    pool: int
    begin: int
    end: int


@dataclass(frozen=True, slots=True)
class EpochOrder:
    """The order of one epoch: C chunks in P pools.

    chunks:       (C,) chunk numbers in the order they are pooled
    pool_chunks:  (P+1,) pool p is chunks[pool_chunks[p] : pool_chunks[p+1]]
    pool_samples: (P+1,) pool p holds positions [pool_samples[p], pool_samples[p+1]) of the order
    seed:         the key of the epoch; None for storage order
    """

    chunks: Int64s
    pool_chunks: Int64s
    pool_samples: Int64s
    seed: int | None

    @property
    def samples(self) -> int:
        return int(self.pool_samples[-1])

    @property
    def pools(self) -> int:
        return len(self.pool_samples) - 1

    def chunks_of(self, pool: int) -> Int64s:
        """The chunk numbers of a pool, in the order in which their samples are laid out before `within`."""
        return self.chunks[self.pool_chunks[pool] : self.pool_chunks[pool + 1]]

    def within(self, pool: int) -> Int64s:
        """(samples of the pool,): which sample of the pool, as laid out, comes at each place of its order."""
        n = int(self.pool_samples[pool + 1] - self.pool_samples[pool])
        return np.arange(n) if self.seed is None else permutation(n, key(self.seed, 1, pool))

    def pieces(self, begin: int, end: int) -> list[Piece]:
        """The pieces of pools that positions [begin, end) are; one empty piece where there are none."""
        first = int(np.searchsorted(self.pool_samples, begin, side="right")) - 1
        last = int(np.searchsorted(self.pool_samples, max(begin, end - 1), side="right")) - 1
        pieces = []
        for pool in range(min(first, self.pools - 1), min(last, self.pools - 1) + 1):
            start, stop = int(self.pool_samples[pool]), int(self.pool_samples[pool + 1])
            pieces.append(Piece(pool, max(begin, start) - start, min(end, stop) - start))
        return pieces


def epoch_order(
    chunk_samples: Int64s,
    chunk_events: Int64s,
    chunk_windows: Int64s | None = None,
    *,
    fingerprint: str,
    seed: int | None,
    epoch: int,
    pool_samples: int,
    pool_events: int,
) -> EpochOrder:
    """The order of one epoch.

    Args:
        chunk_samples, chunk_events: (C,) of each chunk in storage order; a chunk without samples is left out.
        chunk_windows: (C,) ascending; chunks are mixed with those of the same window only. None is one window.
        fingerprint: hexadecimal, of the shard set.
        seed: None gives storage order.
        pool_samples, pool_events: a pool takes chunks as long as it exceeds neither, and at least one.
    """
    mixed = None if seed is None else key(seed, epoch, *_words(fingerprint))
    chunks = np.arange(len(chunk_samples)) if mixed is None else permutation(len(chunk_samples), key(mixed, 0))
    if chunk_windows is not None:
        chunks = chunks[np.argsort(chunk_windows[chunks], kind="stable")]
    chunks = chunks[chunk_samples[chunks] > 0]
    count = len(chunks)
    samples = np.concatenate([[0], np.cumsum(chunk_samples[chunks])]).astype(np.int64)
    events = np.concatenate([[0], np.cumsum(chunk_events[chunks])]).astype(np.int64)
    window = np.zeros(count, dtype=np.int64) if chunk_windows is None else chunk_windows[chunks]
    cuts = [0]
    while cuts[-1] < count:
        begin = cuts[-1]
        by_samples = np.searchsorted(samples, samples[begin] + pool_samples, side="right") - 1
        by_events = np.searchsorted(events, events[begin] + pool_events, side="right") - 1
        by_window = np.searchsorted(window, window[begin], side="right")
        cuts.append(max(begin + 1, int(min(by_samples, by_events, by_window))))
    pool_chunks = np.array(cuts, dtype=np.int64)
    return EpochOrder(chunks, pool_chunks, samples[pool_chunks], mixed)


def _words(fingerprint: str) -> list[int]:
    return [int(fingerprint[at : at + 16], 16) for at in range(0, len(fingerprint), 16)]


@dataclass(frozen=True, slots=True)
class Step:
    """A rank's batch in one step: positions [begin, end) of each range, one after the other.

    after:   the position behind the step of all ranks
    padding: how many of the batch's samples, its last, come a second time to fill it
    """

    ranges: tuple[tuple[int, int], ...]
    after: int
    padding: int = 0


def step_at(
    position: int, samples: int, batch_size: int, rank: int, world_size: int, remainder: Remainder = "split"
) -> Step:
    """The rank's part of the step that starts at `position`.

    A step is the next world_size * batch_size positions, the ranks' batches one after the other. What remains at the
    end of an epoch is one smaller step, split evenly: the ranks' sizes differ by one at most (and may be 0); or it is
    filled up with positions from the start of the epoch.
    """
    size = min(world_size * batch_size, samples - position)
    if remainder == "pad":
        begin, end = position + rank * batch_size, position + (rank + 1) * batch_size
        return Step(_wrapped(begin, end, samples), position + size, end - max(begin, min(end, samples)))
    base, extra = divmod(size, world_size)
    begin = position + rank * base + min(rank, extra)
    return Step(((begin, begin + base + (rank < extra)),), position + size)


def _wrapped(begin: int, end: int, samples: int) -> tuple[tuple[int, int], ...]:
    """Positions [begin, end) modulo `samples`, as ranges."""
    ranges = []
    while begin < end:
        first = begin % samples
        length = min(end - begin, samples - first)
        ranges.append((first, first + length))
        begin += length
    return tuple(ranges)


def steps(
    position: int,
    samples: int,
    batch_size: int,
    rank: int,
    world_size: int,
    remainder: Remainder = "split",
    *,
    first: int = 0,
    every: int = 1,
) -> Iterator[Step]:
    """Of the steps that are left number `first`, `first + every`, …; with "drop" without the smaller one at the end."""
    for number in range(first, step_count(position, samples, batch_size, world_size, remainder), every):
        begin = position + number * world_size * batch_size
        yield step_at(begin, samples, batch_size, rank, world_size, remainder)


def step_count(position: int, samples: int, batch_size: int, world_size: int, remainder: Remainder = "split") -> int:
    """How many steps are left from `position`."""
    left, size = samples - position, world_size * batch_size
    return left // size if remainder == "drop" else -(-left // size)
