"""Avro schemas as linked types: names resolved, aliases qualified, logical types understood or ignored. Pure.

Source: the Avro specification 1.12, "Schema Declaration", "Names", "Aliases" and "Logical Types".
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from ..avro import LOGICAL, PRIMITIVES, AvroType
from ..errors import ContractError

NANOS = {("long", "timestamp-nanos"), ("long", "local-timestamp-nanos")}
VALUE = "value"  # the column of what is no record
_DECIMAL_DIGITS_MAX = 76  # what Arrow's widest decimal holds


@dataclass(frozen=True, slots=True)
class Decimal:
    precision: int
    scale: int

    def __str__(self) -> str:
        return f"decimal({self.precision}, {self.scale})"


@dataclass(eq=False, slots=True)
class Primitive:
    """`logical`: the logical type where it is one the specification knows for this kind, else None."""

    kind: str
    logical: str | Decimal | None = None


ANY = Primitive("string", "any")  # of a reader: whatever the writer's type, told as text (see `own`)


@dataclass(eq=False, slots=True)
class Named:
    """What records, enums and fixed have in common; all names are full names."""

    kind: str
    name: str
    aliases: frozenset[str]

    def answers_to(self, writer: Named) -> bool:
        """Whether this reader's type goes by the writer's name: unqualified names are equal, or the writer's full
        name is an alias.
        """
        return short(self.name) == short(writer.name) or writer.name in self.aliases


@dataclass(eq=False, slots=True)
class Fixed(Named):
    size: int
    logical: str | Decimal | None = None


@dataclass(eq=False, slots=True)
class Enum(Named):
    symbols: tuple[str, ...]
    default: str | None


@dataclass(frozen=True, slots=True)
class Field:
    """`default` is as in the JSON and means something only where `has_default`."""

    name: str
    type: Type
    aliases: tuple[str, ...]
    has_default: bool
    default: Any


@dataclass(eq=False, slots=True)
class Record(Named):
    """`fields` are filled in after the record has its name: they may lead back to it."""

    fields: list[Field] = field(default_factory=list)


@dataclass(eq=False, slots=True)
class Array:
    items: Type
    kind: str = "array"


@dataclass(eq=False, slots=True)
class Map:
    values: Type
    kind: str = "map"


@dataclass(eq=False, slots=True)
class Union:
    branches: tuple[Plain, ...]
    kind: str = "union"

    @property
    def nullable(self) -> bool:
        return any(branch.kind == "null" for branch in self.branches)

    @property
    def values(self) -> tuple[Plain, ...]:
        """The branches that are not null."""
        return tuple(branch for branch in self.branches if branch.kind != "null")


Plain: TypeAlias = Primitive | Fixed | Enum | Record | Array | Map
Type: TypeAlias = Plain | Union


def parse(schema: AvroType, *, where: str) -> Type:
    """The type of a schema, parsed or as JSON text. Defaults are kept as they are; `defaults.check` looks at them.

    Raises:
        ContractError: it is no Avro schema, with the place within it.
    """
    if isinstance(schema, str) and schema.lstrip()[:1] in ("{", "[", '"'):  # no name begins so
        try:
            schema = json.loads(schema)
        except (ValueError, RecursionError) as error:
            raise ContractError("not valid JSON", where=where, expected="a schema", got=str(error)) from None
    try:
        return _Parser(where).parse(schema, "", "")
    except RecursionError:
        raise ContractError("a schema nested too deeply", where=where, hint="give inner types names") from None


def as_row(type_: Type) -> Record:
    """What a row of a type is: a record itself, else a record of one field, `value`, whose bytes are the same."""
    return (
        type_
        if isinstance(type_, Record)
        else Record(VALUE, VALUE, frozenset(), [Field(VALUE, type_, (), False, None)])
    )


def is_value(row: Record) -> bool:
    """Whether a row is made of a type that is no record."""
    return row.kind == VALUE


def short(name: str) -> str:
    return name.rpartition(".")[2]


def label(type_: Type) -> str:
    """How a message names a type: `decimal(9, 2)`, `record a.b`, `array of long`, `union of null, string`."""
    match type_:
        case Primitive(kind=kind, logical=logical):
            return str(logical or kind)
        case Record(kind=kind, name=name) | Enum(kind=kind, name=name) | Fixed(kind=kind, name=name):
            return f"{kind} {name}"
        case Array(items=items):
            return f"array of {label(items)}"
        case Map(values=values):
            return f"map of {label(values)}"
        case Union(branches=branches):
            return "union of " + (", ".join(label(branch) for branch in branches) or "nothing")


class _Parser:
    """One schema's names, as far as they are defined."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.names: dict[str, Named] = {}

    def parse(self, schema: AvroType, namespace: str, path: str) -> Type:
        match schema:
            case str():
                return self._reference(schema, namespace, path)
            case list():
                return self._union(schema, namespace, path)
            case {"type": dict() | list() as inner}:
                return self.parse(inner, namespace, f"{path}/type")
            case {"type": "record" | "error" | "enum" | "fixed" as kind}:
                return self._named(kind, schema, namespace, path)
            case {"type": "array", "items": items}:
                return Array(self.parse(items, namespace, f"{path}/items"))
            case {"type": "map", "values": values}:
                return Map(self.parse(values, namespace, f"{path}/values"))
            case {"type": "array" | "map" as kind}:
                raise self._wrong(f"an {kind}" if kind == "array" else "a map", path, "what it holds", schema)
            case {"type": str() as kind} if kind in PRIMITIVES:
                return Primitive(kind, _logical(kind, schema, size=None))
            case {"type": str() as kind}:
                return self._reference(kind, namespace, path)
            case _:
                raise self._wrong("a schema", path, 'a name, a union, or an object with "type"', schema)

    def _reference(self, name: str, namespace: str, path: str) -> Plain:
        if name in PRIMITIVES:
            return Primitive(name)
        found = self.names.get(_full(name, namespace)) or self.names.get(name)
        if found is None:
            raise ContractError(
                "unknown Avro type",
                where=self._at(path),
                expected="a primitive type, or a name defined before: " + (", ".join(self.names) or "there is none"),
                got=repr(name)[:100],
            )
        return found  # type: ignore[return-value]  # only the three named kinds are put there

    def _union(self, schema: list[AvroType], namespace: str, path: str) -> Union:
        branches: list[Plain] = []
        for index, each in enumerate(schema):
            branch = self.parse(each, namespace, f"{path}/{index}")
            if isinstance(branch, Union):
                raise self._wrong("a union", f"{path}/{index}", "no union directly within", each)
            if identity(branch) in map(identity, branches):
                raise self._wrong("a union", f"{path}/{index}", f"only one {label(branch)}", each)
            branches.append(branch)
        return Union(tuple(branches))

    def _named(self, kind: str, schema: dict[str, Any], namespace: str, path: str) -> Plain:
        name, own = schema.get("name"), schema.get("namespace")
        if not isinstance(name, str) or not _is_name(name):
            raise self._wrong(f"a {kind}", path, '"name": letters, digits and _, parts separated by dots', name)
        if own is not None and (not isinstance(own, str) or not (own == "" or _is_name(own))):
            raise self._wrong(f"a {kind}", path, '"namespace": names separated by dots', own)
        name = _full(name, namespace if own is None else own)
        space = name.rpartition(".")[0]
        aliases = frozenset(_full(alias, space) for alias in self._strings(schema, "aliases", path))
        if name in self.names or name in PRIMITIVES:
            raise self._wrong("a name", path, "one that is not defined yet", name)
        made: Fixed | Enum | Record
        match kind:
            case "fixed":
                size = schema.get("size")
                if not isinstance(size, int) or isinstance(size, bool) or size < 0:
                    raise self._wrong("a fixed", path, '"size": bytes, a whole number', size)
                made = Fixed(kind, name, aliases, size, _logical(kind, schema, size=size))
            case "enum":
                made = self._enum(schema, name, aliases, path)
            case _:
                made = Record("record", name, aliases)
        self.names[name] = made
        if isinstance(made, Record):
            made.fields += self._fields(schema.get("fields"), space, path)
        return made

    def _enum(self, schema: dict[str, Any], name: str, aliases: frozenset[str], path: str) -> Enum:
        symbols, default = self._strings(schema, "symbols", path), schema.get("default")
        if "symbols" not in schema or len(set(symbols)) < len(symbols) or not all(s.isidentifier() for s in symbols):
            raise self._wrong("an enum", path, '"symbols": different names', schema.get("symbols"))
        if default is not None and default not in symbols:
            raise self._wrong("an enum", f"{path}/default", "one of " + ", ".join(symbols), default)
        return Enum("enum", name, aliases, tuple(symbols), default)

    def _fields(self, raw: Any, namespace: str, path: str) -> list[Field]:
        if not isinstance(raw, list):
            raise self._wrong("a record", path, '"fields": a list', raw)
        fields: list[Field] = []
        names = set[str]()
        for index, each in enumerate(raw):
            at = f"{path}/fields/{index}"
            if not isinstance(each, dict) or not isinstance(each.get("name"), str) or "type" not in each:
                raise self._wrong("a field", at, 'an object with "name" and "type"', each)
            if not each["name"] or each["name"] in names:
                raise self._wrong("a field", at, "a name of its own", each["name"])
            names.add(each["name"])
            type_ = self.parse(each["type"], namespace, f"{at}/type")
            aliases = tuple(self._strings(each, "aliases", at))
            fields.append(Field(each["name"], type_, aliases, "default" in each, each.get("default")))
        return fields

    def _strings(self, schema: dict[str, Any], key: str, path: str) -> list[str]:
        values = schema.get(key)
        if values is None:
            return []
        if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
            raise self._wrong(f'"{key}"', f"{path}/{key}", "a list of strings", values)
        return values

    def _at(self, path: str) -> str:
        return f"{self.where}, {path or '/'}"

    def _wrong(self, what: str, path: str, expected: str, got: object) -> ContractError:
        return ContractError(
            f"not an Avro type: {what} that is malformed",
            where=self._at(path),
            expected=expected,
            got=repr(got)[:100],
        )


