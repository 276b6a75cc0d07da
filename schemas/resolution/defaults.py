"""Defaults: from JSON, by the field's type, to what a decoder would have given. Pure.

Source: the Avro specification 1.12, "Complex Types", table "field default values". A union's default is of its first
branch that takes it.
"""

from __future__ import annotations

import math
import struct
from typing import Any

from ..errors import ContractError
from .types import Array, Enum, Field, Fixed, Map, Primitive, Record, Type, Union, label

_BITS = {"int": 31, "long": 63}


def check(type_: Type, *, where: str) -> None:
    """Every default within a type is a value of its field.

    Raises:
        ContractError: one is not.
    """
    pending, seen = [type_], set()
    while pending:
        part = pending.pop()
        if id(part) in seen:
            continue
        seen.add(id(part))
        match part:
            case Record():
                for field in part.fields:
                    pending.append(field.type)
                    if field.has_default:
                        of_field(field, where=f"{where}, {part.name}")
            case Array():
                pending.append(part.items)
            case Map():
                pending.append(part.values)
            case Union():
                pending += part.branches


def of_field(field: Field, *, where: str) -> Any:
    """A field's default as the wire layout has it (see `wire`): enums as places, maps as lists of key and value,
    unions of several types as the one branch.

    Raises:
        ContractError: the default is no value of the field.
    """
    try:
        return _value(field.default, field.type)
    except _UnfitError as unfit:
        got = repr(unfit.args[0])[:80]
    except RecursionError:
        got = "a default that needs itself"
    raise ContractError(
        "a default that is no value of its field",
        where=f"{where}, field {field.name}",
        expected=label(field.type),
        got=got,
    )


class _UnfitError(Exception):
    """A value that is none of the type's; never leaves this module."""


def _value(value: Any, type_: Type) -> Any:
    match type_:
        case Union():
            return _branch(value, type_)
        case Primitive(kind=kind):
            return _primitive(value, kind)
        case Fixed(size=size):
            data = _bytes(value)
            if len(data) != size:
                raise _UnfitError(value)
            return data
        case Enum(symbols=symbols):
            if value not in symbols:
                raise _UnfitError(value)
            return symbols.index(value)
        case Array(items=items):
            if not isinstance(value, list):
                raise _UnfitError(value)
            return [_value(item, items) for item in value]
        case Map(values=values):
            if not isinstance(value, dict):
                raise _UnfitError(value)
            return [{"key": key, "value": _value(item, values)} for key, item in value.items()]
        case Record():
            return _record(value, type_)


def _record(value: Any, record: Record) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _UnfitError(value)
    out = {}
    for place, field in enumerate(record.fields):
        if field.name not in value and not field.has_default:
            raise _UnfitError(value)
        out[f"f{place}"] = _value(value.get(field.name, field.default), field.type)
    return out


def _branch(value: Any, union: Union) -> Any:
    for place, branch in enumerate(union.branches):
        try:
            found = _value(value, branch)
        except _UnfitError:
            continue
        several = branch.kind != "null" and (len(union.values) > 1 or not union.nullable)
        return {f"b{place}": found} if several else found
    raise _UnfitError(value)


def _primitive(value: Any, kind: str) -> Any:
    match kind:
        case "null" if value is None:
            return None
        case "boolean" if isinstance(value, bool):
            return value
        case "int" | "long" if type(value) is int and -(1 << _BITS[kind]) <= value < 1 << _BITS[kind]:
            return value
        case "float" | "double" if type(value) in (int, float):
            return _rounded(value, kind)
        case "string" if isinstance(value, str):
            return value
        case "bytes":
            return _bytes(value)
        case _:
            raise _UnfitError(value)


def _rounded(value: float, kind: str) -> float:
    try:
        single = kind == "float" and math.isfinite(value)
        return float(struct.unpack("<f", struct.pack("<f", value))[0]) if single else float(value)
    except OverflowError:
        raise _UnfitError(value) from None


def _bytes(value: Any) -> bytes:
    """Code points 0 to 255 are bytes."""
    if not isinstance(value, str):
        raise _UnfitError(value)
    try:
        return value.encode("latin-1")
    except UnicodeEncodeError:
        raise _UnfitError(value) from None
