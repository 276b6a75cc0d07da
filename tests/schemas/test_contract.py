"""Contracts: what can be said is kept exactly, what cannot is refused with the place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from reclake.schemas.avro import to_arrow
from reclake.schemas.contract import TIME, Contract, load, parse, shipped, shipped_names
from reclake.schemas.errors import ContractError

EVENTS = shipped("events")


REQUIRED_FIELDS = dict.fromkeys(
    ("event_id", "user_id", "item_id", "event_type", "event_time"), "id"
)  # of a mapping: each with its expression


def changed(**entries: Any) -> dict[str, Any]:
    """The events schema with a field of these entries behind it."""
    record = EVENTS.avro_schema
    record["fields"].append({"name": "extra", "type": ["null", "long"], "default": None, "field-id": 99} | entries)
    return record


def without(name: str) -> dict[str, Any]:
    record = EVENTS.avro_schema
    record["fields"] = [field for field in record["fields"] if field["name"] != name]
    return record


def test_the_shipped_contracts_load() -> None:
    assert {"events", "content", "kuairand"} <= set(shipped_names())
    for name in shipped_names():
        contract = shipped(name)
        assert (contract.name, contract.version) == (name, 1)
        assert contract.expectations["expectations"]


def test_events_have_the_promised_fields() -> None:
    required = [f.name for f in EVENTS.fields if not f.nullable and not f.has_default]
    assert required == ["event_id", "user_id", "item_id", "event_type", "event_time"]
    assert EVENTS.arrow.field("available_at") == pa.field("available_at", TIME, nullable=True)
    assert EVENTS.field("user_id").id == 2
    with pytest.raises(ContractError, match="unknown field"):
        EVENTS.field("nosuch")


@pytest.mark.parametrize("name", shipped_names())
def test_a_contract_survives_json(name: str) -> None:
    contract = shipped(name)
    again = Contract.from_json(json.loads(json.dumps(contract.to_json())))
    assert again == contract
    assert again.fingerprint == contract.fingerprint


def test_the_fingerprint_changes_with_content_and_not_with_the_version() -> None:
    assert parse("events", EVENTS.avro_schema, suite=EVENTS.expectations, version=2).fingerprint == EVENTS.fingerprint
    assert parse("events", changed(), suite=EVENTS.expectations).fingerprint != EVENTS.fingerprint
    limited = parse("events", EVENTS.avro_schema, suite=EVENTS.expectations, policy={"quarantine_limit": 0.1})
    assert limited.fingerprint != EVENTS.fingerprint


@pytest.mark.parametrize(
    ("record", "says"),
    [
        ({"type": "string"}, "not an Avro record"),
        (changed(**{"field-id": None}), "without an id"),
        (changed(**{"field-id": 1}), "id is used twice"),
        (changed(name="user_id"), "name is used twice"),
        (changed(name="known_at"), "reserved"),
        (changed(type="nosuch"), "unknown Avro type"),
        (changed(type=["long", "string"]), "no columnar form"),
        (without("item_id"), "required field is missing"),
    ],
)
def test_a_schema_that_no_contract_can_have_is_refused(record: dict[str, Any], says: str) -> None:
    with pytest.raises(ContractError, match=says):
        parse("events", record)


def test_a_required_field_has_its_type() -> None:
    record = EVENTS.avro_schema
    record["fields"][1]["type"] = "string"
    with pytest.raises(ContractError) as caught:
        parse("events", record)
    assert caught.value.parts()["expected"] == "int64"


@pytest.mark.parametrize(
    ("policy", "says"),
    [
        ({"feeed": "live"}, "unknown policy entry"),
        ({"feed": "dead"}, "unknown feed"),
        ({"kind": "things"}, "unknown kind"),
        ({"available_at": "never"}, "unknown available_at"),
        ({"mapping": {"emit": []}}, "not a mapping"),
        ({"mapping": {"emit": [{}]}}, "emit without fields"),
        ({"mapping": {"emit": [{"fields": {"nosuch": "1"}}]}}, "fields that the contract does not have"),
    ],
)
def test_a_policy_that_no_contract_can_have_is_refused(policy: dict[str, Any], says: str) -> None:
    with pytest.raises(ContractError, match=says):
        parse("events", EVENTS.avro_schema, policy=policy)


@pytest.mark.parametrize("name", ["", "Events", "1a", "a-b", "a b", "../a"])
def test_a_contract_name_is_plain(name: str) -> None:
    with pytest.raises(ContractError, match="not a contract name"):
        parse(name, EVENTS.avro_schema)


def test_a_contract_is_read_from_files_beside_each_other(tmp_path: Path) -> None:
    (tmp_path / "mine.avsc").write_text(json.dumps(EVENTS.avro_schema))
    assert load(tmp_path / "mine.avsc").expectations == {"name": "mine", "expectations": []}
    (tmp_path / "mine.contract.json").write_text('{"feed": "bootstrap"}')
    (tmp_path / "mine.suite.json").write_text(json.dumps(EVENTS.expectations))
    contract = load(tmp_path / "mine.avsc")
    assert (contract.feed, contract.expectations) == ("bootstrap", EVENTS.expectations)


def test_a_byte_order_mark_in_front_is_no_part_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "events.avsc").write_text(json.dumps(EVENTS.avro_schema), encoding="utf-8-sig")
    assert load(tmp_path / "events.avsc").avro_schema == EVENTS.avro_schema


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("mine.json", "{}", "not a contract file"),
        ("gone.avsc", None, "file not found"),
        ("mine.avsc", "{", "not valid JSON"),
        ("mine.avsc", "[]", "not an Avro record"),
        ("mine.avsc", "[" * 100_000, "not valid JSON"),
    ],
)
def test_a_file_that_holds_no_contract_is_refused(tmp_path: Path, name: str, text: str | None, says: str) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(ContractError, match=says) as caught:
        load(tmp_path / name)
    assert str(tmp_path / name) in caught.value.parts()["where"]


@pytest.mark.parametrize(
    ("avro", "arrow"),
    [
        ("int", pa.int32()),
        (["null", "double"], pa.float64()),
        ({"type": "long", "logicalType": "timestamp-millis"}, pa.timestamp("ms", "UTC")),
        ({"type": "bytes", "logicalType": "decimal", "precision": 5, "scale": 2}, pa.decimal128(5, 2)),
        ({"type": "array", "items": "float"}, pa.list_(pa.float32())),
        ({"type": "map", "values": "long"}, pa.map_(pa.string(), pa.int64())),
        ({"type": "enum", "name": "e", "symbols": ["A"]}, pa.string()),
        ({"type": "fixed", "name": "f", "size": 3}, pa.binary(3)),
        ({"type": "long", "logicalType": "of-mine"}, pa.int64()),
    ],
)
def test_avro_types_have_arrow_types(avro: Any, arrow: pa.DataType) -> None:
    assert to_arrow(avro, where="here") == arrow


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        ({"quarantine_limit": 7}, "quarantine limit"),
        ({"quarantine_limit": True}, "quarantine limit"),
        ({"table": "verdicts"}, "one table"),
        ({"mapping": {"emit": [{"fields": {"event_id": "id"}}]}}, "leaves out required fields"),
        ({"mapping": {"columns": {"id": "integer"}, "emit": [{"fields": REQUIRED_FIELDS}]}}, "unknown Avro type"),
    ],
)
def test_a_policy_that_cannot_be_kept_is_refused_when_the_contract_is_read(
    policy: dict[str, object], words: str
) -> None:
    with pytest.raises(ContractError, match=words) as caught:
        parse("mine", EVENTS.avro_schema, policy=policy)
    assert {"where", "expected", "got", "what to do"} <= caught.value.parts().keys()


@pytest.mark.parametrize("avro", [{"type": "array"}, {"type": 5}, 5, {"type": "record"}, {"type": "fixed"}])
def test_what_is_no_avro_type_is_refused_with_its_place(avro: object) -> None:
    with pytest.raises(ContractError, match="Avro type") as caught:
        to_arrow(avro, where="field x")
    assert caught.value.where == "field x"
