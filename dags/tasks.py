"""The tasks of the shipped DAGs: each calls one verb of the lake for one hour or day, and may be run again safely.

Nothing heavy is imported before a task runs, so that a scheduler can read this module with the standard library alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from ..schemas.errors import TaskError
from ..schemas.times import US_PER_DAY, from_us
from .graph import Context, Counts, Dag, Task

if TYPE_CHECKING:
    from ..pipelines.lake import Lake


def ingest(context: Context) -> Counts:
    """The hour's folder (or what is new in the inbox) into the contract's table.

    An empty folder is an hour in which nothing happened; a folder that is not there is data that did not arrive.

    Raises:
        TaskError: the folder is not there.
    """
    start = from_us(context.start_us)
    settings = context.settings
    folder = Path(settings.inbox.replace("{date}", f"{start:%Y-%m-%d}").replace("{hour}", f"{start:%H}"))
    if not folder.is_dir():
        raise TaskError(
            "no folder to ingest from",
            where=folder,
            expected="a folder; an empty one says that nothing happened",
            hint="let the files arrive and run the task again, or set `inbox` in dags.toml",
        )
    files = sum(1 for path in folder.rglob("*") if path.is_file())
    if not files:
        return {"files": 0}
    return {"files": files} | _counts(_lake(context).ingest(settings.contract, [str(folder)]))


def seal(context: Context) -> Counts:
    """Ordinals for everything known before the end of the day."""
    return _counts(_lake(context).seal(through=_day_end_us(context)))


def samples(context: Context) -> Counts:
    """The sample set of the day's exposures; and that of the day before once more, whose last labels are final now."""
    lake, recipe = _lake(context), context.settings.recipe
    lake.samples(recipe, day=context.day - timedelta(days=1))
    return _counts(lake.samples(recipe, day=context.day))


def pin(context: Context) -> Counts:
    """Name the versions the day's training set is made of. A pin that exists stays: it is what was trained on."""
    lake, name = _lake(context), _pin_name(context)
    kept = name in lake.catalog.pin_names()
    if not kept:
        lake.pin(name)
    return {"pin": name, "made": int(not kept)}


def pack(context: Context) -> Counts:
    """The day's shards, from the pin, into a folder of their own: samples of the day and of the days before it."""
    name, settings = _pin_name(context), context.settings
    out = Path(settings.shards) / name
    days = f"{context.day - timedelta(days=settings.pack_days - 1)}..{context.day}"
    return {"out": str(out), "days": days} | _counts(_lake(context).pack(settings.recipe, pin=name, out=out, days=days))


def compact(context: Context) -> Counts:
    """Small files and old eras merged, so that tomorrow costs what today did. Nobody waits for it."""
    done = _lake(context).compact()
    return {"files_before": sum(d.files_before for d in done), "files_after": sum(d.files_after for d in done)}


def report(context: Context) -> Counts:
    """The lake's report as of this run, one HTML file a day."""
    out = Path(context.settings.reports) / f"{context.day.isoformat()}.html"
    out.parent.mkdir(parents=True, exist_ok=True)
    return {"out": str(out)} | _counts(_lake(context).report(out))


DAGS: Mapping[str, Dag] = {
    dag.name: dag
    for dag in (
        Dag("hourly", "hourly", (Task("ingest", ingest),)),
        Dag(
            "daily",
            "daily",
            (
                Task("seal", seal),
                Task("samples", samples, needs=("seal",)),
                Task("pin", pin, needs=("samples",)),
                Task("pack", pack, needs=("pin",)),
                Task("compact", compact, needs=("pack",)),
            ),
        ),
        Dag("report", "daily", (Task("report", report),)),
    )
}


def find(name: str) -> Dag:
    """The shipped DAG of that name.

    Raises:
        TaskError: there is none.
    """
    if name not in DAGS:
        raise TaskError("no such dag", expected="one of " + ", ".join(DAGS), got=name)
    return DAGS[name]


def _lake(context: Context) -> Lake:
    from ..pipelines.lake import Lake

    return Lake.open(context.settings.lake)


def _day_end_us(context: Context) -> int:
    return context.start_us - context.start_us % US_PER_DAY + US_PER_DAY


def _pin_name(context: Context) -> str:
    return f"{context.settings.recipe}-{context.day.isoformat()}"


def _counts(result: object) -> dict[str, int | float | str]:
    """The plain numbers and names of what a verb returned."""
    if not is_dataclass(result) or isinstance(result, type):
        return {}
    named = {field.name: getattr(result, field.name) for field in fields(result)}
    return {name: value for name, value in named.items() if isinstance(value, int | float | str)}
