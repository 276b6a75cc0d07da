"""Every expectation that GX runs on pandas gives the same result on Polars: success, counts, values, rows, all formats.

The Polars frame is the pandas one's twin: what pandas holds as objects, or as floats because something is missing,
Polars holds as strings, times and whole numbers.
"""

from __future__ import annotations

import os

os.environ["GX_ANALYTICS_ENABLED"] = "false"  # before Great Expectations is imported: no test reports usage

import json
import math
import re
import warnings
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest

Case = tuple[str, dict[str, Any]]
T0 = datetime(2024, 3, 1, tzinfo=UTC)
WORDS = ["", "a", "ab", "abc", "éa", "b.c", "A1", "x y", "2024-03-01", '{"a": 1}', "[1", "7"]


def frame(seed: int, rows: int, nulls: float) -> pl.DataFrame:
    """Random rows of small ranges, so that duplicates, equal pairs and values on the bounds occur."""
    random = np.random.default_rng(seed)

    def maybe(values: Any) -> list[Any]:
        return [None if random.random() < nulls else value for value in values]

    numbers = random.normal(size=rows).round(1).tolist()
    return pl.DataFrame(
        {
            "key": list(range(rows)),
            "i": random.integers(-5, 6, rows).tolist(),
            "n": maybe(random.integers(-5, 6, rows).tolist()),
            "f": maybe([math.nan if random.random() < nulls / 2 else v for v in numbers]),
            "g": maybe(numbers),
            "s": maybe([WORDS[k] for k in random.integers(0, len(WORDS), rows)]),
            "u": maybe([WORDS[k] for k in random.integers(0, 4, rows)]),
            "b": (random.random(rows) < 0.5).tolist(),
            "t": maybe([T0 + timedelta(hours=int(h)) for h in random.integers(-3, 4, rows)]),
            "v": maybe([T0 + timedelta(hours=int(h)) for h in random.integers(-3, 4, rows)]),
            "d": maybe([date(2024, 3, 1) + timedelta(days=int(k)) for k in random.integers(0, 5, rows)]),
            "up": sorted(random.integers(0, 9, rows).tolist()),
            "j": maybe([json.dumps({"a": int(k)}) for k in random.integers(-2, 3, rows)]),
        },
        schema_overrides={"n": pl.Int64, "f": pl.Float64, "g": pl.Float64, "s": pl.String, "u": pl.String}
        | {"t": pl.Datetime("us", "UTC"), "v": pl.Datetime("us", "UTC"), "d": pl.Date, "j": pl.String},
        strict=False,
    )


def column(name: str, what: str, **kwargs: Any) -> Case:
    return f"expect_column_values_to_{what}", {"column": name, **kwargs}


def aggregate(name: str, what: str, **kwargs: Any) -> Case:
    return f"expect_column_{what}", {"column": name, **kwargs}


