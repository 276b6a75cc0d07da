"""Keeps a table in order beside its writers: small files merged, checkpoints made, the log cleaned up.

Whoever commits a version that is due does it, in a thread of its own, so no schedule and no leader is needed.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from ..schemas.errors import ReclakeError
from . import log
from .compaction import FAN, Written, compact
from .table import Table

COMPACT_EVERY = 20  # versions
CLEAN_EVERY = 500
CHECKPOINT_REST_S = 1.0  # from one checkpoint to the next: each costs in proportion to the table's files
LOG_HOURS = log.LOG_HOURS
_LOG = logging.getLogger("reclake")


@dataclass(slots=True)
class _Task:
    """Something due whenever a multiple of so many versions was passed, and not sooner than `rest_s` after the last."""

    name: str
    every: int
    work: Callable[[], object]
    rest_s: float = 0.0
    after: _Task | None = None  # it has work only where this one has been
    seen: int = -1
    done_s: float = 0.0

    def reach(self, version: int) -> int:
        """The version up to which there is work, when the table is at this one."""
        return self.after.seen if self.after else version

    def wait_s(self, version: int) -> float:
        """How long it is until it is due; infinite until there are more versions."""
        if self.reach(version) // self.every <= self.seen // self.every:
            return math.inf
        return max(self.done_s + self.rest_s - time.monotonic(), 0.0)


class Keeper:
    """Upkeep of one table for one writer. What fails is logged and due again later: writers never see it.

    Into `written` the writer puts the rows of the small files it commits: they are merged without being read.
    """

    def __init__(self, table: Table, needed: Callable[[], log.Needed]) -> None:
        self._table = table
        self.written = Written()
        self._wake = threading.Condition()
        self._version = -1
        self._closed = False
        self._thread: threading.Thread | None = None
        checkpoint = _Task("checkpoint", log.CHECKPOINT_EVERY, table.checkpoint, CHECKPOINT_REST_S)
        self._tasks = [
            checkpoint,
            _Task("compaction", COMPACT_EVERY, lambda: compact(table, fan=FAN, written=self.written)),
            # Only entries that a checkpoint holds may go.
            _Task(
                "log clean-up",
                CLEAN_EVERY,
                lambda: log.clean(table.root, needed(), hours=LOG_HOURS),
                after=checkpoint,
            ),
        ]

    def committed(self, version: int) -> None:
        """A version was committed by this process. Cheap."""
        with self._wake:
            passed = any(version // task.every > self._version // task.every for task in self._tasks)
            self._version = version
            if self._thread is None:
                for task in self._tasks:
                    task.seen = version - 1
                name = f"reclake-keeper-{self._table.name}"
                self._thread = threading.Thread(target=self._run, name=name, daemon=True)
                self._thread.start()
            elif passed:
                self._wake.notify()

    def close(self) -> None:
        """Do what is due, and stop."""
        with self._wake:
            self._closed = True
            self._wake.notify()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while due := self._next():
            for task in due:
                try:
                    task.work()
                except (ReclakeError, OSError, RuntimeError, ValueError) as error:
                    # delta-rs's errors are RuntimeErrors or ValueErrors, pyarrow's too.
                    _LOG.warning("%s of %s failed and is due again later: %s", task.name, self._table.name, error)
                task.done_s = time.monotonic()

    def _next(self) -> list[_Task]:
        """What is due, as soon as anything is; nothing when the writer is closed and all is done."""
        with self._wake:
            while True:
                waits = [task.wait_s(self._version) for task in self._tasks]
                # Who closes waits for no rest.
                due = [
                    task for task, s in zip(self._tasks, waits, strict=True) if not s or (self._closed and s < math.inf)
                ]
                if due or self._closed:
                    for task in due:
                        task.seen = task.reach(self._version)
                    return due
                self._wake.wait(None if min(waits) == math.inf else min(waits))
