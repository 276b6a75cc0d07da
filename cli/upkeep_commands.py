"""compact, vacuum, forget, doctor."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..pipelines.lake import Lake
from ..schemas.errors import ErasureError
from ..schemas.times import iso
from .options import ID, json_option, lake_argument
from .output import Output, count, plain, size

if TYPE_CHECKING:
    from ..pipelines.forget import Receipt

_SHOWN = 10


@click.command()
@lake_argument
@json_option
def compact(lake: str, machine: bool) -> None:
    """Merge the small files of every table, and sealed eras into longer ones. Readers, writers and pins go on."""
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
    type=click.IntRange(0, 876_000),
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
    catalog = Lake.open(lake).catalog
    with output.running() as run:
        done = sweep(catalog, retention_hours=retention_hours, dry_run=dry_run, now_us=run.now_us())
    rows: list[list[object]] = [[v.table, v.files, size(v.bytes), sum(h.files for h in v.held)] for v in done]
    output.table("would be deleted" if dry_run else "deleted", ["table", "files", "bytes", "held by pins"], rows)
    held: list[list[object]] = [
        [h.pin, "for ever" if h.until_us is None else iso(h.until_us), v.table, h.version, h.files, size(h.bytes)]
        for v in done
        for h in v.held
    ]
    if held:
        output.table("held by pins alone", ["pin", "until", "table", "version", "files", "bytes"], held)
    output.result({"dry_run": dry_run, "tables": plain(done)})


# An id may be negative, and is no option then.
@click.command(context_settings={"ignore_unknown_options": True})
@lake_argument
@click.argument("user", nargs=-1, type=ID)
@click.option("--users", type=click.Path(exists=True, dir_okay=False), help="A file with an id a line.")
@click.option("--within", default=30, show_default=True, help="Days that pins may still hold these users.")
@click.option("--queue", is_flag=True, help="Only put the request on record; the next forget carries it out.")
@json_option
def forget(lake: str, user: tuple[int, ...], users: str | None, within: int, queue: bool, machine: bool) -> None:
    """Remove users from the lake and the shards it knows of, prove it, and leave a receipt.

    Without users: carry out the requests that wait, and go on with what was interrupted.
    """
    from ..pipelines import forget as erasure

    output = Output(machine)
    catalog = Lake.open(lake).catalog
    wanted = [*user, *(_ids(Path(users)) if users else [])]
    with output.running() as run:
        if wanted:
            erasure.ask(catalog, wanted, within_days=within, run=run)
        if queue:
            waiting = erasure.waiting(catalog)
            until = f", the first until {iso(waiting[0].deadline_us)}" if waiting else ""
            output.line(f"forget  {len(waiting)} request(s) wait{until}")
            output.result({"waiting": [{"request": w.request, "deadline_us": w.deadline_us} for w in waiting]})
            return
        receipt = erasure.carry_out(catalog, run=run)
    if receipt is None:
        output.line("forget  nobody waits to be forgotten")
        output.result({"receipt": None})
        return
    _show(output, receipt)
    output.result({"receipt": plain(receipt), "path": str(catalog.root / "receipts" / f"{receipt.run}.json")})


def _ids(path: Path) -> list[int]:
    """The ids of a file, one a line; empty lines are none."""
    try:
        lines = path.read_text(encoding="utf-8-sig").split()
    except UnicodeDecodeError:
        lines = ["bytes that are no text"]
    wrong = next((line for line in lines if not re.fullmatch("[+-]?[0-9]{1,19}", line)), None)
    if wrong is not None or not lines:
        raise ErasureError(
            "not a file of user ids", where=path, expected="an integer a line", got=wrong[:80] if wrong else "none"
        )
    return [int(line) for line in lines]


def _show(output: Output, receipt: Receipt) -> None:
    seconds = (receipt.finished_at_us - receipt.began_at_us) / 1e6
    tables: list[list[object]] = [
        [t.table, count(t.rows), f"{t.version_before} → {t.version_after}", t.files_removed, size(t.bytes_written)]
        for t in receipt.tables
    ]
    output.table("forgotten", ["table", "rows", "version", "files", "bytes rewritten"], tables)
    for title, names in (
        ("pin ended", receipt.pins_ended),
        ("shards removed", receipt.shards_removed),
        ("examples struck out of a report", receipt.reports_cleaned),
        ("not where it was made; if it was moved, delete it yourself", receipt.outputs_missing),
    ):
        for name in names:
            output.line(f"  {title}: {name}")
    for trace in receipt.texts_found[:_SHOWN]:
        output.line(f"  the digits of an id, maybe by chance: {trace.path}, {trace.place}, {trace.count}")
    output.line(
        f"forget  {count(receipt.users)} user(s); {count(receipt.files_scanned)} files scanned, "
        f"{size(receipt.bytes_scanned)}: {receipt.identifiers_found} identifiers   {seconds:.1f} s"
        f"   receipts/{receipt.run}.json"
    )


@click.command()
@lake_argument
@click.option("--leaks", metavar="PIN", help="Check every event of every sample's history at a pin instead.")
@json_option
def doctor(lake: str, leaks: str | None, machine: bool) -> int:
    """Check that the lake keeps its promises. Exit status 1 if one is broken."""
    from ..pipelines.doctor import examine
    from ..pipelines.leaks import audit

    output = Output(machine)
    catalog = Lake.open(lake).catalog
    with output.running() as run:
        findings = examine(catalog, run=run) if leaks is None else audit(catalog, leaks, run=run)
    output.table(
        "doctor", ["", "promise", "found"], [["ok" if f.kept else "BROKEN", f.promise, f.detail] for f in findings]
    )
    output.result({"findings": plain(findings)})
    return 0 if all(f.kept for f in findings) else 1