MAPS: list[Case] = [
    *[column(name, what) for name in "infsbtd" for what in ("be_null", "not_be_null", "be_unique")],
    column("n", "not_be_null", mostly=0.5),
    column("i", "be_between", min_value=-2, max_value=3, strict_max=True),
    column("i", "be_between", min_value=-2.5, max_value=3),
    column("n", "be_between", min_value=0, mostly=0.3),
    column("f", "be_between", min_value=-0.5, max_value=0.5, strict_min=True),
    column("t", "be_between", min_value="2024-03-01T00:00:00+00:00", strict_min=True),
    column("d", "be_between", min_value=date(2024, 3, 2), max_value=date(2024, 3, 4)),
    column("i", "be_in_set", value_set=[-1, 0, 3.0]),
    column("n", "be_in_set", value_set=[1, 2, None, "x"]),
    column("f", "be_in_set", value_set=[0, 1]),
    column("s", "be_in_set", value_set=["a", 7]),
    column("b", "be_in_set", value_set=[True]),
    column("s", "be_in_set", value_set=[]),
    column("n", "not_be_in_set", value_set=[1, 2]),
    column("s", "not_be_in_set", value_set=["a", "zz"]),
    column("t", "not_be_in_set", value_set=["2024-03-01T00:00:00+00:00"]),
    *[column("s", "match_regex", regex=regex) for regex in ("^a", "a$", r"\d{4}", "(?i)^A", "(?<=a)b", r"(.)\1")],
    column("i", "match_regex", regex="^-"),
    column("b", "match_regex", regex="^T"),
    column("s", "not_match_regex", regex="a$", mostly=0.5),
    column("s", "match_regex_list", regex_list=["^a", "b"]),
    column("s", "match_regex_list", regex_list=["a", "b"], match_on="all"),
    column("s", "not_match_regex_list", regex_list=["^a", "7"]),
    column("s", "match_strftime_format", strftime_format="%Y-%m-%d"),
    column("s", "be_dateutil_parseable"),
    column("s", "be_json_parseable"),
    column("j", "match_json_schema", json_schema={"properties": {"a": {"type": "integer", "minimum": 0}}}),
    column("up", "be_increasing"),
    *[column("i", f"be_{way}creasing", strictly=strictly) for way in ("in", "de") for strictly in (True, False)],
    column("t", "be_increasing"),
    column("f", "not_be_outliers", method="iqr", multiplier=0.5),
    column("f", "not_be_outliers", method="std", multiplier=1),
    column("i", "not_be_outliers"),
    column("s", "be_of_type", type_="str"),
    column("s", "be_of_type", type_="int"),
    column("s", "be_of_type", type_="object"),
    column("i", "be_of_type", type_="int64"),
    column("i", "be_of_type", type_="float"),
    column("b", "be_of_type", type_="bool"),
    column("s", "be_in_type_list", type_list=["int", "str"]),
    column("g", "be_in_type_list", type_list=["float", "int"]),
    ("expect_column_value_lengths_to_be_between", {"column": "s", "min_value": 1, "max_value": 2}),
    ("expect_column_value_lengths_to_equal", {"column": "s", "value": 1}),
    ("expect_column_value_z_scores_to_be_less_than", {"column": "f", "threshold": 1, "double_sided": True}),
    ("expect_column_value_z_scores_to_be_less_than", {"column": "i", "threshold": 1, "double_sided": False}),
    *[
        (type_, {"column_A": a, "column_B": b, "ignore_row_if": ignored} | more)
        for type_, more in (
            ("expect_column_pair_values_a_to_be_greater_than_b", {}),
            ("expect_column_pair_values_a_to_be_greater_than_b", {"or_equal": True, "mostly": 0.5}),
            ("expect_column_pair_values_to_be_equal", {}),
        )
        for a, b in (("i", "n"), ("n", "f"), ("t", "v"))
        for ignored in ("both_values_are_missing", "either_value_is_missing", "neither")
    ],
    ("expect_column_pair_values_to_be_equal", {"column_A": "s", "column_B": "u"}),
    (
        "expect_column_pair_values_to_be_in_set",
        {"column_A": "i", "column_B": "u", "value_pairs_set": [(1, "a"), (2, ""), (0, "ab"), (-1, "abc")]},
    ),
    *[
        (f"expect_{type_}", {"column_list": columns, "ignore_row_if": ignored})
        for type_ in (
            "compound_columns_to_be_unique",
            "select_column_values_to_be_unique_within_record",
            "multicolumn_values_to_be_equal",
        )
        for columns in (["i", "n", "f"], ["s", "u"], ["t", "v"])
        for ignored in ("all_values_are_missing", "any_value_is_missing", "never")
    ],
    *[
        ("expect_multicolumn_sum_to_equal", {"column_list": columns, "sum_total": 2, "ignore_row_if": ignored})
        for columns in (["i", "n"], ["n", "f", "g"])
        for ignored in ("all_values_are_missing", "any_value_is_missing", "never")
    ],
]
AGGREGATES: list[Case] = [
    *[
        aggregate(name, f"{what}_to_be_between", min_value=-1, max_value=2.5, strict_max=True)
        for what in ("mean", "median", "stdev", "sum", "min", "max")
        for name in "inf"
    ],
    aggregate("t", "min_to_be_between", min_value=T0 - timedelta(hours=3)),
    aggregate("t", "max_to_be_between", max_value=T0),
    aggregate("i", "min_to_be_between"),
    *[
        aggregate(name, f"{what}_to_be_between", min_value=0, max_value=most)
        for what, most in (
            ("unique_value_count", 5),
            ("proportion_of_unique_values", 0.4),
            ("proportion_of_non_null_values", 0.8),
        )
        for name in "infsbtd"
    ],
    *[
        aggregate(name, f"distinct_values_to_{how}_set", value_set=values)
        for how in ("be_in", "contain", "equal")
        for name, values in (
            ("n", [-5, -4, 0, 1]),
            ("g", [0, 1]),
            ("s", ["a", "b.c", "zz"]),
            ("b", [True, False]),
            ("i", list(range(-5, 6))),
        )
    ],
    aggregate("i", "most_common_value_to_be_in_set", value_set=[0, 1, 2], ties_okay=True),
    aggregate("s", "most_common_value_to_be_in_set", value_set=["a", "b.c"]),
    *[
        aggregate(
            name,
            "quantile_values_to_be_between",
            quantile_ranges={"quantiles": [0.0, 0.1, 0.5, 0.77, 1.0], "value_ranges": [[-9, 9]] * 4 + [[None, 1]]},
            allow_relative_error=how,
        )
        for name in "inf"
        for how in (False, "linear", "lower", "higher", "midpoint")
    ],
    aggregate(
        "s", "kl_divergence_to_be_less_than", threshold=1, partition_object={"values": WORDS, "weights": [1 / 12] * 12}
    ),
    aggregate(
        "g",
        "kl_divergence_to_be_less_than",
        threshold=1,
        internal_weight_holdout=0.1,
        tail_weight_holdout=0.1,
        partition_object={"bins": [-1, 0, 1], "weights": [0.4, 0.6]},
    ),
    aggregate("g", "kl_divergence_to_be_less_than", threshold=None, bucketize_data=True),
    aggregate("i", "type_to_be", type_="int64"),
    aggregate("s", "type_to_be", type_="object"),
    aggregate("n", "to_exist"),
    aggregate("zz", "to_exist"),
    aggregate("n", "to_exist", column_index=2),
    ("expect_table_row_count_to_be_between", {"min_value": 1, "max_value": 30}),
    ("expect_table_row_count_to_equal", {"value": 40}),
    ("expect_table_column_count_to_be_between", {"min_value": 1, "max_value": 5}),
    ("expect_table_column_count_to_equal", {"value": 13}),
    ("expect_table_columns_to_match_set", {"column_set": ["i", "n"], "exact_match": False}),
    ("expect_table_columns_to_match_set", {"column_set": ["i", "zz"]}),
    ("expect_table_columns_to_match_ordered_list", {"column_list": ["i", "n"]}),
]
FORMATS: list[Any] = [
    "BOOLEAN_ONLY",
    "BASIC",
    "SUMMARY",
    "COMPLETE",
    {"result_format": "COMPLETE", "unexpected_index_column_names": ["key", "u"]},
    {"result_format": "SUMMARY", "partial_unexpected_count": 3, "unexpected_index_column_names": ["key"]},
    {"result_format": "COMPLETE", "unexpected_index_column_names": ["key"], "exclude_unexpected_values": True},
    {"result_format": "BASIC", "include_unexpected_rows": True, "partial_unexpected_count": 5},
    {"result_format": "COMPLETE", "partial_unexpected_count": 0},
]
QUERIES = [
    "n > 0",
    "n != 1 and not i > 2",
    "(i > 0) & (g < 0.5) | (b == True)",
    "-2 <= i < 3",
    "i > n",
    "i + n > 1",
    "i.isin([1, 2, 3])",
    'u in ["a", "ab"] or u not in ["abc"]',
    "n.isnull() | s.notnull()",
    't > "2024-03-01T00:00:00+00:00"',
    "b",
    "~b",
    "i > 99",
    "i == [1, 2] or i != [1, 2, 3]",
    "i % 2 == 0 and -i // 2 < 1 and i ** 2 > 1",
    "abs(g) > 0.5 or g.abs() * 2 >= 60 / 60",
    "sqrt(i * i) > 2",
    's.str.len() > 1 and s.str.upper() != "AB"',
    's.str.contains("B", case=False, na=False) or s.str.startswith("a", na=False)',
    's.str.match("a|b", na=False) and not s.str.contains(".", regex=False, na=False)',
    "i.between(-1, 3, inclusive='neither')",
    "t.dt.hour == 1 or t.dt.dayofweek == 4",
    "(i > 0) == b",
    "n.isna() == False",
    "i in (1, 2) and i > 3 * -2",
]


