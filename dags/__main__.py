"""`python -m reclake.dags`: run the shipped DAGs without a scheduler, or one task of them for a scheduler."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict

import click

from ..schemas.errors import ReclakeError
from . import runner, settings
from .tasks import DAGS, find

_lake = click.option("--lake", metavar="LAKE", help="The lake; goes before the one in the configuration.")
_config = click.option(
    "--config", metavar="FILE", help="A TOML file; by default dags.toml in the lake, beside it, or in this folder."
)
_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object, and nothing else, on stdout.")
_again = click.option("--again", is_flag=True, help="Run finished tasks again, too.")


class _Commands(click.Group):
    """Errors of ours are printed, not raised: what, where, expected, got and what to do; exit status 1."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except (ReclakeError, OSError) as error:
            click.echo(f"error: {error}", err=True)
            ctx.exit(1)


@click.group(cls=_Commands)
def main() -> None:
    """Hourly ingest, daily seal -> samples -> pin -> pack -> compact, daily report.

    A daily run is named 2022-05-02, an hourly one 2022-05-02T13. Interrupted runs go on where they stopped.
    """


@main.command("list")
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


@main.command()
@click.argument("dag")
@click.argument("run")
@_lake
@_config
@_again
@_json
def run(dag: str, run: str, lake: str | None, config: str | None, again: bool, as_json: bool) -> None:
    """Run one DAG for one day or hour: run daily 2022-05-02 --lake LAKE."""
    _run_all(dag, [run], settings.load(config, lake), again, as_json)


@main.command()
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


@main.command()
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


if __name__ == "__main__":
    main(prog_name="python -m reclake.dags")
