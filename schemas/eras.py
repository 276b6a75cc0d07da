"""Eras: sealed, immutable spans of known_at. Their names sort as their times do.

An era is sealed as an hour, a day or a part of one. Later it is merged with its neighbours into the day, the week of
the month, the month and the year it lies in: however long the history, it is a few dozen eras and one more a year.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from .times import US_PER_DAY, floor_day, from_us, to_us

_WEEKS = (1, 8, 15, 22)  # days of the month on which a week of it begins; the last has 7 to 10 days


@dataclass(frozen=True, slots=True, order=True)
class Era:
    """The span `start_us <= known_at < end_us`."""

    start_us: int
    end_us: int

    @property
    def name(self) -> str:
        """`20220501T000000-20220502T000000`; fractions of a second only where there are any."""
        return f"{_stamp(self.start_us)}-{_stamp(self.end_us)}"

    def holds(self, other: Era) -> bool:
        """Whether the other span lies within this one."""
        return self.start_us <= other.start_us and other.end_us <= self.end_us


@dataclass(frozen=True, slots=True)
class Merge:
    """Eras that become one."""

    era: Era
    parts: tuple[Era, ...]


def named(name: str) -> Era:
    """The era of that name."""
    start, end = name.split("-")
    return Era(_read(start), _read(end))


def split_days(start_us: int, end_us: int) -> list[Era]:
    """The span cut at every UTC midnight: one era a day, the first and last perhaps shorter."""
    eras = []
    while start_us < end_us:
        end = min(floor_day(start_us) + US_PER_DAY, end_us)
        eras.append(Era(start_us, end))
        start_us = end
    return eras


def merges(eras: Sequence[Era], sealed_us: int) -> list[Merge]:
    """Kernel: which of a table's eras become one, everything before `sealed_us` being sealed.

    Each era goes into the largest calendar span that is over and has rested: a day at once, a week of a month after two
    days, a month after seven, a year after 31. So the days that samples are made of, and made again of when their last
    labels come, stay days; and an era is rewritten four times at most. A span that holds one era only is left as it is.
    """
    spans: dict[Era, list[Era]] = {}
    for era in sorted(eras):
        rested = [span for span, days in _calendar(era) if span.end_us + days * US_PER_DAY <= sealed_us]
        if rested:
            spans.setdefault(rested[-1], []).append(era)
    return [Merge(span, tuple(parts)) for span, parts in spans.items() if len(parts) > 1]


def _calendar(era: Era) -> list[tuple[Era, int]]:
    """The day, week, month and year that hold the era, as far as they do, with the days each rests; smallest first."""
    at = from_us(era.start_us).replace(hour=0, minute=0, second=0, microsecond=0)
    month = at.replace(day=1)
    next_month = (month + timedelta(days=31)).replace(day=1)
    place = max(i for i, day in enumerate(_WEEKS) if day <= at.day)
    week = at.replace(day=_WEEKS[place])
    next_week = at.replace(day=_WEEKS[place + 1]) if place + 1 < len(_WEEKS) else next_month
    year = at.replace(month=1, day=1)
    spans = (
        (at, at + timedelta(days=1), 0),
        (week, next_week, 2),
        (month, next_month, 7),
        (year, year.replace(year=year.year + 1), 31),
    )
    found = [(Era(to_us(start), to_us(end)), days) for start, end, days in spans]
    return [(span, days) for span, days in found if span.holds(era)]


def start_prefix(us: int) -> str:
    """Sorts at or before the name of every era that starts at `us` or later, and after every earlier one."""
    return _stamp(us)


def _stamp(us: int) -> str:
    at = from_us(us)
    return at.strftime("%Y%m%dT%H%M%S") + (f".{at.microsecond:06d}" if at.microsecond else "")


def _read(stamp: str) -> int:
    form = "%Y%m%dT%H%M%S.%f" if "." in stamp else "%Y%m%dT%H%M%S"
    return to_us(datetime.strptime(stamp, form).replace(tzinfo=UTC))
