"""One call for all who wait: for work that costs much a call and little a row."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Generic, TypeVar

from ..schemas.errors import StorageError

A = TypeVar("A")
R = TypeVar("R")


class Together(Generic[A, R]):
    """Answers calls from many threads by one call of `work` at a time, on a thread of its own.

    What comes in while `work` is busy is handed to its next call, all at once. Where that raises, each item is tried
    alone, so that an error goes to the item that caused it.
    """

    def __init__(self, work: Callable[[Sequence[A]], Sequence[R]], *, name: str) -> None:
        self._work = work
        self._name = name
        self._waiting: list[tuple[A, Future[R]]] = []
        self._wake = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name=f"reclake-{name}", daemon=True)
        self._thread.start()

    def __call__(self, item: A) -> R:
        """What `work` says of the item.

        Raises:
            StorageError: closed.
        """
        result: Future[R] = Future()
        with self._wake:
            if self._closed:
                raise StorageError("the writer is closed", where=self._name)
            self._waiting.append((item, result))
            self._wake.notify()
        return result.result()

    def close(self) -> None:
        """Answer what waits, and stop."""
        with self._wake:
            self._closed = True
            self._wake.notify()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._wake:
                while not self._waiting and not self._closed:
                    self._wake.wait()
                group, self._waiting = self._waiting, []
            if not group:
                return
            self._answer(group)

    def _answer(self, group: list[tuple[A, Future[R]]]) -> None:
        try:
            answers = self._work([item for item, _ in group])
        except Exception as error:  # noqa: BLE001 - whoever waits gets it
            if len(group) == 1:
                group[0][1].set_exception(error)
                return
            for one in group:
                self._answer([one])
            return
        for (_, result), answer in zip(group, answers, strict=True):
            result.set_result(answer)
