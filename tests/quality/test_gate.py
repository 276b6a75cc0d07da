"""The gate: what is admitted, what is rejected and why, what stops a batch, and who may make `Admitted`."""

from __future__ import annotations

import copy
import dataclasses
import math
import pickle
from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reclake.quality.gate import Admission, Admitted, admit, admit_each, record, verdict_rows
from reclake.quality.suite import compile_suite
from reclake.schemas.errors import GateError
from reclake.schemas.shapes import REASON, VERDICTS

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


def suite_of(*expectations: tuple[str, dict[str, Any], str]) -> dict[str, Any]:
    return {
        "name": "clicks",
        "expectations": [{"type": t, "kwargs": k, "meta": {"severity": s}} for t, k, s in expectations],
    }


def gate(batch: pa.Table, *expectations: tuple[str, dict[str, Any], str], **more: Any) -> Admission:
    compiled = compile_suite(suite_of(*expectations), SCHEMA, name="clicks")
    return admit(batch, compiled, SCHEMA, contract="clicks", contract_version=3, verdict_id="v1", **more)


def reasons_of(admission: Admission) -> dict[int, list[tuple[str, str, str, str]]]:
    keys = ("column", "severity", "expected", "got")
    return {
        row["index"]: [tuple(reason[key] for key in keys) for reason in row["reasons"]]  # type: ignore[misc]
        for row in admission.rejected.to_dicts()
    }


def test_a_good_batch_passes_whole_and_conforms_exactly() -> None:
    admission = gate(rows(watch_ms=[1, 2], kind=["click", None]), WATCH, KIND)
    assert admission.verdict == "pass"
    assert admission.admitted.rows.schema.equals(SCHEMA, check_metadata=True)
    assert admission.admitted.rows.num_rows == 2
    assert admission.rejected.height == 0
    assert (admission.admitted.contract, admission.admitted.contract_version) == ("clicks", 3)


def test_failing_rows_are_rejected_with_every_reason_and_the_rest_admitted() -> None:
    batch = rows(watch_ms=[1, -5, 2, -7], kind=["click", "dislike", "like", "click"], share=[0.5, 2.0, 3.0, 0.1])
    admission = gate(batch, WATCH, KIND, SHARE)
    assert admission.verdict == "quarantine"
    assert admission.admitted.rows["id"].to_pylist() == [0, 2]  # row 2 only fails a warning
    assert reasons_of(admission) == {
        1: [
            ("watch_ms", "error", ">= 0", "-5"),
            ("kind", "error", "one of click, like", '"dislike"'),
            ("share", "warning", ">= 0 and <= 1", "2.0"),
        ],
        3: [("watch_ms", "error", ">= 0", "-7")],
    }


def test_rejected_rows_have_the_shape_of_the_quarantine() -> None:
    expected = pl.DataFrame(pl.from_arrow(pa.table({"r": pa.array([], pa.list_(REASON))}))).schema["r"]
    for admission in (gate(rows(watch_ms=[-1]), WATCH), gate(rows(watch_ms=[1]), WATCH)):
        assert admission.rejected.schema == {"index": pl.UInt32, "reasons": expected}


def test_a_null_where_the_schema_allows_none_is_rejected_without_any_expectation() -> None:
    admission = gate(rows(id=[1, None, 3]))
    assert admission.admitted.rows["id"].to_pylist() == [1, 3]
    assert admission.rejected["reasons"].to_list() == [
        [{"check": "schema", "column": "id", "severity": "error", "expected": "not null", "got": "null"}]
    ]


