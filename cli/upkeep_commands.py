"""compact, vacuum, forget, doctor."""

from __future__ import annotations

import click

from ..pipelines.lake import Lake
from .options import ID, json_option, lake_argument
from .output import Output, count, plain, size


@click.command()
@lake_argument
@json_option
def compact(lake: str, machine: bool) -> None:
    """Merge the small files of every table. Readers, writers and pins go on as before."""
    from ..storage.maintenance import compact as merge

    output = Output(machine)
    done = merge(Lake.open(lake).catalog)
    rows: list[list[object]] = [[c.table, c.files_before, c.files_after] for c in done]
    output.table("compact", ["table", "files before", "files after"], rows)
    output.result({"tables": plain(done)})


@click.command()
@lake_argument
@click.option(
    "--retention-hours",
    type=click.IntRange(min=0),
    default=168,
    show_default=True,
    help="Keep what versions younger than this need.",
)
@click.option("--dry-run", is_flag=True, help="Only say what would be deleted, and what pins hold.")
@json_option
def vacuum(lake: str, retention_hours: int, dry_run: bool, machine: bool) -> None:
    """Delete files that neither the newest version, nor a pin, nor a younger version needs."""
    from ..storage.maintenance import vacuum as sweep

    output = Output(machine)
    done = sweep(Lake.open(lake).catalog, retention_hours=retention_hours, dry_run=dry_run)
    rows: list[list[object]] = [[v.table, v.files, size(v.bytes), ", ".join(map(str, v.held))] for v in done]
    output.table(
        "would be deleted" if dry_run else "deleted", ["table", "files", "bytes", "versions held by pins"], rows
    )
    output.result({"dry_run": dry_run, "tables": plain(done)})


@click.command()
@lake_argument
@click.argument("user", nargs=-1, required=True, type=ID)
@json_option
def forget(lake: str, user: tuple[int, ...], machine: bool) -> None:
    """Remove users from events, timelines, samples and quarantine, and delete the files that held them."""
    from ..storage.maintenance import forget as erase

    output = Output(machine)
    done = erase(Lake.open(lake).catalog, user)
    output.table("forgotten", ["table", "rows"], [[f.table, count(f.rows)] for f in done])
    output.line("shards that were packed before, and pins' old files elsewhere, are not reached: delete those folders")
    output.result({"users": len(user), "tables": plain(done)})


@click.command()
@lake_argument
@json_option
def doctor(lake: str, machine: bool) -> int:
    """Check that the lake keeps its promises. Exit status 1 if one is broken."""
    from ..pipelines.doctor import examine

    output = Output(machine)
    findings = examine(Lake.open(lake).catalog)
    output.table(
        "doctor", ["", "promise", "found"], [["ok" if f.kept else "BROKEN", f.promise, f.detail] for f in findings]
    )
    output.result({"findings": plain(findings)})
    return 0 if all(f.kept for f in findings) else 1
