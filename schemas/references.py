"""Named types of Avro schemas: told in full wherever they are used, or once and then by their names. Pure.

A contract looks at its fields one by one, so each has to tell its type in full; what goes out to people and to Avro
libraries tells a type once, as they want it. Source: the Avro specification 1.12, "Names".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .avro import PRIMITIVES, AvroType
from .errors import ContractError

_DEPTH_MAX = 100


def in_full(record: Mapping[str, Any], *, where: str) -> dict[str, Any]:
    """A record schema in which every name of a type that was defined before is that type. Unknown names stay.

    Raises:
        ContractError: a type contains itself, or types are nested without end.
    """
    told: dict[str, Any] = _InFull(where).told(dict(record), "", 0)
    return told


def by_name(record: Mapping[str, Any]) -> dict[str, Any]:
    """The reverse: a type that is told again as it was is told by its name."""
    told: dict[str, Any] = _by_name(dict(record), "", {})
    return told


class _InFull:
    """What one schema defines, as far as it is read."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.known: dict[str, dict[str, Any]] = {}
        self.open: list[str] = []

    def told(self, schema: AvroType, space: str, depth: int) -> Any:
        if depth > _DEPTH_MAX:
            raise ContractError("types nested too deeply", where=self.where, expected=f"at most {_DEPTH_MAX} levels")
        match schema:
            case str():
                return self._type(schema, space) or schema
            case list():
                return [self.told(branch, space, depth + 1) for branch in schema]
            case {"type": dict() | list() as inner}:
                told = self.told(inner, space, depth + 1)
                return told if schema.keys() == {"type"} else {**schema, "type": told}
            case {"type": "array", "items": inner}:
                return {**schema, "items": self.told(inner, space, depth + 1)}
            case {"type": "map", "values": inner}:
                return {**schema, "values": self.told(inner, space, depth + 1)}
            case {"type": "record" | "error" | "enum" | "fixed", "name": str()}:
                return self._defined(schema, space, depth)
            case {"type": str() as name}:
                return self._type(name, space) or schema
            case _:
                return schema

    def _defined(self, schema: Mapping[str, Any], space: str, depth: int) -> dict[str, Any]:
        full, made = _full(schema, space), dict(schema)
        if isinstance(schema.get("fields"), list):
            self.open.append(full)
            inner = full.rpartition(".")[0]
            made["fields"] = [
                {**field, "type": self.told(field["type"], inner, depth + 1)}
                if isinstance(field, dict) and "type" in field
                else field
                for field in schema["fields"]
            ]
            self.open.pop()
        self.known.setdefault(full, made)
        return made

    def _type(self, name: str, space: str) -> dict[str, Any] | None:
        """What a name says; None where it says nothing that is known."""
        if name in PRIMITIVES:
            return None
        names = (f"{space}.{name}", name) if space and "." not in name else (name,)
        full = next((one for one in names if one in self.known or one in self.open), None)
        if full is None:
            return None
        if full in self.open:
            raise ContractError(
                "a type that contains itself has no column",
                where=self.where,
                expected="types without recursion",
                got=" → ".join([*self.open[self.open.index(full) :], full]),
                hint="give each level a record of its own",
            )
        made, own = self.known[full], full.rpartition(".")[0]
        return made if own == space or "." in made["name"] else {**made, "namespace": own}


def _by_name(schema: AvroType, space: str, known: dict[str, Any]) -> Any:
    match schema:
        case list():
            return [_by_name(branch, space, known) for branch in schema]
        case {"type": dict() | list() as inner}:
            return {**schema, "type": _by_name(inner, space, known)}
        case {"type": "array", "items": inner}:
            return {**schema, "items": _by_name(inner, space, known)}
        case {"type": "map", "values": inner}:
            return {**schema, "values": _by_name(inner, space, known)}
        case {"type": "record" | "error" | "enum" | "fixed", "name": str()}:
            full = _full(schema, space)
            own = full.rpartition(".")[0]
            told = {**schema, "name": full, "namespace": own}
            if told == known.setdefault(full, told) and known[full] is not told and (own or not space):
                return full
            if not isinstance(schema.get("fields"), list):
                return schema
            fields = [
                {**field, "type": _by_name(field["type"], own, known)}
                if isinstance(field, dict) and "type" in field
                else field
                for field in schema["fields"]
            ]
            return {**schema, "fields": fields}
        case _:
            return schema


def _full(schema: Mapping[str, Any], space: str) -> str:
    """The full name of a type that is defined within a namespace."""
    name, space = schema["name"], schema.get("namespace", space)
    return name if "." in name or not space else f"{space}.{name}"
