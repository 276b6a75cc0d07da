"""Groups of what many threads ask."""

from __future__ import annotations

import threading
import time

import pytest

from reclake.schemas.errors import StorageError
from reclake.storage import gathering
from reclake.storage.gathering import Gathering


def test_who_came_together_is_waited_for_and_who_asks_alone_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gathering, "_MOMENT_S", 60.0)
    asked: Gathering[int, None] = Gathering("t")
    asked.ask(0)
    assert [item for item, _ in asked.take()] == [0]
    asked.ask(1)
    asked.ask(2)
    asked.ask(3)
    assert [item for item, _ in asked.take()] == [1, 2, 3]
    late = [threading.Timer(0.02 * i, asked.ask, (i,)) for i in (1, 2)]
    asked.ask(0)
    for timer in late:
        timer.start()
    assert [item for item, _ in asked.take()] == [0, 1, 2]


def test_the_others_are_waited_for_a_moment_and_no_longer() -> None:
    asked: Gathering[int, None] = Gathering("t")
    for item in range(3):
        asked.ask(item)
    asked.take()
    asked.ask(3)
    began = time.monotonic()
    assert [item for item, _ in asked.take()] == [3]
    assert time.monotonic() - began < 5
    asked.close()
    assert asked.take() == []
    with pytest.raises(StorageError, match="closed"):
        asked.ask(4)
