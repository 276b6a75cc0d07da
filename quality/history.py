"""Bounds from history: what a check observed on the days before says what it may observe on this one.

A suite asks for them in GX's own `meta`, where Great Expectations leaves them alone:

    {"type": "expect_table_row_count_to_be_between", "kwargs": {"min_value": 1000},
     "meta": {"bounds": {"from": "history", "last": 28, "least": 14, "width": 3.5}}}

Where at least three of the last days are of the day's weekday, it may be `width` spreads off their median; before
that, `width` spreads below the lower or above the upper tenth of all days, as nobody knows yet which weekdays are
unlike. What `kwargs` says holds besides.

The spread is 1.4826 times the median of how far each day was off the median of the other days (of its weekday): the
median absolute deviation, a consistent estimate of the standard deviation of a normal distribution (Hampel, JASA 69,
1974; Rousseeuw and Croux, JASA 88, 1993), with each day left out of what it is held against, as the day that is judged
is. A width of 3.5 is that of Iglewicz and Hoaglin (How to Detect and Handle Outliers, 1993). Where that median is 0, as
most days were the same, the mean of the deviations times 1.2533 takes its place, as they have it; where all were the
same, only that is usual.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal
from typing import Any

import numpy as np
import numpy.typing as npt

from .expectation import BatchCheck, FromHistory, Outcome

WEEKDAYS_MIN = 3
TENTHS = (0.1, 0.9)
DIGITS = 6  # of a bound: what a verdict says is what was compared with
_OF_MEDIAN, _OF_MEAN = 1.4826, 1.2533

Observed = Mapping[date, float]  # what was observed on each day


@dataclass(frozen=True, slots=True)
class Learnt:
    """The bounds, and of how many days they are; `weekday`: of days that are like it."""

    low: float
    high: float
    days: int
    weekday: bool


def learn(observed: Observed, day: date, how: FromHistory) -> Learnt | None:
    """Kernel: the bounds for a day; None where fewer than `least` of the `last` days before it have a value.

    What was observed on the day itself or later is not looked at: a day that is judged again is judged by its past.
    """
    before = {each: value for each, value in observed.items() if 0 < (day - each).days <= how.last}
    if len(before) < how.least:
        return None
    days = np.array([each.weekday() for each in before])
    values = np.array(list(before.values()), dtype=np.float64)
    alike = [values[days == weekday] for weekday in range(7)]
    weekday = len(alike[day.weekday()]) >= WEEKDAYS_MIN
    groups = [group for group in alike if len(group) >= WEEKDAYS_MIN] if weekday else [values]
    off = np.abs(np.concatenate([group - _median_of_others(group) for group in groups]))
    spread = _OF_MEDIAN * float(np.median(off)) or _OF_MEAN * float(off.mean())
    usual = [float(np.median(alike[day.weekday()]))] * 2 if weekday else np.quantile(values, TENTHS).tolist()
    low, high = usual[0] - how.width * spread, usual[1] + how.width * spread
    return Learnt(_rounded(low, ROUND_FLOOR), _rounded(high, ROUND_CEILING), len(before), weekday)


def _median_of_others(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """For each value, the median of the others (two or more)."""
    count = len(values)
    others = np.broadcast_to(values, (count, count))[~np.eye(count, dtype=bool)]
    found: npt.NDArray[np.float64] = np.median(others.reshape(count, count - 1), axis=1)
    return found


def _rounded(value: float, way: str) -> float:
    return float(Context(prec=DIGITS, rounding=way).create_decimal(Decimal(value)))


def with_bounds(check: BatchCheck, observed: Observed, day: date | None) -> BatchCheck:
    """The check as it judges a day. While it learns, what `kwargs` says holds; where that is nothing, it is unmet, as a
    warning: nobody knows yet whether what it sees is usual. So it is where nobody knows which day it is.
    """
    how = check.history
    if how is None:
        return check
    learnt = None if day is None else learn(observed, day, how)
    if learnt is not None:
        both = f"{' and' if how.fixed else ''} >= {learnt.low:.6g} and <= {learnt.high:.6g}"
        like = "of its weekday" if learnt.weekday else "of any weekday"
        said = f"{check.expected}{both} ({learnt.days} days before {day}, {like})"
        return replace(check, expected=said, judge=_judge(check, learnt))
    known = 0 if day is None else sum(0 < (day - each).days <= how.last for each in observed)
    learning = f"learning, {known} of {how.least} days"
    if how.fixed:
        return replace(check, expected=f"{check.expected} ({learning})")
    expected = f"{check.expected} as in history ({learning})"
    return replace(check, expected=expected, severity="warning", judge=_unknown(check, learning))


def _judge(check: BatchCheck, learnt: Learnt) -> Any:
    def judge(values: Any) -> Outcome:
        seen = check.judge(values)
        if seen.value is None:
            return seen
        return Outcome(seen.success and learnt.low <= float(seen.value) <= learnt.high, seen.value, seen.observed)

    return judge


def _unknown(check: BatchCheck, learning: str) -> Any:
    def judge(values: Any) -> Outcome:
        seen = check.judge(values)
        return Outcome(False, seen.value, f"{seen.observed}, {learning}")

    return judge
