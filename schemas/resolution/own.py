"""A writer's own reader: its schema with what has no column of its own as text. Pure.

Delta has no column for a union of several types, and Polars none for decimals of more than 38 digits: such values are
told as text, from which a strict cast reads them again.
"""

from __future__ import annotations

from dataclasses import replace

from .types import ANY, Array, Decimal, Fixed, Map, Plain, Primitive, Record, Type, Union

_DECIMAL_DIGITS_MAX = 38


def own_record(record: Record) -> Record:
    """The record as a reader of itself. Records that contain themselves are refused by `wire` before."""
    fields = [replace(field, type=own(field.type)) for field in record.fields]
    return Record(record.kind, record.name, record.aliases, fields)


def own(type_: Type) -> Type:
    """The type as which a writer's type is read without a reader."""
    if not isinstance(type_, Union):
        return _own(type_)
    if len(type_.values) > 1:
        return Union((Primitive("null"), ANY)) if type_.nullable else ANY
    return Union(tuple(_own(branch) for branch in type_.branches))


def _own(type_: Plain) -> Plain:
    match type_:
        case Array(items=items):
            return Array(own(items))
        case Map(values=values):
            return Map(own(values))
        case Record():
            return own_record(type_)
        case Primitive(logical=Decimal(precision=digits)) | Fixed(logical=Decimal(precision=digits)):
            return ANY if digits > _DECIMAL_DIGITS_MAX else type_
        case _:
            return type_
