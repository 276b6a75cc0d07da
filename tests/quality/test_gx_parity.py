"""The gate's answers are those of Great Expectations' engines, pandas and ours, type by type, on the same data."""

from __future__ import annotations

import os

os.environ["GX_ANALYTICS_ENABLED"] = "false"  # before Great Expectations is imported: no test reports usage

import math
import warnings
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from reclake.quality import coverage, drift, list_checks, order_checks
from reclake.quality.gate import admit
from reclake.quality.results import CheckResult
from reclake.quality.suite import SUPPORTED, check_with_gx, compile_suite

T0 = datetime(2022, 5, 1, tzinfo=UTC)
TIME = pa.timestamp("us", tz="UTC")
SCHEMA = pa.schema(
    {
        "i": pa.int64(),  # never null, so that pandas keeps it an integer
        "n": pa.int64(),
        "i32": pa.int32(),
        "f": pa.float64(),  # nulls and NaNs
        "f32": pa.float32(),
        "s": pa.string(),
        "u": pa.string(),
        "b": pa.bool_(),
        "t": TIME,
        "t2": TIME,
    }
)

Expectation = tuple[str, dict[str, Any]]


def table(seed: int, rows: int, nulls: float) -> pa.Table:
    """Random rows; small ranges, so that duplicates, equal pairs and values on the bounds occur."""
    random = np.random.default_rng(seed)

    def maybe(values: Any, share: float = nulls) -> list[Any]:
        return [None if random.random() < share else value for value in values]

    def times() -> list[datetime]:
        return [T0 + timedelta(microseconds=int(us)) for us in random.integers(-3, 4, rows)]

    words = ["", "a", "ab", "abc", "éa", "a\n", "b.c", "A1", "$", "x y"]
    columns = {
        "i": random.integers(-5, 6, rows).tolist(),
        "n": maybe(random.integers(-5, 6, rows).tolist()),
        "i32": random.integers(0, 2**31 - 1, rows).tolist(),
        "f": [
            math.nan if random.random() < nulls / 2 else v for v in maybe(random.normal(size=rows).round(1).tolist())
        ],
        "f32": maybe((random.integers(0, 5, rows) / 10).astype(np.float32).tolist()),
        "s": maybe([words[k] for k in random.integers(0, len(words), rows)]),
        "u": maybe([words[k] for k in random.integers(0, len(words), rows)]),
        "b": (random.random(rows) < 0.5).tolist(),
        "t": maybe(times()),
        "t2": maybe(times()),
    }
    return pa.table({name: pa.array(columns[name], type=SCHEMA.field(name).type) for name in SCHEMA.names})


def rows_of(what: str, **kwargs: Any) -> Expectation:
    return f"expect_column_values_to_{what}", kwargs


