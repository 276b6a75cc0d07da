"""Pairs of schemas as Apache Avro's own suites hold against each other (Java's TestSchemaCompatibility*, Python's
test_compatibility), written anew: which may be read, what is wrong where they may not, and where.
"""

from __future__ import annotations

from typing import Any

import pytest

from reclake.schemas.resolution import compatibility


def record(*fields: dict[str, Any], name: str = "Record1") -> dict[str, Any]:
    return {"type": "record", "name": name, "fields": list(fields)}


def field(name: str, avro: Any, **more: Any) -> dict[str, Any]:
    return {"name": name, "type": avro} | more


def enum(name: str, symbols: str, **more: Any) -> dict[str, Any]:
    return {"type": "enum", "name": name, "symbols": list(symbols)} | more


def fixed(size: int, name: str = "Fixed", **more: Any) -> dict[str, Any]:
    return {"type": "fixed", "name": name, "size": size} | more


def array(items: Any) -> dict[str, Any]:
    return {"type": "array", "items": items}


def map_(values: Any) -> dict[str, Any]:
    return {"type": "map", "values": values}


def linked(head: str) -> dict[str, Any]:
    return record(field("head", head), field("tail", "List"), name="List")


def inner(namespace: str) -> dict[str, Any]:
    items = record(field("a", "int"), name="InnerRecord1") | {"namespace": namespace}
    return record(field("f1", ["null", array(items)]))


A_INT, A_LONG, EMPTY = record(field("a", "int")), record(field("a", "long")), record()
A_DINT = record(field("a", "int", default=0))
A_B = record(field("a", "int"), field("b", "int"))
A_DB = record(field("a", "int"), field("b", "int", default=0))
DA_DB = record(field("a", "int", default=0), field("b", "int", default=0))
ENUM_AB, ENUM_ABC = enum("Enum1", "AB"), enum("Enum1", "ABC")
NUMBERS = ["int", "long", "float", "double"]


def wrapped(avro: Any, **more: Any) -> dict[str, Any]:
    return record(field("a", "int", default=0), field("b", avro, **more))


READABLE = [  # (reader, writer)
    *[(kind, kind) for kind in ("null", "boolean", "int", "long", "float", "double", "string", "bytes")],
    *[("long", "int"), ("float", "int"), ("float", "long"), ("double", "long"), ("double", "int"), ("double", "float")],
    *[("string", "bytes"), ("bytes", "string")],
    *[(array("int"), array("int")), (array("long"), array("int")), (map_("int"), map_("int"))],
    *[(map_("long"), map_("int")), (ENUM_AB, ENUM_AB), (ENUM_ABC, ENUM_AB)],
    *[(enum("E", "AB", namespace="n1"), enum("E", "AB", namespace="n2")), (fixed(4), fixed(4))],
    *[(fixed(4, namespace="v1"), fixed(4, namespace="v2")), ([], []), (["float"], []), (["int"], [])],
    *[
        (["float"], ["int"]),
        (["float"], ["long"]),
        (["float"], ["int", "long"]),
        (["int", "string"], ["string", "int"]),
    ],
    *[(["string"], ["bytes"]), (["bytes"], ["string"]), (["double"], ["int", "float"]), ("float", ["int", "float"])],
    *[("long", ["int", "long"]), ("double", NUMBERS), ("float", ["float"]), (["int"], "int"), ("int", ["int"])],
    *[(EMPTY, EMPTY), (EMPTY, A_INT), (A_INT, A_INT), (A_DINT, A_INT), (A_INT, A_DINT), (A_LONG, A_INT)],
    *[(A_INT, A_B), (A_DINT, A_B), (A_DB, A_INT), (DA_DB, EMPTY), (DA_DB, A_INT), (A_B, DA_DB)],
    *[(linked("int"), linked("int")), (linked("long"), linked("int")), (inner("ns1"), inner("ns2"))],
    (record(field("f", enum("S", "AB", default="A"))), record(field("f", enum("S", "ABC", default="A")))),
    (
        record(field("f", enum("S", "AB", default="B"), default="A")),
        record(field("f", enum("S", "ABC", default="A"), default="B")),
    ),
    (record(field("f1", "int"), name="Record"), record(field("f1", "int"), name="ns.Record")),
    (record(field("bar", "int", aliases=["f1"]), name="foo"), record(field("f1", "int"), name="foo")),
    (record(field("f1", "int"), name="other") | {"aliases": ["foo"]}, record(field("f1", "int"), name="foo")),
]

