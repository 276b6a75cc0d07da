"""Batches that are gated together: each gets the answer that it would get alone, at the price of one."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reclake.quality.gate import admit, admit_each, join
from reclake.quality.suite import CompiledSuite, compile_suite

TIME = pa.timestamp("us", tz="UTC")
SCHEMA = pa.schema(
    [
        pa.field("id", pa.int64(), nullable=False),
        pa.field("watch_ms", pa.int64()),
        pa.field("share", pa.float64()),
        pa.field("kind", pa.string()),
        pa.field("at", TIME),
    ]
)
LOOSE = pa.schema([field.with_nullable(True) for field in SCHEMA])

WATCH = ("expect_column_values_to_be_between", {"column": "watch_ms", "min_value": 0}, "error")
KIND = ("expect_column_values_to_be_in_set", {"column": "kind", "value_set": ["click", "like"]}, "error")
SHARE = ("expect_column_values_to_be_between", {"column": "share", "min_value": 0, "max_value": 1}, "warning")


def rows(**columns: list[Any]) -> pa.Table:
    height = len(next(iter(columns.values())))
    full = {name: [None] * height for name in SCHEMA.names} | {"id": list(range(height))} | columns
    return pa.table(full, schema=LOOSE)


def joined(batches: list[pa.Table]) -> tuple[pa.Table, list[int]]:
    return pa.concat_tables([LOOSE.empty_table(), *batches]).combine_chunks(), [batch.num_rows for batch in batches]


def suite_of(*expectations: tuple[str, dict[str, Any], str]) -> dict[str, Any]:
    return {
        "name": "clicks",
        "expectations": [{"type": t, "kwargs": k, "meta": {"severity": s}} for t, k, s in expectations],
    }


UNIQUE = ("expect_column_values_to_be_unique", {"column": "id"}, "error")
MEAN = ("expect_column_mean_to_be_between", {"column": "watch_ms", "max_value": 50}, "warning")
IF_KIND = ("expect_column_values_to_not_be_null", {"column": "share", "row_condition": 'col("kind")=="click"'}, "error")


MOSTLY = ("expect_column_values_to_be_between", {"column": "watch_ms", "max_value": 60, "mostly": 0.5}, "error")
GRAVE = ("expect_column_values_to_be_between", {"column": "share", "max_value": 1, "mostly": 0.7}, "critical")
IN_ORDER = (
    "expect_column_values_to_be_increasing_within_group",
    {"column": "watch_ms", "group_column": "kind", "mostly": 0.6},
    "error",
)
AFTER = (
    "expect_outcomes_to_follow_exposures",
    {"column": "kind", "exposure": "like", "outcomes": ["click"], "time_column": "watch_ms", "key_columns": ["id"]},
    "error",
)


@pytest.mark.parametrize(
    "checks",
    [
        (WATCH, KIND, SHARE),
        (WATCH, UNIQUE, IF_KIND),
        (KIND, MEAN, WATCH),
        (MOSTLY, KIND, GRAVE),
        (SHARE, IN_ORDER, UNIQUE, MEAN),
        (AFTER, KIND),
        (),
    ],
)
@given(
    limit=st.sampled_from([0.3, 0.5, 1.0]),
    limit_rows=st.sampled_from([None, 2]),
    refused=st.lists(st.integers(0, 2), min_size=5, max_size=5),
    absent=st.sampled_from([(), ("share",)]),
    values=st.lists(
        st.lists(
            st.tuples(
                st.sampled_from([None, *range(8), *range(4)]),
                st.none() | st.integers(-20, 100),
                st.none() | st.floats(0, 1.2),
                st.none() | st.sampled_from(["click", "like", "like", "like", "x"]),
            ),
            max_size=8,
        ),
        max_size=5,
    ),
)
def test_batches_that_are_judged_together_get_the_answers_they_would_get_alone(
    checks: tuple[Any, ...],
    values: list[list[tuple[Any, ...]]],
    limit: float,
    limit_rows: int | None,
    refused: list[int],
    absent: tuple[str, ...],
) -> None:
    suite = compile_suite(suite_of(*checks), SCHEMA, name="t")
    batches = [
        pa.table({n: [row[i] for row in rows] for i, n in enumerate(SCHEMA.names[:4])} | {"at": [None] * len(rows)})
        .select(SCHEMA.names)
        .cast(LOOSE)
        for rows in values
    ]
    facts: dict[str, Any] = {"contract": "t", "contract_version": 1, "absent": absent}
    facts |= {"quarantine_limit": limit, "quarantine_limit_rows": limit_rows}
    together = admit_each(
        *joined(batches),
        suite,
        SCHEMA,
        verdict_ids=[str(i) for i in range(len(batches))],
        refused_before=refused[: len(batches)],
        **facts,
    )
    for i, (batch, found) in enumerate(zip(batches, together, strict=True)):
        alone = admit(batch, suite, SCHEMA, verdict_id=str(i), refused_before=refused[i], **facts)
        assert found.admitted.rows.equals(alone.admitted.rows)
        assert found.admitted.verdict_id == str(i)
        assert found.rejected.equals(alone.rejected)
        assert (found.checks, found.verdict, found.stop_reason) == (alone.checks, alone.verdict, alone.stop_reason)
    if together:
        stored = join([one.admitted for one in together])
        assert stored.rows.to_pylist() == [row for one in together for row in one.admitted.rows.to_pylist()]


def test_an_outcome_is_not_vouched_for_by_an_exposure_in_another_batch() -> None:
    suite = compile_suite(suite_of(AFTER), SCHEMA, name="t")
    exposed, clicked = rows(id=[1], watch_ms=[5], kind=["like"]), rows(id=[1], watch_ms=[9], kind=["click"])
    together = admit_each(
        *joined([exposed, clicked]), suite, SCHEMA, contract="t", contract_version=1, verdict_ids=["a", "b"]
    )
    assert [one.verdict for one in together] == ["pass", "quarantine"]


def test_a_batch_with_bad_rows_costs_no_pass_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    suite = compile_suite(suite_of(WATCH, KIND, UNIQUE), SCHEMA, name="t")
    batches = [rows(watch_ms=[n % 3 - 1, 5], id=[2 * n, 2 * n + 1]) for n in range(9)]
    passes = []
    run = CompiledSuite.run
    monkeypatch.setattr(CompiledSuite, "run", lambda self, batch: passes.append(batch.num_rows) or run(self, batch))
    names = [str(n) for n in range(9)]
    together = admit_each(*joined(batches), suite, SCHEMA, contract="t", contract_version=1, verdict_ids=names)
    assert [one.rejected.height for one in together] == [1, 0, 0] * 3
    assert passes == [18]


@pytest.mark.parametrize(("severity", "verdict"), [("critical", "stop"), ("error", "warn"), ("warning", "warn")])
def test_batches_together_and_alone_say_the_same_of_a_column_that_is_not_there(
    severity: str, verdict: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled = compile_suite(suite_of((WATCH[0], WATCH[1], severity), KIND), SCHEMA, name="clicks")
    more: dict[str, Any] = {"contract": "clicks", "contract_version": 1, "absent": {"watch_ms"}}
    batches = [rows(kind=["click"]), rows(kind=["like"])]
    alone = [admit(batch, compiled, SCHEMA, verdict_id=v, **more) for batch, v in zip(batches, ["a", "b"], strict=True)]
    if verdict != "stop":  # that a source lacks a column is no reason to look at each of its batches by itself
        monkeypatch.delattr("reclake.quality.gate.admit")
    together = admit_each(*joined(batches), compiled, SCHEMA, verdict_ids=["a", "b"], **more)
    assert [a.verdict for a in together] == [verdict, verdict]
    for mine, theirs in zip(together, alone, strict=True):
        assert (mine.checks, mine.verdict, mine.stop_reason) == (theirs.checks, theirs.verdict, theirs.stop_reason)
        assert mine.admitted.rows.equals(theirs.admitted.rows)
