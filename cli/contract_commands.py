"""contract add | list | show | diff | evolve | check | profile."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from ..pipelines.evolve import StoredVersion
from ..pipelines.lake import Lake
from ..quality.findings import HEADS
from ..schemas.changes import told
from ..schemas.contract import Contract, Field, read_json
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
    """Register the contract in FILE (NAME.avsc); a compatible change becomes its next version.

    Or a suite of a table that reclake makes: timelines.suite.json, RECIPE.suite.json.
    """
    output = Output(machine)
    if file.endswith(".suite.json"):
        table, version = Lake.open(lake).add_suite(file)
        output.line(f"suite of {table}, version {version}: from now on, before a partition is published")
        output.result({"table": table, "version": version})
        return
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


def _pii(field: Field) -> str:
    told = {"hash": "hashed", "drop": "dropped", "keep": f"kept: {field.purpose}"}
    return "" if field.pii is None else told[field.pii]


def _show(found: Contract, output: Output) -> None:
    marked = any(f.pii is not None for f in found.fields)
    fields: list[list[object]] = [
        [
            f.id,
            f.name,
            json.dumps(f.avro) if not isinstance(f.avro, str) else f.avro,
            "" if f.nullable else "required",
            *([_pii(f)] if marked else []),
            f.doc + (f" (kept in column {f.column})" if f.column != f.name else ""),
        ]
        for f in found.fields
    ]
    heads = ["id", "field", "Avro type", "", *(["pii"] if marked else []), "doc"]
    output.table(f"{found.name}, version {found.version}", heads, fields)
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
    files = (writer, *reader)
    rows: list[list[object]] = []
    for found in verdict["incompatibilities"]:
        sides = [] if mode is None else [files[found["writer_version"]], files[found["reader_version"]]]
        rows.append([*sides, found["path"], found["kind"], found["message"]])
    if rows:
        heads = [] if mode is None else ["written with", "read with"]
        output.table("not compatible", [*heads, "path", "kind", "why"], rows)
    elif mode is None:
        output.line("compatible: everything written with the one can be read with the other")
    else:
        output.line(f"compatible: the last version may follow, {mode}")
    output.result(verdict)
    return 0 if verdict["compatible"] else 1


@contract.command()
@lake_argument
@click.argument("file", type=click.Path())
@click.option("--plan", is_flag=True, help="Only say what becomes of the rows that are there.")
@json_option
def evolve(lake: str, file: str, plan: bool, machine: bool) -> int:
    """Make FILE (NAME.avsc, or the folder that holds it) the next version of its contract.

    --plan writes nothing: it shows what is accepted, and what rows of every stored version will read as. Exit status 1
    if a change is refused.
    """
    output = Output(machine)
    made = Lake.open(lake).evolve(_contract_file(Path(file)), plan=plan)
    name, last = made.contract.name, made.last
    before = "new" if last is None else f"version {last.version}"
    rulings: list[list[object]] = [[told(r.change), r.verdict, r.why] for r in made.rulings]
    if rulings:
        output.table(f"{name}, {before}: changes", ["change", "", "rows that are there"], rulings)
    stored: list[list[object]] = [
        [f"{name}/{v.version}", rows, f.written, f.reads_as]
        for v in made.stored
        for rows in [_rows(v)]
        for f in v.fields
    ]
    if stored:
        output.table("what is stored will read as", ["written with", "rows", "written as", "reads as"], stored)
    if made.notes:
        output.line(f"changed besides: {', '.join(made.notes)}")
    if not rulings and not made.notes and last is not None:
        output.line("nothing changes")
    output.line("plan only: nothing was written" if plan else f"contract {name} is at version {made.contract.version}")
    output.result(
        {
            "name": name,
            "version": made.contract.version if made.accepted or last is None else last.version,
            "plan": plan,
            "accepted": made.accepted,
            "changes": [
                {"change": type(r.change).__name__, "path": r.change.path, "told": told(r.change)}
                | {"verdict": r.verdict, "why": r.why}
                for r in made.rulings
            ],
            "stored": plain(list(made.stored)),
            "besides": list(made.notes),
        }
    )
    return 0 if made.accepted else 1


def _contract_file(path: Path) -> Path:
    """The contract's file; in a folder, the only one."""
    found = sorted(path.glob("*.avsc")) if path.is_dir() else [path]
    if len(found) != 1:
        raise ContractError(
            "not the folder of one contract",
            where=path,
            expected="one NAME.avsc",
            got=", ".join(one.name for one in found) or "none",
            hint="name the file itself",
        )
    return found[0]


def _rows(stored: StoredVersion) -> str:
    return ", ".join(f"{table} {count(rows)}" for table, rows in stored.rows.items())


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
    if result.findings:
        output.table("not as expected", [*HEADS[:-1], "would go"], [list(one.line) for one in result.findings])
    if result.stop_reason is not None:
        output.line(f"would stop: {result.stop_reason}")
    stopped = f" + {count(result.stopped)} of batches that would be stopped" if result.stopped else ""
    output.line(
        f"{count(result.rows)} rows → {count(result.read)} events = {count(result.admitted)} would be admitted"
        f" + {count(result.quarantined)} quarantined{stopped}; nothing was written"
    )
    output.result(
        plain({"verdict": result.verdict, "rows": result.rows, "read": result.read, "admitted": result.admitted})
        | {
            "quarantined": result.quarantined,
            "stopped": result.stopped,
            "checks": result.checks.to_dicts(),
            "reasons": result.reasons.to_dicts(),
        }
        | {"findings": plain(list(result.findings)), "stop_reason": result.stop_reason}
    )
    return 1 if result.verdict == "stop" else 0


@contract.command()
@lake_argument
@click.argument("name")
@click.argument("data", nargs=-1, required=True, type=click.Path())
@click.option("--out", type=click.Path(dir_okay=False), help="Write the suite here, such as NAME.suite.json.")
@json_option
def profile(lake: str, name: str, data: tuple[str, ...], out: str | None, machine: bool) -> None:
    """Propose checks for contract NAME from DATA, with the reason for each. Registers nothing."""
    from ..pipelines.profile import profile as look
    from ..quality.profile import ROWS_MIN

    output = Output(machine)
    result = look(Lake.open(lake).catalog.contract(name), list(data))
    rows: list[list[object]] = [[one.type, json.dumps(one.kwargs), one.severity, one.reason] for one in result.proposed]
    if rows:
        output.table(f"contract {name}: proposed", ["expectation", "arguments", "severity", "because"], rows)
    elif result.rows < ROWS_MIN:
        output.line(f"{count(result.rows)} events are too few to suggest checks from: {ROWS_MIN} are needed")
    else:
        output.line(f"{count(result.rows)} events suggest no check that the contract does not have")
    if out is not None:
        _write_new(Path(out), result.suite)
        output.line(f"{out}: {len(result.suite['expectations'])} checks; read them, then: reclake contract add")
    output.result({"rows": result.rows, "proposed": len(result.proposed), "suite": result.suite})


def _write_new(path: Path, suite: Mapping[str, Any]) -> None:
    """A suite, one expectation a line, where nothing is yet."""
    lines = ",\n".join("  " + json.dumps(one, ensure_ascii=False) for one in suite["expectations"])
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(f'{{"name": {json.dumps(suite["name"])}, "expectations": [\n{lines}\n]}}\n')
    except FileExistsError:
        raise ContractError(
            "a file is there already",
            where=path,
            expected="a path where nothing is",
            got="a file",
            hint="write it elsewhere and take over what you want",
        ) from None