UNREADABLE = [  # (reader, writer, kind, paths)
    *[("null", "int", "TYPE_MISMATCH", "/"), ("boolean", "int", "TYPE_MISMATCH", "/")],
    *[
        ("int", "null", "TYPE_MISMATCH", "/"),
        ("int", "long", "TYPE_MISMATCH", "/"),
        ("long", "float", "TYPE_MISMATCH", "/"),
    ],
    *[("float", "double", "TYPE_MISMATCH", "/"), ("double", "string", "TYPE_MISMATCH", "/")],
    *[(fixed(4), "string", "TYPE_MISMATCH", "/"), ("string", "boolean", "TYPE_MISMATCH", "/")],
    *[("bytes", "null", "TYPE_MISMATCH", "/"), (A_INT, "int", "TYPE_MISMATCH", "/")],
    *[(array("int"), array("long"), "TYPE_MISMATCH", "/items"), (map_("int"), array("int"), "TYPE_MISMATCH", "/")],
    *[(array("int"), map_("int"), "TYPE_MISMATCH", "/"), (map_("int"), map_("long"), "TYPE_MISMATCH", "/values")],
    *[("int", ENUM_AB, "TYPE_MISMATCH", "/"), (ENUM_AB, "int", "TYPE_MISMATCH", "/")],
    *[("float", NUMBERS, "TYPE_MISMATCH", "/3"), ("long", ["int", "float"], "TYPE_MISMATCH", "/1")],
    *[("int", ["int", "string"], "TYPE_MISMATCH", "/1")],
    (A_DINT, record(field("a", ["null", "int"], default=None)), "TYPE_MISMATCH", "/fields/0/type/0"),
    (linked("int"), linked("long"), "TYPE_MISMATCH", "/fields/0/type"),
    *[(fixed(4), fixed(8), "FIXED_SIZE_MISMATCH", "/size"), (fixed(8), fixed(4), "FIXED_SIZE_MISMATCH", "/size")],
    (wrapped(fixed(8)), wrapped(fixed(4)), "FIXED_SIZE_MISMATCH", "/fields/1/type/size"),
    *[(ENUM_AB, ENUM_ABC, "MISSING_ENUM_SYMBOLS", "/symbols")],
    (enum("Enum1", "BC"), ENUM_ABC, "MISSING_ENUM_SYMBOLS", "/symbols"),
    (record(field("f", ENUM_AB)), record(field("f", ENUM_ABC)), "MISSING_ENUM_SYMBOLS", "/fields/0/type/symbols"),
    *[
        (ENUM_AB, enum("Enum2", "AB"), "NAME_MISMATCH", "/name"),
        (fixed(4), fixed(4, "Other"), "NAME_MISMATCH", "/name"),
    ],
    (record(name="Record2"), EMPTY, "NAME_MISMATCH", "/name"),
    (wrapped(ENUM_AB), wrapped(enum("Enum2", "AB")), "NAME_MISMATCH", "/fields/1/type/name"),
    (A_INT, EMPTY, "READER_FIELD_MISSING_DEFAULT_VALUE", "/fields/0"),
    (A_DB, EMPTY, "READER_FIELD_MISSING_DEFAULT_VALUE", "/fields/0"),
    *[
        (["int"], ["int", "string"], "MISSING_UNION_BRANCH", "/1"),
        (["string"], ["int", "string"], "MISSING_UNION_BRANCH", "/0"),
    ],
    *[
        (["int"], ["int", other], "MISSING_UNION_BRANCH", "/1")
        for other in (A_INT, ENUM_AB, fixed(4), "boolean", "null")
    ],
    *[(["int"], ["int", other], "MISSING_UNION_BRANCH", "/1") for other in (array("int"), map_("int"))],
    *[(["int"], [other], "MISSING_UNION_BRANCH", "/0") for other in ("long", "float", "double", "bytes")],
    (["int", record(field("f", "int"))], ["int", record(field("f", "int"), name="R2")], "MISSING_UNION_BRANCH", "/1"),
    (["int"], NUMBERS, "MISSING_UNION_BRANCH", "/1 /2 /3"),
    (wrapped(["int"], default=0), wrapped(["int", "string"], default=0), "MISSING_UNION_BRANCH", "/fields/1/type/1"),
]


