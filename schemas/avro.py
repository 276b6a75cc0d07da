"""Avro types as Arrow types. Pure; the Avro specification 1.12 is the source for names and logical types."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from .errors import ContractError

AvroType = Any  # an Avro schema as parsed JSON: str, list (a union) or dict

PRIMITIVES: dict[str, pa.DataType] = {
    "null": pa.null(),
    "boolean": pa.bool_(),
    "int": pa.int32(),
    "long": pa.int64(),
    "float": pa.float32(),
    "double": pa.float64(),
    "bytes": pa.binary(),
    "string": pa.string(),
}

LOGICAL: dict[tuple[str, str], pa.DataType] = {
    ("int", "date"): pa.date32(),
    ("int", "time-millis"): pa.time32("ms"),
    ("long", "time-micros"): pa.time64("us"),
    ("long", "timestamp-millis"): pa.timestamp("ms", tz="UTC"),
    ("long", "timestamp-micros"): pa.timestamp("us", tz="UTC"),
    ("long", "local-timestamp-millis"): pa.timestamp("ms"),
    ("long", "local-timestamp-micros"): pa.timestamp("us"),
    ("string", "uuid"): pa.string(),
}


def split_nullable(avro: AvroType) -> tuple[AvroType, bool]:
    """(type without null, whether null is allowed) of an Avro type; unions of several non-null types stay unions."""
    if isinstance(avro, list):
        rest = [branch for branch in avro if branch != "null"]
        nullable = len(rest) < len(avro)
        return (rest[0] if len(rest) == 1 else rest), nullable
    return avro, avro == "null"


def to_arrow(avro: AvroType, *, where: str) -> pa.DataType:
    """The Arrow type of an Avro type.

    Raises:
        ContractError: the type is unknown, or has no columnar form here (a union of several non-null types).
    """
    avro, _ = split_nullable(avro)
    if isinstance(avro, str):
        if avro in PRIMITIVES:
            return PRIMITIVES[avro]
        raise ContractError(
            "unknown Avro type", where=where, expected="one of " + ", ".join(PRIMITIVES), got=repr(avro)
        )
    if isinstance(avro, list):
        raise ContractError(
            "a union of several types has no columnar form",
            where=where,
            expected='one type, or ["null", type]',
            got=repr(avro),
            hint="give each kind a nullable field of its own",
        )
    try:
        return _complex(avro, where=where)
    except (KeyError, AttributeError, TypeError) as error:
        raise ContractError(
            "not an Avro type",
            where=where,
            expected='a name, or an object such as {"type": "array", "items": "long"}',
            got=f"{avro!r} ({type(error).__name__}: {error})",
        ) from None


def _complex(avro: dict[str, Any], *, where: str) -> pa.DataType:
    kind, logical = avro.get("type"), avro.get("logicalType")
    if logical == "decimal" and kind in ("bytes", "fixed"):
        precision, scale = avro.get("precision"), avro.get("scale", 0)
        if type(precision) is not int or type(scale) is not int or not 0 <= scale <= precision <= 38 or not precision:
            expected, got = '"precision": 1 to 38, "scale": 0 to the precision', f"{precision!r}, {scale!r}"
            raise ContractError("a decimal that no column holds", where=where, expected=expected, got=got)
        return pa.decimal128(precision, scale)
    if isinstance(kind, str) and (kind, logical) in LOGICAL:
        return LOGICAL[(kind, str(logical))]
    match kind:
        case "array":
            return pa.list_(to_arrow(avro["items"], where=f"{where}[]"))
        case "map":
            return pa.map_(pa.string(), to_arrow(avro["values"], where=f"{where}{{}}"))
        case "record":
            return pa.struct([record_field(f, where=f"{where}.{f.get('name')}") for f in avro["fields"]])
        case "enum":
            return pa.string()
        case "fixed":
            return pa.binary(avro["size"])
        case _:
            return to_arrow(kind, where=where)


def record_field(field: dict[str, Any], *, where: str) -> pa.Field:
    """The Arrow field of one field of an Avro record."""
    _, nullable = split_nullable(field["type"])
    return pa.field(field["name"], to_arrow(field["type"], where=where), nullable=nullable)
