"""Changes of a contract's schema as values, and the one function that applies them, to a copy. Pure.

A *path* names a field as errors do: `tip`, `context.device`, `items[].price` (in the records of an array), `counts{}`
(the values of a map). The path of the contract's own record is "". Nulls and the type beside them are looked through.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from .avro import AvroType, split_nullable
from .contract import Contract, parse
from .errors import ContractError

Record: TypeAlias = dict[str, Any]

_STEP = re.compile(r"[^.\[\]{}]+|\[\]|\{\}")
_SUITE_COLUMNS = ("column", "column_A", "column_B", "column_list", "column_set")


@dataclass(frozen=True, slots=True)
class AddField:
    """A new field (Avro, as JSON) at the end of the record at `into`."""

    into: str
    field: Mapping[str, Any]

    @property
    def path(self) -> str:
        return join(self.into, self.field["name"])


@dataclass(frozen=True, slots=True)
class DropField:
    path: str


@dataclass(frozen=True, slots=True)
class RenameField:
    """Another name; the old one becomes an alias, since rows with it will still come."""

    path: str
    name: str


@dataclass(frozen=True, slots=True)
class ReorderFields:
    """The fields of the record at `path`, all of them, in this order."""

    path: str
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class WidenField:
    """Another type, one that Avro promotes the old one to."""

    path: str
    type: AvroType


@dataclass(frozen=True, slots=True)
class RetypeField:
    """Another type that Avro does not promote the old one to."""

    path: str
    type: AvroType


@dataclass(frozen=True, slots=True)
class AddSymbol:
    """A symbol more at the end of the enum at `path`."""

    path: str
    symbol: str


@dataclass(frozen=True, slots=True)
class DropSymbol:
    path: str
    symbol: str


@dataclass(frozen=True, slots=True)
class ChangeDefault:
    """Another default of the field at `path`, or its first."""

    path: str
    default: Any


@dataclass(frozen=True, slots=True)
class DropDefault:
    path: str


@dataclass(frozen=True, slots=True)
class MakeOptional:
    """Null is allowed from now on."""

    path: str


@dataclass(frozen=True, slots=True)
class MakeRequired:
    """Null is no longer allowed."""

    path: str


@dataclass(frozen=True, slots=True)
class RenameType:
    """Another full name of the record, enum or fixed at `path`."""

    path: str
    name: str
    namespace: str | None


@dataclass(frozen=True, slots=True)
class AddAliases:
    """More names that the field at `path` is known by; `of_type`: that its named type is known by."""

    path: str
    names: tuple[str, ...]
    of_type: bool = False


@dataclass(frozen=True, slots=True)
class Annotate:
    """Whatever else is said of the field at `path`, or of its type: docs, attributes, an enum's default, the order of
    its symbols. None takes an entry away.
    """

    path: str
    entries: Mapping[str, Any]
    of_type: bool = False


Change: TypeAlias = (
    AddField
    | DropField
    | RenameField
    | ReorderFields
    | WidenField
    | RetypeField
    | AddSymbol
    | DropSymbol
    | ChangeDefault
    | DropDefault
    | MakeOptional
    | MakeRequired
    | RenameType
    | AddAliases
    | Annotate
)


def apply(record: Record, change: Change) -> Record:
    """The record schema after a change; what it was given stays as it is.

    Raises:
        ContractError: there is nothing at the change's path.
    """
    match change:
        case AddField(into, field):
            return _of_type(record, into, lambda r: r | {"fields": [*r["fields"], dict(field)]})
        case DropField(path):
            return _of_fields(record, path, lambda field: [])
        case RenameField(path, name):
            return _of_fields(record, path, lambda field: [_renamed(field, name)])
        case ReorderFields(path, names):
            return _of_type(record, path, lambda r: r | {"fields": _ordered(r["fields"], names, path)})
        case WidenField(path, type_) | RetypeField(path, type_):
            return _of_type(record, path, lambda _: type_)
        case AddSymbol(path, symbol):
            return _of_type(record, path, lambda enum: enum | {"symbols": [*enum["symbols"], symbol]})
        case DropSymbol(path, symbol):
            return _of_type(record, path, lambda enum: enum | {"symbols": [s for s in enum["symbols"] if s != symbol]})
        case ChangeDefault(path, default):
            return _of_fields(record, path, lambda field: [_with_default(field, default)])
        case DropDefault(path):
            return _of_fields(record, path, lambda field: [_without(field, ["default"])])
        case MakeOptional(path) if path.endswith(("[]", "{}")):
            return _whole(record, path, lambda type_: ["null", type_])
        case MakeRequired(path) if path.endswith(("[]", "{}")):
            return _whole(record, path, lambda type_: split_nullable(type_)[0])
        case MakeOptional(path):
            return _of_fields(record, path, lambda field: [_optional(field)])
        case MakeRequired(path):
            return _of_fields(record, path, lambda field: [_required(field)])
        case RenameType(path, name, namespace):
            space = {} if namespace is None else {"namespace": namespace}
            return _of_type(record, path, lambda t: _without(t, ["namespace"]) | {"name": name} | space)
        case AddAliases(path, names, of_type):
            return _entries(record, path, of_type, lambda e: e | {"aliases": [*e.get("aliases", ()), *names]})
        case Annotate(path, entries, of_type):
            gone = [key for key, value in entries.items() if value is None]
            kept = {key: value for key, value in entries.items() if value is not None}
            return _entries(record, path, of_type, lambda e: _without(e, gone) | kept)


def changed(contract: Contract, changes: Iterable[Change]) -> Contract:
    """The contract after some changes. Its mapping and suite follow renames of fields; a dropped field leaves the
    mapping.

    Raises:
        ContractError: the result is no contract, or a change names a field that is not there.
    """
    document = contract.to_json()
    record, mapping, suite = contract.in_full, document["policy"].get("mapping"), document["suite"]
    for change in changes:
        record = apply(record, change)
        match change:
            case RenameField(path, name) if "." not in path:
                suite = _suite_renamed(suite, path, name)
                emits = mapping["emit"] if mapping else []
                for emit in emits:
                    emit["fields"] = {name if key == path else key: text for key, text in emit["fields"].items()}
            case DropField(path) if mapping:
                for emit in mapping["emit"]:
                    emit["fields"].pop(path, None)
    columns = {field.id: field.column for field in contract.fields}
    made = parse(contract.name, record, suite=suite, policy=document["policy"], version=contract.version)
    return made.stored_in(columns)


def type_at(record: Record, path: str) -> AvroType:
    """The type at a path, null beside it included.

    Raises:
        ContractError: there is none.
    """
    found: list[AvroType] = []

    def seen(type_: AvroType) -> AvroType:
        found.append(type_)
        return type_

    _whole(record, path, seen)
    return found[0]


def told(change: Change) -> str:
    """A change in a few words, as a plan shows it."""
    match change:
        case AddField(_, field):
            default = f" = {default_told(field['default'])}" if "default" in field else ""
            return f"add {change.path}: {type_told(field['type'])}{default}"
        case DropField(path):
            return f"drop {path}"
        case RenameField(path, name):
            return f"rename {path} to {name}"
        case ReorderFields(path, _):
            return f"reorder the fields of {path or 'the record'}"
        case WidenField(path, type_):
            return f"widen {path} to {type_told(type_)}"
        case RetypeField(path, type_):
            return f"make {path} another type: {type_told(type_)}"
        case AddSymbol(path, symbol):
            return f"add symbol {symbol} to {path}"
        case DropSymbol(path, symbol):
            return f"drop symbol {symbol} of {path}"
        case ChangeDefault(path, default):
            return f"default of {path}: {default_told(default)}"
        case DropDefault(path):
            return f"drop the default of {path}"
        case MakeOptional(path):
            return f"make {path} optional"
        case MakeRequired(path):
            return f"make {path} required"
        case RenameType(path, name, _):
            return f"call the type of {path or 'the record'} {name}"
        case AddAliases(path, names, _):
            return f"aliases of {path or 'the record'}: {', '.join(names)}"
        case Annotate(path, entries, _):
            return f"{', '.join(entries)} of {path or 'the record'}"


def type_told(avro: AvroType) -> str:
    """An Avro type in a word or two."""
    inner, nullable = split_nullable(avro)
    match inner:
        case dict():
            word = _word(inner)
        case list():
            word = " or ".join(map(type_told, inner))
        case _:
            word = str(inner)
    return f"{word} or null" if nullable and word != "null" else word


def _word(avro: Record) -> str:
    match avro:
        case {"type": "array", "items": inner} | {"type": "map", "values": inner}:
            told = type_told(inner)
            return f"{avro['type']} of " + (f"({told})" if split_nullable(inner)[1] else told)
        case {"type": "record", "fields": fields}:
            return f"record of ({', '.join(field_told(field) for field in fields)})"
        case {"type": "enum", "symbols": symbols}:
            return "enum of " + ", ".join(symbols)
        case {"logicalType": "decimal", "precision": precision}:
            return f"decimal({precision}, {avro.get('scale', 0)})"
        case {"logicalType": logical}:
            return str(logical)
        case {"type": "fixed", "size": size}:
            return f"fixed of {size} bytes"
        case {"type": dict() as inner}:
            return type_told(inner)
        case _:
            return str(avro.get("type"))


def default_told(default: Any) -> str:
    """A default as people write it in JSON."""
    return json.dumps(default, ensure_ascii=False)


def field_told(field: Record) -> str:
    return f"{field['name']}: {type_told(field['type'])}"


def join(into: str, name: str) -> str:
    return f"{into}.{name}" if into else name


def _of_type(schema: Record, path: str, edit: Callable[[Any], AvroType]) -> Record:
    """The schema with the type at a path replaced; null beside it stays."""
    return _edited_record(schema, _STEP.findall(path), lambda type_: _beside_null(type_, edit), path)


def _whole(schema: Record, path: str, edit: Callable[[Any], AvroType]) -> Record:
    """The schema with the type at a path replaced, null beside it included."""
    return _edited_record(schema, _STEP.findall(path), edit, path)


def _entries(schema: Record, path: str, of_type: bool, edit: Callable[[Record], Record]) -> Record:
    if of_type or not path:
        return _of_type(schema, path, lambda type_: edit(type_ if isinstance(type_, dict) else {"type": type_}))
    return _of_fields(schema, path, lambda field: [edit(field)])


def _of_fields(schema: Record, path: str, edit: Callable[[Record], list[Record]]) -> Record:
    """The schema with the field at a path replaced by some fields, or none."""
    *steps, name = _STEP.findall(path)

    def within(record: Record) -> Record:
        if name not in [field["name"] for field in record["fields"]]:
            raise _nowhere(path)
        fields = [new for field in record["fields"] for new in (edit(field) if field["name"] == name else [field])]
        return record | {"fields": fields}

    return _edited_record(schema, steps, lambda type_: _beside_null(type_, within), path)


def _edited_record(schema: Record, steps: list[str], edit: Callable[[Any], AvroType], path: str) -> Record:
    record: Record = _edited(schema, steps, edit, path)
    return record


def _edited(schema: AvroType, steps: list[str], edit: Callable[[Any], AvroType], path: str) -> AvroType:
    if not steps:
        return edit(schema)
    step, *rest = steps

    def deeper(type_: Any) -> AvroType:
        entry = {"[]": "items", "{}": "values"}.get(step, "fields")
        if not isinstance(type_, dict) or entry not in type_:
            raise _nowhere(path)
        if entry != "fields":
            return type_ | {entry: _edited(type_[entry], rest, edit, path)}
        if step not in [field["name"] for field in type_["fields"]]:
            raise _nowhere(path)
        fields = [
            field | {"type": _edited(field["type"], rest, edit, path)} if field["name"] == step else field
            for field in type_["fields"]
        ]
        return type_ | {"fields": fields}

    return _beside_null(schema, deeper)


def _beside_null(schema: AvroType, edit: Callable[[Any], AvroType]) -> AvroType:
    if isinstance(schema, list):
        return [branch if branch == "null" else edit(branch) for branch in schema]
    return edit(schema)


def _nowhere(path: str) -> ContractError:
    return ContractError("a change of a field that is not there", where=path, expected="the path of a field", got=path)


def _renamed(field: Record, name: str) -> Record:
    aliases = [alias for alias in (*field.get("aliases", ()), field["name"]) if alias != name]
    return field | {"name": name, "aliases": list(dict.fromkeys(aliases))}


def _with_default(field: Record, default: Any) -> Record:
    """Avro readers before 1.12 want the first branch of a union to be the default's."""
    inner, nullable = split_nullable(field["type"])
    ordered = ["null", inner] if default is None else [inner, "null"]
    return field | {"default": default} | ({"type": ordered} if nullable and inner != "null" else {})


