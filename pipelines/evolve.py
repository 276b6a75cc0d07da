"""Evolve: the next version of a contract. A plan says what stored rows will read as; none of them is written again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import polars as pl
import pyarrow.parquet as pq

from ..schemas import shapes
from ..schemas.avro import AvroType, split_nullable
from ..schemas.changes import WidenField, default_told, field_told, type_told
from ..schemas.contract import Contract, Field
from ..schemas.differences import changes_between, counterparts
from ..schemas.rulings import Ruling, judge, refuse
from ..storage.catalog import Catalog
from .reading import Home, Reader, first_defaults
from .resolving.casts import polars_type, utf8

UNKNOWN = "unknown"  # of rows from before rows said what they were written with


@dataclass(frozen=True, slots=True)
class ReadsAs:
    """How one field of the next version is found in rows of an older one."""

    field: str
    written: str  # the name and type it had there, or "absent"
    reads_as: str


@dataclass(frozen=True, slots=True)
class StoredVersion:
    """Rows that were written with one version of the contract: how many each table holds, and what of them changes."""

    version: int
    rows: dict[str, int]
    fields: tuple[ReadsAs, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """What registering a contract would do. `contract` is what is registered; `last` what it follows."""

    contract: Contract
    last: Contract | None
    rulings: tuple[Ruling, ...]
    stored: tuple[StoredVersion, ...]
    notes: tuple[str, ...]

    @property
    def accepted(self) -> bool:
        return all(ruling.verdict == "accept" for ruling in self.rulings)


def plan(catalog: Catalog, contract: Contract) -> Plan:
    """What becomes of the rows that are there if this contract is registered. Reads, and writes nothing.

    Raises:
        ContractError: the contract uses an id or a name again, or does not fit its table.
    """
    versions = catalog.contract_versions(contract.name)
    following = catalog.next_contract(contract)
    if not versions:
        return Plan(following, None, (), (), ())
    last = versions[-1]
    rulings = judge(changes_between(last, following), last.in_full, following.in_full, last.kind)
    reader = Reader.of(following, versions if following.version == last.version else [*versions, following])
    rulings = tuple(_checked(catalog, ruling, last, following) for ruling in rulings)
    stored = _stored(catalog, reader, versions) if all(r.verdict == "accept" for r in rulings) else ()
    return Plan(following, last, rulings, stored, _notes(last, following))


def evolve(catalog: Catalog, contract: Contract) -> Plan:
    """Register a contract, or the next version of one; what was planned.

    Raises:
        ContractError: a change is refused: rows that are there could not be read as they were meant.
    """
    made = plan(catalog, contract)
    if made.last is not None:
        refuse(made.rulings, made.last)
    registered = catalog.add_contract(contract)
    return replace(made, contract=registered)


def _notes(last: Contract, following: Contract) -> tuple[str, ...]:
    """What changes besides the schema."""
    was, now = last.to_json(), following.to_json()
    notes = ["checks"] if was["suite"] != now["suite"] else []
    keys = sorted(was["policy"].keys() | now["policy"].keys())
    return tuple(notes + [key for key in keys if was["policy"].get(key) != now["policy"].get(key)])


def _checked(catalog: Catalog, ruling: Ruling, last: Contract, following: Contract) -> Ruling:
    """The ruling, after a look at what its condition is about."""
    if ruling.verdict != "accept" or ruling.condition is None:
        return ruling
    if ruling.condition == "not in recipes":
        users = _recipes_with(catalog, last, ruling.change.path)
        why = f"recipe {', '.join(users)} reads it: register the recipe without it first"
        return replace(ruling, verdict="refuse", why=why) if users else ruling
    id_ = following.field(ruling.change.path).id
    before = next(field for field in last.fields if field.id == id_)
    unfit = 0
    for table in tables_of(following):
        unfit += _unfit(catalog, table, ruling, following, before)
    if not unfit:
        return ruling
    what = {"no nulls": "no value", "exact": "a number that it does not hold exactly", "text": "bytes that are no text"}
    return replace(ruling, verdict="refuse", why=f"{unfit:,} rows that are there have {what[ruling.condition]}")


def tables_of(contract: Contract) -> tuple[str, ...]:
    """The tables that hold rows of a contract."""
    return ("events", "timelines") if contract.kind == "events" else ("content",)


def _unfit(catalog: Catalog, table: str, ruling: Ruling, following: Contract, before: Field) -> int:
    """How many rows of a table do not fulfil the condition of a change of a top-level field. One column of one file is
    in memory at a time.
    """
    if not catalog.table(table).exists:
        return 0
    versions = catalog.contract_versions(following.name)
    homes = list(Reader.of(versions[-1], versions).homes(before))
    unfit = 0
    for path in catalog.table(table).files():
        names = pl.read_parquet_schema(path).keys()
        wanted = {home.column for _, home in homes if home.column in names} | ({shapes.CONTRACT} & names)
        rows = pl.read_parquet(path, columns=sorted(map(str, wanted)), hive_partitioning=False)
        if not wanted:
            rows = pl.DataFrame({"": pl.repeat(None, pq.read_metadata(path).num_rows, eager=True)})
        for tag, home in homes:
            written = rows
            if shapes.CONTRACT in rows.columns:
                written = rows.filter((pl.col(shapes.CONTRACT) == tag) | pl.col(shapes.CONTRACT).is_null())
            unfit += _losses(written, home, ruling)
    return unfit


def _losses(rows: pl.DataFrame, home: Home, ruling: Ruling) -> int:
    """How many values of one version's rows are not there, or not the same as the wider type."""
    if home.column not in rows.columns:
        given = home.default is not None and home.default.default is not None
        return rows.height if ruling.condition == "no nulls" and not given else 0
    values = rows[str(home.column)]
    if ruling.condition == "no nulls" or not isinstance(ruling.change, WidenField):
        return values.null_count()
    values = values.drop_nulls()
    if ruling.condition == "text":
        return utf8(values).null_count()
    wide = values.cast(polars_type(ruling.change.type))
    return int((wide.cast(pl.Int128) != values.cast(pl.Int128)).sum())


