"""Times from text and numbers, a whole column at once. Pure."""

from __future__ import annotations

import polars as pl

_SHAPE = r"^\d{4}-\d{2}-\d{2}(?:[T ]\d{2}:\d{2}(?::\d{2}(?:\.\d{1,9})?)?(?:[Zz]|[+-]\d{2}:?\d{2})?)?$"
_LOCAL_SHAPE = r"^\d{4}-\d{2}-\d{2}(?:[T ]\d{2}:\d{2}(?::\d{2}(?:\.\d{1,9})?)?)?$"
_UTC_MARK = r"(?:[Zz]|[+-]00:?00)$"  # of a time, whose minutes no sign comes before
_FORMATS = (
    "%Y-%m-%dT%H:%M:%S%.f",
    "%Y-%m-%dT%H:%M:%S%.f%:z",
    "%Y-%m-%dT%H:%M",
    "%Y-%m-%dT%H:%M%:z",
    "%Y-%m-%d",
)
_PER_SECOND = {"ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
_FIRST_SECOND = -62_135_596_800  # 0001-01-01T00:00:00Z, Python's first
_END_SECOND = 253_402_300_800  # 10000-01-01T00:00:00Z, past Python's last


def within_calendar(numbers: pl.Series, target: pl.Datetime) -> pl.Series:
    """Int64 counts of the target's unit since the epoch as times; null outside the years 1 to 9999.

    A time that no calendar holds is a time in the wrong unit (nanoseconds read as microseconds), and other readers
    of the table could not print it.
    """
    unit = _PER_SECOND[target.time_unit]
    low, high = max(_FIRST_SECOND * unit, -(2**63)), min(_END_SECOND * unit - 1, 2**63 - 1)
    least, greatest = numbers.min(), numbers.max()
    if least is not None and not (low <= least and greatest <= high):  # type: ignore[operator]
        inside = (numbers >= low) & (numbers <= high)
        numbers = pl.select(pl.when(inside).then(numbers)).to_series()
    return numbers.cast(target)


def parse_times(text: pl.Series, target: pl.Datetime) -> pl.Series:
    """ISO 8601 text as times: `T` or a space, fractions of a second, `Z` or an offset or none (UTC), or a date alone.

    Null where it is none of these. Each form is tried on what the forms before it left, so text of one form costs one
    pass. A target without a time zone takes only text without one.
    """
    local = target.time_zone is None
    plain = text.str.replace(" ", "T", literal=True).str.replace(_UTC_MARK, "")
    out = pl.Series([None] * len(text), dtype=pl.Datetime("us", "UTC"))
    left = text.str.contains(_LOCAL_SHAPE if local else _SHAPE).fill_null(False).arg_true()
    for format_ in _FORMATS:
        if not len(left):
            break
        some = plain.gather(left)
        times = some.str.to_datetime(format_, time_unit="us", time_zone="UTC", strict=False)
        out = out.scatter(left, times)
        left = left.filter(times.is_null())
    out = within_calendar(out.to_physical(), pl.Datetime("us", "UTC")).dt.cast_time_unit(target.time_unit)
    return out.dt.replace_time_zone(None) if local else out
