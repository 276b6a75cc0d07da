"""Several feeds side by side: each step gives a batch of each."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from contextlib import ExitStack, closing
from typing import Any

import numpy as np

from ...schemas.errors import FeedError, FeedStateError
from .batch import Batch
from .feed import Feed

STATE_VERSION = 1


class Mix:
    """Iterates steps: in each a batch of every feed, by name. The ratio of the recipes is that of their batch sizes.

    Every feed keeps its own global order, whatever the others and the world size are, and begins its next epoch when it
    has given one. A step in which an epoch ends may be smaller; `remainder="drop"` keeps the ratio exact.

    Args:
        feeds: with the same rank and world size.
        steps: how many steps a `for` runs; the next one goes on.

    Raises:
        FeedError: no feed, one twice, less than one step, or feeds of several ranks.
    """

    def __init__(self, feeds: Mapping[str, Feed], *, steps: int) -> None:
        if not isinstance(feeds, Mapping) or not feeds or not isinstance(steps, int | np.integer) or steps < 1:
            raise FeedError(
                "not a mix", expected="one feed or more by name, 1 step or more", got=f"{list(feeds)}, {steps!r} steps"
            )
        if len({id(feed) for feed in feeds.values()}) < len(feeds):
            raise FeedError("one feed under two names", expected="a feed for each", got=", ".join(feeds))
        places = {name: feed.place for name, feed in feeds.items()}
        if len(set(places.values())) > 1:
            raise FeedError(
                "feeds of several ranks in one mix",
                expected="one rank and world size",
                got=", ".join(f"{name} {rank} of {world_size}" for name, (rank, world_size) in places.items()),
            )
        self._feeds = dict(feeds)
        self._steps = int(steps)
        self._step = 0

    def __len__(self) -> int:
        return self._steps

    def __iter__(self) -> Iterator[dict[str, Batch]]:
        with ExitStack() as stack:
            endless = {name: stack.enter_context(closing(_endless(feed))) for name, feed in self._feeds.items()}
            for step in range(self._step, self._steps):
                batches = {name: next(each) for name, each in endless.items()}
                self._step = (step + 1) % self._steps
                yield batches

    def state_dict(self) -> dict[str, Any]:
        """Where all feeds stand, as JSON values."""
        feeds = {name: feed.state_dict() for name, feed in self._feeds.items()}
        return {"version": STATE_VERSION, "steps": self._steps, "step": self._step, "feeds": feeds}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go to where a state was taken.

        Raises:
            FeedStateError: it is of another mix, or of another feed. Then no feed has moved.
        """
        given = state if isinstance(state, Mapping) else {}
        expected = (STATE_VERSION, self._steps, sorted(self._feeds))
        feeds = given.get("feeds")
        got = (given.get("version"), given.get("steps"), sorted(feeds) if isinstance(feeds, Mapping) else feeds)
        step = given.get("step")
        if got != expected or not isinstance(step, int) or not 0 <= step < self._steps:
            raise FeedStateError("this state is of another mix", expected=expected, got=f"{got}, step {step}")
        before = {name: feed.state_dict() for name, feed in self._feeds.items()}
        try:
            for name, feed in self._feeds.items():
                feed.load_state_dict(given["feeds"][name])
        except FeedStateError:
            for name, feed in self._feeds.items():
                feed.load_state_dict(before[name])
            raise
        self._step = step


def _endless(feed: Feed) -> Generator[Batch, None, None]:
    while True:
        yield from feed
