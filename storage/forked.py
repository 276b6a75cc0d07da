"""A process that was forked has Polars and not its threads: what it asks of Polars is never answered.

Python's multiprocessing forks where it is not told otherwise (Linux, before Python 3.14).
"""

from __future__ import annotations

import os
import threading

import polars as pl

from ..schemas.errors import EngineError

_CHECKED = {os.getpid()}  # processes in which Polars answers
_SECONDS = 5
_TRIAL = pl.DataFrame({"a": [1], "b": [2]})


def check_process() -> None:
    """Say that Polars hangs here, before anybody waits for it. Costs a look at the process's number.

    Raises:
        EngineError: this process was forked from one that had used Polars.
    """
    if os.getpid() in _CHECKED:
        return
    answered = threading.Event()
    threading.Thread(target=_ask, args=(answered,), daemon=True).start()
    # Second by second: a process that was stopped for a while has not waited all that time.
    if not any(answered.wait(1) for _ in range(_SECONDS)):
        raise EngineError(
            "this process was forked, and Polars' threads do not come along",
            where=f"process {os.getpid()}, forked from {os.getppid()}",
            expected="a process of its own, or one that was forked before a lake was used",
            got="no answer from Polars",
            hint='start processes by multiprocessing.get_context("spawn")',
        )
    _CHECKED.add(os.getpid())


def _ask(answered: threading.Event) -> None:
    _TRIAL.select(pl.col("a") + 1, pl.col("b") + 1)  # two at once are done by Polars' threads
    answered.set()