@pytest.mark.parametrize(("reader", "writer"), READABLE)
def test_pairs_that_apache_avro_reads_are_compatible(reader: Any, writer: Any) -> None:
    assert compatibility(writer, reader) == {"compatible": True, "incompatibilities": []}


@pytest.mark.parametrize(("reader", "writer", "kind", "paths"), UNREADABLE)
def test_pairs_that_it_does_not_read_are_told_by_its_kinds_and_paths(
    reader: Any, writer: Any, kind: str, paths: str
) -> None:
    found = compatibility(writer, reader)
    assert not found["compatible"]
    assert [(entry["kind"], entry["path"]) for entry in found["incompatibilities"]] == [
        (kind, p) for p in paths.split()
    ]


def test_many_breaks_are_told_at_once_in_the_readers_order() -> None:
    def nested(*fields: dict[str, Any]) -> dict[str, Any]:
        return record(*fields, name="sub")

    reader = record(
        field("symbols", enum("s", "AC")),
        field("name", enum("n", "ABCD")),
        field("type", "string"),
        field(
            "sub",
            nested(
                field("same", "long", default=42),
                field("new", "long"),
                field("size", fixed(4)),
                field("branches", ["boolean"]),
                field("union", ["boolean"]),
                field("space", record(field("items", array("string")), name="other.A")),
            ),
        ),
    )
    writer = record(
        field("symbols", enum("s", "ABCD")),
        field("name", enum("n_ERR", "ABCD")),
        field("type", "long"),
        field(
            "sub",
            nested(
                field("same", "long", default=42),
                field("size", fixed(8)),
                field("branches", ["boolean", "double", "string"]),
                field("union", "long"),
                field("space", record(field("items", array("boolean")), name="own.A")),
            ),
        ),
    )
    found = compatibility(writer, reader)["incompatibilities"]
    assert [(entry["kind"], entry["path"]) for entry in found] == [
        ("MISSING_ENUM_SYMBOLS", "/fields/0/type/symbols"),
        ("NAME_MISMATCH", "/fields/1/type/name"),
        ("TYPE_MISMATCH", "/fields/2/type"),
        ("READER_FIELD_MISSING_DEFAULT_VALUE", "/fields/3/type/fields/1"),
        ("FIXED_SIZE_MISMATCH", "/fields/3/type/fields/2/type/size"),
        ("MISSING_UNION_BRANCH", "/fields/3/type/fields/3/type/1"),
        ("MISSING_UNION_BRANCH", "/fields/3/type/fields/3/type/2"),
        ("MISSING_UNION_BRANCH", "/fields/3/type/fields/4/type"),
        ("TYPE_MISMATCH", "/fields/3/type/fields/5/type/fields/0/type/items"),
    ]


def test_an_enums_default_is_no_default_of_its_field() -> None:
    found = compatibility(record(field("g", "int")), record(field("f", enum("E", "AB", default="A"))))
    assert [entry["kind"] for entry in found["incompatibilities"]] == ["READER_FIELD_MISSING_DEFAULT_VALUE"]


@pytest.mark.parametrize("kind", ["bytes", "fixed"])
def test_decimals_match_only_with_equal_precision_and_scale(kind: str) -> None:
    def decimal(precision: int, scale: int) -> dict[str, Any]:
        base = {"type": "bytes"} if kind == "bytes" else fixed(8)
        return base | {"logicalType": "decimal", "precision": precision, "scale": scale}

    assert compatibility(decimal(3, 2), decimal(3, 2))["compatible"]
    for writer in (decimal(3, 2), decimal(4, 3)):
        found = compatibility(writer, decimal(3, 3))["incompatibilities"]
        assert [(entry["kind"], entry["path"]) for entry in found] == [("TYPE_MISMATCH", "/")]


def test_of_branches_that_match_the_one_of_the_very_name_is_read_else_the_first() -> None:
    def r(avro: str, name: str, **more: Any) -> dict[str, Any]:
        return record(field("x", avro), name=name) | more

    writer, other = r("long", "a.R"), r("int", "b.R")
    for reader in ([other, writer], [writer, other], [other, r("long", "c.S", aliases=["a.R"])]):
        assert compatibility(writer, reader)["compatible"]
        assert compatibility(reader, reader)["compatible"]
    found = compatibility(writer, [other, r("long", "c.R")])["incompatibilities"]
    assert [(entry["kind"], entry["path"]) for entry in found] == [("MISSING_UNION_BRANCH", "/")]
    assert "field x: long does not become int" in found[0]["message"]
