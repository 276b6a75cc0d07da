"""Times are microseconds since 1970-01-01 UTC, everywhere. Here they are read and written."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta

from .errors import ReclakeError

US_PER_SECOND = 1_000_000
US_PER_DAY = 86_400 * US_PER_SECOND

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DURATION = re.compile(r"^(\d+)\s*(us|ms|s|m|h|d)$")
_UNITS_US = {"us": 1, "ms": 1_000, "s": 1_000_000, "m": 60_000_000, "h": 3_600_000_000, "d": US_PER_DAY}


class TimeError(ReclakeError, ValueError):
    """A time, day or duration that cannot be read."""


Time = int | str | datetime | date


def to_us(time: Time) -> int:
    """Microseconds since the epoch of an int (already µs), an ISO 8601 string or a datetime; naive means UTC."""
    if isinstance(time, bool):
        raise TimeError("not a time", expected="µs as an integer, an ISO 8601 string or a datetime", got=repr(time))
    if isinstance(time, int):
        return time
    if isinstance(time, str):
        try:
            time = datetime.fromisoformat(time)
        except ValueError:
            raise TimeError(
                "not a time",
                expected="ISO 8601 such as 2022-05-02T00:00:00Z",
                got=repr(time),
            ) from None
    if not isinstance(time, datetime):
        time = datetime(time.year, time.month, time.day)
    if time.tzinfo is None:
        time = time.replace(tzinfo=UTC)
    return (time - _EPOCH) // timedelta(microseconds=1)


def from_us(us: int) -> datetime:
    """The UTC datetime of µs since the epoch."""
    return _EPOCH + timedelta(microseconds=us)


def iso(us: int) -> str:
    """`2022-05-02T00:00:00Z`, with microseconds only where there are any."""
    return from_us(us).isoformat().replace("+00:00", "Z")


def day_start_us(day: Time) -> int:
    """The first µs of a day given as `2022-05-02`, a date or a datetime.

    Raises:
        TimeError: it is not a whole day.
    """
    us = to_us(day)
    if us % US_PER_DAY:
        raise TimeError("not a day", expected="a date such as 2022-05-02", got=repr(day))
    return us


def floor_day(us: int) -> int:
    """The first µs of the UTC day that holds `us`."""
    return us - us % US_PER_DAY


def duration_us(text: str | int) -> int:
    """µs of a duration: `90s`, `15m`, `1h`, `7d`, or an integer that is µs already."""
    if isinstance(text, int) and not isinstance(text, bool):
        return text
    match = _DURATION.match(str(text).strip())
    if match is None:
        raise TimeError("not a duration", expected="a number and one of us, ms, s, m, h, d, e.g. 1h", got=repr(text))
    return int(match.group(1)) * _UNITS_US[match.group(2)]
