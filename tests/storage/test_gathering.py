"""Who waits is answered together, and nobody waits for long for the others."""

from __future__ import annotations

import threading
import time

import numpy as np

from reclake.storage.gathering import Gathering


def test_producers_who_come_back_together_are_not_parted_by_who_came_first() -> None:
    waiting: Gathering[int, int] = Gathering("t")
    sizes = []

    def answer() -> None:
        while group := waiting.take():
            sizes.append(len(group))
            time.sleep(0.004)
            for item, result in group:
                result.set_result(item)

    answering = threading.Thread(target=answer)
    answering.start()

    def ask(number: int) -> None:
        for _ in range(30):
            time.sleep(0.0005)
            waiting.ask(number).result()

    asking = [threading.Thread(target=ask, args=(number,)) for number in range(12)]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join()
    waiting.close()
    answering.join()
    assert np.median(sizes) >= 10


def test_a_producer_alone_waits_for_no_other() -> None:
    waiting: Gathering[int, int] = Gathering("t")
    answering = threading.Thread(target=lambda: [r.set_result(0) for _ in range(20) for _, r in waiting.take()])
    answering.start()
    began = time.perf_counter()
    for _ in range(20):
        waiting.ask(0).result()
    answering.join()
    assert time.perf_counter() - began < 20 * 0.004
