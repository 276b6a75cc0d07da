"""Which changes of a contract are accepted, and on what condition. Pure; docs/schema-changes.md has it as a table.

The law behind it: rows that were written are never written again, and read as what they meant when they came.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .avro import AvroType, split_nullable
from .changes import (
    AddField,
    Change,
    DropDefault,
    DropField,
    DropSymbol,
    MakeOptional,
    MakeRequired,
    Record,
    RenameField,
    RenameType,
    RetypeField,
    WidenField,
    apply,
    told,
    type_at,
    type_told,
)
from .contract import REQUIRED, Contract, Kind
from .differences import type_changes
from .errors import ContractError

Verdict = Literal["accept", "refuse"]
Condition = Literal["no nulls", "exact", "text", "not in recipes"]

# Every value of the one is a value of the other. Avro's other promotions may lose digits, or meet what is no text.
EXACT = {"int": {"long", "double"}, "float": {"double"}, "string": {"bytes"}}


@dataclass(frozen=True, slots=True)
class Ruling:
    """`why`: what becomes of rows that are there, or why it cannot be. `condition`: what they must fulfil besides."""

    change: Change
    verdict: Verdict
    why: str
    condition: Condition | None = None


def judge(changes: tuple[Change, ...], old: Record, new: Record, kind: Kind) -> tuple[Ruling, ...]:
    """A ruling on each of the changes that lead from one record schema to another."""
    rulings, record = [], old
    for change in changes:
        rulings.append(_ruling(change, record, new, kind))
        record = apply(record, change)
    return tuple(rulings)


def refuse(rulings: tuple[Ruling, ...], last: Contract) -> None:
    """Nothing, where every change is accepted.

    Raises:
        ContractError: one is refused.
    """
    refused = [ruling for ruling in rulings if ruling.verdict == "refuse"]
    if refused:
        more = f"; {len(refused) - 1} more" if len(refused) > 1 else ""
        raise ContractError(
            "the contract changed in a way that old rows cannot be read by",
            where=f"contract {last.name}, {refused[0].change.path or 'the record'}",
            expected=f"a change that docs/schema-changes.md accepts, of version {last.version}",
            got=f"{told(refused[0].change)}: {refused[0].why}{more}",
            hint="reclake contract evolve LAKE FILE --plan shows every change and what becomes of the rows",
        )


def reads_exactly(old: AvroType, new: AvroType) -> bool:
    """Whether every value of a type is read as one of another without a look at the values."""
    before = {"type": "record", "name": "r", "fields": [{"name": "f", "type": old}]}
    after = {"type": "record", "name": "r", "fields": [{"name": "f", "type": new}]}
    rulings = judge(type_changes(old, new, "f"), before, after, "content")
    return all(ruling.verdict == "accept" and ruling.condition is None for ruling in rulings)


def _ruling(change: Change, record: Record, new: Record, kind: Kind) -> Ruling:
    top = not set(change.path) & set(".[{")
    match change:
        case AddField(_, field):
            if "default" not in field:
                return Ruling(change, "refuse", "it has no default, and rows that are there have no value")
            return Ruling(change, "accept", "rows that are there read its default")
        case DropField(path) | RenameField(path) | MakeOptional(path) if _needed(path, change, kind):
            return Ruling(change, "refuse", f"every {kind} contract has {path}")
        case DropField():
            why = "the values that are there stay, and are no longer read"
            return Ruling(change, "accept", why, "not in recipes" if top else None)
        case RenameField(path, _):
            return Ruling(change, "accept", f"rows that are there read by the new name; {path} becomes an alias")
        case WidenField(path, type_):
            return _widening(change, split_nullable(type_at(record, path))[0], type_, top)
        case RetypeField(path, type_):
            was = type_told(type_at(record, path))
            return Ruling(change, "refuse", f"{was} does not become {type_told(type_)}: give it a new field, a new id")
        case DropSymbol():
            return Ruling(change, "refuse", "rows that are there hold it")
        case DropDefault():
            return Ruling(change, "refuse", "writers that leave the field out rely on it")
        case MakeOptional():
            return Ruling(change, "accept", "rows that are there have a value")
        case MakeRequired():
            if not top:
                return Ruling(change, "refuse", "within a record, list or map it is not known whether nulls are there")
            return Ruling(change, "accept", "rows that are there have a value", "no nulls")
        case RenameType(path, name, _):
            return _type_name(change, record, new, path, name)
        case _:
            return Ruling(change, "accept", "rows that are there read as before")


def _needed(path: str, change: Change, kind: Kind) -> bool:
    may_be_null = isinstance(change, MakeOptional) and path == "available_at"
    return path in REQUIRED[kind] and not may_be_null


def _widening(change: Change, was: AvroType, type_: AvroType, top: bool) -> Ruling:
    one, other = (t["type"] if isinstance(t, dict) else t for t in (was, type_))
    if other in EXACT.get(one, ()):
        return Ruling(change, "accept", "rows that are there read as the wider type")
    if not top:
        return Ruling(change, "refuse", f"within a record, list or map, {one} may not fit {other}")
    if other == "string":
        return Ruling(change, "accept", "rows that are there are text", "text")
    return Ruling(change, "accept", f"rows that are there hold numbers that {other} holds exactly", "exact")


def _type_name(change: Change, record: Record, new: Record, path: str, name: str) -> Ruling:
    """Avro's rule: unqualified names are equal, or the old full name is an alias."""
    (was, _), (now, _) = (split_nullable(type_at(side, path) if path else side) for side in (record, new))
    space = was.get("namespace")
    full = f"{space}.{was['name']}" if space else was["name"]
    own = now.get("namespace")
    aliases = [a if "." in a or not own else f"{own}.{a}" for a in now.get("aliases", ())]
    if was["name"].rpartition(".")[2] == name.rpartition(".")[2] or full in aliases:
        return Ruling(change, "accept", "rows that are there read as before")
    return Ruling(change, "refuse", f"{full} is not {name}, nor an alias of it")