def test_a_null_inside_a_struct_or_list_that_allows_none_is_found() -> None:
    item = pa.struct([pa.field("x", pa.int64(), nullable=False), pa.field("y", pa.int64())])
    schema = pa.schema([pa.field("v", pa.list_(pa.field("item", item, nullable=False)))])
    loose = pa.schema([("v", pa.list_(pa.struct([("x", pa.int64()), ("y", pa.int64())])))])
    values = [None, [], [{"x": 1, "y": None}], [{"x": 1, "y": 1}, {"x": None, "y": 1}], [None]]
    compiled = compile_suite({"expectations": []}, schema, name="nested")
    batch = pa.table({"v": values}, schema=loose)
    admission = admit(batch, compiled, schema, contract="nested", contract_version=1, verdict_id="v")
    assert admission.rejected["index"].to_list() == [3, 4]
    assert [r[0]["column"] for r in admission.rejected["reasons"].to_list()] == ["v[].x", "v[]"]
    assert admission.admitted.rows["v"].to_pylist() == values[:3]


def test_a_critical_check_unmet_stops_the_batch_and_names_itself() -> None:
    critical = (KIND[0], KIND[1], "critical")
    admission = gate(rows(kind=["click", "oops"]), critical)
    assert admission.verdict == "stop"
    assert admission.admitted.rows.num_rows == 0
    assert admission.admitted.rows.schema.equals(SCHEMA)
    assert admission.stop_reason == (
        'expect_column_values_to_be_in_set of kind: expected one of click, like, got 1 of 2 rows, e.g. "oops"'
    )
    assert reasons_of(admission) == {1: [("kind", "critical", "one of click, like", '"oops"')]}


def test_a_critical_aggregate_stops_the_batch() -> None:
    admission = gate(rows(watch_ms=[1, 2]), ("expect_table_row_count_to_be_between", {"min_value": 3}, "critical"))
    assert (admission.verdict, admission.admitted.rows.num_rows) == ("stop", 0)
    assert admission.rejected.height == 0
    assert admission.stop_reason == "expect_table_row_count_to_be_between: expected rows >= 3, got 2"


def test_a_warning_is_recorded_and_admits() -> None:
    admission = gate(rows(share=[2.0, 0.5]), SHARE)
    assert (admission.verdict, admission.admitted.rows.num_rows, admission.rejected.height) == ("warn", 2, 0)
    (result,) = [c for c in admission.checks if c.column == "share"]
    assert (result.success, result.evaluated, result.unexpected) == (False, 2, 1)
    assert result.observed == "1 of 2 rows, e.g. 2.0"


def test_rows_within_mostly_are_tolerated_and_all_failing_rows_rejected_beyond_it() -> None:
    mostly = (WATCH[0], WATCH[1] | {"mostly": 0.5}, "error")
    within = gate(rows(watch_ms=[1, -1, None]), mostly)
    assert (within.verdict, within.admitted.rows.num_rows) == ("pass", 3)
    assert within.checks[1].unexpected == 1
    beyond = gate(rows(watch_ms=[1, -1, -2, None]), mostly)
    assert beyond.rejected["index"].to_list() == [1, 2]
    assert beyond.checks[1].expected == ">= 0, in 0.5 of rows or more"


@pytest.mark.parametrize(
    ("limit", "verdict"), [(0.5, "quarantine"), (0.49, "stop"), (0.0, "stop"), (1.0, "quarantine")]
)
def test_a_rejected_share_above_the_quarantine_limit_stops_the_batch(limit: float, verdict: str) -> None:
    admission = gate(rows(watch_ms=[1, -1]), WATCH, quarantine_limit=limit)
    assert admission.verdict == verdict
    assert admission.rejected["index"].to_list() == [1]
    if verdict == "stop":
        assert "1 of 2 rows rejected" in (admission.stop_reason or "")


def test_an_empty_batch_passes_checks_of_rows() -> None:
    admission = gate(rows(watch_ms=[]), WATCH, KIND, quarantine_limit=0.0)
    assert (admission.verdict, admission.admitted.rows.num_rows) == ("pass", 0)