def _optional(field: Record) -> Record:
    inner = field["type"]
    return field | {"type": ["null", inner] if field.get("default") is None else [inner, "null"]}


def _required(field: Record) -> Record:
    """Without null, and without a default of null."""
    gone = ["default"] if "default" in field and field["default"] is None else []
    return _without(field, gone) | {"type": split_nullable(field["type"])[0]}


def _without(entries: Record, keys: Iterable[str]) -> Record:
    return {key: value for key, value in entries.items() if key not in keys}


def _ordered(fields: list[Record], names: tuple[str, ...], path: str) -> list[Record]:
    by_name = {field["name"]: field for field in fields}
    if sorted(by_name) != sorted(names):
        raise ContractError(
            "an order that does not name every field once",
            where=path or "the record",
            expected=", ".join(by_name),
            got=", ".join(names),
        )
    return [by_name[name] for name in names]


def _suite_renamed(suite: Record, old: str, new: str) -> Record:
    def told(value: Any) -> Any:
        if isinstance(value, list):
            return [new if item == old else item for item in value]
        return new if value == old else value

    expectations = [
        one | {"kwargs": {k: told(v) if k in _SUITE_COLUMNS else v for k, v in one["kwargs"].items()}}
        for one in suite.get("expectations", [])
    ]
    return suite | {"expectations": expectations}
