"""Named types of a contract's schema: told once and then by name in files, in full within."""

from __future__ import annotations

import copy
from typing import Any

import fastavro
import pytest

from reclake.schemas import contract as contracts
from reclake.schemas.changes import AddField, WidenField, changed
from reclake.schemas.contract import shipped, shipped_names
from reclake.schemas.errors import ContractError
from reclake.schemas.references import by_name, in_full
from reclake.schemas.resolution import compatibility

PRICE = {"type": "record", "name": "price", "fields": [{"name": "cents", "type": "int"}]}
STATE = {"type": "enum", "name": "state", "symbols": ["A", "B"]}


def record(*types: Any, **more: Any) -> dict[str, Any]:
    return {"type": "record", "name": "r", "fields": [{"name": f"f{i}", "type": t} for i, t in enumerate(types)]} | more


def types_of(schema: dict[str, Any]) -> list[Any]:
    return [field["type"] for field in schema["fields"]]


def test_names_become_the_types_they_name_and_the_other_way_round() -> None:
    given = record(PRICE, "price", ["null", "price"], {"type": {"type": "array", "items": "price"}}, {"type": "price"})
    told = in_full(given, where="here")
    assert types_of(told) == [PRICE, PRICE, ["null", PRICE], {"type": "array", "items": PRICE}, PRICE]
    again = by_name(told)
    assert types_of(again) == [PRICE, "price", ["null", "price"], {"type": "array", "items": "price"}, "price"]
    assert in_full(again, where="here") == told
    fastavro.parse_schema(copy.deepcopy(again))
    assert compatibility(given, again)["compatible"]


def test_names_are_those_of_their_namespaces() -> None:
    inner = {"type": "record", "name": "inner", "namespace": "b", "fields": [{"name": "x", "type": "a.state"}]}
    given = record(STATE, inner, "b.inner", "a.state", namespace="a")
    told = types_of(in_full(given, where="here"))
    assert told[1]["fields"][0]["type"] == STATE | {"namespace": "a"}
    assert told[2] == told[1]
    assert types_of(by_name(in_full(given, where="here")))[2:] == ["b.inner", "a.state"]
    assert types_of(by_name(record(PRICE, PRICE | {"doc": "another"}))) == [PRICE, PRICE | {"doc": "another"}]


@pytest.mark.parametrize("name", shipped_names())
def test_what_names_no_type_stays_as_it_is(name: str) -> None:
    schema = shipped(name).avro_schema
    assert in_full(schema, where="here") == schema == by_name(schema)


def test_types_without_end_are_refused() -> None:
    for given in (record(["null", "r"]), record({"type": "map", "values": record("q", name="q")})):
        with pytest.raises(ContractError, match="contains itself"):
            in_full(given, where="here")
    deep: Any = "int"
    for _ in range(101):
        deep = {"type": "array", "items": deep}
    with pytest.raises(ContractError, match="too deeply"):
        in_full(record(deep), where="here")


def test_a_contract_may_use_a_type_again_by_its_name_and_change_it() -> None:
    schema = shipped("events").avro_schema
    more = [
        {"name": "paid", "type": ["null", PRICE], "default": None, "field-id": 101},
        {"name": "asked", "type": {"type": "array", "items": "price"}, "default": [], "field-id": 102},
    ]
    mine = contracts.parse("mine", schema | {"fields": [*schema["fields"], *more]})
    assert mine.field("asked").arrow.type.value_type == mine.field("paid").arrow.type
    assert contracts.Contract.from_json(mine.to_json()) == mine
    again = contracts.parse("mine", mine.avro_schema)
    assert again.fingerprint == mine.fingerprint
    assert mine.avro_schema["fields"][-1]["type"] == {"type": "array", "items": "reclake.price"}
    both = [WidenField(f"{path}.cents", "long") for path in ("paid", "asked[]")]
    wider = changed(
        mine, [*both, *(AddField(p, {"name": "of", "type": "int", "default": 1}) for p in ("paid", "asked[]"))]
    )
    assert wider.avro_schema["fields"][-1]["type"] == {"type": "array", "items": "reclake.price"}
    assert compatibility(mine.avro_schema, wider.avro_schema)["compatible"]


@pytest.mark.parametrize("more", [{}, {"precision": 50}, {"precision": 2, "scale": 5}, {"precision": 0}])
def test_a_decimal_that_no_column_holds_is_refused(more: dict[str, Any]) -> None:
    field = {"name": "d", "type": {"type": "bytes", "logicalType": "decimal"} | more, "default": "", "field-id": 101}
    schema = shipped("events").avro_schema
    with pytest.raises(ContractError, match="a decimal that no column holds"):
        contracts.parse("mine", schema | {"fields": [*schema["fields"], field]})
