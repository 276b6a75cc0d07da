"""Bounds from history: what is usual by the days before, by weekday, and what holds until enough is known."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from reclake.quality.expectation import BatchCheck, FromHistory
from reclake.quality.gate import Admission, admit
from reclake.quality.history import Learnt, learn, with_bounds
from reclake.quality.suite import check_with_gx, compile_suite
from reclake.schemas.errors import SuiteError

MONDAY = date(2024, 3, 4)
HOW = FromHistory(last=28, least=14, width=3.5, fixed=False)
SCHEMA = pa.schema([pa.field("a", pa.float64()), pa.field("b", pa.int64()), pa.field("t", pa.timestamp("us", "UTC"))])
FROM_HISTORY = {"from": "history"}


def before(day: date, values: Any) -> dict[date, float]:
    """Values of the days that end before a day, the last of them yesterday's."""
    return {day - timedelta(days=len(values) - i): float(value) for i, value in enumerate(values)}


def suite(*entries: dict[str, Any], personal: frozenset[str] = frozenset()) -> Any:
    return compile_suite({"name": "s", "expectations": list(entries)}, SCHEMA, name="s", personal=personal)


def mean(bounds: Any = FROM_HISTORY, severity: str = "critical", **kwargs: Any) -> dict[str, Any]:
    meta = {"severity": severity, "bounds": bounds}
    return {"type": "expect_column_mean_to_be_between", "kwargs": {"column": "a", **kwargs}, "meta": meta}


def judged(entry: dict[str, Any], observed: dict[date, float], value: float | None, day: date = MONDAY) -> Admission:
    compiled = suite(entry)
    (place, check), *_ = compiled.learning
    rows = pa.table({"a": [value], "b": [1], "t": [0]}).cast(SCHEMA)
    whole = compiled.with_checks({place: with_bounds(check, observed, day)})
    return admit(rows, whole, SCHEMA, contract="s", contract_version=1, verdict_id="v")


def test_before_weekdays_are_known_a_day_is_held_against_the_tenths_of_all_days() -> None:
    # Without one of ten equal 9s and 11s the median of the others is the other value: each is off by 2.
    found = learn(before(MONDAY, [9, 11] * 10), MONDAY, FromHistory(20, 14, 3.5, False))
    assert found == Learnt(low=-1.3782, high=21.3782, days=20, weekday=False)  # 9 and 11 -+ 3.5 * 1.4826 * 2


def test_once_they_are_it_is_held_against_the_median_of_its_weekday() -> None:
    found = learn(before(MONDAY, [9, 11] * 14), MONDAY, HOW)  # Mondays: 9, 11, 9, 11
    assert found == Learnt(low=-0.3782, high=20.3782, days=28, weekday=True)


def test_one_wild_day_does_not_move_the_bounds() -> None:
    rng = np.random.Generator(np.random.PCG64(1))
    values = rng.normal(100, 5, 28)
    calm = learn(before(MONDAY, values), MONDAY, HOW)
    values[20] = 1e9
    wild = learn(before(MONDAY, values), MONDAY, HOW)
    assert calm is not None
    assert wild is not None
    assert abs(wild.high - calm.high) < 15


def test_where_a_weekday_was_seen_three_times_a_day_is_held_against_its_own() -> None:
    days = [MONDAY - timedelta(days=n) for n in range(28, 0, -1)]
    observed = {day: (2_000.0 if day.weekday() >= 5 else 1_000.0) + day.day for day in days}
    on_monday, on_sunday = (learn(observed, MONDAY + timedelta(days=n), HOW) for n in (0, 6))
    assert on_monday is not None
    assert on_sunday is not None
    assert on_monday.high < 1_200 < 1_900 < on_sunday.low
    assert on_monday.weekday
    assert on_sunday.weekday
    few = {day: value for day, value in observed.items() if (MONDAY - day).days <= 20}
    found = learn(few, MONDAY, HOW)
    assert found is not None
    assert not found.weekday  # two Mondays are too few, and nobody knows yet that weekends are unlike
    assert found.low < 1_000
    assert found.high > 2_000


def test_neither_the_day_itself_nor_a_later_one_nor_one_too_long_ago_is_looked_at() -> None:
    observed = before(MONDAY, range(100, 128))
    told = learn(observed, MONDAY, HOW)
    more = observed | {MONDAY + timedelta(days=n): 1e6 for n in range(30)} | {MONDAY - timedelta(days=29): 1e6}
    assert learn(more, MONDAY, HOW) == told


def test_fewer_days_than_asked_for_are_no_bounds() -> None:
    assert learn(before(MONDAY, [1] * 13), MONDAY, HOW) is None
    assert learn(before(MONDAY, [1] * 14), MONDAY, HOW) is not None


def test_what_never_changed_is_to_stay_as_it_was_and_what_hardly_did_may_change_as_it_did() -> None:
    same = learn(before(MONDAY, [1_234_567] * 14), MONDAY, HOW)
    assert same == Learnt(1_234_560, 1_234_570, 14, False)  # to six digits, outwards
    once = learn(before(MONDAY, [5] * 13 + [19]), MONDAY, HOW)
    assert once is not None
    assert (once.low, once.high) == pytest.approx(
        (0.61345, 9.38655), abs=1e-5
    )  # 5 -+ 3.5 * 1.2533 * 14 / 14, as one day in 14 was off by 14


