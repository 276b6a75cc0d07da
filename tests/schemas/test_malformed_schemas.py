"""What is no Avro schema is told with its place; nothing else than a ContractError ever comes of it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reclake.schemas.errors import ContractError
from reclake.schemas.resolution import MODES, compatibility, evolution

R = {"type": "record", "name": "r"}


def with_field(avro: Any, **more: Any) -> dict[str, Any]:
    return R | {"fields": [{"name": "f", "type": avro} | more]}


@pytest.mark.parametrize(
    ("schema", "place"),
    [
        (None, "/"),
        (7, "/"),
        ({}, "/"),
        ("nosuch", "/"),
        ({"type": "array"}, "/"),
        ({"type": "map", "values": "nosuch"}, "/values"),
        (R, "/"),
        ({"type": "record", "fields": []}, "/"),
        (R | {"fields": [{"name": "f"}]}, "/fields/0"),
        (R | {"fields": [{"name": "f", "type": "int"}, {"name": "f", "type": "int"}]}, "/fields/1"),
        (R | {"name": "a-b", "fields": []}, "/"),
        (R | {"namespace": 3, "fields": []}, "/"),
        (R | {"aliases": "x", "fields": []}, "/aliases"),
        (["int", "int"], "/1"),
        (["int", ["null", "long"]], "/1"),
        (with_field(R | {"fields": []}), "/fields/0/type"),
        ({"type": "enum", "name": "e"}, "/"),
        ({"type": "enum", "name": "e", "symbols": ["A", "A"]}, "/"),
        ({"type": "enum", "name": "e", "symbols": ["A"], "default": "B"}, "/default"),
        ({"type": "fixed", "name": "f"}, "/"),
        ({"type": "fixed", "name": "f", "size": -1}, "/"),
    ],
)
def test_a_malformed_schema_is_told_with_its_place(schema: Any, place: str) -> None:
    for sides in ((schema, "int"), ("int", schema)):
        with pytest.raises(ContractError, match="Avro type") as raised:
            compatibility(*sides)
        assert str(raised.value.where).endswith(f"schema, {place}")


@pytest.mark.parametrize(
    ("avro", "default"),
    [
        ("int", "1"),
        ("int", True),
        ("int", 1 << 31),
        ("long", 1.5),
        ("boolean", 0),
        ("string", None),
        ("bytes", "\u0100"),
        ("float", 1e300),
        (["null", "int"], "x"),
        ({"type": "fixed", "name": "x", "size": 2}, "a"),
        ({"type": "enum", "name": "x", "symbols": ["A"]}, "B"),
        ({"type": "array", "items": "int"}, [1, "a"]),
        ({"type": "map", "values": "int"}, {"a": None}),
        ({"type": "record", "name": "x", "fields": [{"name": "y", "type": "int"}]}, {}),
        ({"type": "record", "name": "x", "fields": [{"name": "y", "type": "x", "default": {}}]}, {}),
    ],
)
def test_a_default_must_be_a_value_of_its_field(avro: Any, default: Any) -> None:
    with pytest.raises(ContractError, match="a default that is no value of its field"):
        compatibility("int", with_field(avro, default=default))


def test_a_unions_default_may_be_of_any_branch_and_a_floats_a_whole_number() -> None:
    for avro, default in ((["null", "int"], 3), (["int", "null"], None), ("float", 1), ("double", -1.5)):
        assert compatibility(R | {"fields": []}, with_field(avro, default=default))["compatible"]


def test_a_schema_nested_a_thousand_deep_is_refused_and_one_that_branches_without_end_is_not_walked_for_ever() -> None:
    deep: Any = "int"
    for _ in range(2000):
        deep = {"type": "array", "items": deep}
    with pytest.raises(ContractError, match="too deeply"):
        compatibility(deep, "int")

    def doubling(leaf: str) -> Any:
        levels: Any = with_field(leaf) | {"name": "l0"}
        for level in range(1, 60):
            fields = [{"name": "a", "type": levels}, {"name": "b", "type": f"l{level - 1}"}]
            levels = {"type": "record", "name": f"l{level}", "fields": fields}
        return levels

    assert compatibility(doubling("int"), doubling("long"))["compatible"]
    assert len(compatibility(doubling("long"), doubling("int"))["incompatibilities"]) < 100


words = st.sampled_from(["type", "name", "fields", "symbols", "items", "values", "size", "default", "aliases"])
kinds = st.sampled_from(["record", "enum", "fixed", "array", "map", "int", "null", "string", "r", "a.b", ""])
junk = st.recursive(
    st.none() | st.booleans() | st.integers() | kinds,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=5),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(junk, junk)
def test_whatever_json_is_compared_a_verdict_or_a_contract_error_comes_of_it(writer: Any, reader: Any) -> None:
    try:
        verdict = compatibility(writer, reader)
    except ContractError:
        return
    assert verdict["compatible"] == (not verdict["incompatibilities"])
    json.dumps(verdict)


FIRST, SECOND = with_field("int"), with_field("long")
THIRD = R | {"fields": [{"name": "f", "type": "long"}, {"name": "g", "type": "int", "default": 0}]}


@pytest.mark.parametrize(
    ("versions", "mode", "wanted"),
    [
        ([FIRST, SECOND], "BACKWARD", []),
        ([FIRST, SECOND], "FORWARD", [(1, 0)]),
        ([FIRST, SECOND], "FULL", [(1, 0)]),
        ([FIRST, SECOND, THIRD], "FULL", []),
        ([FIRST, SECOND, THIRD], "BACKWARD_TRANSITIVE", []),
        ([FIRST, SECOND, THIRD], "FORWARD_TRANSITIVE", [(2, 0)]),
        ([FIRST, SECOND, THIRD], "FULL_TRANSITIVE", [(2, 0)]),
        ([FIRST], "FULL_TRANSITIVE", []),
    ],
)
def test_modes_ask_of_the_last_version_what_it_may_follow(versions: Any, mode: Any, wanted: Any) -> None:
    verdict = evolution(versions, mode)
    assert verdict["compatible"] == (not wanted)
    assert [(entry["writer_version"], entry["reader_version"]) for entry in verdict["incompatibilities"]] == wanted


def test_an_unknown_mode_is_refused_with_those_there_are() -> None:
    with pytest.raises(ContractError, match=MODES[-1]):
        evolution([FIRST, SECOND], "SIDEWAYS")  # type: ignore[arg-type]
