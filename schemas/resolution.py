"""Can data written with one Avro schema be read with another? Pure.

The rules are those of the Avro specification 1.12, "Schema Resolution". Two are stricter here, because a column has
one meaning: times of different units and decimals of different scale do not resolve, though their bytes would.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from .avro import PRIMITIVES, AvroType
from .errors import ContractError

PROMOTIONS: dict[str, frozenset[str]] = {
    "int": frozenset({"long", "float", "double"}),
    "long": frozenset({"float", "double"}),
    "float": frozenset({"double"}),
    "string": frozenset({"bytes"}),
    "bytes": frozenset({"string"}),
}
_NAMED = ("record", "error", "enum", "fixed")
_STRICT_LOGICAL = ("decimal", "date", "time-", "timestamp-", "local-timestamp-")


def compatibility(writer: AvroType, reader: AvroType) -> dict[str, Any]:
    """Whether `reader` resolves everything that `writer` may have written; both are parsed Avro schemas.

    Returns `{"compatible": bool, "incompatibilities": [{"path", "kind", "writer", "reader", "message"}]}`: every
    reason, in the reader's order; `path` is a field's path such as `items[].price`, `$` for the schema itself.

    Raises:
        ContractError: one of them is not an Avro schema: an unknown type, or a name used before it is defined.
    """
    check = _Check(_named_types(writer, "writer"), _named_types(reader, "reader"))
    check.compare(writer, reader, "")
    return {"compatible": not check.found, "incompatibilities": check.found}


@dataclass(slots=True)
class _Check:
    """One comparison: the names each side defines, the pairs already begun (types may recurse), what is wrong."""

    writer_names: dict[str, dict[str, Any]]
    reader_names: dict[str, dict[str, Any]]
    found: list[dict[str, str]] = field(default_factory=list)
    begun: set[tuple[str, str]] = field(default_factory=set)

    def compare(self, writer: AvroType, reader: AvroType, path: str) -> None:
        writer, reader = _resolved(writer, self.writer_names, path), _resolved(reader, self.reader_names, path)
        if isinstance(writer, list):
            for branch in writer:
                self.compare(branch, reader, path)
        elif isinstance(reader, list):
            self._branch(writer, reader, path)
        else:
            self._types(writer, reader, path)

    def _branch(self, writer: dict[str, Any], reader: list[AvroType], path: str) -> None:
        """A reader's union takes what at least one of its branches takes."""
        for branch in reader:
            trial = _Check(self.writer_names, self.reader_names, begun=set(self.begun))
            trial.compare(writer, branch, path)
            if not trial.found:
                return
        self._report(path, "missing_union_branch", writer, reader, f"no branch takes {_name(writer)}")

    def _types(self, writer: dict[str, Any], reader: dict[str, Any], path: str) -> None:
        wrote, reads = writer["type"], reader["type"]
        if wrote != reads and reads not in PROMOTIONS.get(wrote, ()):
            self._report(path, "type_mismatch", writer, reader, f"{_name(writer)} does not become {_name(reader)}")
            return
        if not self._logical_types(writer, reader, path):
            return
        match reads:
            case "array":
                self.compare(writer["items"], reader["items"], f"{path}[]")
            case "map":
                self.compare(writer["values"], reader["values"], f"{path}{{}}")
            case "record" | "error" | "enum" | "fixed" if self._names(writer, reader, path):
                self._named(writer, reader, path)

    def _named(self, writer: dict[str, Any], reader: dict[str, Any], path: str) -> None:
        if reader["type"] == "fixed":
            if writer["size"] != reader["size"]:
                why = f"{writer['size']} bytes are not {reader['size']}"
                self._report(path, "fixed_size_mismatch", writer, reader, why)
        elif reader["type"] == "enum":
            missing = [symbol for symbol in writer["symbols"] if symbol not in reader["symbols"]]
            if missing and "default" not in reader:
                why = f"the reader has no symbol {', '.join(missing)} and no default"
                self._report(path, "missing_enum_symbols", writer, reader, why)
        else:
            pair = (_name(writer), _name(reader))
            if pair not in self.begun:
                self.begun.add(pair)
                self._fields(writer, reader, path)

    def _fields(self, writer: dict[str, Any], reader: dict[str, Any], path: str) -> None:
        written = {f["name"]: f for f in writer["fields"]}
        for wanted in reader["fields"]:
            at = f"{path}.{wanted['name']}" if path else wanted["name"]
            name = next((n for n in (wanted["name"], *wanted.get("aliases", ())) if n in written), None)
            if name is not None:
                self.compare(written[name]["type"], wanted["type"], at)
            elif "default" not in wanted:
                why = f"the writer has no field {wanted['name']}, and it has no default"
                self._report(at, "reader_field_missing_default_value", "absent", wanted["type"], why)

    def _names(self, writer: dict[str, Any], reader: dict[str, Any], path: str) -> bool:
        """Unqualified names are equal, or the writer's is one of the reader's aliases."""
        known = {reader["name"], *reader.get("aliases", ())}
        if _short(writer["name"]) in {_short(name) for name in known}:
            return True
        why = f"{writer['name']} is not {reader['name']} nor an alias of it"
        self._report(path, "name_mismatch", writer, reader, why)
        return False

    def _logical_types(self, writer: dict[str, Any], reader: dict[str, Any], path: str) -> bool:
        wrote, reads = (_strict_logical(side) for side in (writer, reader))
        if wrote == reads or not (wrote and reads):
            return True
        why = f"{wrote} is not {reads}: the same bytes would mean another value"
        self._report(path, "logical_type_mismatch", writer, reader, why)
        return False

    def _report(self, path: str, kind: str, writer: AvroType, reader: AvroType, message: str) -> None:
        entry = {"path": path or "$", "kind": kind, "writer": _name(writer), "reader": _name(reader)}
        self.found.append(entry | {"message": message})


