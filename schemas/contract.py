"""Contracts: what a table promises. An Avro record schema with field ids, a Great Expectations suite, a policy.

A contract is written as files beside each other:

    NAME.avsc            the Avro record schema; every field carries a "field-id"
    NAME.suite.json      a Great Expectations suite (optional)
    NAME.contract.json   the policy: target table, feed, available_at, mapping (optional)
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Mapping as AbcMapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import pyarrow as pa

from . import avro, references
from .errors import ContractError, MappingError

FIELD_ID = "field-id"
_POLICY = (
    "kind",
    "table",
    "feed",
    "available_at",
    "quarantine_limit",
    "quarantine_limit_rows",
    "mapping",
    "owner",
)
_NAME = re.compile(r"^[a-z][a-z0-9_]*$")

Feed = Literal["live", "bootstrap"]
Kind = Literal["events", "content"]
Pii = Literal["hash", "drop", "keep"]
HASHED_TYPES = ("long", "string")  # Avro types that a pseudonym fits; see schemas.pii

TIME = pa.timestamp("us", tz="UTC")
REQUIRED: dict[Kind, dict[str, pa.DataType]] = {
    "events": {
        "event_id": pa.string(),
        "user_id": pa.int64(),
        "item_id": pa.int64(),
        "event_type": pa.string(),
        "event_time": TIME,
        "available_at": TIME,
    },
    "content": {"item_id": pa.int64(), "available_at": TIME},
}
RESERVED: frozenset[str] = frozenset({"known_at", "known_day", "bucket", "ordinal", "era", "contract"})


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a contract. `id` is given once and never reused; a rename keeps it.

    `column` is where the table keeps its values: given once, by name, and kept by a rename (docs/adr/0011).
    """

    id: int
    name: str
    avro: avro.AvroType
    nullable: bool
    has_default: bool
    default: Any
    aliases: tuple[str, ...]
    doc: str
    column: str
    pii: Pii | None = None
    purpose: str | None = None

    @property
    def required(self) -> bool:
        """Whether every row must give a value."""
        return not self.nullable and not self.has_default

    @property
    def arrow(self) -> pa.Field:
        return pa.field(self.name, avro.to_arrow(self.avro, where=self.name), nullable=self.nullable)


@dataclass(frozen=True, slots=True)
class Emit:
    """One event that a source row may turn into: SQL expressions over source columns, by contract field.

    `when` is a SQL condition; a row for which it is not true emits nothing here.
    """

    fields: tuple[tuple[str, str], ...]
    when: str | None = None


