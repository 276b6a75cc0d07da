"""Which of a sample set's days are packed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

from ...schemas.errors import SamplesError
from ...schemas.times import Time, day_start_us, from_us

Days = str | Sequence[Time]  # "2024-03-01..2024-03-07", "2024-03-01,2024-03-03", both mixed, or days

_EXPECTED = "days such as 2024-03-01, spans such as 2024-03-01..2024-03-07, or several with commas between"


def chosen(wanted: Days, there: Sequence[date], *, where: str) -> tuple[date, ...]:
    """The days that are wanted of those that are `there`, in order. A span takes what lies in it.

    Raises:
        SamplesError: a day is not there, nothing is there of a span, or a span ends before it begins.
        TimeError: a day cannot be read.
    """
    parts: Sequence[Time] = [part.strip() for part in wanted.split(",")] if isinstance(wanted, str) else wanted
    found: set[date] = set()
    for part in parts:
        first, dots, last = part.partition("..") if isinstance(part, str) else (part, "", part)
        begin, end = _day(first), _day(last if dots else first)
        if begin > end:
            raise SamplesError("a span that ends before it begins", where=where, expected=_EXPECTED, got=part)
        inside = {day for day in there if begin <= day <= end}
        if not inside:
            raise SamplesError(
                "there are no samples of the days that are wanted",
                where=where,
                expected=f"days from {there[0]} to {there[-1]} that were assembled" if there else "days with samples",
                got=part,
                hint="reclake samples LAKE RECIPE --day DAY, then pin again",
            )
        found |= inside
    if not found:
        raise SamplesError("no day is wanted", where=where, expected=_EXPECTED, got=repr(wanted))
    return tuple(sorted(found))


def _day(day: Time) -> date:
    return from_us(day_start_us(day)).date()
