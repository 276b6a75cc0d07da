"""One run of a verb: who it is, what time it is, and who wants to hear how far it got. Injected, so tests own them."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field


def wall_clock_us() -> int:
    """Now, in µs since the epoch."""
    return time.time_ns() // 1_000


def _quiet(step: str, done: int, total: int | None) -> None:
    """Nobody listens."""


@dataclass(frozen=True, slots=True)
class Run:
    """`now_us` is the arrival clock; `progress(step, done, total)` is called now and then, total None where unknown."""

    id: str = field(default_factory=lambda: uuid.uuid4().hex[:12])
    now_us: Callable[[], int] = wall_clock_us
    progress: Callable[[str, int, int | None], None] = _quiet