def test_times_are_compared_and_shown_in_microseconds_whatever_unit_they_come_in() -> None:
    bound = (
        "expect_column_values_to_be_between",
        {"column": "at", "min_value": "2022-05-01T02:00:00.000001+02:00"},
        "error",
    )
    at = datetime(2022, 5, 1, tzinfo=UTC)
    admission = gate(rows(at=[at, at.replace(microsecond=1)]), bound)
    assert reasons_of(admission) == {0: [("at", "error", ">= 2022-05-01T00:00:00.000001Z", "2022-05-01T00:00:00Z")]}


def test_a_nan_is_missing() -> None:
    not_null = ("expect_column_values_to_not_be_null", {"column": "share"}, "error")
    admission = gate(rows(share=[math.nan, None, 0.5]), not_null, (SHARE[0], SHARE[1], "error"))
    assert reasons_of(admission) == {row: [("share", "error", "not null", "null")] for row in (0, 1)}


def test_duplicates_are_all_rejected_and_show_their_values() -> None:
    unique = ("expect_compound_columns_to_be_unique", {"column_list": ["watch_ms", "kind"]}, "error")
    admission = gate(rows(watch_ms=[1, 1, 1, None], kind=["a", "a", "b", None]), unique)
    assert reasons_of(admission) == {
        row: [("watch_ms, kind", "error", "unique together", 'watch_ms = 1, kind = "a"')] for row in (0, 1)
    }


def test_long_values_are_cut_in_reasons() -> None:
    admission = gate(rows(kind=["x" * 500]), KIND)
    assert reasons_of(admission)[0][0][3] == '"' + "x" * 80 + '…"'


def test_columns_may_come_in_any_order_and_layout_of_the_same_type() -> None:
    batch = rows(kind=["click"], watch_ms=[1]).select(SCHEMA.names[::-1])
    batch = batch.set_column(1, "kind", batch["kind"].cast(pa.large_string()))
    assert gate(batch, WATCH, KIND).admitted.rows.schema.equals(SCHEMA)


@pytest.mark.parametrize(
    ("batch", "says"),
    [
        (rows(kind=["a"]).drop_columns(["kind"]), "missing kind"),
        (rows(kind=["a"]).append_column("more", pa.array([1])), "more: more"),
        (rows(kind=["a"]).append_column("kind", pa.array(["b"])), "twice"),
        (rows(kind=["a"]).set_column(3, "kind", pa.array([1])), "int64"),
        (rows(kind=["a"]).set_column(1, "watch_ms", pa.array([1], pa.int32())), "int32"),
    ],
)
def test_a_batch_of_another_shape_is_refused_not_cast(batch: pa.Table, says: str) -> None:
    with pytest.raises(GateError) as caught:
        gate(batch)
    assert says in str(caught.value)


