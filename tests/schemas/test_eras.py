"""Eras: names, and which of them become one."""

from __future__ import annotations

import itertools
import random

import pytest

from reclake.schemas.eras import Era, merges, named, split_days, start_prefix
from reclake.schemas.times import US_PER_DAY, floor_day, to_us

HOUR = US_PER_DAY // 24


def days(first: str, last: str) -> list[Era]:
    return split_days(to_us(first), to_us(last))


def made(eras: list[Era], sealed: str) -> dict[str, int]:
    return {merge.era.name: len(merge.parts) for merge in merges(eras, to_us(sealed))}


@pytest.mark.parametrize("start", [0, 1, to_us("2024-02-29"), to_us("2024-03-01T12:30:15.000001Z")])
def test_a_name_says_which_era_it_is(start: int) -> None:
    era = Era(start, start + 7_000_000)
    assert named(era.name) == era
    assert start_prefix(start) <= era.name < start_prefix(start + 1_000_000)


def test_the_hours_of_a_day_that_is_sealed_become_the_day() -> None:
    hours = [Era(to_us("2024-03-05") + n * HOUR, to_us("2024-03-05") + (n + 1) * HOUR) for n in range(24)]
    assert made(hours[:23], "2024-03-05T23:00:00Z") == {}
    assert made(hours, "2024-03-06") == {"20240305T000000-20240306T000000": 24}


def test_days_become_weeks_of_the_month_then_the_month_then_the_year() -> None:
    january = days("2024-01-01", "2024-02-01")
    assert made(january[:8], "2024-01-09") == {}
    assert made(january[:9], "2024-01-10") == {"20240101T000000-20240108T000000": 7}
    assert made(january, "2024-02-03") == {
        "20240101T000000-20240108T000000": 7,
        "20240108T000000-20240115T000000": 7,
        "20240115T000000-20240122T000000": 7,
        "20240122T000000-20240201T000000": 10,
    }
    assert made(january, "2024-02-08") == {"20240101T000000-20240201T000000": 31}
    year = days("2024-01-01", "2025-01-01")
    assert len(made(year, "2025-01-31")) == 12
    assert made(year, "2025-02-01") == {"20240101T000000-20250101T000000": 366}


def test_a_span_with_one_era_is_left_as_it_is() -> None:
    assert made(days("2024-01-03", "2024-01-04"), "2026-01-01") == {}
    assert made([*days("2024-01-03", "2024-01-04"), *days("2024-11-03", "2024-11-04")], "2026-01-01") == {
        "20240101T000000-20250101T000000": 2
    }


def test_however_long_the_history_there_are_few_eras_and_each_is_rewritten_four_times_at_most() -> None:
    rng = random.Random(5)
    eras: list[Era] = []
    rewritten: dict[int, int] = {}
    sealed = to_us("2019-11-20")
    for _ in range(365 * 4):
        until = floor_day(sealed) + US_PER_DAY
        pieces = sorted({sealed, until, *(sealed + HOUR * rng.randrange(24) for _ in range(rng.randrange(3)))})
        eras += [Era(a, b) for a, b in itertools.pairwise(pieces) if b <= until]
        sealed = until
        for merge in merges(eras, sealed):
            for era in merge.parts:
                rewritten[era.start_us] = rewritten.get(era.start_us, 0) + 1
            eras = [era for era in eras if era not in merge.parts] + [merge.era]
        assert len(eras) <= 12 + 5 + 14 + 4  # days, weeks, months, years
        eras.sort()
        assert all(a.end_us <= b.start_us for a, b in itertools.pairwise(eras))
        # What the day's samples, and yesterday's once more, are made of stays by the day.
        assert all(era.end_us - era.start_us <= US_PER_DAY for era in eras if era.end_us > sealed - 2 * US_PER_DAY)
    assert max(rewritten.values()) <= 4
