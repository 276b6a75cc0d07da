"""How a type lies on the wire, told in the few Avro types that a columnar decoder knows. Pure.

Names and logical types leave no trace in Avro's binary encoding, and several types share one: an enum is an int, a map
is an array of records of key and value. So any schema is retold as a *wire schema* that gives the same bytes other,
simpler names, and the decoder's columns get their meaning afterwards (`columns`). Fields are called f0, f1 …, by place.

A union of several types is retold as a union of records with one field each, b0, b1 …, by branch. No columnar decoder
knows it, but a record reader gives dicts in which the key says which branch it was.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from ..avro import PRIMITIVES
from ..errors import ContractError
from .types import Array, Enum, Fixed, Map, Plain, Primitive, Record, Type, Union


@dataclass(frozen=True, slots=True)
class Wire:
    """`schema`: Avro as JSON; `arrow`: what decoding by it gives; `columnar`: whether Polars knows all of it."""

    schema: Any
    arrow: pa.DataType
    columnar: bool


def wire(type_: Type, *, where: str) -> Wire:
    """The wire schema of a type.

    Raises:
        ContractError: the type contains itself.
    """
    return _Wiring(where).wire(type_)


class _Wiring:
    def __init__(self, where: str) -> None:
        self.where = where
        self.named = 0
        self.open: list[Record] = []

    def wire(self, type_: Type) -> Wire:
        match type_:
            case Primitive(kind=kind):
                return Wire(kind, PRIMITIVES[kind], kind != "null")
            case Enum():
                return Wire("int", pa.int32(), True)
            case Fixed(size=size):
                return Wire({"type": "fixed", "name": self._name(), "size": size}, pa.binary(), size > 0)
            case Array(items=items):
                return _list(self.wire(items))
            case Map(values=values):
                entry = self._struct([("key", Wire("string", pa.string(), True)), ("value", self.wire(values))])
                return _list(entry)
            case Record():
                return self._record(type_)
            case Union(branches=branches):
                return self._union(branches, type_)

    def _record(self, record: Record) -> Wire:
        if record in self.open:
            raise ContractError(
                "a type that contains itself has no columnar form",
                where=f"{self.where}, record {record.name}",
                expected="a schema without recursion",
                got=" → ".join([r.name for r in self.open[self.open.index(record) :]] + [record.name]),
                hint="give each level a record of its own, or keep the value as bytes",
            )
        self.open.append(record)
        parts = [(f"f{place}", self.wire(field.type)) for place, field in enumerate(record.fields)]
        self.open.pop()
        return self._struct(parts)

    def _union(self, branches: tuple[Plain, ...], union: Union) -> Wire:
        if union.nullable and len(union.values) == 1:
            only = self.wire(union.values[0])
            return Wire(["null" if b.kind == "null" else only.schema for b in branches], only.arrow, only.columnar)
        told, fields = [], []
        for place, branch in enumerate(branches):
            if branch.kind == "null":
                told.append("null")
                continue
            one = self.wire(branch)
            told.append(self._struct([(f"b{place}", one)]).schema)
            fields.append((f"b{place}", one.arrow))
        return Wire(told, pa.struct(fields), False)

    def _struct(self, parts: list[tuple[str, Wire]]) -> Wire:
        schema = {
            "type": "record",
            "name": self._name(),
            "fields": [{"name": name, "type": part.schema} for name, part in parts],
        }
        columnar = bool(parts) and all(part.columnar for _, part in parts)
        return Wire(schema, pa.struct([(name, part.arrow) for name, part in parts]), columnar)

    def _name(self) -> str:
        """A wire schema's own names, all different."""
        self.named += 1
        return f"t{self.named}"


def _list(items: Wire) -> Wire:
    return Wire({"type": "array", "items": items.schema}, pa.list_(items.arrow), items.columnar)
