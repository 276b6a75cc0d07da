"""Avro resolution: what a reader's schema can read of what a writer's wrote."""

from __future__ import annotations

from typing import Any

import pytest

from reclake.schemas.contract import shipped, shipped_names
from reclake.schemas.errors import ContractError
from reclake.schemas.resolution import PROMOTIONS, compatibility

PRIMITIVES = ("null", "boolean", "int", "long", "float", "double", "bytes", "string")
MICROS = {"type": "long", "logicalType": "timestamp-micros"}


def kinds(writer: Any, reader: Any) -> list[tuple[str, str]]:
    verdict = compatibility(writer, reader)
    assert verdict["compatible"] == (not verdict["incompatibilities"])
    return [(entry["path"], entry["kind"]) for entry in verdict["incompatibilities"]]


def record(*fields: dict[str, Any], name: str = "r", **more: Any) -> dict[str, Any]:
    return {"type": "record", "name": name, "fields": list(fields)} | more


def field(name: str, avro: Any, **more: Any) -> dict[str, Any]:
    return {"name": name, "type": avro} | more


def enum(*symbols: str, **more: Any) -> dict[str, Any]:
    return {"type": "enum", "name": "e", "symbols": list(symbols)} | more


def fixed(size: int, **more: Any) -> dict[str, Any]:
    return {"type": "fixed", "name": "f", "size": size} | more


@pytest.mark.parametrize("writer", PRIMITIVES)
@pytest.mark.parametrize("reader", PRIMITIVES)
def test_primitives_resolve_to_themselves_and_to_their_promotions_only(writer: str, reader: str) -> None:
    promoted = reader in PROMOTIONS.get(writer, ())
    assert kinds(writer, reader) == ([] if writer == reader or promoted else [("/", "TYPE_MISMATCH")])


@pytest.mark.parametrize("name", shipped_names())
def test_a_contract_reads_itself(name: str) -> None:
    schema = shipped(name).avro_schema
    assert compatibility(schema, schema) == {"compatible": True, "incompatibilities": []}


def test_a_field_the_writer_lacks_needs_a_default_and_one_the_reader_lacks_is_skipped() -> None:
    old, new = record(field("a", "long")), record(field("a", "long"), field("b", ["null", "long"], default=None))
    assert kinds(old, new) == []
    assert kinds(new, old) == []
    assert kinds(old, record(field("b", "long"))) == [("/fields/0", "READER_FIELD_MISSING_DEFAULT_VALUE")]


def test_a_renamed_field_is_found_by_the_readers_alias() -> None:
    old = record(field("a", "int"))
    assert kinds(old, record(field("b", "long", aliases=["a"]))) == []
    assert kinds(old, record(field("b", "string", aliases=["a"]))) == [("/fields/0/type", "TYPE_MISMATCH")]


def test_every_reason_is_given_with_its_path_and_both_sides() -> None:
    writer = record(
        field("a", "string"), field("items", {"type": "array", "items": record(field("x", "long"), name="i")})
    )
    reader = record(field("a", "long"), field("items", {"type": "array", "items": record(field("x", "int"), name="i")}))
    verdict = compatibility(writer, reader)
    assert [entry["path"] for entry in verdict["incompatibilities"]] == [
        "/fields/0/type",
        "/fields/1/type/items/fields/0/type",
    ]
    assert verdict["incompatibilities"][0] == {
        "path": "/fields/0/type",
        "kind": "TYPE_MISMATCH",
        "writer": "string",
        "reader": "long",
        "message": "field a: string does not become long",
    }


@pytest.mark.parametrize(
    ("writer", "reader", "wanted"),
    [
        ("long", ["null", "long"], []),
        ("int", ["null", "long"], []),
        ("string", ["null", "long"], [("/", "MISSING_UNION_BRANCH")]),
        (["null", "long"], "long", [("/0", "TYPE_MISMATCH")]),
        (["null", "long"], ["double", "null"], []),
        (["null", "long", "string"], ["null", "long"], [("/2", "MISSING_UNION_BRANCH")]),
        (["long"], "long", []),
        ({"type": "map", "values": "int"}, {"type": "map", "values": "long"}, []),
        ({"type": "map", "values": "long"}, {"type": "map", "values": "int"}, [("/values", "TYPE_MISMATCH")]),
        ({"type": "array", "items": "long"}, "long", [("/", "TYPE_MISMATCH")]),
        (enum("A"), enum("A", "B"), []),
        (enum("A", "B"), enum("A"), [("/symbols", "MISSING_ENUM_SYMBOLS")]),
        (enum("A", "B"), enum("A", default="A"), []),
        (enum("A"), "string", [("/", "TYPE_MISMATCH")]),
        (fixed(4), fixed(4), []),
        (fixed(4), fixed(8), [("/size", "FIXED_SIZE_MISMATCH")]),
        (fixed(4), fixed(4, name="g"), [("/name", "NAME_MISMATCH")]),
        (fixed(4), fixed(4, name="g", aliases=["f"]), []),
        (fixed(4, name="a.f"), fixed(4, name="b.f"), []),
        (record(name="r"), record(name="s"), [("/name", "NAME_MISMATCH")]),
        (record(name="r"), record(name="a.s", aliases=[".r"]), []),
        (record(name="r"), record(name="a.s", aliases=["r"]), [("/name", "NAME_MISMATCH")]),
        (record(name="a.r"), record(name="a.s", aliases=["r"]), []),
        (MICROS, MICROS, []),
        (MICROS, "long", []),
        ({"type": {"type": "long"}}, "long", []),
        (MICROS, {"type": "long", "logicalType": "timestamp-millis"}, [("/", "TYPE_MISMATCH")]),
    ],
)
def test_resolution_follows_the_specification(writer: Any, reader: Any, wanted: list[tuple[str, str]]) -> None:
    assert kinds(writer, reader) == wanted


def test_decimals_keep_precision_and_scale() -> None:
    def decimal(scale: int) -> dict[str, Any]:
        return {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": scale}

    assert kinds(decimal(2), decimal(2)) == []
    assert kinds(decimal(2), decimal(3)) == [("/", "TYPE_MISMATCH")]


def test_types_may_refer_to_themselves_and_to_each_other_by_name() -> None:
    tree = record(field("value", "int"), field("left", ["null", "r"], default=None))
    wider = record(field("value", "long"), field("left", ["null", "r"], default=None))
    assert kinds(tree, wider) == []
    assert kinds(wider, tree) == [("/fields/0/type", "TYPE_MISMATCH")]
    shared = record(field("a", enum("X", "Y")), field("b", "e"), namespace="n")
    narrow = record(field("a", enum("X", "Y")), field("b", {"type": "enum", "name": "m.e", "symbols": ["X"]}))
    assert ("/fields/1/type/symbols", "MISSING_ENUM_SYMBOLS") in kinds(shared, narrow)


@pytest.mark.parametrize("schema", ["nosuch", {"type": "nosuch"}, 7, {"name": "x"}])
def test_what_is_no_schema_is_an_error(schema: Any) -> None:
    with pytest.raises(ContractError, match="Avro type"):
        compatibility(schema, "long")
