"""Which reader's type a writer's type is read as: the rules of "Schema Resolution", Avro specification 1.12. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from .types import (
    ANY,
    Array,
    Decimal,
    Enum,
    Field,
    Fixed,
    Map,
    Named,
    Plain,
    Primitive,
    Record,
    Type,
    Union,
    identity,
    label,
)

PROMOTIONS: dict[str, frozenset[str]] = {
    "int": frozenset({"long", "float", "double"}),
    "long": frozenset({"float", "double"}),
    "float": frozenset({"double"}),
    "string": frozenset({"bytes"}),
    "bytes": frozenset({"string"}),
}
_TIMES = ("date", "time-", "timestamp-", "local-timestamp-")


def matches(writer: Type, reader: Type) -> bool:
    """Whether two types match: kinds, names, sizes, items; what records hold is not looked at."""
    if reader is ANY:
        return True
    match writer, reader:
        case (Union(), _) | (_, Union()):
            return True
        case Array(), Array():
            return matches(writer.items, reader.items)
        case Map(), Map():
            return matches(writer.values, reader.values)
        case Fixed(), Fixed():
            return writer.size == reader.size and reader.answers_to(writer) and not logical_clash(writer, reader)
        case Enum(), Enum():
            return reader.answers_to(writer)
        case Record(), Record():
            return reader.answers_to(writer)
        case Primitive(), Primitive():
            return promotes(writer.kind, reader.kind) and not logical_clash(writer, reader)
        case _:
            return False


def promotes(writer: str, reader: str) -> bool:
    return writer == reader or reader in PROMOTIONS.get(writer, ())


def branch_for(writer: Plain, reader: Union) -> Plain | None:
    """The reader's branch of the very type, else the first that matches: a promotion, or the name in another namespace.

    The specification takes the first in any case; but then a file would not always be read by its own schema: a long
    of `["float", "long"]` would become a float, a record b.R of `[a.R, b.R]` an a.R.
    """
    taking = [branch for branch in reader.branches if matches(writer, branch)]
    return next((branch for branch in taking if _is(writer, branch)), next(iter(taking), None))


def _is(writer: Plain, reader: Plain) -> bool:
    """Whether two types that match are one: of one kind, and of one full name or alias."""
    renamed = isinstance(writer, Named) and isinstance(reader, Named) and writer.name in reader.aliases
    return renamed or identity(writer) == identity(reader)


def logical_clash(writer: Plain, reader: Plain) -> str | None:
    """Why two types of matching kinds do not mean the same values: decimals by the specification, times by ours."""
    wrote, reads = (side.logical if isinstance(side, Primitive | Fixed) else None for side in (writer, reader))
    both_decimal = isinstance(wrote, Decimal) and isinstance(reads, Decimal)
    both_times = all(isinstance(side, str) and side.startswith(_TIMES) for side in (wrote, reads))
    if wrote != reads and (both_decimal or both_times):
        return f"{wrote} is not {reads}: the same bytes would mean another value"
    return None


def mismatch(writer: Plain, reader: Plain) -> str:
    """Why two types do not match, in words."""
    if isinstance(writer, Named) and isinstance(reader, Named) and writer.kind == reader.kind:
        if not reader.answers_to(writer):
            return f"{writer.name} is not {reader.name} nor an alias of it"
        if isinstance(writer, Fixed) and isinstance(reader, Fixed) and writer.size != reader.size:
            return f"{writer.size} bytes are not {reader.size}"
    return logical_clash(writer, reader) or f"{label(writer)} does not become {label(reader)}"


def fields(writer: Record, reader: Record) -> Iterator[tuple[int, Field, int | None]]:
    """(place in the reader, its field, place in the writer or None): by name, else by the reader's aliases.

    A field of the writer's that is read under its own name is not read once more under an alias.
    """
    places = {field.name: place for place, field in enumerate(writer.fields)}
    own = {field.name for field in reader.fields}
    for place, field in enumerate(reader.fields):
        names = (field.name, *(alias for alias in field.aliases if alias not in own))
        yield place, field, next((places[name] for name in names if name in places), None)