def _recipes_with(catalog: Catalog, last: Contract, name: str) -> list[str]:
    """Recipes that read a field, unless another contract of the table has it too."""
    field = last.field(name)
    others = [c for c in catalog.contracts() if c.table == last.table and c.name != last.name]
    if any(one.name == name for other in others for one in other.fields):
        return []
    names = {field.name, *field.aliases}
    read = {
        recipe.name: {*recipe.features, *recipe.match, *recipe.history_fields}
        if last.kind == "events"
        else {*recipe.content}
        for recipe in catalog.recipes()
    }
    return [recipe for recipe, fields in read.items() if names & fields]


def _stored(catalog: Catalog, reader: Reader, versions: list[Contract]) -> tuple[StoredVersion, ...]:
    counts = {table: _counts(catalog, table) for table in tables_of(reader.contract)}
    homes = {field.name: dict(reader.homes(field)) for field in reader.contract.fields}
    found = []
    for version in versions:
        rows = {table: tags.get(version.tag, 0) for table, tags in counts.items()}
        if version.version == 1:  # rows that do not say so are from before there was another
            rows = {table: count + counts[table].get(UNKNOWN, 0) for table, count in rows.items()}
        fields = tuple(_reads_as(reader, version, homes))
        found.append(StoredVersion(version.version, rows, fields))
    return tuple(found)


def _reads_as(reader: Reader, version: Contract, homes: dict[str, dict[str, Home]]) -> Iterable[ReadsAs]:
    """What of a version's rows is not read as it was written."""
    written = {field.id: field for field in version.fields}
    for field in reader.contract.fields:
        before = written.pop(field.id, None)
        if before is None:
            default = homes[field.name][version.tag].default
            value = None if default is None else default.default
            yield ReadsAs(field.name, "absent", field_told(_told_with({"name": field.name, "type": field.avro}, value)))
            continue
        was = field_told({"name": before.name, "type": before.avro})
        born = first_defaults(field.avro, [fields[field.id].avro for fields in reader.by_id if field.id in fields])
        now = field_told({"name": field.name, "type": _as_read(born, before.avro)})
        if was != now:
            yield ReadsAs(field.name, was, now)
    for field in written.values():
        told = field_told({"name": field.name, "type": field.avro})
        yield ReadsAs(field.name, told, "not read; the values stay")


def _as_read(now: AvroType, written: AvroType) -> AvroType:
    """A type for telling it: fields within that rows of an older one do not have say the default they read."""
    if isinstance(now, list):
        return [branch if branch == "null" else _as_read(branch, written) for branch in now]
    was = split_nullable(written)[0]
    if not isinstance(now, dict) or not isinstance(was, dict) or now["type"] != was["type"]:
        return now
    for entry in ("items", "values"):
        if entry in now:
            return now | {entry: _as_read(now[entry], was[entry])}
    if "fields" not in now:
        return now
    known_as, fields = counterparts(was["fields"]), []
    for field in now["fields"]:
        known = known_as(field)
        kept = field if known is None else field | {"type": _as_read(field["type"], known["type"])}
        fields.append(_told_with(field, field.get("default")) if known is None else kept)
    return now | {"fields": fields}


def _told_with(field: Mapping[str, Any], value: object) -> dict[str, Any]:
    """A field for telling it: its type, and the value that rows without it read."""
    word = type_told(field["type"])
    return {**field, "type": f"{word}, null" if value is None else f"{word} = {default_told(value)}"}


def _counts(catalog: Catalog, name: str) -> dict[str, int]:
    """Rows by what they were written with."""
    table = catalog.table(name)
    if not table.exists:
        return {}
    rows = table.scan()
    if shapes.CONTRACT not in rows.collect_schema():
        return {UNKNOWN: int(rows.select(pl.len()).collect().item())}
    counted = rows.group_by(shapes.CONTRACT).len().collect(engine="streaming")
    return {tag or UNKNOWN: count for tag, count in counted.rows()}