@dataclass(frozen=True, slots=True)
class Mapping:
    """How rows of a source become rows of the contract. `columns` declares source types (Avro) for untyped formats."""

    emits: tuple[Emit, ...]
    columns: tuple[tuple[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Contract:
    """What a table promises, at one version."""

    name: str
    version: int
    kind: Kind
    table: str
    feed: Feed
    available_at: Literal["arrival", "event_time"]
    record: str
    fields: tuple[Field, ...]
    suite: str
    mapping: Mapping | None
    quarantine_limit: float  # share of a batch
    quarantine_limit_rows: int | None  # of a batch
    owner: str | None = None  # of content: the field with the user who uploaded the item

    @property
    def arrow(self) -> pa.Schema:
        """The Arrow schema of rows of this contract, in the contract's order; what is dropped has no column."""
        return pa.schema([field.arrow for field in self.fields if field.pii != "drop"])

    @property
    def personal(self) -> frozenset[str]:
        """Fields whose values are kept as they are for a purpose, and shown nowhere else."""
        return frozenset(field.name for field in self.fields if field.pii == "keep")

    @property
    def hides(self) -> bool:
        """Whether rows of this contract's sources hold what must not be written as it is."""
        return any(field.pii in ("hash", "drop") for field in self.fields)

    def field(self, name: str) -> Field:
        for field in self.fields:
            if field.name == name:
                return field
        raise ContractError(
            "unknown field",
            where=f"contract {self.name}",
            expected="one of " + ", ".join(f.name for f in self.fields),
            got=repr(name),
        )

    @property
    def tag(self) -> str:
        """What rows written with this version say in their column `contract`: `events/2`."""
        return f"{self.name}/{self.version}"

    @property
    def avro_schema(self) -> dict[str, Any]:
        """The Avro record schema as parsed JSON; a named type that is used again goes by its name."""
        return references.by_name(self.in_full)

    @property
    def in_full(self) -> dict[str, Any]:
        """The same with every type told where it is used."""
        schema: dict[str, Any] = json.loads(self.record)
        return schema

    @property
    def expectations(self) -> dict[str, Any]:
        """The Great Expectations suite as parsed JSON."""
        suite: dict[str, Any] = json.loads(self.suite)
        return suite

    @property
    def fingerprint(self) -> str:
        """A short digest of all that the contract says; its version, and where values are kept, left out."""
        content = json.dumps(self.to_json() | {"version": 0, "columns": {}}, sort_keys=True)
        return hashlib.blake2b(content.encode(), digest_size=8).hexdigest()

    def to_json(self) -> dict[str, Any]:
        policy: dict[str, Any] = {
            "kind": self.kind,
            "table": self.table,
            "feed": self.feed,
            "available_at": self.available_at,
            "quarantine_limit": self.quarantine_limit,
        }
        if self.quarantine_limit_rows is not None:
            policy["quarantine_limit_rows"] = self.quarantine_limit_rows
        if self.owner is not None:
            policy["owner"] = self.owner
        if self.mapping is not None:
            policy["mapping"] = {
                "columns": dict(self.mapping.columns),
                "emit": [
                    {"fields": dict(emit.fields)} | ({"when": emit.when} if emit.when is not None else {})
                    for emit in self.mapping.emits
                ],
            }
        return {
            "name": self.name,
            "version": self.version,
            "avro": self.avro_schema,
            "suite": self.expectations,
            "policy": policy,
            "columns": {str(field.id): field.column for field in self.fields if field.column != field.name},
        }

    @classmethod
    def from_json(cls, document: AbcMapping[str, Any]) -> Contract:
        return parse(
            document["name"],
            document["avro"],
            suite=document["suite"],
            policy=document["policy"],
            version=document["version"],
        ).stored_in({int(id_): column for id_, column in document.get("columns", {}).items()})

    def stored_in(self, columns: AbcMapping[int, str]) -> Contract:
        """The same contract, with the columns in which a table keeps the fields of these ids."""
        fields = tuple(replace(field, column=columns.get(field.id, field.name)) for field in self.fields)
        return replace(self, fields=fields)


def parse(
    name: str,
    record: AbcMapping[str, Any],
    *,
    suite: AbcMapping[str, Any] | None = None,
    policy: AbcMapping[str, Any] | None = None,
    version: int = 1,
) -> Contract:
    """A contract from its parts.

    Raises:
        ContractError: naming the part, what was expected and what was found.
    """
    where = f"contract {name}"
    if not _NAME.match(name):
        raise ContractError(
            "not a contract name", where=where, expected="lower-case letters, digits and _, a letter first", got=name
        )
    policy = dict(policy or {})
    unknown = sorted(set(policy) - set(_POLICY))
    if unknown:
        raise ContractError("unknown policy entry", where=where, expected=", ".join(_POLICY), got=", ".join(unknown))
    limit = policy.get("quarantine_limit", 1.0)
    if isinstance(limit, bool) or not isinstance(limit, int | float) or not 0 <= limit <= 1:
        raise ContractError("not a quarantine limit", where=where, expected="a share from 0 to 1", got=repr(limit))
    limit_rows = policy.get("quarantine_limit_rows")
    if limit_rows is not None and (isinstance(limit_rows, bool) or not isinstance(limit_rows, int) or limit_rows < 0):
        raise ContractError(
            "not a quarantine limit in rows", where=where, expected="a whole number, 0 or more", got=repr(limit_rows)
        )
    kind = _choice(policy, "kind", ("events", "content"), where)
    if policy.get("table", kind) != kind:
        raise ContractError(f"{kind} have one table", where=where, expected=f'"table": "{kind}"', got=policy["table"])
    record = references.in_full(record, where=where)
    fields = _fields(record, where)
    _check_required(fields, kind, where)
    return Contract(
        name=name,
        version=version,
        kind=kind,  # type: ignore[arg-type]
        table=kind,
        feed=_choice(policy, "feed", ("live", "bootstrap"), where),  # type: ignore[arg-type]
        available_at=_choice(policy, "available_at", ("arrival", "event_time"), where),  # type: ignore[arg-type]
        record=json.dumps(record, sort_keys=True),
        fields=fields,
        suite=json.dumps(suite or {"name": name, "expectations": []}, sort_keys=True),
        mapping=_mapping(policy["mapping"], fields, where) if policy.get("mapping") is not None else None,
        quarantine_limit=float(limit),
        quarantine_limit_rows=limit_rows,
        owner=_owner(policy.get("owner"), kind, fields, where),
    )


def load(path: Path) -> Contract:
    """A contract from `NAME.avsc` and the files beside it.

    Raises:
        ContractError: the file is missing, is not JSON, or says something a contract cannot.
    """
    if path.suffix != ".avsc":
        raise ContractError(
            "not a contract file",
            where=path,
            expected="NAME.avsc, with NAME.suite.json and NAME.contract.json beside it",
            got=path.name,
        )
    name = path.name.removesuffix(".avsc")
    record = read_json(path)
    if not isinstance(record, dict):
        raise ContractError(
            "not an Avro record schema", where=path, expected="a JSON object", got=type(record).__name__
        )
    suite, policy = path.with_name(f"{name}.suite.json"), path.with_name(f"{name}.contract.json")
    return parse(
        name,
        record,
        suite=read_json(suite) if suite.exists() else None,
        policy=read_json(policy) if policy.exists() else None,
    )


def read_json(path: Path) -> Any:
    """Parsed JSON of a file, with the path and the place in the error."""
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))  # some editors put a byte order mark in front
    except FileNotFoundError:
        raise ContractError(
            "file not found", where=path, expected="a JSON file", got="nothing at this path", hint="check the path"
        ) from None
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ContractError("not valid JSON", where=path, expected="a JSON document", got=str(error)) from None