def test_a_suite_compiled_for_another_schema_is_refused() -> None:
    other = pa.schema({"id": pa.int32()})
    suite = {"expectations": [{"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "id"}}]}
    with pytest.raises(GateError, match="another schema"):
        admit(
            rows(id=[1]),
            compile_suite(suite, other, name="x"),
            SCHEMA,
            contract="c",
            contract_version=1,
            verdict_id="v",
        )


def test_only_the_gate_makes_admitted_rows() -> None:
    with pytest.raises(TypeError, match="only the gate"):
        Admitted(rows(id=[1]), "clicks", 1, "v")
    admitted = gate(rows(id=[1])).admitted
    with pytest.raises((TypeError, ValueError)):
        dataclasses.replace(admitted, rows=rows(id=[2]))
    with pytest.raises(dataclasses.FrozenInstanceError):
        admitted.rows = rows(id=[2])  # type: ignore[misc]


def test_admitted_rows_survive_a_copy_and_another_process() -> None:
    admitted = gate(rows(id=[1, 2])).admitted
    for again in (copy.copy(admitted), pickle.loads(pickle.dumps(admitted))):
        assert again.rows.equals(admitted.rows)


@pytest.mark.parametrize("mask", [np.array([True, False]), pl.Series([True, False])])
def test_admitted_rows_can_be_narrowed(mask: Any) -> None:
    kept = gate(rows(id=[1, 2])).admitted.keep(mask)
    assert (kept.rows["id"].to_pylist(), kept.verdict_id) == ([1], "v1")


@pytest.mark.parametrize("mask", [np.array([True]), np.array([0, 1]), pl.Series([True, None])])
def test_a_mask_that_does_not_fit_is_refused(mask: Any) -> None:
    with pytest.raises(GateError, match="not a mask"):
        gate(rows(id=[1, 2])).admitted.keep(mask)


def test_a_record_conforms_or_is_refused() -> None:
    assert record(rows(id=[1]), SCHEMA, name="ledger").rows.schema.equals(SCHEMA)
    with pytest.raises(GateError, match="null where") as caught:
        record(rows(id=[1, None]), SCHEMA, name="ledger")
    assert "ledger, column id" in str(caught.value)
    with pytest.raises(GateError, match="other columns"):
        record(rows(id=[1]).drop_columns(["kind"]), SCHEMA, name="ledger")


def test_verdict_rows_sum_the_batch_up_and_hold_every_check() -> None:
    admission = gate(
        rows(watch_ms=[1, -1]),
        WATCH,
        ("expect_column_mean_to_be_between", {"column": "watch_ms", "min_value": 1}, "warning"),
    )
    table = verdict_rows(
        admission,
        run_id="r",
        at_us=7,
        table="events",
        source="day1.avro",
        event_day=date(2022, 5, 1),
        read=4,
        duplicates=1,
        late=0,
        quarantined=2,
        admitted=1,
    )
    assert table.schema.equals(VERDICTS)
    batch, schema, watch, mean = table.to_pylist()
    assert {
        key: batch[key] for key in ("check", "evaluated", "unexpected", "admitted", "duplicates", "late", "verdict")
    } == {
        "check": "batch",
        "evaluated": 4,
        "unexpected": 2,
        "admitted": 1,
        "duplicates": 1,
        "late": 0,
        "verdict": "quarantine",
    }
    assert (schema["check"], schema["success"]) == ("schema", True)
    assert (watch["expected"], watch["observed"], watch["unexpected"]) == (">= 0", "1 of 2 rows, e.g. -1", 1)
    assert (mean["success"], mean["observed"], mean["severity"]) == (False, "0.0", "warning")
    assert record(table, VERDICTS, name="verdicts").rows.num_rows == 4


@given(
    st.lists(
        st.tuples(
            st.one_of(st.none(), st.integers(0, 3)),
            st.one_of(st.none(), st.integers(-2, 2)),
            st.sampled_from([None, "click", "oops"]),
        ),
        max_size=12,
    )
)
def test_every_row_is_admitted_or_rejected_and_never_both(values: list[tuple[Any, Any, Any]]) -> None:
    ids, watch, kinds = ([v[i] for v in values] for i in range(3))
    batch = pa.table(
        {"id": ids, "watch_ms": watch, "share": [None] * len(ids), "kind": kinds, "at": [None] * len(ids)}, schema=LOOSE
    )
    admission = gate(batch, WATCH, KIND)
    bad = [i is None or (w is not None and w < 0) or k == "oops" for i, w, k in values]
    assert admission.rejected["index"].to_list() == [n for n, is_bad in enumerate(bad) if is_bad]
    kept = batch.filter(pa.array([not b for b in bad], pa.bool_()))
    assert admission.admitted.rows.equals(kept.cast(SCHEMA))


def test_more_rejected_rows_than_the_limit_stop_the_batch() -> None:
    batch = rows(watch_ms=[-1, -2, 3, 4])
    assert gate(batch, WATCH, quarantine_limit_rows=2).verdict == "quarantine"
    stopped = gate(batch, WATCH, quarantine_limit_rows=2, refused_before=1)
    assert (stopped.verdict, stopped.admitted.rows.num_rows) == ("stop", 0)
    assert stopped.stop_reason == "3 of 5 rows rejected, more than the contract's quarantine limit of 2 rows"


@pytest.mark.parametrize(("severity", "verdict"), [("critical", "stop"), ("error", "warn"), ("warning", "warn")])
def test_a_check_of_a_column_that_the_source_does_not_have_never_passes(severity: str, verdict: str) -> None:
    check = (WATCH[0], WATCH[1], severity)
    batch = rows(watch_ms=[None, None])
    assert gate(batch, check).verdict == "pass"  # the column is there, and nothing in it
    admission = gate(batch, check, absent={"watch_ms"})
    assert admission.verdict == verdict
    result = admission.checks[1]
    assert (result.success, result.evaluated) == (False, 0)
    assert result.observed == "not evaluated: the source has no column watch_ms"
    # One that looks at rows whose values are missing has an answer.
    null = ("expect_column_values_to_be_null", {"column": "watch_ms"}, severity)
    assert gate(batch, null, absent={"watch_ms"}).verdict == "pass"


@pytest.mark.parametrize(("severity", "verdict"), [("critical", "stop"), ("error", "warn"), ("warning", "warn")])
def test_a_check_whose_row_condition_asks_for_a_column_that_the_source_does_not_have_never_passes(
    severity: str, verdict: str
) -> None:
    asked = {"column": "id", "min_value": 100, "row_condition": "watch_ms > 0", "condition_parser": "pandas"}
    batch = rows(watch_ms=[None, None])
    check = ("expect_column_values_to_be_between", asked, severity)
    assert gate(batch, check).verdict == "pass"  # the column is there, and no row is asked about
    admission = gate(batch, check, absent={"watch_ms"})
    assert admission.verdict == verdict
    assert admission.checks[1].observed == "not evaluated: the source has no column watch_ms"


@pytest.mark.parametrize(("severity", "verdict"), [("critical", "stop"), ("error", "stop"), ("warning", "warn")])
def test_a_check_that_breaks_on_a_batch_never_passes_and_the_others_are_answered(severity: str, verdict: str) -> None:
    compiled = compile_suite(suite_of((WATCH[0], WATCH[1], severity), KIND), SCHEMA, name="clicks")
    broken = pl.col("kind").str.to_integer().alias("0.fails")
    first = tuple(broken if e.meta.output_name() == "0.fails" else e for e in compiled.plan[0])
    compiled = dataclasses.replace(compiled, plan=(first, *compiled.plan[1:]))
    batch = rows(kind=["click", "dislike"], watch_ms=[-1, 1])
    admission = admit(batch, compiled, SCHEMA, contract="clicks", contract_version=1, verdict_id="v")
    assert admission.verdict == ("quarantine" if verdict == "warn" else verdict)
    assert admission.checks[1].observed.startswith("not evaluated: ")
    assert (admission.checks[1].success, admission.checks[2].unexpected) == (False, 1)
    twice = pa.concat_tables([batch, batch])
    both = admit_each(twice, [2, 2], compiled, SCHEMA, contract="clicks", contract_version=1, verdict_ids=["v", "w"])
    assert both[1].checks == admission.checks


def test_values_of_personal_columns_are_counted_and_never_named() -> None:
    extreme = ("expect_column_max_to_be_between", {"column": "watch_ms", "max_value": 10}, "warning")
    mean = ("expect_column_mean_to_be_between", {"column": "watch_ms", "max_value": 10}, "warning")
    suite = suite_of(WATCH, KIND, extreme, mean)
    compiled = compile_suite(suite, SCHEMA, name="clicks", personal={"watch_ms", "kind"})
    batch = rows(watch_ms=[-4711, 47], kind=["secret", "click"])
    admission = admit(batch, compiled, SCHEMA, contract="clicks", contract_version=1, verdict_id="v")
    assert [check.observed for check in admission.checks[1:]] == [
        "1 of 2 rows, e.g. (personal data)",
        "1 of 2 rows, e.g. (personal data)",
        "(personal data)",
        "-2332.0",
    ]
    assert [r["got"] for r in admission.rejected["reasons"].to_list()[0]] == ["(personal data)", "(personal data)"]
