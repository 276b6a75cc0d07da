"""Expectations about what comes before what: events of a user, outcomes of exposures, labels of requests.

Ours, not Great Expectations'; one rule for both. That one time is not before another of its row (`known_at`,
`event_time`) is GX's own expectation about pairs, with `or_equal`.
"""

from __future__ import annotations

from dataclasses import replace

import polars as pl

from .columns import HASHABLE, ORDERED
from .expectation import Expectation, RowCheck
from .row_checks import Rule, on_present, rule

_US_PER_HOUR = 3_600_000_000


def increasing_within_group(e: Expectation) -> RowCheck:
    """Each value is at least (strictly: above) the one that the group had last, in the order of the rows."""
    column, group = e.column(ORDERED), e.column(HASHABLE, key="group_column")
    looked_at = pl.when(e.within(column.present)).then(column.value)
    before = looked_at.forward_fill().shift(1).over(group.raw)
    strictly = e.flag("strictly")
    in_order = column.value > before if strictly else column.value >= before
    said = f"{'above' if strictly else 'not below'} the one before of the same {group.name}"
    return on_present(e, column, before.is_null() | in_order, said, together=[group])


def outcome_after_exposure(e: Expectation) -> RowCheck:
    """Rows whose type is an outcome come at or after a row of the same keys whose type is the exposure."""
    column, time = e.column(frozenset({"string"})), e.column(frozenset({"time", "int"}), key="time_column")
    keys = [e.named(name, HASHABLE, key="key_columns") for name in e.strings("key_columns")]
    exposure, outcomes = e.kwargs.get("exposure"), e.strings("outcomes")
    if not isinstance(exposure, str) or not keys or not outcomes:
        raise e.error("no exposure, outcomes or keys", expected='exposure: "...", outcomes and key_columns: lists')
    shown = pl.when(e.within(column.value == exposure)).then(time.value).min().over([key.raw for key in keys])
    meets = ~column.value.is_in(outcomes) | (shown <= time.value).fill_null(False)
    said = f"after an {exposure} of the same " + ", ".join(key.name for key in keys)
    return replace(on_present(e, column, meets, said, together=keys), vouched=True)


def label_mature(e: Expectation) -> RowCheck:
    """The label's window, `window_hours` from the column's time, had closed at `as_of` (a time, or a column's)."""
    column, hours = e.column(frozenset({"time"})), e.number("window_hours")
    given = [key for key in ("as_of", "as_of_column") if e.kwargs.get(key) is not None]
    if hours is None or hours < 0 or len(given) != 1:
        raise e.error("no window, or not one end", expected="window_hours, and as_of or as_of_column", got=given)
    if given == ["as_of"]:
        end, said = pl.lit(column.literal(e.kwargs["as_of"], where=e.where)), str(e.kwargs["as_of"])
    else:
        other = e.column(frozenset({"time"}), key="as_of_column")
        end, said = other.value, other.name
    meets = column.value + int(hours * _US_PER_HOUR) <= end
    return on_present(e, column, meets, f"{hours:g} h before {said} or earlier")


RULES: dict[str, Rule] = {
    "expect_column_values_to_be_increasing_within_group": rule(
        increasing_within_group, "column", "group_column", "strictly"
    ),
    "expect_outcomes_to_follow_exposures": rule(
        outcome_after_exposure, "column", "exposure", "outcomes", "time_column", "key_columns"
    ),
    "expect_labels_to_be_mature": rule(label_mature, "column", "window_hours", "as_of", "as_of_column"),
}
