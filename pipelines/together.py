"""One call for all who wait: for work that costs much a call and little a row."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from ..storage.gathering import Asked, Gathering

A = TypeVar("A")
R = TypeVar("R")


class Together(Generic[A, R]):
    """Answers calls from many threads by one call of `work` at a time, on a thread of its own.

    What comes in while `work` is busy is handed to its next call, all at once. Where that raises, each item is tried
    alone, so that an error goes to the item that caused it.
    """

    def __init__(self, work: Callable[[Sequence[A]], Sequence[R]], *, name: str) -> None:
        self._work = work
        self._waiting: Gathering[A, R] = Gathering(name)
        self._thread = threading.Thread(target=self._run, name=f"reclake-{name}", daemon=True)
        self._thread.start()

    def __call__(self, item: A) -> R:
        """What `work` says of the item.

        Raises:
            StorageError: closed.
        """
        return self._waiting.ask(item).result()

    def close(self) -> None:
        """Answer what waits, and stop."""
        self._waiting.close()
        self._thread.join()

    def _run(self) -> None:
        while group := self._waiting.take():
            self._answer(group)

    def _answer(self, group: Asked[A, R]) -> None:
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
