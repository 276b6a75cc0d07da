"""Reading: batches by the positions they are, made when asked for or ahead of it by threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from .batch import Batch
from .negatives import Sampler
from .order import EpochOrder, Piece
from .pool import Pool, Reading, cut
from .selection import SamplePlan
from .stats import Stats

Epoch = tuple[EpochOrder, SamplePlan]
Key = tuple[int, int]  # an epoch and a pool of it


@dataclass(frozen=True, slots=True)
class Request:
    """A batch: positions [begin, end) of epochs, one range after the other; at least one range, which may be empty.

    state:   what the batch carries as its state
    padding: how many of its last samples are there to fill it
    """

    ranges: tuple[tuple[int, int, int], ...]
    state: dict[str, Any]
    padding: int = 0


class Reader:
    """Makes batches of a shard set: the same ones whatever the number of workers.

    Args:
        epochs: the order and the samples of an epoch; called often.
        workers: threads that read and gather ahead; 0 does it when a batch is asked for.
    """

    def __init__(
        self, reading: Reading, epochs: Callable[[int], Epoch], sampler: Sampler | None, workers: int, stats: Stats
    ) -> None:
        self._reading = reading
        self._epochs = epochs
        self._sampler = sampler
        self._workers = workers
        self._stats = stats

    def batches(self, requests: Iterable[Request]) -> Iterator[Batch]:
        """The batch of each request, in order."""
        ahead = self._now(requests) if self._workers == 0 else self._ahead(requests)
        yield from self._stats.watched(ahead)

    def _pieces(self, request: Request) -> list[tuple[int, Piece]]:
        return [
            (epoch, piece)
            for epoch, begin, end in request.ranges
            for piece in self._epochs(epoch)[0].pieces(begin, end)
        ]

    def _pool(self, at: Key) -> Pool:
        order, plan = self._epochs(at[0])
        return Pool(self._reading, order, at[1], plan)

    def _now(self, requests: Iterable[Request]) -> Generator[Batch, None, None]:
        """On this thread."""
        pools: dict[Key, Pool] = {}
        for request in requests:
            pieces = self._pieces(request)
            wanted = {(epoch, piece.pool) for epoch, piece in pieces}
            pools = {at: pool for at, pool in pools.items() if at in wanted}
            for at in sorted(wanted - pools.keys()):
                pools[at] = pool = self._pool(at)
                for each in (*self._tasks(pool),):
                    each()
            yield self._cut([(pools[epoch, p.pool], p.begin, p.end) for epoch, p in pieces], request)

    def _ahead(self, requests: Iterable[Request]) -> Generator[Batch, None, None]:
        """By threads: at most two batches a worker and the next pool are ahead of the trainer.

        The executor starts tasks in the order they were submitted. A batch waits only for chunks submitted before it,
        and chunks wait for nothing: so no number of workers can come to a standstill.
        """
        pools: dict[Key, _Filling] = {}
        waiting: deque[Future[Batch]] = deque()
        executor = ThreadPoolExecutor(self._workers, thread_name_prefix="reclake-feed")

        def begin(at: Key) -> None:
            if at not in pools:
                pool = self._pool(at)
                pools[at] = _Filling(pool, [executor.submit(task) for task in self._tasks(pool)])

        def cut_when_filled(parts: Sequence[tuple[_Filling, int, int]], request: Request) -> Batch:
            return self._cut([(filling.result(), first, last) for filling, first, last in parts], request)

        try:
            for request in requests:
                pieces = self._pieces(request)
                wanted = {(epoch, piece.pool) for epoch, piece in pieces}
                last_epoch, last_pool = max(wanted)
                following = (last_epoch, last_pool + 1)
                keep = wanted | {following}
                pools = {at: pool for at, pool in pools.items() if at in keep}
                for at in sorted(wanted):
                    begin(at)
                parts = [(pools[epoch, p.pool], p.begin, p.end) for epoch, p in pieces]
                waiting.append(executor.submit(cut_when_filled, parts, request))
                if following[1] < self._epochs(last_epoch)[0].pools:
                    begin(following)
                if len(waiting) > 2 * self._workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            executor.shutdown(wait=True, cancel_futures=True)

    def _tasks(self, pool: Pool) -> list[Callable[[], None]]:
        """What fills a pool, each in any order and from any thread."""

        def arrange() -> None:
            with self._stats.timed("arrange"):
                pool.arrange()

        def fill(at: int) -> Callable[[], None]:
            def read() -> None:
                with self._stats.timed("read"):
                    pool.fill(at)

            return read

        return [arrange, *(fill(at) for at in range(pool.chunk_count))]

    def _cut(self, parts: Sequence[tuple[Pool, int, int]], request: Request) -> Batch:
        with self._stats.timed("cut"):
            batch = cut(parts, self._reading, state=request.state, padding=request.padding)
            if self._sampler is not None:
                self._draw(batch, request, self._sampler)
            return batch

    @staticmethod
    def _draw(batch: Batch, request: Request, sampler: Sampler) -> None:
        drawn = [sampler.draw(epoch, np.arange(begin, end)) for epoch, begin, end in request.ranges]
        items, logq = (np.concatenate(each) for each in zip(*drawn, strict=True))
        batch.add_negatives(items, logq, sampler.logq(batch["item_id"]))


class _Filling:
    """A pool that threads are filling."""

    def __init__(self, pool: Pool, tasks: list[Future[None]]) -> None:
        self._pool = pool
        self._tasks = tasks

    def result(self) -> Pool:
        for task in self._tasks:
            task.result()
        return self._pool
