"""Times are µs since 1970 UTC, read strictly and written so that they read back."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reclake.schemas.times import US_PER_DAY, TimeError, day_start_us, duration_us, floor_day, from_us, iso, to_us

T0_US = 1_651_449_600_000_000
IN_CALENDAR = st.integers(to_us(datetime(1, 1, 1)), to_us(datetime(9999, 12, 31)))


@pytest.mark.parametrize(
    "value",
    [
        T0_US,
        "2022-05-02",
        "2022-05-02T00:00:00Z",
        "2022-05-02T02:00:00+02:00",
        "2022-05-02 00:00:00",
        datetime(2022, 5, 2),
        datetime(2022, 5, 2, tzinfo=UTC),
        datetime(2022, 5, 2, 2, tzinfo=timezone(timedelta(hours=2))),
        date(2022, 5, 2),
    ],
)
def test_every_form_of_a_time_is_the_same_time(value: Any) -> None:
    assert to_us(value) == T0_US


@pytest.mark.parametrize("value", [True, "yesterday", "", "2022-13-01", "24:00"])
def test_what_is_no_time_is_refused(value: Any) -> None:
    with pytest.raises(TimeError):
        to_us(value)


def test_times_are_written_with_microseconds_only_where_there_are_any() -> None:
    assert iso(T0_US) == "2022-05-02T00:00:00Z"
    assert iso(T0_US + 1) == "2022-05-02T00:00:00.000001Z"
    assert iso(-1) == "1969-12-31T23:59:59.999999Z"


@given(IN_CALENDAR)
def test_a_written_time_reads_back(us: int) -> None:
    assert to_us(iso(us)) == us
    assert to_us(from_us(us)) == us


@given(IN_CALENDAR)
def test_the_floor_of_a_day_is_its_first_microsecond(us: int) -> None:
    floor = floor_day(us)
    assert floor % US_PER_DAY == 0
    assert floor <= us < floor + US_PER_DAY


def test_a_day_is_a_whole_day() -> None:
    assert day_start_us("2022-05-02") == T0_US
    with pytest.raises(TimeError, match="not a day"):
        day_start_us("2022-05-02T01:00:00Z")


@pytest.mark.parametrize(
    ("text", "us"),
    [("90s", 90_000_000), ("15m", 900_000_000), ("1h", 3_600_000_000), ("7d", 7 * US_PER_DAY), ("5ms", 5_000), (7, 7)],
)
def test_durations_are_numbers_with_a_unit(text: str | int, us: int) -> None:
    assert duration_us(text) == us


@pytest.mark.parametrize("text", ["", "h", "1.5h", "-1h", "1 week", "1h30m"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(TimeError, match="not a duration"):
        duration_us(text)
