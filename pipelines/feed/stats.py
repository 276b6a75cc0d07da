"""Where a feed's time goes: what its threads do, and whether the trainer waits for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from typing import Any, Literal

from .batch import Batch

Stage = Literal["read", "arrange", "cut", "wait", "away"]
# What a feed's own time goes into; the other two are the trainer's.
MADE: tuple[Stage, ...] = ("read", "arrange", "cut")
# A trainer that waits less than this share of its time is not held up.
STALL = 0.05


class Stats:
    """Seconds by stage, summed over threads.

    read:    decoding chunks (for remote shards, fetching them)
    arrange: computing orders
    cut:     gathering batches
    wait:    the trainer waits for a batch
    away:    the trainer has one and does its own work
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seconds: dict[Stage, float] = dict.fromkeys(("read", "arrange", "cut", "wait", "away"), 0.0)
        self._counts = {"batches": 0, "samples": 0, "events": 0}

    @contextmanager
    def timed(self, stage: Stage) -> Iterator[None]:
        """Count the time of the block to a stage."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.add(stage, time.perf_counter() - began)

    def add(self, stage: Stage, seconds: float) -> None:
        with self._lock:
            self._seconds[stage] += seconds

    def count(self, samples: int, events: int) -> None:
        """A batch was yielded."""
        with self._lock:
            self._counts["batches"] += 1
            self._counts["samples"] += samples
            self._counts["events"] += events

    def seconds(self) -> dict[Stage, float]:
        """What was counted so far, by stage."""
        with self._lock:
            return dict(self._seconds)

    def watched(self, batches: Generator[Batch, None, None]) -> Iterator[Batch]:
        """The batches, as a trainer asks for them: how long it waits for each, and is away with it."""
        with closing(batches):
            while True:
                with self.timed("wait"):
                    batch = next(batches, None)
                if batch is None:
                    return
                for stage, seconds in batch.spent.items():
                    self.add(stage, seconds)
                self.count(len(batch), batch.event_count)
                began = time.perf_counter()
                try:
                    yield batch
                finally:
                    self.add("away", time.perf_counter() - began)

    def summary(self) -> dict[str, Any]:
        """Counts, seconds, `busy` (the share of time the trainer did not wait) and `stall`.

        `stall` is the stage that took most of the feed's time where the trainer waits for 5 % of its time or more;
        None where it does not.
        """
        with self._lock:
            seconds, counts = dict(self._seconds), dict(self._counts)
        whole = seconds["wait"] + seconds["away"]
        busy = seconds["away"] / whole if whole else 1.0
        slowest = max(MADE, key=lambda stage: seconds[stage])
        stall = slowest if busy < 1 - STALL else None
        return counts | {"seconds": seconds, "busy": busy, "stall": stall}
