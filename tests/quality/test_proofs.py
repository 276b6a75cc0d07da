"""A proof may give up, but where it says that no row of a batch fails a check, none does."""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from reclake.quality import facts
from reclake.quality.expectation import RowCheck
from reclake.quality.suite import CompiledSuite, compile_suite

TIME = pa.timestamp("us", tz="UTC")
SCHEMA = pa.schema(
    {
        "i": pa.int32(),
        "j": pa.int32(),
        "u": pa.uint64(),
        "f": pa.float64(),
        "g": pa.float32(),
        "d": pa.decimal128(6, 2),
        "s": pa.string(),
        "z": pa.large_string(),
        "t": TIME,
        "at": TIME,
        "ns": pa.timestamp("ns"),
        "then": pa.timestamp("ns"),
        "day": pa.date32(),
        "b": pa.bool_(),
        "l": pa.list_(pa.int64()),
        "v": pa.list_(pa.float32()),
        "w": pa.list_(pa.float32(), 2),
        "r": pa.struct({"i": pa.int32()}),
    }
)
T0 = 1_651_363_200_000_000
EVERY = [name for name in SCHEMA.names if name != "r"]
LISTS = ["l", "v", "w"]


def expectations() -> list[tuple[str, dict[str, Any]]]:
    found: list[tuple[str, dict[str, Any]]] = []
    found += [("expect_column_values_to_not_be_null", {"column": name}) for name in [*EVERY, "r", "r.i"]]
    found += [("expect_column_values_to_be_null", {"column": name}) for name in EVERY]
    between = "expect_column_values_to_be_between"
    for bounds in ({"min_value": 0}, {"max_value": 2, "strict_max": True}, {"min_value": 0, "max_value": 1.5}):
        found += [(between, {"column": name} | bounds) for name in ("i", "r.i", "u", "f", "g", "d")]
    found += [
        (between, {"column": "g", "max_value": 0.1}),
        (between, {"column": "f", "min_value": 0, "strict_min": True}),
    ]
    found += [(between, {"column": "i", "min_value": 0, "row_condition": "j > 0", "condition_parser": "pandas"})]
    day = {"min_value": "2022-05-01T00:00:00Z", "max_value": "2022-05-02T00:00:00Z"}
    found += [(between, {"column": name} | day) for name in ("t", "ns", "day")]
    for members in ("expect_column_values_to_be_in_set", "expect_column_values_to_not_be_in_set"):
        found += [(members, {"column": name, "value_set": [0, 1]}) for name in ("i", "u", "f", "g", "d")]
        found += [(members, {"column": "i", "value_set": [0, 2**40]}), (members, {"column": "i", "value_set": []})]
        found += [(members, {"column": name, "value_set": ["a", "bc"]}) for name in ("s", "z")]
        found += [(members, {"column": "b", "value_set": [True]})]
    for pattern in ("^[a-z]*$", "(?i)K", r"\\w", "c|$", "ß"):
        found += [("expect_column_values_to_match_regex", {"column": name, "regex": pattern}) for name in ("s", "z")]
    lengths = "expect_column_value_lengths_to_be_between"
    found += [(lengths, {"column": name, "min_value": 1, "max_value": 2}) for name in ("s", "z", *LISTS)]
    found += [("expect_column_value_lengths_to_equal", {"column": name, "value": 2}) for name in ("s", *LISTS)]
    types = "expect_column_values_to_be_of_type"
    found += [(types, {"column": "f", "type_": "float"}), (types, {"column": "i", "type_": "str"})]
    for flags in ({}, {"or_equal": True}, {"ignore_row_if": "either_value_is_missing"}, {"ignore_row_if": "neither"}):
        greater = "expect_column_pair_values_a_to_be_greater_than_b"
        pairs = [
            ("i", "j"),
            ("f", "g"),
            ("f", "f"),
            ("t", "at"),
            ("ns", "then"),
            ("s", "s"),
            ("i", "f"),
            ("day", "day"),
        ]
        found += [(greater, {"column_A": a, "column_B": b} | flags) for a, b in pairs]
    found += [("expect_column_pair_values_to_be_equal", {"column_A": a, "column_B": a}) for a in ("i", "f", "s", "ns")]
    for name in LISTS:
        found += [
            ("expect_column_list_values_to_not_be_null", {"column": name}),
            ("expect_column_list_values_to_be_between", {"column": name, "min_value": 0, "max_value": 1}),
            ("expect_column_list_values_to_be_finite", {"column": name}),
            ("expect_column_vectors_to_be_unit_norm", {"column": name}),
        ]
    found += [
        (f"expect_column_{end}_to_be_between", {"column": c})
        for end in ("min", "max")
        for c in (*"iujfgd", "t", "ns", "day")
    ]
    found += [
        ("expect_table_row_count_to_be_between", {"min_value": 1}),
        ("expect_table_row_count_to_equal", {"value": 30}),
    ]
    return found


SUITE = compile_suite(
    {"name": "proofs", "expectations": [{"type": t, "kwargs": k} for t, k in expectations()]}, SCHEMA, name="proofs"
)