ROW_CASES: list[Expectation] = [
    *[rows_of("not_be_null", column=name) for name in SCHEMA.names],
    *[rows_of("be_null", column=name) for name in SCHEMA.names],
    rows_of("not_be_null", column="n", mostly=0.5),
    rows_of("be_between", column="i", min_value=-2, max_value=3),
    rows_of("be_between", column="i", min_value=-2.5, max_value=3, strict_max=True),
    rows_of("be_between", column="n", min_value=0, mostly=0.4),
    rows_of("be_between", column="n", max_value=2, strict_max=True),
    rows_of("be_between", column="f", min_value=-0.5, max_value=0.5, strict_min=True, strict_max=True),
    rows_of("be_between", column="f32", min_value=0.1, max_value=0.3),
    rows_of("be_between", column="t", min_value="2022-05-01T00:00:00+00:00", strict_min=True),
    rows_of(
        "be_between",
        column="t",
        min_value="2022-04-30T23:59:59.999999+00:00",
        max_value="2022-05-01T02:00:00.000001+02:00",
    ),
    rows_of("be_in_set", column="i", value_set=[-1, 0, 3.0]),
    rows_of("be_in_set", column="n", value_set=[1, 2, None]),
    rows_of("be_in_set", column="f", value_set=[0.1, -0.2, 1]),
    rows_of("be_in_set", column="s", value_set=["a", "éa", ""]),
    rows_of("be_in_set", column="b", value_set=[True]),
    rows_of("be_in_set", column="s", value_set=[]),
    rows_of("not_be_in_set", column="n", value_set=[1, 2]),
    rows_of("not_be_in_set", column="s", value_set=["a", "zz"]),
    rows_of("not_be_in_set", column="t", value_set=["2022-05-01T00:00:00+00:00"]),
    *[
        rows_of("match_regex", column="s", regex=regex)
        for regex in ("^a", "a$", r"^\w+$", "[a-c]{2,}", r"\$|\.", "(?i)^A", r"\Aa\Z", "[^]a]", "[[&~a]")
    ],
    rows_of("match_regex", column="s", regex="a", mostly=0.3),
    rows_of("not_match_regex", column="s", regex="a$"),
    rows_of("match_regex_list", column="s", regex_list=["^a", "b"]),
    rows_of("match_regex_list", column="s", regex_list=["a", "b"], match_on="all"),
    rows_of("be_unique", column="n"),
    rows_of("be_unique", column="f"),
    rows_of("be_unique", column="s"),
    rows_of("be_unique", column="t"),
    rows_of("be_unique", column="i32"),
    rows_of("be_of_type", column="s", type_="str"),
    rows_of("be_of_type", column="s", type_="int"),
    rows_of("be_in_type_list", column="s", type_list=["int", "str"]),
    ("expect_column_value_lengths_to_be_between", {"column": "s", "min_value": 1, "max_value": 2}),
    ("expect_column_value_lengths_to_be_between", {"column": "s", "min_value": 1, "strict_min": True}),
    ("expect_column_value_lengths_to_equal", {"column": "s", "value": 1}),
    *[
        (type_, {"column_A": a, "column_B": b, "ignore_row_if": ignore} | more)
        for type_, more in (
            ("expect_column_pair_values_a_to_be_greater_than_b", {}),
            ("expect_column_pair_values_a_to_be_greater_than_b", {"or_equal": True, "mostly": 0.5}),
            ("expect_column_pair_values_to_be_equal", {}),
        )
        for a, b in (("i", "n"), ("n", "f"), ("t", "t2"))
        for ignore in ("both_values_are_missing", "either_value_is_missing", "neither")
    ],
    ("expect_column_pair_values_to_be_equal", {"column_A": "s", "column_B": "u"}),
    *[
        ("expect_compound_columns_to_be_unique", {"column_list": columns, "ignore_row_if": ignore})
        for columns in (["n", "s"], ["i", "b", "f32"], ["s", "t"])
        for ignore in ("all_values_are_missing", "any_value_is_missing", "never")
    ],
    *[
        ("expect_select_column_values_to_be_unique_within_record", {"column_list": columns, "ignore_row_if": ignore})
        for columns in (["i", "n", "f"], ["s", "u"], ["t", "t2"])
        for ignore in ("all_values_are_missing", "any_value_is_missing", "never")
    ],
]

NUMERIC = ("mean", "median", "stdev", "sum", "min", "max")
BATCH_CASES: list[Expectation] = [
    *[
        (
            f"expect_column_{statistic}_to_be_between",
            {"column": column, "min_value": -1, "max_value": 2.5, "strict_max": True},
        )
        for statistic in NUMERIC
        for column in ("i", "n", "i32", "f")
    ],
    ("expect_column_min_to_be_between", {"column": "t", "min_value": "2022-05-01T00:00:00+00:00"}),
    (
        "expect_column_max_to_be_between",
        {"column": "t", "max_value": "2022-05-01T00:00:00.000002+00:00", "strict_max": True},
    ),
    *[
        (f"expect_column_{what}_to_be_between", {"column": column, "min_value": 0, "max_value": most})
        for what, most in (
            ("unique_value_count", 5),
            ("proportion_of_unique_values", 0.4),
            ("proportion_of_non_null_values", 0.8),
        )
        for column in ("i", "n", "f", "s", "b", "t")
    ],
    *[
        (f"expect_column_distinct_values_to_{how}_set", {"column": column, "value_set": values})
        for how in ("be_in", "contain", "equal")
        for column, values in (
            ("n", [-5, -4, 0, 1]),
            ("s", ["a", "b.c", "zz"]),
            ("b", [True, False]),
            ("i", list(range(-5, 6))),
        )
    ],
    ("expect_table_row_count_to_be_between", {"min_value": 1, "max_value": 50}),
    ("expect_table_row_count_to_equal", {"value": 40}),
    ("expect_table_column_count_to_be_between", {"min_value": 1, "max_value": 5}),
    ("expect_table_column_count_to_equal", {"value": 10}),
    ("expect_table_columns_to_match_set", {"column_set": ["i", "n"]}),
    ("expect_table_columns_to_match_set", {"column_set": ["i", "n"], "exact_match": False}),
    ("expect_table_columns_to_match_set", {"column_set": SCHEMA.names}),
    ("expect_table_columns_to_match_ordered_list", {"column_list": SCHEMA.names}),
    ("expect_table_columns_to_match_ordered_list", {"column_list": SCHEMA.names[::-1]}),
    ("expect_column_to_exist", {"column": "n"}),
    ("expect_column_to_exist", {"column": "n", "column_index": 1}),
    ("expect_column_to_exist", {"column": "nowhere"}),
]

