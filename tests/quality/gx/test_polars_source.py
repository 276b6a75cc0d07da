"""Polars frames in Great Expectations' own workflows: batches, checkpoints, stored contexts, pages; and how often each
frame is read."""

from __future__ import annotations

import os

os.environ["GX_ANALYTICS_ENABLED"] = "false"  # before Great Expectations is imported: no test reports usage

import subprocess
import sys
import warnings
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

ROWS = pl.DataFrame(
    {
        "user": [1, 1, 2, None, 3],
        "kind": ["view", "like", "view", "seen", "view"],
        "score": [0.5, float("nan"), 0.25, 1.5, 0.0],
        "tags": [["a"], [], None, ["b", "c"], ["d"]],
    },
    schema_overrides={"kind": pl.Enum(["view", "like", "seen"])},
)


@pytest.fixture(scope="module")
def gx() -> Iterator[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # GX, pandas and marshmallow deprecate among themselves
        import great_expectations

        import reclake.quality.gx  # noqa: F401

        yield great_expectations


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def context_of(gx: Any, **options: Any) -> Any:
    from great_expectations.data_context.types.base import ProgressBarsConfig

    context = gx.get_context(**options)
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    return context


def suite_of(gx: Any) -> Any:
    gxe = gx.expectations
    return gx.ExpectationSuite(
        "events",
        expectations=[
            gxe.ExpectColumnValuesToNotBeNull(column="user"),
            gxe.ExpectColumnValuesToBeInSet(column="kind", value_set=["view", "like", "seen"]),
            gxe.ExpectColumnValuesToBeBetween(column="score", min_value=0, max_value=1, mostly=0.5),
            gxe.ExpectColumnMeanToBeBetween(column="score", min_value=0, max_value=1),
            gxe.ExpectColumnValueLengthsToBeBetween(column="tags", min_value=1),
            gxe.ExpectTableRowCountToEqual(value=5),
        ],
    )


def outcomes(result: Any) -> list[bool]:
    return [each.success for each in sorted(result.results, key=lambda each: each.expectation_config.type)]


EXPECTED = [True, False, True, True, False, True]


@pytest.fixture(params=["frame", "lazy frame", "scan", "arrow"])
def given(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    if request.param == "scan":
        ROWS.write_parquet(tmp_path / "rows.parquet")
        return pl.scan_parquet(tmp_path / "rows.parquet")
    return {"frame": ROWS, "lazy frame": ROWS.lazy(), "arrow": ROWS.to_arrow()}[request.param]


def test_a_frame_a_lazy_frame_a_scan_and_an_arrow_table_are_batches(gx: Any, given: Any) -> None:
    asset = context_of(gx, mode="ephemeral").data_sources.add_polars("lake").add_dataframe_asset("events")
    batches = asset.add_batch_definition_whole_dataframe("all")
    result = batches.get_batch(batch_parameters={"dataframe": given}).validate(suite_of(gx))
    assert outcomes(result) == EXPECTED


def test_a_frame_is_read_once_and_once_more_where_something_fails(gx: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from reclake.quality.gx.engine import PolarsBatchData

    reads: list[int] = []
    ask = PolarsBatchData.ask

    def counted(self: PolarsBatchData, asked: Any) -> list[Any]:
        wanted = list(asked)
        reads.extend([len(wanted)] if wanted else [])
        return ask(self, wanted)

    monkeypatch.setattr(PolarsBatchData, "ask", counted)
    source = context_of(gx, mode="ephemeral").data_sources.add_polars("lake")
    clean = ROWS.filter(pl.col("user").is_not_null() & (pl.col("tags").list.len() > 0))
    expectations = suite_of(gx).expectations[:-1]
    assert source.read_dataframe(clean).validate(gx.ExpectationSuite("s", expectations=expectations)).success
    assert len(reads) == 1
    assert not source.read_dataframe(ROWS).validate(gx.ExpectationSuite("s", expectations=expectations)).success
    assert len(reads) == 3


def test_a_checkpoint_writes_its_pages_and_the_context_finds_the_source_again(gx: Any, tmp_path: Path) -> None:
    context = context_of(gx, mode="file", project_root_dir=tmp_path)
    asset = context.data_sources.add_polars("lake").add_dataframe_asset("events")
    batches = asset.add_batch_definition_whole_dataframe("all")
    suite = context.suites.add(suite_of(gx))
    definition = context.validation_definitions.add(gx.ValidationDefinition(name="v", data=batches, suite=suite))
    checkpoint = context.checkpoints.add(gx.Checkpoint(name="c", validation_definitions=[definition]))
    assert not checkpoint.run(batch_parameters={"dataframe": ROWS}).success
    context.build_data_docs()
    pages = list((tmp_path / "gx" / "uncommitted" / "data_docs").rglob("*.html"))
    assert any("events" in page.read_text(encoding="utf-8") for page in pages)

    again = context_of(gx, mode="file", project_root_dir=tmp_path)
    assert again.data_sources.get("lake").type == "polars"
    result = again.checkpoints.get("c").run(batch_parameters={"dataframe": ROWS})
    assert not result.success


def test_a_stranger_is_refused_with_what_was_expected(gx: Any) -> None:
    from great_expectations.exceptions.exceptions import BuildBatchRequestError

    asset = context_of(gx, mode="ephemeral").data_sources.add_polars("lake").add_dataframe_asset("events")
    with pytest.raises(BuildBatchRequestError, match=r"expected a Polars DataFrame or LazyFrame or an Arrow table"):
        asset.build_batch_request({"dataframe": ROWS.to_arrow().to_pandas()})


@pytest.mark.parametrize("type_", ["Int64", "int64", "int"])
def test_a_column_answers_to_the_names_of_polars_arrow_and_python(gx: Any, type_: str) -> None:
    batch = context_of(gx, mode="ephemeral").data_sources.add_polars("lake").read_dataframe(ROWS)
    for expectation in (gx.expectations.ExpectColumnValuesToBeOfType, gx.expectations.ExpectColumnTypeToBe):
        assert batch.validate(expectation(column="user", type_=type_)).success
        assert not batch.validate(expectation(column="kind", type_=type_)).success
    assert batch.validate(gx.expectations.ExpectColumnValuesToBeOfType(column="kind", type_="Enum")).success


def test_like_patterns_which_pandas_has_not_are_those_of_sql(gx: Any) -> None:
    batch = context_of(gx, mode="ephemeral").data_sources.add_polars("lake").read_dataframe(ROWS)
    like, unlike = (
        gx.expectations.ExpectColumnValuesToMatchLikePattern,
        gx.expectations.ExpectColumnValuesToNotMatchLikePattern,
    )
    assert batch.validate(like(column="kind", like_pattern="_i%e", mostly=0.8)).result["unexpected_count"] == 4
    assert batch.validate(unlike(column="kind", like_pattern="%x%")).success


def test_what_cannot_be_evaluated_is_a_failure_that_says_why(gx: Any) -> None:
    batch = context_of(gx, mode="ephemeral").data_sources.add_polars("lake").read_dataframe(ROWS)
    gxe = gx.expectations
    for expectation, words in (
        (gxe.ExpectColumnValuesToBeBetween(column="nowhere", min_value=0), 'The column "nowhere" in BatchData'),
        (gxe.ExpectColumnMeanToBeBetween(column="kind", min_value=0), "Column kind is not numerical"),
        (gxe.ExpectColumnValuesToBeInSet(column="tags", value_set=["a"]), "Values of column tags do not compare"),
    ):
        result = batch.validate(expectation)
        assert not result.success
        assert words in str(result.exception_info)


def test_pythons_objects_compare_by_value_and_have_no_order(gx: Any) -> None:
    mixed = pl.DataFrame({"y": pl.Series([1, 2.0, "2", "abc", None], dtype=pl.Object), "x": [1, 2, 2, 3, 4]})
    batch = context_of(gx, mode="ephemeral").data_sources.add_polars("lake").read_dataframe(mixed)
    gxe = gx.expectations
    result = batch.validate(gxe.ExpectColumnValuesToBeInSet(column="y", value_set=[1, "2"])).result
    assert result["partial_unexpected_list"] == [2, "abc"]
    result = batch.validate(gxe.ExpectColumnPairValuesToBeEqual(column_A="x", column_B="y")).result
    assert result["partial_unexpected_list"][:2] == [(2, "2"), (3, "abc")]
    assert batch.validate(gxe.ExpectColumnValuesToNotBeNull(column="y", mostly=0.8)).success
    for without_order in (
        gxe.ExpectColumnValuesToBeBetween(column="y", min_value=0),
        gxe.ExpectColumnMaxToBeBetween(column="y", min_value=0),
    ):
        assert "TypeError" in str(batch.validate(without_order).exception_info)


def test_objects_of_one_kind_are_a_column_of_that_kind(gx: Any) -> None:
    gxe = gx.expectations
    words = pl.DataFrame([pl.Series("word", ["a", None, "bb"], dtype=pl.Object)])
    batch = context_of(gx, mode="ephemeral").data_sources.add_polars("objects").read_dataframe(words.lazy())
    assert batch.validate(gxe.ExpectColumnValueLengthsToBeBetween(column="word", max_value=2)).success
    assert batch.validate(gxe.ExpectColumnDistinctValuesToEqualSet(column="word", value_set=["a", "bb"])).success


def test_what_neither_arrow_nor_json_can_hold_stops_nobody(gx: Any) -> None:
    gxe = gx.expectations
    frame = pl.DataFrame(
        {
            "key": [1, 2],
            "long": pl.Series([2**100, 1], dtype=pl.Int128),
            "took": [timedelta(hours=1), timedelta(hours=1)],
        }
    )
    batch = context_of(gx, mode="ephemeral").data_sources.add_polars("odd").read_dataframe(frame)
    wanted = {"result_format": "COMPLETE", "include_unexpected_rows": True, "unexpected_index_column_names": ["key"]}
    unique = batch.validate(gxe.ExpectColumnValuesToBeUnique(column="took"), result_format=wanted).to_json_dict()
    assert unique["result"]["unexpected_list"] == ["1:00:00", "1:00:00"]
    assert unique["result"]["unexpected_rows"][0]["long"] == 2**100
    small = batch.validate(gxe.ExpectColumnValuesToBeBetween(column="long", max_value=9), result_format=wanted)
    assert small.to_json_dict()["result"]["unexpected_list"] == [2**100]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("user > user.mean()", "cannot be evaluated"),
        ("index > 1", "does not exist"),
        ("@secret > 1", "cannot be parsed"),
        ("user > 9 ** 9 ** 9", "cannot be evaluated"),
        ("user > __import__('os').getpid()", "cannot be evaluated"),
        ("not " * 9000 + "user > 1", "cannot be"),
        ("kind.str.contains('(')", "not a regular expression"),
        ("user == datetime.date(2024, 13, 1)", "a time that does not exist"),
    ],
    ids=lambda value: value[:30],
)
def test_a_query_that_has_no_meaning_here_is_a_failure_that_says_so(gx: Any, text: str, told: str) -> None:
    check = gx.expectations.ExpectColumnValuesToNotBeNull(column="user", row_condition=text, condition_parser="pandas")
    batch = context_of(gx, mode="ephemeral").data_sources.add_polars("queries").read_dataframe(ROWS)
    result = batch.validate(check)
    assert not result.success
    assert told in str(result.exception_info)


def test_the_engine_needs_nothing_else_of_reclake(tmp_path: Path) -> None:
    # A file: under `python -c` PySpark without grpc ends the process, silently, when Great Expectations looks for it.
    script = tmp_path / "script.py"
    script.write_text(
        "import warnings; warnings.simplefilter('ignore'); import reclake.quality.gx, sys\n"
        "rooms = {name.split('.')[1] for name in sys.modules if name.startswith('reclake.')}\n"
        "print(sorted(rooms - {'quality', 'schemas'}))\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
