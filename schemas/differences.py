"""Two versions of a contract told as the changes from the one to the other, by field ids. Pure.

A field within a record may have an id too; one that has none goes by its name, or by an alias of it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from .avro import AvroType, split_nullable
from .changes import (
    AddAliases,
    AddField,
    AddSymbol,
    Annotate,
    Change,
    ChangeDefault,
    DropDefault,
    DropField,
    DropSymbol,
    MakeOptional,
    MakeRequired,
    Record,
    RenameField,
    RenameType,
    ReorderFields,
    RetypeField,
    WidenField,
    join,
)
from .contract import FIELD_ID, Contract
from .errors import ContractError
from .resolution.matching import PROMOTIONS

_OF_FIELD = {"name", "type", "default", "aliases", FIELD_ID}
_OF_TYPE = {"type", "name", "namespace", "aliases", "fields", "items", "values", "logicalType", "precision", "scale"}


def changes_between(old: Contract, new: Contract) -> tuple[Change, ...]:
    """The changes of the schema from one version of a contract to another, in an order in which `apply` takes them:
    applied to the old schema they give the new one, aliases of the old one kept.
    """
    return tuple(_records(old.in_full, new.in_full, ""))


def type_changes(old: AvroType, new: AvroType, path: str) -> tuple[Change, ...]:
    """The changes from one type of a field to another."""
    return tuple(_types(old, new, path))


def counterparts(old: Sequence[Record]) -> Callable[[Record], Record | None]:
    """Which of an older record's fields a field is: that of its id; where one has none, of its name or an alias."""
    by_id = {field[FIELD_ID]: field for field in old if FIELD_ID in field}
    by_name = {field["name"]: field for field in old}
    nameless = {name: field for name, field in by_name.items() if FIELD_ID not in field}

    def find(field: Record) -> Record | None:
        if field.get(FIELD_ID) in by_id:
            return by_id[field[FIELD_ID]]
        known = nameless if FIELD_ID in field else by_name
        return next((known[n] for n in (field["name"], *field.get("aliases", ())) if n in known), None)

    return find


def refuse_reuse(versions: Sequence[Contract], new: Contract) -> None:
    """No field takes the id or the name of another that ever was.

    Args:
        versions: all versions so far, oldest first.

    Raises:
        ContractError: one does: rows, old and still to come, would be read as something else.
    """
    _refuse([version.in_full for version in versions], new.in_full, "", f"contract {new.name}")


def _refuse(versions: list[AvroType], new: AvroType, path: str, where: str) -> None:
    """The same for a type and all within it; `versions` of it, oldest first."""
    inner = split_nullable(new)[0]
    if not isinstance(inner, dict):
        return
    before = [one for one in (split_nullable(v)[0] for v in versions) if isinstance(one, dict) and _alike(one, inner)]
    for entry, step in (("items", "[]"), ("values", "{}")):
        if entry in inner:
            _refuse([one[entry] for one in before], inner[entry], path + step, where)
    if "fields" not in inner:
        return
    last = counterparts(before[-1]["fields"] if before else ())
    past = _Past.of([one["fields"] for one in before])
    for field in inner["fields"]:
        here, known = join(path, field["name"]), last(field)
        past.refuse(field, known, f"{where}, field {here}")
        _refuse([one["type"] for one in past.of_field(known)], field["type"], here, where)


@dataclass(frozen=True, slots=True)
class _Past:
    """Every field that a record ever had, by what tells it from others: its id, or its name where it has none."""

    fields: dict[object, list[Record]]
    names: dict[str, object]  # what they were called, and of which field it is the last that was

    @classmethod
    def of(cls, versions: list[list[Record]]) -> _Past:
        fields: dict[object, list[Record]] = {}
        names: dict[str, object] = {}
        for field in chain.from_iterable(versions):
            fields.setdefault(_key(field), []).append(field)
            names |= {name: _key(field) for name in (field["name"], *field.get("aliases", ()))}
        return cls(fields, names)

    def of_field(self, known: Record | None) -> list[Record]:
        """All that a field was so far, oldest first."""
        if known is None:
            return []
        former = [one for alias in known.get("aliases", ()) for one in self.fields.get(alias, ())]
        return [*former, *self.fields[_key(known)]]

    def refuse(self, field: Record, known: Record | None, where: str) -> None:
        if known is None and FIELD_ID in field and field[FIELD_ID] in self.fields:
            raise ContractError(
                "a field id is used again",
                where=where,
                expected="an id that no field of this contract ever had",
                got=f"{field[FIELD_ID]}, the id of {self.fields[field[FIELD_ID]][-1]['name']}, which was dropped",
                hint="give the field the next free id: rows of the dropped field are still there",
            )
        mine = {_key(one) for one in self.of_field(known)}
        for name in (field["name"], *field.get("aliases", ())):
            if name in self.names and self.names[name] not in mine:
                raise ContractError(
                    "a name that another field had",
                    where=where,
                    expected="a name that no other field of this contract ever had",
                    got=f"{name}, once of the field {self.fields[self.names[name]][-1]['name']}",
                    hint="choose another name: writers with an older schema still write the old field by it",
                )


