"""Changes as values: derived from two versions and applied to a copy they give the second; no id or name returns."""

from __future__ import annotations

import copy
import json
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st

from reclake.schemas.changes import (
    AddField,
    AddSymbol,
    Annotate,
    Change,
    ChangeDefault,
    DropField,
    MakeOptional,
    MakeRequired,
    RenameField,
    ReorderFields,
    WidenField,
    apply,
    changed,
    told,
    type_told,
)
from reclake.schemas.contract import Contract, parse, shipped
from reclake.schemas.differences import changes_between, refuse_reuse
from reclake.schemas.errors import ContractError
from reclake.schemas.rulings import judge

ITEM = {"type": "record", "name": "item", "fields": [{"name": "price", "type": "float"}]}
DEVICE = {
    "type": "record",
    "name": "device",
    "fields": [{"name": "os", "type": "string", "field-id": 1}, {"name": "w", "type": "int", "field-id": 2}],
}
MORE: list[dict[str, Any]] = [
    {"name": "device", "type": ["null", DEVICE], "default": None, "field-id": 30},
    {"name": "items", "type": {"type": "array", "items": ITEM}, "default": [], "field-id": 31},
    {"name": "kind", "type": {"type": "enum", "name": "k", "symbols": ["A", "B"]}, "default": "A", "field-id": 32},
    {"name": "counts", "type": {"type": "map", "values": "int"}, "default": {}, "field-id": 33},
    {"name": "note", "type": ["null", "string"], "default": None, "field-id": 34},
]
RECORD = shipped("events").avro_schema
RECORD["fields"] += MORE
OLD = parse("mine", RECORD)

CHANGES: list[Change] = [
    RenameField("surface", "tab"),
    RenameField("device.os", "system"),
    RenameField("items[].price", "cost"),
    DropField("propensity"),
    DropField("device.w"),
    WidenField("position", "double"),
    WidenField("items[].cost", "double"),
    WidenField("items[].price", "double"),
    WidenField("counts{}", "long"),
    WidenField("note", "bytes"),
    AddField("", {"name": "tip", "type": ["long", "null"], "default": 7, "field-id": 40}),
    AddField("device", {"name": "h", "type": "int", "default": 2, "field-id": 3}),
    AddField("items[]", {"name": "n", "type": "int", "default": 1}),
    AddSymbol("kind", "C"),
    ChangeDefault("kind", "B"),
    MakeOptional("kind"),
    MakeOptional("counts{}"),
    MakeRequired("watch_ms"),
    Annotate("value", {"doc": "A price."}),
    Annotate("kind", {"default": "A"}, of_type=True),
    ReorderFields("device", ("w", "os")),
]


def applicable(record: dict[str, Any], changes: list[Change]) -> dict[str, Any]:
    """The record after those of the changes that name something that is there."""
    for change in changes:
        try:
            record = apply(record, change)
        except ContractError:
            continue
    return record


@hypothesis.given(st.lists(st.sampled_from(CHANGES), max_size=8, unique_by=str))
@hypothesis.settings(max_examples=150)
def test_the_changes_between_two_versions_lead_from_the_one_to_the_other(changes: list[Change]) -> None:
    before = copy.deepcopy(OLD.avro_schema)
    new = parse("mine", applicable(OLD.avro_schema, changes))
    found = changes_between(OLD, new)
    assert json.loads(changed(OLD, found).record) == new.avro_schema
    assert changes_between(new, new) == ()
    assert OLD.avro_schema == before


@pytest.mark.parametrize("change", CHANGES, ids=told)
def test_one_change_is_told_as_that_change(change: Change) -> None:
    if change.path == "items[].cost":
        return
    new = parse("mine", apply(OLD.avro_schema, change))
    assert changes_between(OLD, new) == (change,)
    (ruling,) = judge((change,), OLD.avro_schema, new.avro_schema, "events")
    assert ruling.verdict == "accept"


def test_a_renamed_field_keeps_its_old_name_as_an_alias_and_its_column() -> None:
    new = changed(OLD, [RenameField("surface", "tab"), RenameField("tab", "page")])
    assert new.field("page").aliases == ("surface", "tab")
    assert new.field("page").column == "surface"
    assert new.field("page").id == OLD.field("surface").id


def test_mapping_and_suite_follow_a_rename() -> None:
    contract = shipped("kuairand")
    assert contract.mapping is not None
    name = next(name for name, _ in contract.mapping.emits[0].fields if name not in ("event_id", "user_id", "item_id"))
    name = "surface" if "surface" in dict(contract.mapping.emits[0].fields) else name
    new = changed(contract, [RenameField(name, "renamed")])
    assert new.mapping is not None
    assert all(name not in dict(emit.fields) for emit in new.mapping.emits)
    assert f'"{name}"' not in json.dumps([e["kwargs"] for e in new.expectations["expectations"]])


@pytest.mark.parametrize(
    "change",
    [DropField("nosuch"), RenameField("device.nosuch", "x"), WidenField("note[]", "long"), MakeOptional("a.b")],
)
def test_a_change_of_what_is_not_there_is_refused_with_its_path(change: Change) -> None:
    with pytest.raises(ContractError, match="not there") as caught:
        apply(OLD.avro_schema, change)
    assert caught.value.where == change.path


def field_of(name: str, id_: int | None = None, **more: Any) -> AddField:
    return AddField("", {"name": name, "type": "int", "default": 0} | ({"field-id": id_} if id_ else {}) | more)


def versions(*steps: list[Change]) -> list[Contract]:
    made = [OLD]
    for changes in steps:
        made.append(changed(made[-1], changes))
    return made


@pytest.mark.parametrize(
    ("steps", "last", "says"),
    [
        ([[DropField("note")]], field_of("x", 34), "id is used"),
        ([[DropField("note")], []], field_of("note", 50), "a name that another"),
        ([[RenameField("note", "text")], []], RenameField("surface", "note"), "a name that another"),
        ([[]], field_of("x", 50, aliases=["note"]), "a name that another"),
        ([[DropField("device.w")], []], AddField("device", field_of("v", 2).field), "id is used"),
        ([[DropField("items[].price")], []], AddField("items[]", field_of("price").field), "a name that another"),
    ],
)
def test_ids_and_names_of_fields_that_were_are_not_given_again(steps: Any, last: Change, says: str) -> None:
    before = versions(*steps)
    new = parse("mine", apply(before[-1].avro_schema, last))
    with pytest.raises(ContractError, match=says):
        refuse_reuse(before, new)


def test_a_field_may_get_back_a_name_that_was_its_own() -> None:
    before = versions([RenameField("note", "text")], [RenameField("text", "words")])
    refuse_reuse(before, changed(before[-1], [RenameField("words", "note")]))


def test_types_are_told_with_what_tells_them_apart() -> None:
    money = {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}
    for avro, words in (
        (money, "decimal(9, 2)"),
        (["null", {"type": "fixed", "name": "x", "size": 3}], "fixed of 3 bytes or null"),
        ({"type": "array", "items": ["null", "int"]}, "array of (int or null)"),
        ({"type": {"type": "map", "values": money}}, "map of decimal(9, 2)"),
        ({"type": "long", "logicalType": "timestamp-micros"}, "timestamp-micros"),
    ):
        assert type_told(avro) == words
