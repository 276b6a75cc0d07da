"""The feed: batches of a shard set in one global order, resumable to the batch, for any number of ranks and workers."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

from ...schemas.errors import FeedError, FeedStateError
from ...storage.shard_manifest import Column, Manifest
from ...storage.shards import CONTENT_ROW, ShardSet
from . import order as orders
from .batch import Batch
from .pool import Pool, Reading, cut

STATE_VERSION = 1
# A pool is what is in memory at once (two or three of them with workers), so it is bounded in events too.
POOL_EVENTS = 1 << 24
KEYS = ("sample_id", "item_id", "seen", "request_time", "negative")

Step = tuple[int, int, int]  # begin and end of the rank's positions, and where the step of all ranks ends


class Feed:
    """Iterates the batches of one epoch per `for`; the next `for` is the next epoch.

    The ranks' batches of one step, concatenated in rank order, are the next world_size * batch_size samples of one
    global order, which depends on the shard set, the seed, the epoch and `pool_samples` alone. The samples left at the
    end of an epoch are one smaller step, split evenly: every rank gets the same number of batches, whose sizes differ
    by one at most and may be 0; with `drop_last` that step is left out. A `for` that is left early is continued by the
    next one.

    Args:
        path: the folder of a shard set.
        batch_size: samples in a batch of one rank.
        history: the greatest window length, at most the packed one (the default).
        seed: of the shuffle; there is no default.
        rank, world_size: which part of each step is this process's.
        epoch: the first epoch.
        shuffle: False gives storage order.
        workers: threads that read and gather ahead; 0 does it when a batch is asked for. Same batches, same bytes.
        drop_last: leave out the smaller step at the end of an epoch.
        fields: history fields to read; all by default, () for none. Others are not read from the files.
        columns: labels and features to read; all by default.
        pool_samples: how many samples are shuffled among each other, and held in memory.

    Raises:
        ShardError: the shard set is missing, damaged or of another format.
        FeedError: an argument does not fit the shard set.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        batch_size: int,
        history: int | None = None,
        seed: int | None = None,
        rank: int = 0,
        world_size: int = 1,
        epoch: int = 0,
        shuffle: bool = True,
        workers: int = 0,
        drop_last: bool = False,
        fields: Sequence[str] | None = None,
        columns: Sequence[str] | None = None,
        pool_samples: int = 131_072,
    ) -> None:
        self._shards = ShardSet(Path(path))
        for name, value, least in [
            ("batch_size", batch_size, 1),
            ("world_size", world_size, 1),
            ("epoch", epoch, 0),
            ("workers", workers, 0),
            ("pool_samples", pool_samples, 1),
        ]:
            if value < least:
                raise FeedError(f"{name} is too small", expected=f"at least {least}", got=value)
        if not 0 <= rank < world_size:
            raise FeedError("no such rank", expected=f"0 <= rank < world_size = {world_size}", got=rank)
        if shuffle and seed is None:
            raise FeedError("a shuffle needs a seed", expected="seed=7, or shuffle=False", got="seed=None")
        self._batch_size, self._rank, self._world_size = batch_size, rank, world_size
        self._seed = seed if shuffle else None
        self._workers, self._drop_last, self._pool_samples = workers, drop_last, pool_samples
        self._reading = _reading(self._shards, history, fields, columns)
        self._epoch = epoch
        self._position = 0
        self._run = 0  # of the loop that may go on; loops before it may not
        if self.samples == 0 or len(self) == 0:
            raise FeedError(
                "not one batch",
                where=path,
                expected=f"{batch_size * world_size} samples or more, or drop_last=False",
                got=f"{self.samples} samples",
            )

    @property
    def samples(self) -> int:
        """How many samples an epoch has, over all ranks."""
        return self._shards.manifest.sample_count

    @property
    def epoch(self) -> int:
        """The epoch of the next batch, from 0."""
        return self._epoch

    @property
    def manifest(self) -> Manifest:
        """What the shard set is: recipe, pin, columns."""
        return self._shards.manifest

    @property
    def vocabularies(self) -> Mapping[str, tuple[str, ...]]:
        """For each string column the strings that its codes stand for."""
        return self._shards.manifest.vocabularies

    def __len__(self) -> int:
        """How many batches each rank gets in a whole epoch."""
        return orders.step_count(0, self.samples, self._batch_size, self._world_size, drop_last=self._drop_last)

    def __iter__(self) -> Iterator[Batch]:
        self._run += 1
        return self._batches(self._run)

    def state_dict(self) -> dict[str, Any]:
        """Where the feed stands, as JSON values: the batches that were yielded are behind it, prefetched ones are not.

        The same on every rank after the same step.
        """
        return {
            "version": STATE_VERSION,
            "fingerprint": self._shards.manifest.fingerprint,
            "pin": self._shards.manifest.pin["name"],
            "shuffle": self._seed is not None,
            "seed": self._seed,
            "pool_samples": self._pool_samples,
            "samples": self.samples,
            "epoch": self._epoch,
            "position": self._position,
            "batch_size": self._batch_size,
            "world_size": self._world_size,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go to where a state was taken: the next batch is the next batch.

        `position` counts samples of the global order, so batch size, world size, rank and workers may differ from
        when it was taken; each remaining sample still comes once, in the same global order.

        Raises:
            FeedStateError: naming all that differs: the shard set, the seed, the shuffle.
        """
        own = self.state_dict()
        fixed = ("version", "fingerprint", "pin", "shuffle", "seed", "pool_samples", "samples")
        missing = [name for name in (*fixed, "epoch", "position") if name not in state]
        if missing:
            raise FeedStateError(
                "not a feed's state", expected="what state_dict returned", got="no " + ", ".join(missing)
            )
        differing = [name for name in fixed if state[name] != own[name]]
        if differing:
            raise FeedStateError(
                "this state is of another feed: it differs in " + ", ".join(differing),
                where=self._shards.folder,
                expected=", ".join(f"{name} {own[name]!r}" for name in differing),
                got=", ".join(f"{name} {state[name]!r}" for name in differing),
                hint="open the shards and the seed that the state was taken with, or start without it",
            )
        epoch, position = state["epoch"], state["position"]
        if not (isinstance(epoch, int) and isinstance(position, int) and epoch >= 0 and 0 <= position <= self.samples):
            raise FeedStateError(
                "not a position of this feed",
                where=self._shards.folder,
                expected=f"epoch >= 0, position in 0..{self.samples}",
                got=f"epoch {epoch!r}, position {position!r}",
            )
        self._run += 1
        self._move(epoch, position)

    def _move(self, epoch: int, position: int) -> None:
        """Stand at a position; at the end of an epoch that is the start of the next."""
        left = orders.step_count(position, self.samples, self._batch_size, self._world_size, drop_last=self._drop_last)
        self._epoch, self._position = (epoch, position) if left else (epoch + 1, 0)

    def _batches(self, run: int) -> Iterator[Batch]:
        order = self._order()
        epoch = self._epoch
        ahead = self._now(order) if self._workers == 0 else self._ahead(order)
        with closing(ahead):
            for batch, after in ahead:
                if run != self._run:
                    raise FeedError(
                        "this loop is over",
                        expected="one loop over a feed at a time",
                        got="another loop, or load_state_dict, after it began",
                        hint="begin a new loop",
                    )
                # Before the yield: a state taken in the loop's body counts the batch that the body holds.
                self._move(epoch, after)
                yield batch

    def _order(self) -> orders.EpochOrder:
        return orders.epoch_order(
            self._shards.chunk_samples,
            self._shards.chunk_events,
            fingerprint=self._shards.manifest.fingerprint,
            seed=self._seed,
            epoch=self._epoch,
            pool_samples=self._pool_samples,
            pool_events=POOL_EVENTS,
        )

    def _steps(self) -> Iterator[Step]:
        return orders.steps(
            self._position, self.samples, self._batch_size, self._rank, self._world_size, drop_last=self._drop_last
        )

    def _now(self, order: orders.EpochOrder) -> Generator[tuple[Batch, int], None, None]:
        """Batches made when they are asked for, and the position after the step of each."""
        pools: dict[int, Pool] = {}
        for begin, end, after in self._steps():
            pieces = order.pieces(begin, end)
            pools = {index: pool for index, pool in pools.items() if index >= pieces[0].pool}
            for piece in pieces:
                if piece.pool not in pools:
                    pools[piece.pool] = pool = Pool(self._reading, order, piece.pool)
                    pool.arrange()
                    for at in range(pool.chunk_count):
                        pool.fill(at)
            yield cut([(pools[p.pool], p.begin, p.end) for p in pieces], self._reading), after

    def _ahead(self, order: orders.EpochOrder) -> Generator[tuple[Batch, int], None, None]:
        """As `_now`, made by threads: at most two batches a worker and the next pool are ahead of the reader.

        The executor starts tasks in the order they were submitted. A batch waits only for chunks submitted before it,
        and chunks wait for nothing: so no number of workers can come to a standstill.
        """
        pools: dict[int, _Filling] = {}
        waiting: deque[tuple[Future[Batch], int]] = deque()
        executor = ThreadPoolExecutor(self._workers, thread_name_prefix="reclake-feed")
        try:
            for begin, end, after in self._steps():
                pieces = order.pieces(begin, end)
                pools = {index: pool for index, pool in pools.items() if index >= pieces[0].pool}
                for piece in pieces:
                    if piece.pool not in pools:
                        pools[piece.pool] = _Filling(executor, Pool(self._reading, order, piece.pool))
                parts = [(pools[p.pool], p.begin, p.end) for p in pieces]
                waiting.append((executor.submit(_cut_when_filled, parts, self._reading), after))
                following = pieces[-1].pool + 1
                if following < order.pools and following not in pools:
                    pools[following] = _Filling(executor, Pool(self._reading, order, following))
                if len(waiting) > 2 * self._workers:
                    batch, position = waiting.popleft()
                    yield batch.result(), position
            while waiting:
                batch, position = waiting.popleft()
                yield batch.result(), position
        finally:
            executor.shutdown(wait=True, cancel_futures=True)


class _Filling:
    """A pool that threads are filling."""

    def __init__(self, executor: ThreadPoolExecutor, pool: Pool) -> None:
        self._pool = pool
        self._tasks = [executor.submit(pool.arrange)]
        self._tasks += [executor.submit(pool.fill, at) for at in range(pool.chunk_count)]

    def result(self) -> Pool:
        for task in self._tasks:
            task.result()
        return self._pool


def _cut_when_filled(parts: Sequence[tuple[_Filling, int, int]], reading: Reading) -> Batch:
    return cut([(filling.result(), begin, end) for filling, begin, end in parts], reading)


def _reading(
    shards: ShardSet, history: int | None, fields: Sequence[str] | None, columns: Sequence[str] | None
) -> Reading:
    manifest = shards.manifest
    length = manifest.history_length if history is None else history
    if not 0 <= length <= manifest.history_length:
        raise FeedError(
            "no such history length",
            where=shards.folder,
            expected=f"0..{manifest.history_length}, the length that was packed",
            got=length,
            hint=f"pack with a history of {length}" if length > 0 else None,
        )
    keys = (*KEYS, "label_mature", *([CONTENT_ROW] if manifest.content else []))
    chosen = [c for c in manifest.samples if c.name not in keys]
    return Reading(
        shards=shards,
        samples=(*(c for c in manifest.samples if c.name in keys), *_choose(chosen, columns, "column", shards)),
        history=_choose(manifest.history, fields, "history field", shards),
        length=length,
        content={name: shards.content(name) for name in manifest.content},
    )


def _choose(columns: Sequence[Column], names: Sequence[str] | None, kind: str, shards: ShardSet) -> tuple[Column, ...]:
    if names is None:
        return tuple(columns)
    by_name = {column.name: column for column in columns}
    for name in names:
        if name not in by_name:
            known = ", ".join(by_name) or "none were packed"
            raise FeedError(f"no such {kind}", where=shards.folder, expected=f"one of {known}", got=repr(name))
    return tuple(by_name[name] for name in dict.fromkeys(names))
