"""`python -m reclake.dags`: run the shipped DAGs without a scheduler, or one task of them for a scheduler."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict

import click

from ..schemas.errors import ReclakeError, UsageError
from . import runner, settings
from .tasks import DAGS, find

_NAME = "python -m reclake.dags"

_lake = click.option("--lake", metavar="LAKE", help="The lake; goes before the one in the configuration.")
_config = click.option(
    "--config", metavar="FILE", help="A TOML file; by default dags.toml in the lake, beside it, or in this folder."
)
_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object, and nothing else, on stdout.")
_again = click.option("--again", is_flag=True, help="Run finished tasks again, too.")


@click.group()
def commands() -> None:
    """Hourly ingest, daily seal -> samples -> pin -> pack -> compact, daily report.

    A daily run is named 2022-05-02, an hourly one 2022-05-02T13. Interrupted runs go on where they stopped.
    """


@commands.command("list")
@_json
def list_dags(as_json: bool) -> None:
    """The DAGs and their tasks."""
    if as_json:
        document = [
            {
                "dag": d.name,
                "schedule": d.schedule,
                "tasks": [{"task": t.name, "needs": list(t.needs)} for t in d.order],
            }
            for d in DAGS.values()
        ]
        click.echo(json.dumps({"dags": document}))
        return
    for dag in DAGS.values():
        click.echo(f"{dag.name:<8} {dag.schedule:<7} {' -> '.join(task.name for task in dag.order)}")


@commands.command()
@click.argument("dag")
@click.argument("run")
@_lake
@_config
@_again
@_json
def run(dag: str, run: str, lake: str | None, config: str | None, again: bool, as_json: bool) -> None:
    """Run one DAG for one day or hour: run daily 2022-05-02 --lake LAKE."""
    _run_all(dag, [run], settings.load(config, lake), again, as_json)


@commands.command()
@click.argument("dag")
@click.argument("first")
@click.argument("last")
@_lake
@_config
@_again
@_json
def backfill(dag: str, first: str, last: str, lake: str | None, config: str | None, again: bool, as_json: bool) -> None:
    """Run one DAG for every day or hour from FIRST through LAST, in order; stops at the first that fails."""
    _run_all(dag, find(dag).runs(first, last), settings.load(config, lake), again, as_json)


@commands.command()
@click.argument("dag")
@click.argument("task")
@click.argument("run")
@_lake
@_config
@_json
def task(dag: str, task: str, run: str, lake: str | None, config: str | None, as_json: bool) -> None:
    """Run one task once, as a scheduler does: task daily seal 2022-05-02. Keeps no books."""
    counts = dict(runner.run_task(find(dag), task, run, settings.load(config, lake)))
    if as_json:
        click.echo(json.dumps({"dag": dag, "task": task, "run": run, "counts": counts}))
    else:
        click.echo(f"{dag} {run}  {task}  " + "  ".join(f"{name} {value}" for name, value in counts.items()))


def _run_all(dag: str, runs: list[str], chosen: settings.Settings, again: bool, as_json: bool) -> None:
    ended: list[runner.DagRun] = []
    for name in runs:
        ended.append(
            runner.run_dag(find(dag), name, chosen, again=again, say=lambda line: click.echo(line, err=as_json))
        )
        if ended[-1].failed:
            break
    not_run = runs[len(ended) :]
    if as_json:
        click.echo(json.dumps({"runs": [asdict(run) for run in ended], "not_run": not_run}))
    if ended[-1].failed:
        where = f"{dag} {ended[-1].run}"
        later = f"; not run: {not_run[0]} .. {not_run[-1]}" if not_run else ""
        click.echo(f"failed: {where}{later}. Run the same command again to go on from there.", err=True)
        sys.exit(1)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit status is 0, 1 (refused or failed) or 2 (wrong usage)."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        status: object = commands.main(args=arguments, prog_name=_NAME, standalone_mode=False)
    except (ReclakeError, OSError) as error:
        _refuse(error, arguments)
        return 1
    except click.ClickException as error:
        context = getattr(error, "ctx", None) or click.Context(commands, info_name=_NAME)
        usage = UsageError(
            error.format_message(),
            where=context.command_path,
            expected=context.get_usage().removeprefix("Usage: "),
            got=" ".join([_NAME, *arguments]),
            hint=f"{context.command_path} --help",
        )
        _refuse(usage, arguments)
        return error.exit_code
    return status if isinstance(status, int) else 0


def _refuse(error: ReclakeError | OSError, arguments: Sequence[str]) -> None:
    """What went wrong: what, where, expected, got and what to do on stderr; with --json as an object on stdout, too."""
    if "--json" in arguments:
        parts = error.parts() if isinstance(error, ReclakeError) else {"what": str(error)}
        click.echo(json.dumps({"error": {"type": type(error).__name__} | parts}))
    click.echo(f"error: {error}", err=True)


if __name__ == "__main__":
    sys.exit(main())