def shipped(name: str) -> Contract:
    """A contract that comes with reclake: `events`, `content`, `kuairand`."""
    return load(Path(__file__).parent / "contracts" / f"{name}.avsc")


def shipped_suite(name: str) -> dict[str, Any]:
    """The suite of one of reclake's own tables: `timelines`, `samples`."""
    suite: dict[str, Any] = read_json(Path(__file__).parent / "contracts" / f"{name}.suite.json")
    return suite


def shipped_names() -> list[str]:
    return sorted(p.name.removesuffix(".avsc") for p in (Path(__file__).parent / "contracts").glob("*.avsc"))


def _choice(policy: AbcMapping[str, Any], key: str, allowed: tuple[str, ...], where: str) -> str:
    defaults = {"kind": "events", "feed": "live", "available_at": "arrival"}
    value = policy.get(key, defaults[key])
    if value not in allowed:
        raise ContractError(f"unknown {key}", where=where, expected=" or ".join(allowed), got=repr(value))
    return str(value)


def _fields(record: AbcMapping[str, Any], where: str) -> tuple[Field, ...]:
    if record.get("type") != "record" or not isinstance(record.get("fields"), list):
        raise ContractError(
            "not an Avro record schema",
            where=where,
            expected='{"type": "record", "fields": [...]}',
            got=record.get("type"),
        )
    fields = []
    for raw in record["fields"]:
        if not isinstance(raw, dict) or "name" not in raw or "type" not in raw:
            raise ContractError("a field without name or type", where=where, got=repr(raw))
        at = f"{where}, field {raw['name']}"
        if not isinstance(raw.get(FIELD_ID), int):
            raise ContractError(
                "a field without an id",
                where=at,
                expected=f'"{FIELD_ID}": an integer, never reused',
                got=repr(raw.get(FIELD_ID)),
                hint=f'add "{FIELD_ID}" to the field in the .avsc file',
            )
        if raw["name"] in RESERVED:
            raise ContractError(
                "a reserved field name", where=at, expected="none of " + ", ".join(sorted(RESERVED)), got=raw["name"]
            )
        avro.to_arrow(raw["type"], where=at)
        fields.append(
            Field(
                id=raw[FIELD_ID],
                name=raw["name"],
                avro=raw["type"],
                nullable=avro.split_nullable(raw["type"])[1],
                has_default="default" in raw,
                default=raw.get("default"),
                aliases=tuple(raw.get("aliases", ())),
                doc=str(raw.get("doc", "")),
                column=raw["name"],
                **_pii(raw, at),
            )
        )
    for key, values in (("id", [str(f.id) for f in fields]), ("name", [f.name for f in fields])):
        twice = sorted(value for value, count in Counter(values).items() if count > 1)
        if twice:
            raise ContractError(f"a field {key} is used twice", where=where, got=", ".join(twice))
    return tuple(fields)


