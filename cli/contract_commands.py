"""contract add | list | show | diff | evolve | check."""

from __future__ import annotations

import json
from pathlib import Path

import click

from ..pipelines.lake import Lake
from ..schemas.contract import Contract, load, read_json
from ..schemas.errors import ContractError
from ..schemas.resolution import MODES, Mode, compatibility, evolution
from .options import json_option, lake_argument
from .output import Output, count, plain


@click.group()
def contract() -> None:
    """Contracts: what tables promise. NAME.avsc, with NAME.suite.json and NAME.contract.json beside it."""


@contract.command()
@lake_argument
@click.argument("file", type=click.Path())
@json_option
def add(lake: str, file: str, machine: bool) -> None:
    """Register the contract in FILE (NAME.avsc); a compatible change becomes its next version."""
    output = Output(machine)
    added = Lake.open(lake).add_contract(file)
    output.line(f"contract {added.name}, version {added.version}: {len(added.fields)} fields, rows go to {added.table}")
    output.result(added.to_json())


@contract.command(name="list")
@lake_argument
@json_option
def list_(lake: str, machine: bool) -> None:
    """List the contracts of LAKE."""
    output = Output(machine)
    found = Lake.open(lake).catalog.contracts()
    rows: list[list[object]] = [
        [c.name, c.version, c.kind, c.table, len(c.fields), len(c.expectations["expectations"]), c.feed] for c in found
    ]
    output.table("contracts", ["name", "version", "kind", "table", "fields", "checks", "feed"], rows)
    output.result({"contracts": [c.to_json() for c in found]})


@contract.command()
@lake_argument
@click.argument("name")
@click.option("--version", type=int, help="An older version.")
@json_option
def show(lake: str, name: str, version: int | None, machine: bool) -> None:
    """Show the fields, checks and mapping of contract NAME."""
    output = Output(machine)
    found = Lake.open(lake).catalog.contract(name, version)
    _show(found, output)
    output.result(found.to_json())


def _show(found: Contract, output: Output) -> None:
    fields: list[list[object]] = [
        [
            f.id,
            f.name,
            json.dumps(f.avro) if not isinstance(f.avro, str) else f.avro,
            "" if f.nullable else "required",
            f.doc,
        ]
        for f in found.fields
    ]
    output.table(f"{found.name}, version {found.version}", ["id", "field", "Avro type", "", "doc"], fields)
    checks: list[list[object]] = [
        [e["type"], json.dumps(e["kwargs"]), e.get("meta", {}).get("severity", "")]
        for e in found.expectations["expectations"]
    ]
    output.table("checks", ["expectation", "arguments", "severity"], checks)
    if found.mapping is not None:
        for number, emit in enumerate(found.mapping.emits):
            rows: list[list[object]] = [[name, expression] for name, expression in emit.fields]
            when = "always" if emit.when is None else f"when {emit.when}"
            output.table(f"emit {number}, {when}", ["field", "from the source"], rows)


@contract.command()
@click.argument("writer", type=click.Path())
@click.argument("reader", nargs=-1, required=True, type=click.Path())
@click.option("--mode", type=click.Choice(MODES, case_sensitive=False), help="Ask this of the last version instead.")
@json_option
def diff(writer: str, reader: tuple[str, ...], mode: Mode | None, machine: bool) -> int:
    """Can rows written with WRITER.avsc be read with READER.avsc? Exit status 1 if not.

    With --mode, give all versions, oldest first: may the last one follow those before it?
    """
    output = Output(machine)
    versions = [read_json(Path(path)) for path in (writer, *reader)]
    if mode is None and len(versions) > 2:
        raise ContractError(
            "more than two schemas", expected="WRITER READER", got=len(versions), hint="--mode compares more"
        )
    verdict = compatibility(*versions) if mode is None else evolution(versions, mode)
    rows: list[list[object]] = [[i["path"], i["kind"], i["message"]] for i in verdict["incompatibilities"]]
    if rows:
        output.table("not compatible", ["path", "kind", "why"], rows)
    elif mode is None:
        output.line("compatible: everything written with the one can be read with the other")
    else:
        output.line(f"compatible: the last version may follow, {mode}")
    output.result(verdict)
    return 0 if verdict["compatible"] else 1


@contract.command()
@lake_argument
@click.argument("file", type=click.Path())
@click.option("--plan", is_flag=True, help="Only say what would change.")
@json_option
def evolve(lake: str, file: str, plan: bool, machine: bool) -> None:
    """Make FILE the next version of its contract; --plan shows the change and writes nothing."""
    output = Output(machine)
    opened, new = Lake.open(lake), load(Path(file))
    old = opened.catalog.contract(new.name)
    changes = _changes(old, new)
    verdict = compatibility(old.avro_schema, new.avro_schema)
    output.table(f"{new.name}: version {old.version} and {file}", ["field", "now", "then"], [list(c) for c in changes])
    if not verdict["compatible"]:
        first = verdict["incompatibilities"][0]
        raise ContractError(
            "old rows could not be read by this version", where=f"{file}, {first['path']}", got=first["message"]
        )
    version = old.version if plan else opened.add_contract(file).version
    output.line("plan only: nothing was written" if plan else f"contract {new.name} is at version {version}")
    output.result({"name": new.name, "version": version, "plan": plan, "changes": [list(c) for c in changes]})


def _changes(old: Contract, new: Contract) -> list[tuple[str, str, str]]:
    """(field, before, after) by field id; an id that is gone or new has "" on one side."""
    before, after = {f.id: f for f in old.fields}, {f.id: f for f in new.fields}

    def told(number: int, side: dict[int, object]) -> str:
        found = side.get(number)
        return "" if found is None else f"{found.name}: {json.dumps(found.avro)}"  # type: ignore[attr-defined]

    pairs = [(n, told(n, before), told(n, after)) for n in sorted(before.keys() | after.keys())]  # type: ignore[arg-type]
    return [(f"id {number}", was, now) for number, was, now in pairs if was != now]


@contract.command()
@lake_argument
@click.argument("name")
@click.argument("data", nargs=-1, required=True, type=click.Path())
@json_option
def check(lake: str, name: str, data: tuple[str, ...], machine: bool) -> int:
    """What would the gate say of DATA under contract NAME? Writes nothing. Exit status 1 if it would stop."""
    from ..pipelines.check import check as dry_run

    output = Output(machine)
    opened = Lake.open(lake)
    result = dry_run(opened.catalog, opened.catalog.contract(name), list(data))
    checks: list[list[object]] = [
        [r["check"], r["column"], r["severity"], r["expected"], count(r["evaluated"]), count(r["unexpected"])]
        for r in result.checks.to_dicts()
    ]
    output.table(
        f"contract {name}: {result.verdict}", ["check", "column", "severity", "expected", "rows", "failed"], checks
    )
    if result.reasons.height:
        reasons: list[list[object]] = [list(row) for row in result.reasons.head(20).iter_rows()]
        output.table("would go to quarantine", ["check", "column", "expected", "got, e.g.", "events"], reasons)
    output.line(
        f"{count(result.rows)} rows → {count(result.read)} events = {count(result.admitted)} would be admitted"
        f" + {count(result.quarantined)} quarantined; nothing was written"
    )
    output.result(
        plain({"verdict": result.verdict, "rows": result.rows, "read": result.read, "admitted": result.admitted})
        | {"quarantined": result.quarantined, "checks": result.checks.to_dicts(), "reasons": result.reasons.to_dicts()}
    )
    return 1 if result.verdict == "stop" else 0
