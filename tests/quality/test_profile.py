"""A suite proposed from data: what is proposed, why, how bad it is, and that it holds for the data itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from reclake.quality.gate import admit
from reclake.quality.profile import ROWS_MIN, Proposal, propose
from reclake.quality.suite import check_with_gx, compile_suite

TIME = pa.timestamp("us", tz="UTC")
VECTOR = pa.list_(pa.float32())
SCHEMA = pa.schema(
    [
        pa.field("user_id", pa.int64(), nullable=False),
        pa.field("kind", pa.string()),
        pa.field("token", pa.string()),
        pa.field("watch_ms", pa.int64()),
        pa.field("delta", pa.float64()),
        pa.field("share", pa.float64()),
        pa.field("at", TIME),
        pa.field("known", TIME),
        pa.field("embedding", VECTOR),
        pa.field("history", pa.list_(pa.int64())),
        pa.field("empty", pa.string()),
    ]
)


def rows(height: int = 2000) -> pa.Table:
    random = np.random.default_rng(7)
    at = random.integers(0, 10**12, height)
    vectors = random.normal(size=(height, 8))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    values: list[Any] = [
        np.arange(height),
        pa.array(np.array(["click", "view"])[random.integers(0, 2, height)]),
        pa.array([f"{token:016x}" for token in random.integers(2**60, 2**62, height)]),
        pa.array(random.integers(0, 60_000, height), mask=random.random(height) < 0.1),
        random.normal(size=height),
        random.random(height),
        pa.array(at, pa.int64()).cast(TIME),
        pa.array(at + random.integers(0, 10**6, height), pa.int64()).cast(TIME),
        pa.array(vectors.astype("f4").tolist(), VECTOR),
        [list(range(n % 5)) for n in range(height)],
        pa.nulls(height, pa.string()),
    ]
    return pa.table(values, schema=SCHEMA)


def of(column: str, proposals: list[Proposal]) -> dict[str, tuple[str, dict[str, Any]]]:
    return {
        one.type.removeprefix("expect_column_"): (one.severity, {k: v for k, v in one.kwargs.items() if k != "column"})
        for one in proposals
        if column in (one.kwargs.get("column"), one.kwargs.get("column_A"))
    }


def test_columns_get_the_checks_that_they_suggest() -> None:
    found = propose(rows(), SCHEMA)
    assert of("user_id", found) == {}  # the schema requires it, and the size of an id means nothing
    assert of("empty", found) == {}
    assert of("kind", found)["values_to_be_in_set"] == ("warning", {"value_set": ["click", "view"]})
    assert of("token", found)["values_to_match_regex"] == ("warning", {"regex": "^[0-9a-fA-F]+$"})
    assert of("token", found)["value_lengths_to_be_between"] == ("warning", {"min_value": 1, "max_value": 32})
    assert of("share", found)["values_to_be_between"] == ("error", {"min_value": 0, "max_value": 1})
    assert ("error", {"min_value": 0}) in [
        (one.severity, {k: v for k, v in one.kwargs.items() if k != "column"})
        for one in found
        if one.kwargs.get("column") == "watch_ms"
    ]
    low = of("watch_ms", found)["proportion_of_non_null_values_to_be_between"][1]["min_value"]
    assert 0.85 < low < 0.9
    assert of("delta", found)["values_to_be_between"][0] == "warning"
    assert of("known", found)["pair_values_a_to_be_greater_than_b"][0] == "error"
    assert "pair_values_a_to_be_greater_than_b" not in of("at", found)
    vector = {"value_lengths_to_equal", "list_values_to_be_finite", "vectors_to_be_unit_norm"}
    assert of("embedding", found).keys() >= vector
    assert of("history", found).keys() >= {"value_lengths_to_be_between", "list_values_to_not_be_null"}
    assert all(one.reason for one in found)


def test_what_is_proposed_admits_the_data_and_great_expectations_reads_it() -> None:
    suite = {"name": "mine", "expectations": [one.expectation for one in propose(rows(), SCHEMA)]}
    check_with_gx(suite)
    compiled = compile_suite(suite, SCHEMA, name="mine")
    admission = admit(rows(), compiled, SCHEMA, contract="mine", contract_version=1, verdict_id="v")
    assert admission.verdict == "pass"


def test_new_data_of_the_same_kind_passes_but_for_chance() -> None:
    suite = {"name": "mine", "expectations": [one.expectation for one in propose(rows(), SCHEMA)]}
    more = rows(5000).slice(2000)
    admission = admit(
        more, compile_suite(suite, SCHEMA, name="mine"), SCHEMA, contract="mine", contract_version=1, verdict_id="v"
    )
    assert admission.rejected.height == 0


def test_no_line_names_a_value_of_a_personal_column() -> None:
    found = propose(rows(), SCHEMA, personal={"kind", "watch_ms", "at"})
    assert of("kind", found).keys() | of("at", found).keys() == {"values_to_not_be_null"}
    assert of("watch_ms", found).keys() == {"proportion_of_non_null_values_to_be_between"}
    assert "pair_values_a_to_be_greater_than_b" not in of("known", found)


@pytest.mark.parametrize("height", [0, ROWS_MIN - 1])
def test_few_rows_suggest_nothing(height: int) -> None:
    assert propose(rows(height), SCHEMA) == []


def test_columns_of_extremes_and_of_few_values_suggest_what_holds_and_no_more() -> None:
    extremes = [1.7e308 if n % 2 else -1.7e308 for n in range(ROWS_MIN)]
    table = pa.table({"huge": extremes, "rare": [7, *[None] * (ROWS_MIN - 1)], "naught": [0.0] * ROWS_MIN})
    found = propose(table, table.schema)
    assert of("huge", found).keys() == {"values_to_not_be_null"}
    assert of("rare", found) == {}  # one value is no reason for "never negative"
    assert of("naught", found)["values_to_be_between"][1] == {"min_value": 0}  # and no share