@pytest.fixture(scope="module")
def validate() -> Iterator[Callable[[str, Any, list[Case], Any], list[Any]]]:
    """Runs cases of a frame through the engine of a name, quietly; gives GX's results as JSON."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # GX, pandas and marshmallow deprecate among themselves
        import great_expectations as gx
        from great_expectations.data_context.types.base import ProgressBarsConfig
        from great_expectations.expectations.expectation_configuration import ExpectationConfiguration

        import reclake.quality.gx  # noqa: F401

        context = gx.get_context(mode="ephemeral")
        context.variables.progress_bars = ProgressBarsConfig(globally=False)
        sources = {name: getattr(context.data_sources, f"add_{name}")(name) for name in ("pandas", "polars")}

        def run(engine: str, data: Any, cases: list[Case], result_format: Any) -> list[Any]:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                batch = sources[engine].read_dataframe(data)
                made = [ExpectationConfiguration(type=type_, kwargs=dict(kwargs)) for type_, kwargs in cases]
                # One by one: GX's graph of a suite of hundreds takes longer than all of its parts.
                results = [batch.validate(one.to_domain_obj(), result_format=result_format) for one in made]
                return [result.to_json_dict() for result in results]

        yield run


def raised(result: dict[str, Any]) -> bool:
    info = result["exception_info"] or {}
    return any(each.get("raised_exception") for each in (info, *info.values()) if isinstance(each, dict))


def missing(value: Any) -> bool:
    return (
        value is None
        or (isinstance(value, str) and value == "NaT")
        or (isinstance(value, list | tuple) and any(map(missing, value)))
    )


def plain_time(value: Any) -> Any:
    """A time without its zone, which pandas loses in pairs; None for a missing one."""
    if value == "NaT" and isinstance(value, str):
        return None
    return value[:19] if isinstance(value, str) and re.match(r"\d{4}-\d\d-\d\dT", value) else value


def same(theirs: Any, mine: Any) -> bool:
    theirs, mine = plain_time(theirs), plain_time(mine)
    if isinstance(theirs, dict) and isinstance(mine, dict):
        return theirs.keys() == mine.keys() and all(same(theirs[key], mine[key]) for key in theirs)
    if isinstance(theirs, list) and isinstance(mine, list):
        return len(theirs) == len(mine) and all(map(same, theirs, mine))
    if isinstance(theirs, float) and isinstance(mine, int | float):
        return math.isclose(theirs, mine, rel_tol=1e-9, abs_tol=1e-12)
    return bool(theirs == mine)


def differences(case: Case, theirs: dict[str, Any], mine: dict[str, Any]) -> list[str]:
    if raised(theirs) or raised(mine):
        return [] if raised(theirs) and raised(mine) else [f"{case}: raised {theirs} and {mine}"]
    a, b = dict(theirs["result"]), dict(mine["result"])
    counts = [each for result in (a, b) for each in result.get("partial_unexpected_counts") or ()]
    for result in (a, b):
        if "unexpected_index_query" in result:  # code for a frame, which is another in pandas
            result["unexpected_index_query"] = True
        if any("value" in each and missing(each["value"]) for each in counts):
            # Every missing value of pandas is a value of its own; to us they are one.
            result["partial_unexpected_counts"] = True
        if "partial_missing_list" in result:  # in the order of a set
            result["partial_missing_list"] = sorted(result["partial_missing_list"], key=str)
    parts = [key for key in a.keys() | b.keys() if key not in a or key not in b or not same(a[key], b[key])]
    lines = [f"{case}: {key}: {a.get(key)!r}, ours {b.get(key)!r}" for key in sorted(parts)]
    return lines + [f"{case}: success {theirs['success']}"] * (theirs["success"] != mine["success"])


def compared(validate: Any, data: pl.DataFrame, cases: list[Case], result_format: Any) -> list[str]:
    theirs = validate("pandas", data.to_arrow().to_pandas(), cases, result_format)
    mine = validate("polars", data, cases, result_format)
    return [line for parts in zip(cases, theirs, mine, strict=True) for line in differences(*parts)]


def test_every_expectation_gives_the_result_that_pandas_gives(validate: Any) -> None:
    """Each in one of the formats, in turn; the test below has them all."""
    cases, data = MAPS + AGGREGATES, frame(1, 40, 0.2)
    turns = len(FORMATS)
    lines = [line for k in range(turns) for line in compared(validate, data, cases[k::turns], FORMATS[k])]
    assert lines == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("seed", "rows", "nulls"),
    [(1, 40, 0.2), (2, 7, 0.5), (3, 300, 0.05), (4, 1, 0.0), (5, 9, 1.0), (6, 30, 0.0), (7, 0, 0.0)],
    ids=["some nulls", "few rows, many nulls", "more rows", "one row", "nothing but nulls", "no nulls", "no rows"],
)
@pytest.mark.parametrize("result_format", FORMATS, ids=str)
def test_results_are_the_same_on_frames_of_all_kinds(
    validate: Any, seed: int, rows: int, nulls: float, result_format: Any
) -> None:
    assert compared(validate, frame(seed, rows, nulls), MAPS + AGGREGATES, result_format) == []


CONDITIONED: list[Case] = [
    column("n", "not_be_null"),
    column("f", "be_between", min_value=0, mostly=0.6),
    column("s", "be_unique"),
    column("i", "be_increasing"),
    column("g", "not_be_outliers", method="std", multiplier=1),
    ("expect_column_value_z_scores_to_be_less_than", {"column": "g", "threshold": 1, "double_sided": True}),
    ("expect_column_pair_values_a_to_be_greater_than_b", {"column_A": "i", "column_B": "n"}),
    ("expect_compound_columns_to_be_unique", {"column_list": ["n", "s"]}),
    aggregate("g", "mean_to_be_between", min_value=0),
    aggregate("s", "unique_value_count_to_be_between", max_value=4),
    aggregate("n", "distinct_values_to_be_in_set", value_set=[1, 2, 3]),
    aggregate("s", "most_common_value_to_be_in_set", value_set=["a"]),
    aggregate("n", "proportion_of_unique_values_to_be_between", max_value=0.4),
    ("expect_table_row_count_to_be_between", {"max_value": 20}),
]


def structured() -> list[dict[str, Any]]:
    """The new form of conditions, as GX's own objects make it."""
    from great_expectations.expectations.row_conditions import Column

    n, i, s = Column("n"), Column("i"), Column("s")
    made = [n > 0, n != 1, s.is_in(["a", "ab"]), i.is_not_in([1, 2]), n.is_null(), s.is_not_null()]
    return [{"row_condition": one} for one in (*made, (n > 0) & (i <= 2), (n.is_null()) | (s == "a"))]


def test_row_conditions_keep_the_rows_that_pandas_keeps(validate: Any) -> None:
    texts: list[dict[str, Any]] = [{"row_condition": text, "condition_parser": "pandas"} for text in QUERIES]
    theirs = [
        {"row_condition": text, "condition_parser": "great_expectations"}
        for text in ('col("n") > 0', 'col("s") == "a"', 'col("n").notNull()', 'col("g") <= -1.5e-1')
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        conditions = [*texts, *theirs, *structured()]
    # Each expectation under a few of the conditions, each condition with a few of the expectations.
    few = len(CONDITIONED)
    cases = [
        (t, kwargs | c) for k, c in enumerate(conditions) for t, kwargs in (CONDITIONED * 2)[k % few : k % few + 2]
    ]
    assert compared(validate, frame(5, 60, 0.2), cases, "COMPLETE") == []


@pytest.mark.slow
@pytest.mark.parametrize("text", QUERIES)
def test_every_expectation_takes_every_condition(validate: Any, text: str) -> None:
    condition = {"row_condition": text, "condition_parser": "pandas"}
    cases = [(type_, kwargs | condition) for type_, kwargs in CONDITIONED]
    assert compared(validate, frame(8, 50, 0.3), cases, "COMPLETE") == []
