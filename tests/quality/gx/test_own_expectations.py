"""Our own expectations: what each refuses, and that the gate and Great Expectations refuse the same rows."""

from __future__ import annotations

import os

os.environ["GX_ANALYTICS_ENABLED"] = "false"  # before Great Expectations is imported: no test reports usage

import math
import warnings
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from string import Template
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from reclake.quality import drift, list_checks, order_checks
from reclake.quality.gate import admit
from reclake.quality.suite import check_with_gx, compile_suite
from reclake.schemas.errors import SuiteError

T0 = datetime(2024, 3, 1, tzinfo=UTC)
TIME = pa.timestamp("us", tz="UTC")
STEP = pa.struct({"item": pa.int64(), "at": TIME})


def hours(*values: int | None) -> list[datetime | None]:
    return [None if value is None else T0 + timedelta(hours=value) for value in values]


ROWS = pa.table(
    {
        "user": pa.array([1, 1, 2, 1, 2, None]),
        "type": ["exposure", "click", "click", "exposure", "exposure", "like"],
        "item": pa.array([7, 7, 7, 8, 9, 9]),
        "at": pa.array(hours(0, 1, 2, 0, 3, 4), TIME),
        "history": pa.array(
            [
                hours(-2, -1),
                hours(0, 1),
                [],
                None,
                hours(None, 1),
                hours(3, 5),
            ],
            pa.list_(TIME),
        ),
        "steps": pa.array(
            [[{"item": 1, "at": T0}], [{"item": -1, "at": T0}, {"item": 2, "at": None}], [], None, None, None],
            pa.list_(STEP),
        ),
        "context": pa.array(
            [{"item": 1, "at": T0}, {"item": 5, "at": None}, None, {"item": None, "at": None}, None, None], STEP
        ),
        "vector": pa.array(
            [[0.6, 0.8], [1.0, 1.0], [0.0, math.nan], None, [1.0, None], [math.inf, 0.0]], pa.list_(pa.float32())
        ),
        "fixed": pa.array(
            [[1.0, 0.0], [0.6, 0.8], [2.0, 0.0], None, [0.0, 1.0], [0.0, -1.0]], pa.list_(pa.float32(), 2)
        ),
        "score": [0.1, 0.2, 0.3, 0.4, 0.5, 9.0],
    }
)
AT_MIDNIGHT = "2024-03-01T00:00:00Z"
# The rows that fail.
CASES: list[tuple[str, dict[str, Any], list[int]]] = [
    ("expect_column_list_values_to_not_be_null", {"column": "vector"}, [2, 4]),
    ("expect_column_list_values_to_not_be_null", {"column": "history"}, [4]),
    ("expect_column_list_values_to_not_be_null", {"column": "steps[].at"}, [1]),
    ("expect_column_list_values_to_be_between", {"column": "vector", "min_value": 0, "max_value": 1}, [2, 5]),
    ("expect_column_list_values_to_be_between", {"column": "fixed", "min_value": -1, "max_value": 1}, [2]),
    ("expect_column_list_values_to_be_between", {"column": "steps[].item", "min_value": 0}, [1]),
    ("expect_column_list_values_to_be_finite", {"column": "vector"}, [2, 4, 5]),
    ("expect_column_vectors_to_be_unit_norm", {"column": "fixed"}, [2]),
    ("expect_column_vectors_to_be_unit_norm", {"column": "vector", "tolerance": 0.5}, [2, 5]),
    ("expect_column_list_values_to_be_before", {"column": "history", "before_column": "at"}, [1, 5]),
    ("expect_column_values_to_be_increasing_within_group", {"column": "at", "group_column": "user"}, [3]),
    (
        "expect_column_values_to_be_increasing_within_group",
        {"column": "item", "group_column": "user", "strictly": True},
        [1],
    ),
    (
        "expect_outcomes_to_follow_exposures",
        {"column": "type", "exposure": "exposure", "outcomes": ["click"], "time_column": "at"}
        | {"key_columns": ["user", "item"]},
        [2],
    ),
    ("expect_labels_to_be_mature", {"column": "at", "window_hours": 24, "as_of": "2024-03-02T02:00:00Z"}, [4, 5]),
    ("expect_labels_to_be_mature", {"column": "context.at", "window_hours": 1, "as_of_column": "at"}, [0]),
    ("expect_column_values_to_be_in_reference", {"column": "item", "reference": {"values": [7, 8, 8, None]}}, [4, 5]),
    ("expect_column_values_to_be_in_reference", {"column": "type", "reference": {"values": ["click"]}}, [0, 3, 4, 5]),
    ("expect_column_values_to_be_in_reference", {"column": "user", "reference": {"values": [2**62]}}, [0, 1, 2, 3, 4]),
    # Great Expectations' own, on what is inside structs and lists.
    ("expect_column_values_to_be_between", {"column": "context.item", "min_value": 2}, [0]),
    ("expect_column_values_to_not_be_null", {"column": "context.at", "mostly": 0.1}, [1, 2, 3, 4, 5]),
    ("expect_column_value_lengths_to_equal", {"column": "fixed", "value": 2}, []),
    ("expect_column_value_lengths_to_be_between", {"column": "steps[].item", "min_value": 1, "max_value": 1}, [1, 2]),
    (
        "expect_column_pair_values_a_to_be_greater_than_b",
        {"column_A": "at", "column_B": "context.at", "or_equal": True},
        [],
    ),
]
CASES[-1][2].extend([1, 2, 3, 4, 5])  # what is missing is not before


