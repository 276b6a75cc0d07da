"""samples, media, pin, unpin, pins, pack, report."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from ..pipelines.lake import Lake
from ..pipelines.run import Run
from ..schemas.times import iso
from .options import TIME, json_option, lake_argument
from .output import Output, count, plain, size

if TYPE_CHECKING:
    from ..pipelines.reports.report import ReportResult
    from ..storage.pins import Pin
    from ..storage.shard_manifest import Compression


@click.command()
@lake_argument
@click.argument("recipe")
@click.option("--day", required=True, help="The UTC day, e.g. 2022-05-02. It must be sealed.")
@json_option
def samples(lake: str, recipe: str, day: str, machine: bool) -> None:
    """Assemble the samples of one day by RECIPE (a name, or a .json file, which is registered)."""
    output = Output(machine)
    started = time.monotonic()
    with output.running() as run:
        result = Lake.open(lake).samples(recipe, day=day, run=run)
    seconds = time.monotonic() - started
    positives = ", ".join(f"{name} {count(n)}" for name, n in result.positives.items())
    before = " (made before)" if result.made_before else ""
    output.line(
        f"samples {result.day}: {count(result.rows)} samples = {count(result.exposures)} exposures"
        f" + {count(result.negatives)} negatives{before}; {positives}; {count(result.mature)} mature   {seconds:.1f} s"
    )
    output.findings(result.findings)
    if result.findings:
        output.line(f"        more: reclake report quality {lake}")
    output.result({"step": "samples", "seconds": seconds} | plain(result))


@click.command()
@lake_argument
@click.argument("plan")
@click.argument("manifest", type=click.Path())
@json_option
def media(lake: str, plan: str, manifest: str, machine: bool) -> None:
    """Run the operators of PLAN over the items of MANIFEST and write gated content rows."""
    output = Output(machine)
    started = time.monotonic()
    with output.running() as run:
        result = Lake.open(lake).media(plan, manifest, run=run)
    seconds = time.monotonic() - started
    items = (
        f"{count(result.read)} items = {count(result.admitted)} admitted"
        f" + {count(result.quarantined)} quarantined + {count(result.skipped)} done before"
    )
    output.line(f"media   {items}; {count(result.dead_letters)} dead letters   {size(result.bytes)}, {seconds:.1f} s")
    output.findings(result.findings)
    if result.findings:
        output.line(f"        more: reclake report quality {lake}")
    output.result({"step": "media", "seconds": seconds} | plain(result))


@click.command()
@lake_argument
@click.argument("name")
@click.option("--until", type=TIME, help="Let the pin expire then; default: it holds for ever.")
@json_option
def pin(lake: str, name: str, until: int | None, machine: bool) -> None:
    """Name the present versions of all tables and keep them alive through vacuum."""
    output = Output(machine)
    made = Lake.open(lake).pin(name, until=until)
    versions = ", ".join(f"{table} {version}" for table, version in sorted(made.tables.items()))
    output.line(f"pin     {name}: {versions}; kept {_kept(made)}")
    output.result(made.to_json())


@click.command()
@lake_argument
@click.argument("name")
@json_option
def unpin(lake: str, name: str, machine: bool) -> None:
    """Let go of what a pin keeps alive; the next vacuum may delete it."""
    output = Output(machine)
    gone = Lake.open(lake).unpin(name)
    output.line(f"unpin   {name}")
    output.result(gone.to_json())


@click.command()
@lake_argument
@json_option
def pins(lake: str, machine: bool) -> None:
    """List the pins of a lake."""
    output = Output(machine)
    found = Lake.open(lake).catalog.pins()
    rows: list[list[object]] = [
        [
            p.name,
            "" if p.sealed_through_us is None else iso(p.sealed_through_us),
            len(p.tables),
            _kept(p),
        ]
        for p in found
    ]
    output.table("pins", ["name", "sealed through", "tables", "kept"], rows)
    output.result({"pins": [p.to_json() for p in found]})


def _kept(pin: Pin) -> str:
    """How long a pin keeps what it names."""
    if pin.until_us is None:
        return "for ever"
    return f"until {iso(pin.until_us)}" + ("" if pin.holds_at(Run().now_us()) else ": expired, it holds nothing")


@click.command()
@lake_argument
@click.argument("recipe")
@click.option("--pin", required=True, help="The pin whose samples are packed.")
@click.option("--out", required=True, type=click.Path(), help="The folder of the shards.")
@click.option("--history", type=int, help="Events of history a sample; default: what the recipe says.")
@click.option("--days", help="Sample days: 2024-03-01..2024-03-07, or some with commas between; default: every one.")
@click.option("--window", help="Keep windows of time apart, e.g. 1h, for feeds that follow time.")
@click.option(
    "--compression",
    type=click.Choice(["lz4", "zstd"]),
    default="lz4",
    show_default=True,
    help="lz4 is read fastest, zstd is 7 to 10 % smaller.",
)
@json_option
def pack(
    lake: str,
    recipe: str,
    pin: str,
    out: str,
    history: int | None,
    days: str | None,
    window: str | None,
    compression: Compression,
    machine: bool,
) -> None:
    """Write the pinned samples of RECIPE as shards: a user's window once, all samples pointing into it."""
    output = Output(machine)
    started = time.monotonic()
    with output.running() as run:
        result = Lake.open(lake).pack(
            recipe, pin=pin, out=out, history=history, days=days, window=window, compression=compression, run=run
        )
    seconds = time.monotonic() - started
    output.line(
        f"pack    {count(result.samples)} samples of {count(result.users)} users in {result.shards} shard(s)"
        f"   {size(result.bytes)}, {seconds:.1f} s   {out}"
    )
    if result.kept == "before":
        output.line("        the same set was there, and is kept")
    elif result.kept == "meanwhile":
        output.line("        somebody else packed the same set there meanwhile, and was faster: theirs is kept")
    output.result({"step": "pack", "seconds": seconds} | plain(result))


class _Reports(click.Group):
    """`report LAKE` is the whole report; `report quality LAKE` the one on quality. A lake called quality: ./quality."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        meant = not args or args[0] in self.commands or args[0] in ctx.help_option_names
        return super().parse_args(ctx, args if meant else ["whole", *args])


@click.group(cls=_Reports, short_help="Write the report: one self-contained HTML file.")
def report() -> None:
    """Write a report: one self-contained HTML file that loads nothing from anywhere.

    `reclake report LAKE` is short for `reclake report whole LAKE`.
    """


@report.command()
@lake_argument
@click.option("--out", type=click.Path(), default="report.html", show_default=True)
@click.option("--pin", help="Report the state of a pin.")
@json_option
def whole(lake: str, out: str, pin: str | None, machine: bool) -> None:
    """Write the report: quality history, quarantine, labels, model metrics, in one self-contained HTML file."""
    _write(Output(machine), lambda found: found.report(out, pin=pin), lake)


@report.command()
@lake_argument
@click.option("--out", type=click.Path(), default="quality.html", show_default=True)
@json_option
def quality(lake: str, out: str, machine: bool) -> None:
    """Write the quality report: what changed, which checks fail, what was quarantined, and every check's history."""
    _write(Output(machine), lambda found: found.report_quality(out), lake)


def _write(output: Output, make: Callable[[Lake], ReportResult], lake: str) -> None:
    started = time.monotonic()
    result = make(Lake.open(lake))
    seconds = time.monotonic() - started
    output.line(f"report  {result.path}   {size(result.bytes)}, {seconds:.1f} s")
    output.result({"step": "report", "seconds": seconds} | plain(result))
