"""Media plans: which operators turn an item's media into which content columns. JSON; the operators live elsewhere.

    {"name": "short_video",
     "steps": [{"operator": "image_embedding",
                "inputs": {"image": "cover"},
                "outputs": {"image_embedding": "image_embedding"}}]}

`inputs` gives each input of the operator a column: of the manifest, or of an earlier step. `outputs` gives outputs of
the operator a content field; outputs that are not named are not kept.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from .contract import read_json
from .errors import PlanError

_NAME = re.compile(r"^[a-z][a-z0-9_]*$")

InputKind = Literal["media", "text", "frames"]
INPUT_TYPES: dict[InputKind, pa.DataType] = {
    "media": pa.large_binary(),  # a whole file; in a manifest: its path
    "text": pa.string(),
    "frames": pa.list_(pa.binary()),  # pictures that an earlier step made
}


@dataclass(frozen=True, slots=True)
class Input:
    """One input of an operator."""

    name: str
    kind: InputKind


@dataclass(frozen=True, slots=True)
class Signature:
    """What an operator takes and gives. `version` is part of what it gives: another version, other content."""

    name: str
    version: str
    inputs: tuple[Input, ...]
    outputs: tuple[pa.Field, ...]


@dataclass(frozen=True, slots=True)
class Step:
    """One operator of a plan; `inputs` and `outputs` are pairs of the operator's name and the column's."""

    operator: str
    inputs: tuple[tuple[str, str], ...]
    outputs: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """The steps, in the order they run."""

    name: str
    steps: tuple[Step, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "steps": [
                {"operator": step.operator, "inputs": dict(step.inputs), "outputs": dict(step.outputs)}
                for step in self.steps
            ],
        }

    def identity(self, signatures: Mapping[str, Signature]) -> str:
        """`NAME@DIGEST` of the steps and of the versions of their operators: content of one identity is comparable."""
        versions = {step.operator: signatures[step.operator].version for step in self.steps}
        document = json.dumps([self.to_json()["steps"], versions], sort_keys=True)
        return f"{self.name}@{hashlib.blake2b(document.encode(), digest_size=8).hexdigest()}"

    def read_columns(self) -> tuple[str, ...]:
        """The manifest columns that the steps read, each once, in order."""
        made: set[str] = set()
        read: list[str] = []
        for step in self.steps:
            read += [column for _, column in step.inputs if column not in made and column not in read]
            made.update(column for _, column in step.outputs)
        return tuple(read)


def parse(document: Any, *, where: object = "plan") -> Plan:
    """A plan from parsed JSON. Whether its operators exist is asked by `check`.

    Raises:
        PlanError: it is malformed.
    """
    if not isinstance(document, dict) or set(document) != {"name", "steps"} or not isinstance(document["steps"], list):
        got = sorted(document) if isinstance(document, dict) else type(document).__name__
        raise PlanError("not a plan", where=where, expected='{"name": …, "steps": [...]}', got=got)
    if not isinstance(document["name"], str) or not _NAME.match(document["name"]):
        raise PlanError(
            "not a plan's name", where=where, expected="lower-case letters, digits and _", got=repr(document["name"])
        )
    if not document["steps"]:
        raise PlanError("a plan without steps", where=where, expected="at least one step")
    return Plan(document["name"], tuple(_step(raw, f"{where}, step {n}") for n, raw in enumerate(document["steps"], 1)))


def load(name: str | Path) -> Plan:
    """A plan that comes with reclake, by name, or the plan in a JSON file.

    Raises:
        PlanError: there is no such plan, or it is malformed.
    """
    path = Path(name)
    if path.suffix != ".json":
        if str(name) not in shipped_names():
            raise _unknown(
                "plan", str(name), shipped_names(), where="shipped plans", hint="or give the path of a .json file"
            )
        path = _folder() / f"{name}.json"
    if not path.is_file():
        raise PlanError("no such plan file", where=path, hint="check the path")
    return parse(read_json(path), where=path)


def shipped_names() -> list[str]:
    return sorted(path.stem for path in _folder().glob("*.json"))


def check(
    plan: Plan,
    signatures: Mapping[str, Signature],
    *,
    manifest: Iterable[str],
    content: pa.Schema,
    where: object = None,
) -> None:
    """Hold a plan against the operators there are, a manifest's columns and the content contract.

    Raises:
        PlanError: an unknown operator, input, output or column; a column of another type; a field written twice.
    """
    where = where or f"plan {plan.name}"
    columns = set(manifest)
    made: dict[str, pa.DataType] = {}
    for number, step in enumerate(plan.steps, 1):
        at = f"{where}, step {number} ({step.operator})"
        if step.operator not in signatures:
            raise _unknown("operator", step.operator, signatures, where=at)
        signature = signatures[step.operator]
        _check_inputs(step, signature, columns, made, at)
        for output, column in step.outputs:
            _check_output(signature, output, column, made, content, at)
            made[column] = _output(signature, output).type


def _check_inputs(
    step: Step, signature: Signature, columns: set[str], made: Mapping[str, pa.DataType], at: str
) -> None:
    wanted = {given.name: given for given in signature.inputs}
    for name, column in step.inputs:
        if name not in wanted:
            raise _unknown("input", name, wanted, where=at)
        kind = wanted[name].kind
        if column in made:
            if made[column] != INPUT_TYPES[kind]:
                raise PlanError(
                    "an input of another type", where=at, expected=INPUT_TYPES[kind], got=f"{column}: {made[column]}"
                )
        elif kind == "frames":
            made_frames = [c for c, type_ in made.items() if type_ == INPUT_TYPES["frames"]]
            raise _unknown("column with frames of an earlier step", column, made_frames, where=at)
        elif column not in columns:
            raise _unknown("manifest column", column, columns, where=at)
    missing = sorted(set(wanted) - {name for name, _ in step.inputs})
    if missing:
        raise PlanError(
            "an input without a column", where=at, expected=", ".join(wanted), got="no " + ", ".join(missing)
        )


def _check_output(
    signature: Signature, output: str, column: str, made: Mapping[str, Any], content: pa.Schema, at: str
) -> None:
    names = [field.name for field in signature.outputs]
    if output not in names:
        raise _unknown("output", output, names, where=at)
    if column not in content.names:
        raise _unknown("content field", column, content.names, where=at)
    if column in made:
        raise PlanError(
            "two steps write one field", where=at, expected="a field of its own for each output", got=column
        )
    field, given = content.field(column), _output(signature, output)
    if field.type != given.type:
        raise PlanError(
            "a content field of another type",
            where=f"{at}, {output}",
            expected=given.type,
            got=f"{column}: {field.type}",
        )
    if not field.nullable:
        raise PlanError(
            "a content field that may not be null",
            where=f"{at}, {output}",
            expected="a nullable field: an operator may fail",
            got=column,
        )


def _output(signature: Signature, name: str) -> pa.Field:
    return next(field for field in signature.outputs if field.name == name)


def _step(raw: Any, at: str) -> Step:
    if not isinstance(raw, dict) or not isinstance(raw.get("operator"), str):
        raise PlanError("a step without an operator", where=at, expected='{"operator": "…", …}', got=repr(raw)[:80])
    unknown = sorted(set(raw) - {"operator", "inputs", "outputs"})
    if unknown:
        raise _unknown("entry", unknown[0], ("operator", "inputs", "outputs"), where=at)
    return Step(raw["operator"], _pairs(raw, "inputs", at), _pairs(raw, "outputs", at))


def _pairs(raw: Mapping[str, Any], key: str, at: str) -> tuple[tuple[str, str], ...]:
    pairs = raw.get(key)
    if not isinstance(pairs, dict) or not pairs or not all(isinstance(v, str) for v in pairs.values()):
        raise PlanError(
            f"{key} are names and columns", where=at, expected=f'"{key}": {{"NAME": "COLUMN"}}', got=repr(pairs)
        )
    return tuple(pairs.items())


def _unknown(what: str, got: str, known: Iterable[str], *, where: object, hint: str | None = None) -> PlanError:
    names = sorted(known)
    close = get_close_matches(got, names, n=1)
    return PlanError(
        f"unknown {what}",
        where=where,
        expected=("one of " + ", ".join(names)) if names else f"a {what}; there is none",
        got=repr(got),
        hint=f"did you mean {close[0]!r}?" if close else hint,
    )


def _folder() -> Path:
    return Path(__file__).parent / "plans"