def test_about_one_normal_day_in_two_hundred_is_out_and_most_of_those_six_spreads_off_are() -> None:
    rng = np.random.Generator(np.random.PCG64(2))
    usual = far = 0
    for _ in range(1_000):
        season = rng.normal(0, 5, 7)
        values = rng.normal(0, 1, 29) + season[np.arange(29) % 7]
        found = learn(before(MONDAY, values[:28]), MONDAY, HOW)
        assert found is not None
        usual += not found.low <= values[28] <= found.high
        far += not found.low <= values[28] + 6 <= found.high
    assert usual <= 10
    assert far >= 800


def test_a_check_judges_by_its_bounds_and_says_them_as_it_compared_them() -> None:
    observed = before(MONDAY, [9, 11] * 10)
    met, unmet = judged(mean(), observed, 10.0), judged(mean(), observed, 30.0)
    assert (met.verdict, unmet.verdict) == ("pass", "stop")
    assert met.checks[1].expected == "mean >= -1.3782 and <= 21.3782 (20 days before 2024-03-04, of any weekday)"
    edge = [judged(mean(), observed, value).verdict for value in (21.3782, 21.37821)]
    assert edge == ["pass", "stop"]


def test_bounds_of_the_suite_hold_besides_those_from_history() -> None:
    observed = before(MONDAY, [9, 11] * 10)
    assert judged(mean(max_value=12), observed, 11.0).verdict == "pass"
    assert judged(mean(max_value=12), observed, 13.0).verdict == "stop"
    assert judged(mean(max_value=1e6), observed, 30.0).checks[1].expected.startswith("mean <= 1000000.0 and >= -1.3782")


def test_while_it_learns_a_check_without_bounds_of_its_own_warns_and_stops_nothing() -> None:
    admission = judged(mean(), before(MONDAY, [1, 2, 3]), 4.0)
    told = admission.checks[1]
    assert (admission.verdict, told.success, told.severity) == ("warn", False, "warning")
    assert told.expected == "mean as in history (learning, 3 of 14 days)"
    assert (told.observed, told.value) == ("4.0, learning, 3 of 14 days", 4.0)


def test_while_it_learns_a_check_with_bounds_of_its_own_holds_to_those_and_says_so() -> None:
    met, unmet = (judged(mean(min_value=1), {}, value) for value in (4.0, 0.0))
    assert (met.verdict, unmet.verdict) == ("pass", "stop")
    assert met.checks[1].expected == "mean >= 1 (learning, 0 of 14 days)"


def test_a_batch_without_a_value_is_unmet_whatever_history_says() -> None:
    for value in (None, float("nan")):
        admission = judged(mean(), before(MONDAY, [9, 11] * 10), value)
        assert (admission.verdict, admission.checks[1].observed) == ("stop", "no value")


@pytest.mark.parametrize(
    "bounds",
    [
        "history",
        {},
        {"from": "tomorrow"},
        {"from": "history", "days": 3},
        {"from": "history", "last": 2, "least": 2},
        {"from": "history", "last": 7, "least": 8},
        {"from": "history", "last": 28.0},
        {"from": "history", "last": True},
        {"from": "history", "width": 0},
        {"from": "history", "width": float("nan")},
    ],
)
def test_bounds_that_are_none_are_refused(bounds: Any) -> None:
    with pytest.raises(SuiteError, match="not bounds"):
        suite(mean(bounds))


@pytest.mark.parametrize(
    ("type_", "kwargs"),
    [
        ("expect_column_values_to_be_between", {"column": "a", "min_value": 0}),
        ("expect_table_row_count_to_equal", {"value": 3}),
        ("expect_column_max_to_be_between", {"column": "t"}),
        ("expect_column_to_exist", {"column": "a"}),
    ],
)
def test_an_expectation_about_anything_but_a_number_of_the_batch_takes_none(type_: str, kwargs: Any) -> None:
    with pytest.raises(SuiteError, match="cannot take its bounds from history"):
        suite({"type": type_, "kwargs": kwargs, "meta": {"bounds": FROM_HISTORY}})


def test_two_that_verdicts_cannot_tell_apart_and_one_that_observes_personal_values_are_refused() -> None:
    with pytest.raises(SuiteError, match="cannot tell apart"):
        suite(mean(), mean(None, min_value=0))
    lowest = {"type": "expect_column_min_to_be_between", "kwargs": {"column": "a"}, "meta": {"bounds": FROM_HISTORY}}
    assert suite(lowest).learning
    with pytest.raises(SuiteError, match="no verdict keeps"):
        suite(lowest, personal=frozenset({"a"}))


def test_great_expectations_accepts_the_suite_and_judges_it_by_its_own_bounds() -> None:
    check_with_gx({"name": "s", "expectations": [mean(), mean(min_value=0) | {"severity": "warning"}]})


def test_a_suite_without_such_checks_learns_nothing() -> None:
    assert suite(mean(None)).learning == []
    assert isinstance(suite(mean(None)).checks[0], BatchCheck)