def _pii(raw: AbcMapping[str, Any], at: str) -> dict[str, Any]:
    """What a field says of personal data: `pii`, and the `purpose` that keeping it needs."""
    pii, purpose = raw.get("pii"), raw.get("purpose")
    if '"pii"' in json.dumps(raw["type"]):
        raise ContractError(
            "personal data inside of a field",
            where=at,
            expected='"pii" on fields of the contract itself',
            got="it is on a part of " + _told(avro.split_nullable(raw["type"])[0]),
            hint="mark the whole field, or map its parts to fields of their own",
        )
    if pii is None:
        return {}
    if pii not in get_args(Pii):
        raise ContractError("unknown pii", where=at, expected='"hash", "drop" or "keep"', got=repr(pii))
    inner, nullable = avro.split_nullable(raw["type"])
    if pii == "hash" and inner not in HASHED_TYPES:
        raise ContractError(
            "a field that no pseudonym fits",
            where=at,
            expected='"pii": "hash" on type ' + " or ".join(HASHED_TYPES),
            got=_told(inner),
        )
    if pii == "drop" and not nullable and "default" not in raw:
        raise ContractError(
            "a required field cannot be dropped",
            where=at,
            expected='a type with "null", or a default',
            got=_told(inner),
        )
    if (not isinstance(purpose, str) or not purpose.strip()) if pii == "keep" else purpose is not None:
        raise ContractError(
            "personal data is kept for a purpose, and for nothing else",
            where=at,
            expected='"purpose": what it is kept for, with "pii": "keep" alone',
            got=f'"pii": "{pii}", "purpose": {json.dumps(purpose)}',
        )
    return {"pii": pii, "purpose": purpose}


def _check_required(fields: tuple[Field, ...], kind: str, where: str) -> None:
    have = {f.name: f.arrow.type for f in fields if f.pii != "drop"}
    for name, type_ in REQUIRED[kind].items():  # type: ignore[index]
        if name not in have:
            raise ContractError(
                "a required field is missing",
                where=where,
                expected=f"{name}: {type_}",
                got="fields " + ", ".join(have),
                hint=f"every {kind} contract has the fields " + ", ".join(REQUIRED[kind]),  # type: ignore[index]
            )
        if have[name] != type_:
            raise ContractError(
                "a required field has another type", where=f"{where}, field {name}", expected=type_, got=have[name]
            )


def _told(type_: avro.AvroType) -> str:
    """An Avro type in a word, where it has one."""
    return type_ if isinstance(type_, str) else str(type_.get("logicalType") or type_)


def _owner(name: Any, kind: str, fields: tuple[Field, ...], where: str) -> str | None:
    """The field whose user an item is erased with."""
    if name is None:
        return None
    types = {f.name: f.arrow.type for f in fields}
    if kind != "content" or types.get(name) != pa.int64():
        raise ContractError(
            "not an owner",
            where=f"{where}, policy entry owner",
            expected="a field of type long in a content contract",
            got=f"{name!r} of {kind}, {types.get(name, 'no such field')}",
        )
    return str(name)


def _mapping(raw: Any, fields: tuple[Field, ...], where: str) -> Mapping:
    where = f"{where}, mapping"
    if not isinstance(raw, dict) or not isinstance(raw.get("emit"), list) or not raw["emit"]:
        raise ContractError(
            "not a mapping", where=where, expected='{"emit": [{"fields": {...}}, ...]}', got=repr(raw)[:80]
        )
    names = {f.name for f in fields}
    emits = []
    for index, emit in enumerate(raw["emit"]):
        at = f"{where}, emit {index}"
        if not isinstance(emit, dict) or not isinstance(emit.get("fields"), dict):
            raise ContractError("an emit without fields", where=at, expected='{"fields": {...}}', got=repr(emit)[:80])
        unknown = sorted(set(emit["fields"]) - names)
        if unknown:
            raise ContractError(
                "a mapping names fields that the contract does not have",
                where=at,
                expected="some of " + ", ".join(sorted(names)),
                got=", ".join(unknown),
            )
        lacking = [f"{f.name}: {_told(f.avro)}" for f in fields if f.required and f.name not in emit["fields"]]
        if lacking:
            raise MappingError(
                "a mapping leaves out required fields",
                where=at,
                expected=", ".join(lacking),
                got="fields " + ", ".join(sorted(emit["fields"])),
                hint="give each of them an expression, or make it nullable",
            )
        emits.append(Emit(fields=tuple((k, str(v)) for k, v in emit["fields"].items()), when=emit.get("when")))
    for column, type_ in dict(raw.get("columns", {})).items():
        avro.to_arrow(type_, where=f"{where}, column {column}")
    return Mapping(emits=tuple(emits), columns=tuple(dict(raw.get("columns", {})).items()))
