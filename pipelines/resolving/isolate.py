"""Find the few rows that make a columnar operation fail, by halving. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from ...schemas.failures import POLARS_FAILURES

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Isolated(Generic[T]):
    """`pieces`: (start, stop, result) of every run that works; `failed`: (start, stop, error) of every one that does
    not, at most `leaf` rows long. Together they cover all rows once, each in order.
    """

    pieces: list[tuple[int, int, T]]
    failed: list[tuple[int, int, BaseException]]


def isolate(
    length: int,
    attempt: Callable[[int, int], T],
    *,
    failures: tuple[type[BaseException], ...] = POLARS_FAILURES,
    leaf: int = 1,
) -> Isolated[T]:
    """Run `attempt(start, stop)` on all rows, halving where it raises one of `failures`, down to `leaf` rows.

    k bad rows among n cost about k * log2(n) attempts of shrinking size.
    """
    found: Isolated[T] = Isolated([], [])
    pending = [(0, length)] if length else []
    while pending:
        start, stop = pending.pop()
        try:
            found.pieces.append((start, stop, attempt(start, stop)))
        except failures as error:
            if stop - start <= leaf:
                found.failed.append((start, stop, error))
                continue
            middle = (start + stop) // 2
            pending += [(middle, stop), (start, middle)]
    return found


def first_line(error: BaseException) -> str:
    """The first line of an error's message, for a reason of one line."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
