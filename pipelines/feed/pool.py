"""Pools: the decoded chunks among whose samples an epoch's order moves, and batches cut from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...schemas.errors import ShardError
from ...storage.shard_arrays import Values
from ...storage.shard_content import Content
from ...storage.shard_manifest import Column
from ...storage.shards import Chunk, ShardSet
from .batch import Batch, Jagged
from .expression import Expression, known
from .order import EpochOrder
from .selection import Rows, SamplePlan
from .windows import Array, Buffers, Int64s, gather_windows


@dataclass(frozen=True, slots=True)
class Reading:
    """What is read of a shard set: which columns, how long the windows are, and onto which memory.

    deduplicate: a batch holds each distinct window once, and which sample has which
    events:      of a window only the events for which it holds are kept
    """

    shards: ShardSet
    samples: tuple[Column, ...]
    history: tuple[Column, ...]
    length: int
    content: Mapping[str, Content]
    deduplicate: bool = False
    events: Expression | None = None
    buffers: Buffers = field(default_factory=Buffers)


class Pool:
    """One pool of an epoch. `fill` each chunk and `arrange`, in any order and from any threads; then cut batches.

    All arrays are laid out chunk after chunk; `within` says which sample comes at each place of the epoch's order.
    """

    def __init__(self, reading: Reading, order: EpochOrder, index: int, plan: SamplePlan) -> None:
        self._reading = reading
        self._order = order
        self._index = index
        self._plan = plan
        self._chunks = order.chunks_of(index)
        self._samples_at = np.concatenate([[0], np.cumsum(plan.chunk_samples[self._chunks])])
        self._events_at = np.concatenate([[0], np.cumsum(plan.chunk_events[self._chunks])])
        samples, events = int(self._samples_at[-1]), int(self._events_at[-1])
        lend, flags = reading.buffers.lend, np.dtype(np.bool_)
        self.user_id = lend(samples, np.dtype(np.int64))
        self.columns = {c.name: lend(samples, c.dtype) for c in reading.samples}
        self.valid = {c.name: lend(samples, flags) for c in reading.samples if c.nulls}
        self.window_start: Int64s = lend(samples, np.dtype(np.int64))
        self.window_length: Int64s = lend(samples, np.dtype(np.int64))
        self.history = {c.name: lend(events, c.dtype) for c in reading.history}
        self.history_valid = {c.name: lend(events, flags) for c in reading.history if c.nulls}
        self.within: Int64s = np.empty(0, dtype=np.int64)

    @property
    def chunk_count(self) -> int:
        return len(self._chunks)

    @property
    def event_count(self) -> int:
        """How many events it has room for."""
        return int(self._events_at[-1])

    def arrange(self) -> None:
        """Compute the order within the pool."""
        self.within = self._order.within(self._index)

    def fill(self, at: int) -> None:
        """Read the pool's chunk number `at` into its place.

        Raises:
            ShardError: it cannot be read, or a sample's window is not in it.
        """
        reading, number = self._reading, int(self._chunks[at])
        into = slice(int(self._samples_at[at]), int(self._samples_at[at + 1]))
        named = [c.name for c in reading.history]
        looked_at = [] if reading.events is None else [n for n in reading.events.columns if n not in named]
        events = slice(int(self._events_at[at]), int(self._events_at[at + 1]))
        chunk = reading.shards.read_chunk(
            number,
            samples=[c.name for c in reading.samples],
            history=[*named, *looked_at],
            length=reading.length,
            into={name: self.history[name][events] for name in named} if reading.events is None else None,
        )
        rows = self._plan.rows(number)
        _store(chunk.samples, rows, into, self.columns, self.valid)
        per_row = np.diff(chunk.sample_offsets)
        self.user_id[into] = np.repeat(chunk.user_id, per_row)[rows]
        if not reading.history:
            self.window_start[into] = self.window_length[into] = 0
            return
        start, length = _windows(chunk, per_row, reading.length, reading.shards, number)
        if reading.events is None:
            for name in self.history_valid:
                self.history_valid[name][events] = chunk.history[name].valid
        else:
            found = reading.events.evaluate(known(chunk.history, reading.shards.manifest.vocabularies))
            holds = np.broadcast_to(found.true(), int(chunk.history_offsets[-1]))
            upto = np.concatenate([[0], np.cumsum(holds, dtype=np.int64)])
            start, length, kept = upto[start], upto[start + length] - upto[start], np.flatnonzero(holds)
            some = slice(events.start, events.start + len(kept))
            _store({name: chunk.history[name] for name in named}, kept, some, self.history, self.history_valid)
        self.window_start[into] = start[rows] + events.start
        self.window_length[into] = length[rows]


def _store(
    values: Mapping[str, Values], rows: Rows, at: slice, into: Mapping[str, Array], valid: Mapping[str, Array]
) -> None:
    for name, read in values.items():
        into[name][at] = read.array[rows]
        if read.valid is not None:
            valid[name][at] = read.valid[rows]


def _windows(chunk: Chunk, per_row: Int64s, length: int, shards: ShardSet, number: int) -> tuple[Int64s, Int64s]:
    """(S,) start within the chunk's events, (S,) length of each sample's window timeline[max(seen-L, 0) : seen]."""
    seen = chunk.samples["seen"].array
    # Where ordinal 0 of the user's timeline would stand among the chunk's events.
    origin = np.repeat(chunk.history_offsets[:-1] - chunk.first_ordinal, per_row)
    lengths = np.minimum(seen, length)
    start = origin + seen - lengths
    outside = (start < np.repeat(chunk.history_offsets[:-1], per_row)) | (
        origin + seen > np.repeat(chunk.history_offsets[1:], per_row)
    )
    if outside.any():
        sample = chunk.samples["sample_id"].array[np.flatnonzero(outside)[0]]
        raise ShardError(
            "a sample's history is not in its row",
            where=f"{shards.where}, chunk {number}, sample {sample}",
            expected=f"the last {length} events before `seen`",
            hint="pack again",
        )
    return start, lengths


def cut(pieces: Sequence[tuple[Pool, int, int]], reading: Reading, **more: Any) -> Batch:
    """The batch that is samples [begin, end) of each of some pools, one after the other. It owns its memory.

    `more` is what else `Batch` takes.
    """
    chosen = [(pool, pool.within[begin:end]) for pool, begin, end in pieces]
    columns = {"user_id": _end_to_end([pool.user_id[rows] for pool, rows in chosen])}
    columns |= {c.name: _end_to_end([p.columns[c.name][rows] for p, rows in chosen]) for c in reading.samples}
    valid = {c.name: _end_to_end([p.valid[c.name][rows] for p, rows in chosen]) for c in reading.samples if c.nulls}
    inverse, windows = None, [(p, p.window_start[rows], p.window_length[rows]) for p, rows in chosen]
    if reading.deduplicate:
        inverse, windows = _distinct(windows)
    lengths = _end_to_end([length for _, _, length in windows])
    ends: Int64s = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=ends[1:])

    def gathered(name: str, masks: bool) -> Array:
        parts = [((p.history_valid if masks else p.history)[name], start, length) for p, start, length in windows]
        return gather_windows(parts, reading.buffers.lend)

    history = {
        c.name: Jagged(gathered(c.name, False), ends, gathered(c.name, True) if c.nulls else None)
        for c in reading.history
    }
    return Batch(columns, valid, history, reading.content, inverse=inverse, **more)


def _end_to_end(parts: Sequence[Array]) -> Array:
    """Arrays as one; what is one already is not copied."""
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


Windows = list[tuple[Pool, Int64s, Int64s]]


def _distinct(windows: Windows) -> tuple[Int64s, Windows]:
    """(B,) the number of each sample's window among the distinct ones, and those, in the order they first come.

    A pool may come twice: what fills the last batch of an epoch is the epoch's first.
    """
    pools = {id(pool): pool for pool, _, _ in windows}
    begins = dict(zip(pools, np.cumsum([0, *(pool.event_count for pool in pools.values())]).tolist(), strict=False))
    longest = 1 + max(int(length.max(initial=0)) for _, _, length in windows)
    # One number for each place and length; empty windows are one, wherever they begin.
    keys = [np.where(n == 0, -1, (begins[id(pool)] + at) * longest + n) for pool, at, n in windows]
    _, first, place = np.unique(np.concatenate(keys), return_index=True, return_inverse=True)
    rank = np.empty(len(first), dtype=np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    ends = np.cumsum([0, *map(len, keys)])
    of_part = np.split(np.sort(first), np.searchsorted(np.sort(first), ends[1:-1]))
    kept = [
        (pool, start[own - begin], length[own - begin])
        for (pool, start, length), own, begin in zip(windows, of_part, ends[:-1], strict=True)
    ]
    return rank[place], kept
