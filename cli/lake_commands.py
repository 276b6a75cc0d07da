"""init, ingest, seal, timeline."""

from __future__ import annotations

import time
from pathlib import Path

import click

from ..pipelines.ingest import IngestResult
from ..pipelines.lake import Lake
from ..pipelines.run import Run
from ..schemas.errors import ReclakeError
from ..schemas.times import iso
from ..storage.catalog import DEFAULT_BUCKETS
from .options import ID, TIME, json_option, lake_argument
from .output import Output, account, count, size


@click.command()
@lake_argument
@click.option(
    "--buckets", default=DEFAULT_BUCKETS, show_default=True, help="Buckets of users; fixed for the lake's life."
)
@json_option
def init(lake: str, buckets: int, machine: bool) -> None:
    """Make a lake at LAKE, with the shipped contracts and recipes. Again is safe."""
    output = Output(machine)
    catalog = Lake.create(lake, buckets=buckets).catalog
    names = [contract.name for contract in catalog.contracts()]
    recipes = [recipe.name for recipe in catalog.recipes()]
    output.line(
        f"lake    {catalog.root}, {buckets} buckets, contracts {', '.join(names)}, recipes {', '.join(recipes)}"
    )
    output.result({"lake": str(catalog.root), "buckets": buckets, "contracts": names, "recipes": recipes})


@click.command()
@lake_argument
@click.argument("contract")
@click.argument("source", nargs=-1, required=True, type=click.Path())
@click.option("--follow", is_flag=True, help="Watch one folder and ingest what comes, until interrupted.")
@click.option(
    "--poll",
    type=click.FloatRange(min=0, min_open=True),
    default=1.0,
    show_default=True,
    help="Seconds between looks, with --follow.",
)
@json_option
def ingest(lake: str, contract: str, source: tuple[str, ...], follow: bool, poll: float, machine: bool) -> int:
    """Read files or folders (Avro, Parquet, JSON lines, CSV) into LAKE under CONTRACT, through the gate.

    With --follow and --json, one object a file; the exit status is 1 if a file was refused.
    """
    output = Output(machine)
    opened = Lake.open(lake)
    if follow:
        return _follow(opened, contract, source, poll, output)
    started = time.monotonic()
    with output.running() as run:
        result = opened.ingest(contract, list(source), run=run)
    seconds = time.monotonic() - started
    output.line(f"ingest  {account(result)}   {size(result.bytes)}, {seconds:.1f} s")
    _notes(opened, contract, result, output)
    output.result({"step": "ingest", "contract": contract, "seconds": seconds} | _flat(result))
    return 0


def _flat(result: object) -> dict[str, object]:
    from .output import plain

    return dict(plain(result))


def _notes(lake: Lake, contract: str, result: IngestResult, output: Output) -> None:
    flat = _flat(result)
    done, ignored, skipped = flat["files_done_before"], flat["ignored_columns"], flat["skipped_files"]
    if done:
        output.line(f"        {done} of {flat['files']} file(s) had been read to the end before")
    if ignored:
        output.line(f"        columns that contract {contract} does not read: {', '.join(map(str, ignored))}")  # type: ignore[call-overload]
    if skipped:
        output.line(f"        files of another kind, not read: {', '.join(map(str, skipped))}")  # type: ignore[call-overload]
    output.findings(result.findings)
    if flat["quarantined"]:
        output.line(f"        more: reclake quarantine list {lake.catalog.root} --contract {contract}")


def _follow(lake: Lake, contract: str, source: tuple[str, ...], poll: float, output: Output) -> int:
    import signal

    from ..pipelines.follow import follow as follow_folder

    if len(source) != 1:
        raise click.UsageError("--follow takes one folder")
    stopped: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda got, _frame: stopped.append(got))
    output.line(f"following {source[0]} as {contract}; Ctrl-C ends it")

    refused: list[ReclakeError] = []

    def told(result: object) -> None:
        output.line(f"ingest  {account(result)}")
        output.result(result)

    def refuse(error: ReclakeError) -> None:
        refused.append(error)
        output.error(error)

    follow_folder(
        lake.catalog,
        contract,
        Path(source[0]),
        run=Run(),
        on_ingest=told,
        on_refused=refuse,
        stop=lambda: bool(stopped),
        poll_seconds=poll,
    )
    return 1 if refused else 0


@click.command()
@lake_argument
@click.option(
    "--through", type=TIME, help="Seal what was known before this time; default: the last whole day with events."
)
@click.option("--engine", default="local", show_default=True, help="local or spark.")
@click.option("--ignore-watermarks", is_flag=True, help="Do not wait for followed sources; it is recorded.")
@json_option
def seal(lake: str, through: int | None, engine: str, ignore_watermarks: bool, machine: bool) -> None:
    """Close a span of time in LAKE for ever and give its events ordinals."""
    output = Output(machine)
    started = time.monotonic()
    with output.running() as run:
        opened = Lake.open(lake)
        result = opened.seal(through=through, engine=engine, ignore_watermarks=ignore_watermarks, run=run)
    seconds = time.monotonic() - started
    until = "nothing" if result.through_us is None else iso(result.through_us)
    output.line(
        f"seal    {count(result.rows)} events into {len(result.eras)} era(s), sealed through {until}   {seconds:.1f} s"
    )
    for path in result.followers_gone:
        output.line(f"        passed over, its follower was killed: {path}; what it brings is known from its arrival")
    for path in result.watermarks_ignored:
        output.line(f"        not waited for: {path}; what it brings is known from its arrival")
    waiting = _known_later(opened, result.through_us) if result.rows == 0 else 0
    if waiting:
        output.line(
            f"        {count(waiting)} events wait that are known later: without available_at, from their arrival"
        )
    output.findings(result.findings)
    if result.findings:
        output.line(f"        more: reclake report quality {lake}")
    output.result({"step": "seal", "seconds": seconds} | _flat(result))


def _known_later(lake: Lake, through_us: int | None) -> int:
    """How many events are known only after a seal."""
    import polars as pl

    events = lake.catalog.table("events").scan()
    if through_us is not None:
        events = events.filter(pl.col("known_at") >= pl.lit(through_us).cast(pl.Datetime("us", "UTC")))
    return int(events.select(pl.len()).collect().item())


# An id may be negative, and is no option then.
@click.command(context_settings={"ignore_unknown_options": True})
@lake_argument
@click.argument("user", type=ID)
@click.option("--before", type=TIME, help="Events known strictly before this time.")
@click.option("--last", type=int, default=20, show_default=True, help="How many at most.")
@json_option
def timeline(lake: str, user: int, before: int | None, last: int, machine: bool) -> None:
    """What a server knew of USER at a time, oldest first."""
    output = Output(machine)
    rows = Lake.open(lake).timeline(user, before=before, last=last)
    shown = [
        c
        for c in ("ordinal", "known_at", "event_time", "event_type", "item_id", "event_id", "sealed")
        if c in rows.column_names
    ]
    output.table(f"user {user}", shown, [[row[c] for c in shown] for row in rows.select(shown).to_pylist()])
    output.result({"user_id": user, "events": rows.to_pylist()})
