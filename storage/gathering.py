"""Many threads ask, one answers, a group at a time: for work that costs much a call and little an item."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

from ..schemas.errors import StorageError

A = TypeVar("A")
R = TypeVar("R")

Asked = list[tuple[A, "Future[R]"]]

# Producers that were answered together come again together, one a few microseconds after the other: without a moment
# for the others the first would have a group, and all that it costs, for itself.
_MOMENT_S = 0.005


class Gathering(Generic[A, R]):
    """What was asked and is not taken yet. One thread takes."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._process = os.getpid()
        self._waiting: Asked[A, R] = []
        self._wake = threading.Condition()
        self._closed = False
        self._last = 0
        self._expected = 0

    def ask(self, item: A) -> Future[R]:
        """Hand an item in; the future has its answer.

        Raises:
            StorageError: closed, or of another process.
        """
        self.check_process()
        result: Future[R] = Future()
        with self._wake:
            if self._closed:
                raise StorageError("the writer is closed", where=self._name)
            self._waiting.append((item, result))
            if len(self._waiting) == 1 or len(self._waiting) >= self._expected:
                self._wake.notify()
        return result

    def check_process(self) -> None:
        """A process that was forked has the writer and not its threads: nobody would ever answer there.

        Raises:
            StorageError: this is another process than the one that made it.
        """
        if os.getpid() != self._process:
            raise StorageError(
                "the writer belongs to another process",
                where=self._name,
                expected=f"process {self._process}",
                got=f"process {os.getpid()}",
                hint="open the lake and make a writer in each process, after it was started",
            )

    def take(self, choose: Callable[[Asked[A, R]], tuple[Asked[A, R], Asked[A, R]]] | None = None) -> Asked[A, R]:
        """What waits, or of it what is chosen (the other part waits on); empty when it is closed and nothing is left.

        Waits until there is something, and then a moment for as many as there were last time, and with those who came
        while these were answered: or else the two would take turns, each time for the cost of a whole group. Who asks
        alone never waits for others.
        """
        with self._wake:
            self._expected = self._last + len(self._waiting)
            while not self._waiting and not self._closed:
                self._wake.wait()
            until = time.monotonic() + _MOMENT_S
            while len(self._waiting) < self._expected and not self._closed and (left := until - time.monotonic()) > 0:
                self._wake.wait(left)
            taken, self._waiting = (self._waiting, []) if choose is None else choose(self._waiting)
            self._last = len(taken)
            return taken

    def close(self) -> None:
        """Take nothing more in."""
        with self._wake:
            self._closed = True
            self._wake.notify()