@pytest.fixture(scope="module")
def validate() -> Iterator[Callable[..., Any]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # GX, pandas and marshmallow deprecate among themselves
        import great_expectations as gx
        from great_expectations.data_context.types.base import ProgressBarsConfig
        from great_expectations.expectations.expectation_configuration import ExpectationConfiguration

        import reclake.quality.gx  # noqa: F401

        context = gx.get_context(mode="ephemeral")
        context.variables.progress_bars = ProgressBarsConfig(globally=False)
        source = context.data_sources.add_polars("own")

        def run(rows: Any, type_: str, kwargs: dict[str, Any]) -> Any:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                made = ExpectationConfiguration(type=type_, kwargs=kwargs).to_domain_obj()
                result = source.read_dataframe(rows).validate(made, result_format="COMPLETE")
                assert "raised_exception': True" not in str(result.exception_info), result.exception_info
                return result

        yield run


def gate(rows: pa.Table, type_: str, kwargs: dict[str, Any]) -> Any:
    suite = {"name": "own", "expectations": [{"type": type_, "kwargs": kwargs}]}
    compiled = compile_suite(suite, rows.schema, name="own")
    return admit(rows, compiled, rows.schema, contract="own", contract_version=1, verdict_id="v")


@pytest.mark.parametrize(
    ("type_", "kwargs", "failing"), CASES, ids=[f"{t[7:]} {k.get('column', '')}" for t, k, _ in CASES]
)
def test_the_gate_and_great_expectations_refuse_the_same_rows(
    validate: Any, type_: str, kwargs: dict[str, Any], failing: list[int]
) -> None:
    theirs = validate(ROWS, type_, kwargs)
    assert theirs.result["unexpected_index_list"] == failing
    admission = gate(ROWS, type_, kwargs)
    check = admission.checks[1]
    assert check.unexpected == len(failing)
    assert check.success == theirs.success
    assert check.evaluated == theirs.result["element_count"] - theirs.result.get("missing_count", 0)


@pytest.mark.parametrize("text", ["item < 9", "user == 1"])
def test_under_a_row_condition_they_look_at_its_rows_alone(validate: Any, text: str) -> None:
    for type_, kwargs, _ in CASES:
        if type_ in list_checks.RULES or type_ in order_checks.RULES:
            condition = kwargs | {"row_condition": text, "condition_parser": "pandas"}
            theirs, check = validate(ROWS, type_, condition), gate(ROWS, type_, condition).checks[1]
            assert (theirs.success, theirs.result["unexpected_count"]) == (check.success, check.unexpected), type_


NUMBERS = pl.Series(np.random.default_rng(7).normal(size=5000))


@pytest.mark.parametrize("measure", drift.MEASURES)
def test_drift_is_small_for_a_like_sample_and_large_for_another(validate: Any, measure: str) -> None:
    reference = drift.reference_of(NUMBERS)
    like = pa.table({"x": np.random.default_rng(8).normal(size=5000)})
    other = pa.table({"x": np.random.default_rng(8).normal(1.0, size=5000)})
    kwargs = {"column": "x", "measure": measure, "threshold": 0.05, "reference": reference}
    for rows, met in ((like, True), (other, False)):
        theirs, mine = (
            validate(rows, "expect_column_drift_to_be_less_than", kwargs),
            gate(rows, "expect_column_drift_to_be_less_than", kwargs),
        )
        assert (theirs.success, mine.checks[1].success) == (met, met)
        assert theirs.result["observed_value"] == mine.checks[1].value


def test_drift_of_categories_counts_what_the_reference_does_not_name(validate: Any) -> None:
    reference = drift.reference_of(pl.Series(["a", "a", "b", None]))
    assert reference == {"values": ["a", "b"], "weights": [pytest.approx(2 / 3), pytest.approx(1 / 3)]}
    rows = pa.table({"x": ["a", "b", "new", None]})
    kwargs = {"column": "x", "measure": "l_infinity", "threshold": 0.4, "reference": reference}
    result = validate(rows, "expect_column_drift_to_be_less_than", kwargs)
    assert result.result["observed_value"] == pytest.approx(1 / 3)
    assert result.success


def test_measures_of_drift_are_those_of_the_books() -> None:
    p, q = np.array([0.5, 0.5]), np.array([0.9, 0.1])
    assert drift.psi(p, q) == pytest.approx(-0.4 * math.log(0.5 / 0.9) + 0.4 * math.log(0.5 / 0.1))
    assert drift.jensen_shannon(np.array([1.0, 0.0]), np.array([0.0, 1.0])) == pytest.approx(1.0)
    assert drift.l_infinity(p, q) == pytest.approx(0.4)
    assert drift.psi(p, p) == drift.jensen_shannon(p, p) == drift.l_infinity(p, p) == 0.0


def test_a_reference_that_is_none_is_refused_when_the_suite_is_compiled() -> None:
    for reference in (
        None,
        {"bins": [0, 1], "weights": [0.5, 0.5]},
        {"values": ["a"], "weights": [1]},
        {"bins": [1, 0]},
    ):
        kwargs = {"column": "score", "threshold": 1, "reference": reference}
        with pytest.raises(SuiteError, match=r"reference distribution|does not fit"):
            gate(ROWS, "expect_column_drift_to_be_less_than", kwargs)


@pytest.mark.parametrize(
    "reference",
    [None, {}, {"values": ["a"]}, {"values": [1, "a"]}, {"values": []}, {"table": "t", "column": "c"}],
    ids=str,
)
def test_a_reference_of_other_values_than_the_columns_is_refused(reference: Any) -> None:
    with pytest.raises(SuiteError, match="not a reference for column item"):
        gate(ROWS, "expect_column_values_to_be_in_reference", {"column": "item", "reference": reference})


@pytest.mark.parametrize("name", ["context.nowhere", "steps.item", "steps[].nowhere", "at.hour", "nowhere.item"])
def test_a_path_that_leads_nowhere_is_refused(name: str) -> None:
    with pytest.raises(SuiteError, match="a column that does not exist"):
        gate(ROWS, "expect_column_values_to_not_be_null", {"column": name})


def test_data_docs_say_each_of_ours_in_a_sentence() -> None:
    from great_expectations.expectations.expectation_configuration import ExpectationConfiguration

    from reclake.quality.gx.expectations import OWN

    reference = {"column": "score", "threshold": 0.2, "reference": drift.reference_of(NUMBERS)}
    mine = [(type_, kwargs) for type_, kwargs, _ in CASES if type_ in OWN]
    condition = {"row_condition": "user == 1", "condition_parser": "pandas", "mostly": 0.5}
    for type_, kwargs in [*mine, ("expect_column_drift_to_be_less_than", reference)]:
        given = kwargs | (condition if type_ in OWN else {})
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made = ExpectationConfiguration(type=type_, kwargs=given).to_domain_obj()
        (content,) = type(made)._prescriptive_renderer(configuration=made.configuration)
        said = content.to_json_dict()["string_template"]
        told = Template(said["template"]).substitute(said["params"])
        assert f"{kwargs['column']} " in told
        assert type_ not in OWN or ("50 % of the time" in told and told.startswith("If user == 1, then")), told


def test_great_expectations_accepts_a_suite_with_them() -> None:
    entries = [{"type": type_, "kwargs": kwargs} for type_, kwargs, _ in CASES]
    check_with_gx({"name": "own", "expectations": entries})