CONDITIONS: list[dict[str, Any]] = [
    {"row_condition": text, "condition_parser": "pandas"}
    for text in (
        "n > 0",
        "n != 1",
        "not n > 0",
        "0 <= i",
        's == "a" or (b == True and f < 0.5)',
        'u in ["a", "ab"]',
        'u not in ["a", "ab"]',
        "n.isnull() | (i == 2)",
        "f >= 0.1 and not s.isnull()",
        't > "2022-05-01T00:00:00+00:00"',
    )
] + [
    {"row_condition": {"type": "comparison", "column": {"name": "n"}, "operator": "!=", "parameter": 1}},
    {"row_condition": {"type": "comparison", "column": {"name": "n"}, "operator": "IN", "parameter": [1, 2]}},
    {"row_condition": {"type": "comparison", "column": {"name": "s"}, "operator": "NOT_IN", "parameter": ["a"]}},
    {
        "row_condition": {
            "type": "or",
            "conditions": [
                {"type": "nullity", "column": {"name": "n"}, "is_null": True},
                {
                    "type": "and",
                    "conditions": [
                        {"type": "comparison", "column": {"name": "i"}, "operator": ">=", "parameter": 0},
                        {"type": "nullity", "column": {"name": "s"}, "is_null": False},
                    ],
                },
            ],
        }
    },
]
CONDITIONED: list[Expectation] = [
    rows_of("not_be_null", column="n"),
    rows_of("be_between", column="f", min_value=0),
    rows_of("be_unique", column="s"),
    ("expect_compound_columns_to_be_unique", {"column_list": ["n", "s"]}),
    ("expect_column_mean_to_be_between", {"column": "i", "min_value": 0}),
    ("expect_column_unique_value_count_to_be_between", {"column": "s", "max_value": 4}),
    ("expect_column_proportion_of_unique_values_to_be_between", {"column": "n", "max_value": 0.4}),
    ("expect_table_row_count_to_be_between", {"max_value": 20}),
]
CONDITION_CASES = [(type_, kwargs | condition) for condition in CONDITIONS for type_, kwargs in CONDITIONED]


def as_suite(cases: list[Expectation]) -> dict[str, Any]:
    return {"name": "parity", "expectations": [{"type": type_, "kwargs": kwargs} for type_, kwargs in cases]}