def _key(field: Record) -> object:
    return field.get(FIELD_ID, field["name"])


def _alike(old: Record, new: Record) -> bool:
    return all((entry in old) == (entry in new) for entry in ("items", "values", "fields"))


def _records(old: Record, new: Record, path: str) -> Iterator[Change]:
    known_as = counterparts(old["fields"])
    pairs = [(known_as(field), field) for field in new["fields"]]
    kept = {before["name"]: after for before, after in pairs if before is not None}
    names = []
    for before in old["fields"]:
        if before["name"] not in kept:
            yield DropField(join(path, before["name"]))
            continue
        after = kept[before["name"]]
        names.append(after["name"])
        if after["name"] != before["name"]:
            yield RenameField(join(path, before["name"]), after["name"])
    for known, after in pairs:
        if known is not None:
            yield from _fields(known, after, join(path, after["name"]))
    for known, after in pairs:
        if known is None:
            yield AddField(path, after)
            names.append(after["name"])
    order = tuple(field["name"] for field in new["fields"])
    if tuple(names) != order:
        yield ReorderFields(path, order)
    yield from _named(old, new, path)


def _fields(old: Record, new: Record, path: str) -> Iterator[Change]:
    yield from _types(old["type"], new["type"], path)
    if "default" in new and ("default" not in old or json.dumps(old["default"]) != json.dumps(new["default"])):
        yield ChangeDefault(path, new["default"])
    of_null = old.get("default") is None and not split_nullable(new["type"])[1]  # null goes, and its default with it
    if "default" in old and "default" not in new and not of_null:
        yield DropDefault(path)
    known = {new["name"], old["name"], *old.get("aliases", ())}
    more = tuple(alias for alias in new.get("aliases", ()) if alias not in known)
    if more:
        yield AddAliases(path, more)
    yield from _annotations(old, new, _OF_FIELD, path, of_type=False)


def _types(old: AvroType, new: AvroType, path: str) -> Iterator[Change]:
    (was, was_null), (now, now_null) = split_nullable(old), split_nullable(new)
    if was_null and not now_null:
        yield MakeRequired(path)
    if now_null and not was_null:
        yield MakeOptional(path)
    was, now = _unwrapped(was), _unwrapped(now)
    if was["type"] == now["type"] and _meaning(was) == _meaning(now):
        match now["type"]:
            case "record":
                yield from _records(was, now, path)
            case "array":
                yield from _types(was["items"], now["items"], path + "[]")
            case "map":
                yield from _types(was["values"], now["values"], path + "{}")
            case "enum":
                yield from _enums(was, now, path)
            case "fixed":
                yield from _named(was, now, path)
            case _:
                yield from _annotations(was, now, _OF_TYPE, path, of_type=True)
        return
    target = now["type"] if set(now) == {"type"} else now
    plain = "logicalType" not in was and "logicalType" not in now
    widens = plain and now["type"] in PROMOTIONS.get(was["type"], ())
    yield WidenField(path, target) if widens else RetypeField(path, target)


def _unwrapped(avro: AvroType) -> Record:
    """A type as an object: `"long"` is `{"type": "long"}`."""
    while isinstance(avro, dict) and isinstance(avro["type"], dict):
        avro = avro["type"]
    return avro if isinstance(avro, dict) else {"type": avro}


def _meaning(avro: Record) -> Any:
    return [avro.get(key) for key in ("logicalType", "precision", "scale", "size")]


def _enums(old: Record, new: Record, path: str) -> Iterator[Change]:
    gone = [symbol for symbol in old["symbols"] if symbol not in new["symbols"]]
    added = [symbol for symbol in new["symbols"] if symbol not in old["symbols"]]
    yield from (DropSymbol(path, symbol) for symbol in gone)
    yield from (AddSymbol(path, symbol) for symbol in added)
    if [symbol for symbol in old["symbols"] if symbol not in gone] + added != new["symbols"]:
        yield Annotate(path, {"symbols": new["symbols"]}, of_type=True)
    yield from _named(old, new, path, {"symbols"})


def _named(old: Record, new: Record, path: str, known: set[str] = frozenset()) -> Iterator[Change]:  # type: ignore[assignment]
    before, after = (old.get("name"), old.get("namespace")), (new.get("name"), new.get("namespace"))
    if before != after:
        yield RenameType(path, str(new.get("name")), new.get("namespace"))
    more = tuple(alias for alias in new.get("aliases", ()) if alias not in old.get("aliases", ()))
    if more:
        yield AddAliases(path, more, of_type=True)
    yield from _annotations(old, new, _OF_TYPE | known, path, of_type=True)


def _annotations(old: Record, new: Record, known: set[str], path: str, *, of_type: bool) -> Iterator[Change]:
    keys = sorted((old.keys() | new.keys()) - known)
    entries = {key: new.get(key) for key in keys if old.get(key) != new.get(key)}
    if entries:
        yield Annotate(path, entries, of_type)
