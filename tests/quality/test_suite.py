"""Compiling a suite: what cannot be evaluated is refused at once, and what is compiled means what Python means."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reclake.quality.expectation import RowCheck
from reclake.quality.patterns import to_rust
from reclake.quality.suite import check_with_gx, compile_suite
from reclake.schemas.contract import shipped, shipped_names
from reclake.schemas.errors import SuiteError

SCHEMA = pa.schema(
    {
        "n": pa.int64(),
        "f": pa.float64(),
        "s": pa.string(),
        "b": pa.bool_(),
        "t": pa.timestamp("us", tz="UTC"),
        "d": pa.date32(),
        "p": pa.decimal128(9, 2),
        "v": pa.list_(pa.float32()),
    }
)
NULL = "expect_column_values_to_not_be_null"
BETWEEN = "expect_column_values_to_be_between"
IN_SET = "expect_column_values_to_be_in_set"
REGEX = "expect_column_values_to_match_regex"


def compile_one(what: str, *, entry: dict[str, Any] | None = None, **kwargs: Any) -> Any:
    suite = {"name": "one", "expectations": [{"type": what, "kwargs": kwargs} | (entry or {})]}
    return compile_suite(suite, SCHEMA, name="one").checks[0]


@pytest.mark.parametrize("name", shipped_names())
def test_shipped_suites_compile_and_great_expectations_accepts_them(name: str) -> None:
    contract = shipped(name)
    assert compile_suite(contract.expectations, contract.arrow, name=name).checks
    check_with_gx(contract.expectations)


def test_compiling_and_admitting_never_imports_great_expectations() -> None:
    code = (
        "import sys; from reclake.quality import gate, suite; from reclake.schemas.contract import shipped;"
        "c = shipped('events'); s = suite.compile_suite(c.expectations, c.arrow, name='events');"
        "gate.admit(c.arrow.empty_table(), s, c.arrow, contract='e', contract_version=1, verdict_id='v');"
        "assert 'great_expectations' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize(
    ("type_", "kwargs", "says"),
    [
        ("expect_column_values_to_be_wonderful", {"column": "n"}, "cannot evaluate"),
        (NULL, {"column": "nowhere"}, "does not exist"),
        (NULL, {}, "does not exist"),
        (NULL, {"column": "n", "mostyl": 0.5}, "unknown argument"),
        (NULL, {"column": "n", "mostly": 1.5}, "not a share"),
        (BETWEEN, {"column": "n"}, "no bound"),
        (BETWEEN, {"column": "n", "min_value": 2, "max_value": 1}, "greater than"),
        (BETWEEN, {"column": "n", "min_value": "0"}, "does not fit"),
        (BETWEEN, {"column": "n", "min_value": True}, "does not fit"),
        (BETWEEN, {"column": "n", "min_value": {"$PARAMETER": "low"}}, "does not fit"),
        (BETWEEN, {"column": "t", "min_value": 5}, "does not fit"),
        (BETWEEN, {"column": "t", "min_value": "yesterday"}, "does not fit"),
        (BETWEEN, {"column": "s", "min_value": 1}, "cannot be evaluated on"),
        (BETWEEN, {"column": "v", "min_value": 1}, "cannot be evaluated on"),
        (BETWEEN, {"column": "n", "min_value": 1, "strict_min": 1}, "not a flag"),
        (IN_SET, {"column": "n", "value_set": ["1"]}, "does not fit"),
        (IN_SET, {"column": "n", "value_set": [1.5]}, "does not fit"),
        (IN_SET, {"column": "n"}, "not a set"),
        (REGEX, {"column": "n", "regex": "1"}, "cannot be evaluated on"),
        (REGEX, {"column": "s", "regex": "("}, "not a regular expression"),
        (REGEX, {"column": "s", "regex": "(?<=a)b"}, "cannot run as Python does"),
        ("expect_column_values_to_match_regex_list", {"column": "s", "regex_list": []}, "no regular expression"),
        ("expect_column_value_lengths_to_equal", {"column": "n", "value": 1}, "cannot be evaluated on"),
        ("expect_column_value_lengths_to_equal", {"column": "s", "value": 1.5}, "not a number"),
        ("expect_column_values_to_be_of_type", {"column": "n", "type_": "whole"}, "unknown type"),
        ("expect_column_pair_values_to_be_equal", {"column_A": "n", "column_B": "s"}, "do not compare"),
        ("expect_compound_columns_to_be_unique", {"column_list": ["n"]}, "not a list of columns"),
        ("expect_compound_columns_to_be_unique", {"column_list": ["n", "v"]}, "cannot be evaluated on"),
        ("expect_column_mean_to_be_between", {"column": "s", "min_value": 0}, "cannot be evaluated on"),
        ("expect_column_mean_to_be_between", {"column": "n", "min_value": "0"}, "not a number"),
        ("expect_column_distinct_values_to_be_in_set", {"column": "n", "value_set": []}, "not a set"),
        ("expect_table_row_count_to_equal", {}, "no count"),
    ],
)
def test_what_cannot_be_evaluated_is_refused_with_its_place(type_: str, kwargs: dict[str, Any], says: str) -> None:
    with pytest.raises(SuiteError, match=says) as caught:
        compile_one(type_, **kwargs)
    assert f"suite of one, expectation 0, {type_}" in (caught.value.where or "")


@pytest.mark.parametrize(
    "condition",
    [
        "nowhere == 1",
        "n == 'a'",
        "n == s",
        "n + s == 2",
        "n < 'a'",
        "n > n.mean()",
        "index > 1",
        "s.str.split() > 1",
        "n",
        "__import__('os').system('true')",
        "t > @now",
        "v == 1",
        {"type": "comparison", "column": {"name": "n"}, "operator": "~", "parameter": 1},
        {"type": "and", "conditions": []},
        {"type": "unknown"},
        7,
    ],
)
def test_a_row_condition_without_a_sound_meaning_is_refused(condition: Any) -> None:
    with pytest.raises(SuiteError):
        compile_one(NULL, column="n", row_condition=condition, condition_parser="pandas")


def test_a_row_condition_for_spark_is_refused() -> None:
    with pytest.raises(SuiteError, match="cannot be evaluated"):
        compile_one(NULL, column="n", row_condition="n > 1", condition_parser="spark")


@pytest.mark.parametrize("text", ['col("n") > 1', "`n` > 1", "1 < n", "(n > 1)"])
def test_a_column_of_a_condition_may_be_written_in_gx_or_pandas_style(text: str) -> None:
    check = compile_one(NULL, column="s", row_condition=text, condition_parser="great_expectations")
    frame = pl.DataFrame({"n": [1, 2, None], "s": [None, None, None]}, schema={"n": pl.Int64, "s": pl.String})
    assert frame.select(check.fails).to_series().to_list() == [False, True, False]


@pytest.mark.parametrize(
    ("suite", "says"),
    [
        ({}, "not a suite"),
        ({"expectations": {}}, "not a suite"),
        ({"expectations": [{"kwargs": {}}]}, "not an expectation"),
        ({"expectations": [{"type": NULL, "kwarg": {"column": "n"}}]}, "not an expectation"),
    ],
)
def test_a_malformed_suite_is_refused(suite: dict[str, Any], says: str) -> None:
    with pytest.raises(SuiteError, match=says):
        compile_suite(suite, SCHEMA, name="x")


MEAN = "expect_column_mean_to_be_between"


@pytest.mark.parametrize(
    ("type_", "entry", "severity"),
    [
        (NULL, {}, "error"),
        (NULL, {"severity": "critical"}, "error"),  # what GX writes when nothing was said
        (NULL, {"severity": "warning"}, "warning"),
        (NULL, {"severity": "info"}, "warning"),
        (NULL, {"severity": "warning", "meta": {"severity": "critical"}}, "critical"),
        (MEAN, {}, "warning"),
        (MEAN, {"severity": "critical"}, "critical"),
        (MEAN, {"meta": {"severity": "critical"}}, "critical"),
    ],
)
def test_severity_is_ours_from_meta_then_gx_own_then_by_kind(type_: str, entry: dict[str, Any], severity: str) -> None:
    assert compile_one(type_, entry=entry, column="n").severity == severity


def test_an_aggregate_cannot_reject_rows() -> None:
    with pytest.raises(SuiteError, match="cannot reject rows"):
        compile_one(MEAN, entry={"meta": {"severity": "error"}}, column="n", min_value=0)


def test_an_unknown_severity_is_refused() -> None:
    with pytest.raises(SuiteError, match="unknown severity"):
        compile_one(NULL, entry={"meta": {"severity": "fatal"}}, column="n")


def test_bounds_on_days_and_decimals_compare_exactly() -> None:
    days = compile_one(BETWEEN, column="d", min_value="2022-05-02")
    prices = compile_one(BETWEEN, column="p", max_value=0.1)
    table = pa.table(
        {
            "d": pa.array([19113, 19114, None], pa.date32()),
            "p": pa.array(["0.10", "0.11", None]).cast(pa.decimal128(9, 2)),
        }
    )
    frame = pl.DataFrame(pl.from_arrow(table))
    assert frame.select(days.fails).to_series().to_list() == [True, False, False]
    assert frame.select(prices.fails).to_series().to_list() == [False, True, False]


def test_a_list_is_measured_in_values() -> None:
    check = compile_one("expect_column_value_lengths_to_equal", column="v", value=2)
    frame = pl.DataFrame({"v": [[1.0, 2.0], [1.0], [], None]}, schema={"v": pl.List(pl.Float32)})
    assert frame.select(check.fails).to_series().to_list() == [False, True, True, False]


def test_sums_of_narrow_integers_do_not_wrap() -> None:
    schema = pa.schema({"n": pa.int32()})
    suite = {"expectations": [{"type": "expect_column_sum_to_be_between", "kwargs": {"column": "n", "max_value": 0}}]}
    compiled = compile_suite(suite, schema, name="x")
    batch = pa.table({"n": [2**31 - 1, 2**31 - 1]}, schema=schema)
    assert compiled.run(batch).found["0.0"] == 2 * (2**31 - 1)


PATTERNS = [
    "a$",
    "(a|b)$|c",
    "^$",
    r"a\$",
    "[$]",
    "[a&&b]",
    "[[a]",
    "[^]b]",
    "[]b]",
    r"[\]b]",
    "x[[b]",
    "[a[b]]",
    r"\<b\>",
    r"\Ab\Z",
    r"(?P<first>a)b",
    "(?i:A)b",
    "(?s)a.b",
    "(?m)^a$",
    r"a\++",
    "a{2,3}?",
    r"\x61\u0062",
    r"[\w.-]+@\d",
]


@pytest.mark.filterwarnings("ignore::FutureWarning")  # Python warns of sets that it does not have
@given(st.text(alphabet="ab]^[&<>$@1 \n.+\\", max_size=12))
def test_translated_patterns_find_what_python_finds(text: str) -> None:
    frame = pl.DataFrame({"s": [text]})
    for pattern in PATTERNS:
        found = frame.select(pl.col("s").str.contains(to_rust(pattern, where="test")))["s"][0]
        assert found == (re.search(pattern, text) is not None), pattern


@pytest.mark.parametrize(
    "pattern", ["a++", "a*+", "(?>a)b", r"(a)\1", "(?=a)", "a$b", "(?x) a", "(?a)\\w", "[+--b]", 7]
)
def test_a_pattern_that_rust_would_read_otherwise_is_refused(pattern: Any) -> None:
    with pytest.raises(SuiteError, match="regular expression"):
        to_rust(pattern, where="test")


@pytest.mark.parametrize(
    "entry", [{"type": "expect_nothing"}, {"type": BETWEEN, "kwargs": {"column": "n"}}, {"kwargs": {}}]
)
def test_what_great_expectations_refuses_is_said_with_its_place(entry: dict[str, Any]) -> None:
    with pytest.raises(SuiteError, match="does not accept") as caught:
        check_with_gx({"name": "x", "expectations": [entry]})
    assert "expectation 0" in (caught.value.where or "")


def test_a_compiled_check_says_what_it_expects() -> None:
    check = compile_one(BETWEEN, column="n", min_value=0, max_value=1.5, strict_max=True)
    assert isinstance(check, RowCheck)
    assert check.expected == ">= 0 and < 1.5"


def test_suites_are_plain_json() -> None:
    for path in (Path(__file__).parents[2] / "schemas" / "contracts").glob("*.suite.json"):
        assert json.loads(path.read_text())["expectations"]