def unproved(suite: CompiledSuite) -> CompiledSuite:
    """The same suite, with every row compared."""
    given = {"proof", "known"}
    return dataclasses.replace(
        suite,
        checks=tuple(
            dataclasses.replace(check, **{name: None for name in given if hasattr(check, name)})
            for check in suite.checks
        ),
    )


def batch_of(random: np.random.Generator, rows: int, odd: float) -> pa.Table:
    """Mostly plain values, so that proofs succeed, and beside them (with a chance a column) what may trip them."""

    def pick(plain: list[Any], strange: list[Any]) -> list[Any]:
        values = [plain[k] for k in random.integers(0, len(plain), rows)]
        if random.random() < odd:
            for place in random.integers(0, max(rows, 1), 2)[:rows]:
                values[place] = strange[random.integers(0, len(strange))]
        return values

    nan, inf = float("nan"), float("inf")
    half = 0.5**0.5
    plain: dict[str, list[Any]] = {
        "i": pick([1], [None, -1, 2, 2**31 - 1]),
        "j": pick([0, 1], [None, 5]),
        "u": pick([1, 0], [None, 2**64 - 1]),
        "f": pick([1.0, 0.5], [None, nan, inf, -inf, -0.0, 1.5, 0.1]),
        "g": pick([1.0, 0.05], [None, nan, 0.1, 2.0]),
        "d": pick([1, 0], [None, -1, 2]),
        "s": pick(["a", "bc"], [None, "", "ß", "a\n", "K", "\u212a", "\x1c", "x" * 99]),
        "z": pick(["a", "bc"], [None, "", "Kk", "k\n"]),
        "t": pick([T0, T0 + 5], [None, T0 - 1, T0 + 86_400_000_001]),
        "at": pick([T0, T0 - 5], [None, T0 + 9]),
        "ns": pick([T0 * 1000 + 1], [None, T0 * 1000 - 1, T0 * 1000 + 999]),
        "then": pick([T0 * 1000, T0 * 1000 + 1], [None]),
        "day": pick([19113, 19114], [None, 0]),
        "b": pick([True], [None, False]),
        "l": pick([[1], [0, 1]], [None, [], [None], [3, 1, 1]]),
        "v": pick([[1.0, 0.0], [half, half]], [None, [], [nan, 1.0], [1.0], [None, 1.0], [1.0011, 0.0], [inf, 0.0]]),
        "w": pick([[1.0, 0.0], [0.0, 1.0]], [None, [None, 1.0], [nan, 0.0], [1.0005, 0.0], [0.999, 0.0], [2.0, 0.0]]),
        "r": pick([{"i": 1}], [None, {"i": None}, {"i": -1}]),
    }
    table = pa.table([pa.array(values, SCHEMA.field(name).type) for name, values in plain.items()], schema=SCHEMA)
    cut = random.integers(0, rows + 1)
    return pa.concat_tables([table[:cut], table[cut:]]) if random.random() < 0.5 else table


@pytest.mark.parametrize("small", [True, False])
def test_what_is_proved_is_what_a_look_at_every_row_finds(small: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not small:
        monkeypatch.setattr(facts, "SMALL_ROWS", 0)
    random, plain = np.random.default_rng(7), unproved(SUITE)
    proved: Counter[int] = Counter()
    for rows in [0, 1, 2, *[30] * 120]:
        batch = batch_of(random, rows, odd=0.2)
        ours, theirs = SUITE.run(batch).found, plain.run(batch).found
        assert ours.keys() == theirs.keys()
        for name, value in theirs.items():
            assert list(ours[name]) == list(value) if name.endswith(".fails") else ours[name] == value, (
                SUITE.checks[int(name.split(".")[0])],
                batch.to_pylist(),
            )
        sliced = batch.slice(1)
        assert {k: list(v) for k, v in SUITE.run(sliced).found.items() if k.endswith(".fails")} == {
            k: list(v) for k, v in plain.run(sliced).found.items() if k.endswith(".fails")
        }
        proved.update(
            i
            for i, check in enumerate(SUITE.checks)
            if isinstance(check, RowCheck) and check.proof and check.proof(facts.Facts(batch)) is not None
        )
    if small:  # and proofs are worth having: of each kind some hold
        kinds = {check.type for check in SUITE.checks if isinstance(check, RowCheck) and check.proof}
        assert {SUITE.checks[i].type for i in proved} == kinds


def test_rows_are_compared_only_for_checks_that_some_row_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    one = CompiledSuite.frame_of

    def frame_of(self: CompiledSuite, batch: pa.Table, checks: list[int]) -> Any:
        asked.extend(checks)
        return one(self, batch, checks)

    monkeypatch.setattr(CompiledSuite, "frame_of", frame_of)
    schema = pa.schema({"a": pa.int64(), "b": pa.int64()})
    of = [("a", {"min_value": 0}), ("b", {"min_value": 0}), ("b", {"max_value": 9})]
    entries = [{"type": "expect_column_values_to_be_between", "kwargs": {"column": c} | k} for c, k in of]
    suite = compile_suite({"name": "two", "expectations": entries}, schema, name="two")
    asked.clear()
    found = suite.run(pa.table({"a": [1, 2, None], "b": [3, -1, 5]})).found
    assert asked == [1]
    assert [found["0.evaluated"], found["1.evaluated"], list(found["1.fails"]), found["2.evaluated"]] == [2, 3, [1], 3]
