"""Eras: sealed, immutable spans of known_at. Their names sort as their times do."""

from __future__ import annotations

from dataclasses import dataclass

from .times import US_PER_DAY, floor_day, from_us


@dataclass(frozen=True, slots=True, order=True)
class Era:
    """The span `start_us <= known_at < end_us`."""

    start_us: int
    end_us: int

    @property
    def name(self) -> str:
        """`20220501T000000-20220502T000000`; fractions of a second only where there are any."""
        return f"{_stamp(self.start_us)}-{_stamp(self.end_us)}"


def split_days(start_us: int, end_us: int) -> list[Era]:
    """The span cut at every UTC midnight: one era a day, the first and last perhaps shorter."""
    eras = []
    while start_us < end_us:
        end = min(floor_day(start_us) + US_PER_DAY, end_us)
        eras.append(Era(start_us, end))
        start_us = end
    return eras


def start_prefix(us: int) -> str:
    """Sorts at or before the name of every era that starts at `us` or later, and after every earlier one."""
    return _stamp(us)


def _stamp(us: int) -> str:
    at = from_us(us)
    return at.strftime("%Y%m%dT%H%M%S") + (f".{at.microsecond:06d}" if at.microsecond else "")