@pytest.fixture(scope="module", params=["pandas", "polars"])
def gx_validate(request: pytest.FixtureRequest) -> Iterator[Callable[[pa.Table, list[Expectation]], list[Any]]]:
    """Runs cases through an engine of GX, quietly, in an ephemeral context."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # GX, pandas and marshmallow deprecate among themselves
        import great_expectations as gx
        from great_expectations.data_context.types.base import ProgressBarsConfig
        from great_expectations.expectations.expectation_configuration import ExpectationConfiguration

        import reclake.quality.gx  # noqa: F401

        context = gx.get_context(mode="ephemeral")
        context.variables.progress_bars = ProgressBarsConfig(globally=False)
        add = getattr(context.data_sources, f"add_{request.param}")
        definition = add("parity").add_dataframe_asset("rows")
        batches = definition.add_batch_definition_whole_dataframe("all")

        def validate(rows: pa.Table, cases: list[Expectation]) -> list[Any]:
            frame = rows.to_pandas() if request.param == "pandas" else rows
            batch = batches.get_batch(batch_parameters={"dataframe": frame})
            configured = [ExpectationConfiguration(type=type_, kwargs=dict(kwargs)) for type_, kwargs in cases]
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return [batch.validate(one.to_domain_obj(), result_format="BASIC") for one in configured]

        yield validate


def ours(rows: pa.Table, cases: list[Expectation]) -> list[CheckResult]:
    suite = compile_suite(as_suite(cases), SCHEMA, name="parity")
    admission = admit(rows, suite, SCHEMA, contract="parity", contract_version=1, verdict_id="v")
    return list(admission.checks[1:])  # the first is our own, "schema"


def compare(case: Expectation, theirs: Any, mine: CheckResult) -> list[str]:
    """What differs between GX's result and ours, as lines for a message."""
    if theirs.exception_info and theirs.exception_info.get("raised_exception"):
        return [f"{case}: GX raised {theirs.exception_info['exception_message']}"]
    if any(isinstance(v, dict) and v.get("raised_exception") for v in (theirs.exception_info or {}).values()):
        return [f"{case}: GX raised {theirs.exception_info}"]
    result, differences = theirs.result, []
    if bool(theirs.success) != mine.success:
        differences.append(f"success {theirs.success}, ours {mine.success}")
    if "observed_value" in result and isinstance(mine.value, dict):
        counts = {"unexpected": result.get("unexpected_count"), "missing": result.get("missing_count")}
        for key, count in counts.items():
            if count is not None and count != mine.value[key]:
                differences.append(f"{key} {count}, ours {mine.value[key]}")
    elif "unexpected_count" in result and result["unexpected_count"] != mine.unexpected:
        differences.append(f"unexpected {result['unexpected_count']}, ours {mine.unexpected}")
    elif "observed_value" in result and not same_value(result["observed_value"], mine.value):
        differences.append(f"observed {result['observed_value']!r}, ours {mine.value!r}")
    return [f"{case}: {'; '.join(differences)}"] if differences else []


def same_value(theirs: Any, mine: Any) -> bool:
    if mine is None:
        return theirs is None or bool(theirs != theirs)  # None, or pandas' NaT
    if isinstance(theirs, datetime):
        return (theirs - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) == mine
    if isinstance(theirs, list):
        return sorted(theirs) == sorted(mine)
    return theirs is not None and math.isclose(theirs, mine, rel_tol=1e-9, abs_tol=1e-12)


@pytest.mark.parametrize(
    ("seed", "rows", "nulls"),
    [(1, 40, 0.2), (2, 7, 0.5), (3, 200, 0.05), (4, 1, 0.0), (5, 9, 1.0), (6, 0, 0.0)],
    ids=["some nulls", "few rows, many nulls", "more rows", "one row", "nothing but nulls", "no rows"],
)
def test_every_supported_type_answers_as_gx_does(gx_validate: Any, seed: int, rows: int, nulls: float) -> None:
    data = table(seed, rows, nulls)
    cases = ROW_CASES + BATCH_CASES
    pairs = zip(cases, gx_validate(data, cases), ours(data, cases), strict=True)
    assert [line for case, theirs, mine in pairs for line in compare(case, theirs, mine)] == []


def test_row_conditions_keep_the_rows_gx_keeps(gx_validate: Any) -> None:
    data = table(5, 60, 0.2)
    pairs = zip(CONDITION_CASES, gx_validate(data, CONDITION_CASES), ours(data, CONDITION_CASES), strict=True)
    assert [line for case, theirs, mine in pairs for line in compare(case, theirs, mine)] == []


def test_every_supported_type_is_compared() -> None:
    ours = list_checks.RULES | order_checks.RULES | coverage.RULES | drift.RULES  # which pandas has not
    assert {type_ for type_, _ in ROW_CASES + BATCH_CASES} >= set(SUPPORTED) - set(ours)


def test_gx_accepts_every_suite_we_compile() -> None:
    check_with_gx(as_suite(ROW_CASES + BATCH_CASES + CONDITION_CASES))