def identity(branch: Plain) -> str:
    """A union holds one type of each kind, and of named types one of each name."""
    return branch.name if isinstance(branch, Named) else branch.kind


def _is_name(name: str) -> bool:
    return all(part.isidentifier() for part in name.split("."))


def _full(name: str, namespace: str) -> str:
    """A dot in front says the null namespace, as Java's library writes it."""
    return name.removeprefix(".") if "." in name or not namespace else f"{namespace}.{name}"


def _logical(kind: str, schema: dict[str, Any], *, size: int | None) -> str | Decimal | None:
    """The logical type; None where there is none, or none that is valid here: the specification has it ignored."""
    logical = schema.get("logicalType")
    if logical == "decimal" and kind in ("bytes", "fixed"):
        precision, scale = schema.get("precision"), schema.get("scale", 0)
        if not (type(precision) is int and type(scale) is int and 0 <= scale <= precision <= _DECIMAL_DIGITS_MAX):
            return None
        digits = _DECIMAL_DIGITS_MAX if size is None else len(str(1 << max(8 * size - 1, 0))) - 1
        return Decimal(precision, scale) if 0 < precision <= digits else None
    if logical == "uuid" and kind == "fixed" and size == 16:
        return "uuid"
    return logical if isinstance(logical, str) and ((kind, logical) in LOGICAL or (kind, logical) in NANOS) else None
