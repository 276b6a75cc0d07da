"""Keeps a table in order beside its writers: small files merged, checkpoints made, the log cleaned up.

Whoever commits a version that is due does it, in a thread of its own, so no schedule and no leader is needed.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from ..schemas.errors import ReclakeError
from . import log
from .compaction import FAN, compact
from .table import Table

COMPACT_EVERY = 20  # versions
CLEAN_EVERY = 500
LOG_HOURS = log.LOG_HOURS
_LOG = logging.getLogger("reclake")


class Keeper:
    """Upkeep of one table for one writer. What fails is logged and due again later: writers never see it."""

    def __init__(self, table: Table, needed: Callable[[], log.Needed]) -> None:
        self._table = table
        self._needed = needed
        self._wake = threading.Condition()
        self._version = -1
        self._seen: int | None = None
        self._closed = False
        self._thread: threading.Thread | None = None

    def committed(self, version: int) -> None:
        """A version was committed by this process. Cheap."""
        with self._wake:
            self._version = version
            if self._seen is None:
                self._seen = version - 1
                self._thread = threading.Thread(
                    target=self._run, name=f"reclake-keeper-{self._table.name}", daemon=True
                )
                self._thread.start()
            if self._due(log.CHECKPOINT_EVERY) or self._due(COMPACT_EVERY):
                self._wake.notify()

    def close(self) -> None:
        """Do what is due, and stop."""
        with self._wake:
            self._closed = True
            self._wake.notify()
        if self._thread is not None:
            self._thread.join()

    def _due(self, every: int) -> bool:
        """Whether a multiple of `every` was passed since the last time."""
        return self._seen is not None and self._version // every > self._seen // every

    def _run(self) -> None:
        while True:
            with self._wake:
                while not self._closed and not (self._due(log.CHECKPOINT_EVERY) or self._due(COMPACT_EVERY)):
                    self._wake.wait()
                tasks: dict[str, tuple[int, Callable[[], object]]] = {
                    "checkpoint": (log.CHECKPOINT_EVERY, self._table.checkpoint),
                    "compaction": (COMPACT_EVERY, lambda: compact(self._table, fan=FAN)),
                    "log clean-up": (CLEAN_EVERY, lambda: log.clean(self._table.root, self._needed(), hours=LOG_HOURS)),
                }
                due = [(name, task) for name, (every, task) in tasks.items() if self._due(every)]
                self._seen = self._version
                closed = self._closed
            for name, task in due:
                try:
                    task()
                except (ReclakeError, OSError, RuntimeError, ValueError) as error:
                    # delta-rs's errors are RuntimeErrors or ValueErrors, pyarrow's too.
                    _LOG.warning("%s of %s failed and is due again later: %s", name, self._table.name, error)
            if closed and not due:
                return
