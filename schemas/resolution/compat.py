"""Can data written with one Avro schema be read with another? Pure.

The rules are those of the Avro specification 1.12, "Schema Resolution"; kinds and paths are named as Apache Avro's Java
library names them (`SchemaCompatibility`). One rule is stricter here, because a column has one meaning: dates and times
of different logical types do not resolve, though their bytes would.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

from ..avro import AvroType
from ..errors import ContractError
from . import defaults
from .matching import branch_for, fields, logical_clash, mismatch, promotes
from .types import Array, Enum, Fixed, Map, Plain, Record, Type, Union, label, parse

Mode = Literal["BACKWARD", "FORWARD", "FULL", "BACKWARD_TRANSITIVE", "FORWARD_TRANSITIVE", "FULL_TRANSITIVE"]
MODES: tuple[Mode, ...] = get_args(Mode)


def compatibility(writer: AvroType, reader: AvroType) -> dict[str, Any]:
    """Whether `reader` resolves everything that `writer` may have written; both are schemas, parsed or as JSON text.

    Returns `{"compatible": bool, "incompatibilities": [{"path", "kind", "writer", "reader", "message"}]}`: every
    reason, in the reader's order. `path` points into the reader's schema as JSON pointers do, `/fields/0/type`, `/` for
    the schema itself, and within a union of the writer's to the branch that cannot be read. `kind` is NAME_MISMATCH,
    FIXED_SIZE_MISMATCH, MISSING_ENUM_SYMBOLS, READER_FIELD_MISSING_DEFAULT_VALUE, TYPE_MISMATCH or
    MISSING_UNION_BRANCH.

    Raises:
        ContractError: one of them is not an Avro schema.
    """
    sides = [parse(schema, where=f"the {side}'s schema") for side, schema in (("writer", writer), ("reader", reader))]
    for side, type_ in zip(("writer", "reader"), sides, strict=True):
        defaults.check(type_, where=f"the {side}'s schema")
    try:
        found = _Check().compare(*sides)
    except RecursionError:
        raise ContractError("schemas nested too deeply to be compared", where="the reader's schema") from None
    return {"compatible": not found, "incompatibilities": [entry.to_json() for entry in found]}


def evolution(versions: Sequence[AvroType], mode: Mode) -> dict[str, Any]:
    """Whether the last of `versions` (oldest first) may follow the others.

    BACKWARD: it reads what the version before it wrote. FORWARD: the version before it reads what it writes. FULL:
    both. The TRANSITIVE forms ask the same of all versions before it.

    Returns as `compatibility` does, with "mode", and with the places in `versions` in each incompatibility:
    "writer_version" and "reader_version", from 0.

    Raises:
        ContractError: a version is not an Avro schema, or the mode is unknown.
    """
    if mode not in MODES:
        raise ContractError("unknown compatibility mode", expected=", ".join(MODES), got=repr(mode))
    last = len(versions) - 1
    earlier = range(last) if mode.endswith("_TRANSITIVE") else range(max(last - 1, 0), last)
    pairs = []
    for version in earlier:
        pairs += [(version, last)] if mode.startswith(("BACKWARD", "FULL")) else []
        pairs += [(last, version)] if mode.startswith(("FORWARD", "FULL")) else []
    found = [
        entry | {"writer_version": writer, "reader_version": reader}
        for writer, reader in pairs
        for entry in compatibility(versions[writer], versions[reader])["incompatibilities"]
    ]
    return {"compatible": not found, "mode": mode, "incompatibilities": found}


@dataclass(frozen=True, slots=True)
class _Break:
    """One reason; `path` is relative to the pair of types that was compared, until it is told."""

    path: str
    kind: str
    writer: str
    reader: str
    message: str

    def to_json(self) -> dict[str, str]:
        told = {"path": self.path or "/", "kind": self.kind, "writer": self.writer, "reader": self.reader}
        return told | {"message": self.message}


def _break(path: str, kind: str, writer: Type, reader: Type, message: str) -> _Break:
    return _Break(path, kind, label(writer), label(reader), message)


@dataclass(slots=True)
class _Check:
    """One comparison, and what is known of pairs of records: types may recurse, and a pair may occur often."""

    known: dict[tuple[int, int], list[_Break]] = field(default_factory=dict)

    def compare(self, writer: Type, reader: Type) -> list[_Break]:
        if isinstance(writer, Union):
            return [
                self._within(entry, f"/{place}")
                for place, branch in enumerate(writer.branches)
                for entry in self.compare(branch, reader)
            ]
        if isinstance(reader, Union):
            return self._branch(writer, reader)
        return self._types(writer, reader)

    def _branch(self, writer: Plain, reader: Union) -> list[_Break]:
        """A reader's union reads what its first matching branch reads."""
        branch = branch_for(writer, reader)
        if branch is None:
            why = f"no branch takes {label(writer)}"
        else:
            found = self.compare(writer, branch)
            if not found:
                return []
            why = f"{label(branch)} takes {label(writer)} but for {found[0].path or '/'}: {found[0].message}"
        return [_break("", "MISSING_UNION_BRANCH", writer, reader, why)]

    def _types(self, writer: Plain, reader: Plain) -> list[_Break]:
        match writer, reader:
            case Array(), Array():
                return [self._within(entry, "/items") for entry in self.compare(writer.items, reader.items)]
            case Map(), Map():
                return [self._within(entry, "/values") for entry in self.compare(writer.values, reader.values)]
            case Record(), Record():
                return [*_names(writer, reader), *self._record(writer, reader)]
            case Enum(), Enum():
                return [*_names(writer, reader), *_symbols(writer, reader)]
            case Fixed(), Fixed():
                return [*_names(writer, reader), *_sizes(writer, reader)]
        if promotes(writer.kind, reader.kind) and not logical_clash(writer, reader):
            return []
        return [_break("", "TYPE_MISMATCH", writer, reader, mismatch(writer, reader))]

    def _record(self, writer: Record, reader: Record) -> list[_Break]:
        """A pair under comparison is compatible until found otherwise; one that is known is told by its first break."""
        pair = (id(writer), id(reader))
        if pair in self.known:
            return self.known[pair][:1]
        self.known[pair] = []
        self.known[pair] = self._fields(writer, reader)
        return self.known[pair]

    def _fields(self, writer: Record, reader: Record) -> list[_Break]:
        found = []
        for place, wanted, source in fields(writer, reader):
            if source is not None:
                breaks = self.compare(writer.fields[source].type, wanted.type)
                found += [self._within(entry, f"/fields/{place}/type", wanted.name) for entry in breaks]
            elif not wanted.has_default:
                why = f"the writer has no field {wanted.name}, and it has no default"
                entry = _Break(
                    f"/fields/{place}", "READER_FIELD_MISSING_DEFAULT_VALUE", "absent", label(wanted.type), why
                )
                found.append(entry)
        return found

    @staticmethod
    def _within(entry: _Break, step: str, name: str | None = None) -> _Break:
        message = entry.message if name is None else f"field {name}: {entry.message}"
        return replace(entry, path=step + entry.path, message=message)


def _names(writer: Record | Enum | Fixed, reader: Record | Enum | Fixed) -> list[_Break]:
    if reader.answers_to(writer):
        return []
    why = f"{writer.name} is not {reader.name} nor an alias of it"
    return [_break("/name", "NAME_MISMATCH", writer, reader, why)]


def _symbols(writer: Enum, reader: Enum) -> list[_Break]:
    missing = [symbol for symbol in writer.symbols if symbol not in reader.symbols]
    if not missing or reader.default is not None:
        return []
    why = f"the reader has no symbol {', '.join(missing)} and no default"
    return [_break("/symbols", "MISSING_ENUM_SYMBOLS", writer, reader, why)]


def _sizes(writer: Fixed, reader: Fixed) -> list[_Break]:
    if writer.size != reader.size:
        why = f"{writer.size} bytes are not {reader.size}"
        return [_break("/size", "FIXED_SIZE_MISMATCH", writer, reader, why)]
    clash = logical_clash(writer, reader)
    return [_break("", "TYPE_MISMATCH", writer, reader, clash)] if clash else []