def _strict_logical(schema: dict[str, Any]) -> str:
    logical = str(schema.get("logicalType", ""))
    if logical == "decimal":
        return f"decimal({schema.get('precision')}, {schema.get('scale', 0)})"
    return logical if logical.startswith(_STRICT_LOGICAL) else ""


def _resolved(schema: AvroType, names: dict[str, dict[str, Any]], path: str) -> Any:
    """A union as its list, anything else as a dict with "type"; a name as what it names."""
    if isinstance(schema, list):
        return schema
    if isinstance(schema, str):
        if schema in PRIMITIVES:
            return {"type": schema}
        if schema in names or _short(schema) in names:
            return names.get(schema) or names[_short(schema)]
    elif isinstance(schema, dict) and "type" in schema:
        inner = schema["type"]
        if isinstance(inner, dict | list):
            return _resolved(inner, names, path)
        if inner in PRIMITIVES or inner in ("array", "map", *_NAMED):
            return schema
        return _resolved(inner, names, path)
    raise ContractError("unknown Avro type", where=path or "$", expected="an Avro 1.12 type", got=repr(schema)[:100])


def _named_types(schema: AvroType, side: str) -> dict[str, dict[str, Any]]:
    """Every named type a schema defines, by full and by unqualified name."""
    names: dict[str, dict[str, Any]] = {}
    pending: list[tuple[AvroType, str]] = [(schema, "")]
    while pending:
        part, namespace = pending.pop()
        if isinstance(part, list):
            pending += [(branch, namespace) for branch in part]
        if not isinstance(part, dict):
            continue
        if part.get("type") in _NAMED:
            if "name" not in part:
                raise ContractError("a named type without a name", where=f"the {side}'s schema", got=repr(part)[:100])
            namespace = part["name"].rpartition(".")[0] or part.get("namespace", namespace)
            names.setdefault(_short(part["name"]), part)
            names[f"{namespace}.{_short(part['name'])}" if namespace else part["name"]] = part
        pending += [(f["type"], namespace) for f in part.get("fields", ()) if isinstance(f, dict) and "type" in f]
        pending += [(part[key], namespace) for key in ("items", "values") if key in part]
        if isinstance(part.get("type"), dict | list):
            pending.append((part["type"], namespace))
    return names


def _short(name: str) -> str:
    return name.rpartition(".")[2]


def _name(schema: AvroType) -> str:
    """How a message names a type."""
    if isinstance(schema, str):
        return schema
    if isinstance(schema, list):
        return "union of " + ", ".join(_name(branch) for branch in schema)
    logical = schema.get("logicalType")
    if logical:
        return str(logical)
    kind = schema.get("type")
    if kind in _NAMED:
        return f"{kind} {schema['name']}"
    if kind == "array":
        return f"array of {_name(schema['items'])}"
    if kind == "map":
        return f"map of {_name(schema['values'])}"
    return _name(kind)
