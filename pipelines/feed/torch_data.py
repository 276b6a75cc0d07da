"""A feed under torch's DataLoader and torchdata's StatefulDataLoader, with any number of worker processes.

A loader asks its workers in turn, so worker w of W makes the batches number w, w + W, …: in the order of the loader
they are those of the feed alone. Each worker reads the pools its batches are of, all of them: worker processes take
load off the trainer's process, but threads (`Feed(workers=…)`) share what they read, and are the better choice.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from functools import cache
from typing import Any, Protocol

from .batch import Batch
from .stats import MADE, Stage, Stats


class Feed(Protocol):
    """What is needed of `feed.Feed`."""

    @property
    def epoch(self) -> int: ...
    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[Batch]: ...
    def every(self, first: int, step: int) -> Iterator[Batch]: ...
    def set_epoch(self, epoch: int) -> None: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...
    def seconds(self) -> dict[Stage, float]: ...


@cache
def _dataset_class() -> Any:
    from torch.utils.data import IterableDataset, get_worker_info

    class FeedDataset(IterableDataset[Batch]):
        """Batches of torch tensors, for `DataLoader(dataset, batch_size=None)`.

        With workers this process's feed does not move by itself, and each loop's workers begin where it stands: call
        `feed.set_epoch` before each loop, as with torch's DistributedSampler. (`Feed.torch_loader` moves it.) What a
        StatefulDataLoader was given to resume from goes before that.
        """

        def __init__(self, feed: Feed) -> None:
            self.feed = feed
            self._made = 0  # batches that this worker made since the feed's place

        def __iter__(self) -> Iterator[Batch]:
            worker = get_worker_info()
            if worker is None:
                for batch in self.feed:
                    yield batch.to_torch()
                return
            # The place is fixed while the loop runs: what is behind it is `_made` of this worker's batches.
            before = self.feed.seconds()
            for batch in self.feed.every(worker.id + self._made * worker.num_workers, worker.num_workers):
                self._made += 1
                now = self.feed.seconds()
                batch.spent = {stage: now[stage] - before[stage] for stage in MADE}
                before = now
                yield batch.to_torch()
            self.feed.set_epoch(self.feed.epoch + 1)
            self._made = 0

        def state_dict(self) -> dict[str, Any]:
            return {"feed": self.feed.state_dict(), "made": self._made}

        def load_state_dict(self, state: Mapping[str, Any]) -> None:
            self.feed.load_state_dict(state["feed"])
            self._made = state["made"]

        def __reduce__(self) -> tuple[Any, ...]:
            return as_dataset, (self.feed,)

    return FeedDataset


def as_dataset(feed: Feed) -> Any:
    """The feed as a dataset. Its class is made when it is needed: the feed itself does without torch."""
    return _dataset_class()(feed)


class Loader:
    """A torch DataLoader over a feed, which the feed follows."""

    def __init__(self, feed: Feed, stats: Stats, num_workers: int, more: Mapping[str, Any]) -> None:
        self._feed = feed
        self._stats = stats
        self._workers = num_workers
        self._more = more

    def __len__(self) -> int:
        return len(self._feed)

    def __iter__(self) -> Iterator[Batch]:
        made = self._made()
        return self._stats.watched(made) if self._workers else made

    def _made(self) -> Generator[Batch, None, None]:
        from torch.utils.data import DataLoader

        if self._workers and len(self._feed) == 0:  # nothing was selected: no batch will lead the feed behind it
            self._feed.set_epoch(self._feed.epoch + 1)
            return
        dataset = as_dataset(self._feed)
        for batch in DataLoader(dataset, batch_size=None, num_workers=self._workers, **self._more):
            if self._workers:
                self._feed.load_state_dict(batch.state)
            yield batch


def loader(feed: Feed, stats: Stats, num_workers: int, more: Mapping[str, Any]) -> Loader:
    """See `Feed.torch_loader`."""
    return Loader(feed, stats, num_workers, more)
