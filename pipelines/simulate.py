"""A small short-video app that never existed: its logs, with the faults real logs have, and its items' media.

What is written below `out`:

    events/day-01-000.avro       day 1, 4, …   Avro containers
    events/day-02-000.jsonl      day 2, 5, …   JSON lines, some malformed
    events/day-03-000.parquet    day 3, 6, …   Parquet of a newer app: a column more, a column less, narrower integers
    events/late.csv              events that became available a day or more after they happened
    items.jsonl                  one line for each item: id, title, paths of cover, clip and sound
    covers/ clips/ sounds/       JPEG, MP4, WAV; one of each is broken
    truth/users.parquet          what the generator knows and a model must find out
    truth/items.parquet

The same arguments give the same files.
"""

from __future__ import annotations

import math
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl

from ..schemas.errors import ReclakeError
from ..schemas.times import Time, day_start_us, iso
from .simulator import files, log, rendering, world
from .simulator.rendering import Broken
from .simulator.world import World

CHUNK_REQUESTS = 25_000  # about a quarter of a million events: what is held in memory, and what one file holds
FORMATS = ("avro", "jsonl", "parquet")


@dataclass(frozen=True, slots=True)
class SimulatedFile:
    """One event file. rows = events first sent here + duplicates + malformed."""

    path: Path
    rows: int
    duplicates: int
    malformed: int


@dataclass(frozen=True, slots=True)
class SimulatedApp:
    """What was written, and exactly how much of it. rows = events + duplicates + malformed, over all files."""

    root: Path
    files: tuple[SimulatedFile, ...]  # in the order they would be ingested; late.csv is last
    manifest: Path  # items.jsonl
    truth_users: Path
    truth_items: Path
    users: int
    items: int
    days: tuple[str, ...]
    events: int  # distinct good events
    rows: int
    duplicates: int  # rows beyond the first of an event_id: within a file, and with the next day's file
    late: int  # events that became available a day or more after they happened: in late.csv, counted in `events`
    malformed: dict[str, int]  # rows that are no events, by what is wrong
    exposures: int
    clicks: int
    broken: Broken | None

    @property
    def paths(self) -> tuple[Path, ...]:
        """The event files, in the order they would be ingested."""
        return tuple(file.path for file in self.files)


def simulate(
    out: Path,
    *,
    seed: int,
    scale: float = 1.0,
    days: int = 3,
    start: Time = "2024-03-01",
    media: bool = True,
    users: int = 2_000,
    items: int = 400,
) -> SimulatedApp:
    """Write the app's logs and media below `out`.

    A user makes `4 * scale` requests of six items a day on average: about 85,000 events a day for 2,000 users at
    scale 1, 42 for each user. `scale` multiplies requests and so events, e.g. `users=50, scale=800` gives more than
    100,000 events to the average user over three days. Memory is bounded by a chunk of about a quarter of a million
    events and one number for each user and topic, whatever the scale.

    Raises:
        MissingExtraError: media is wanted, and Pillow or PyAV is missing.
        ReclakeError: a size is too small, or `scale` is not positive.
    """
    if not scale > 0:
        raise ReclakeError("not a scale", expected="a number above 0", got=scale)
    if media:
        rendering.require()
    app = world.build(seed, start_us=day_start_us(start), days=days, users=users, items=items)
    out.mkdir(parents=True, exist_ok=True)
    rows = rendering.manifest(app, media=media)
    files.write_json_lines(out / "items.jsonl", rows, between=[], rng=world.random(seed, 8))
    _write_truth(out / "truth", app)
    broken = rendering.render(out, app, rows) if media else None
    tally = _write_logs(out / "events", app, scale)
    return SimulatedApp(
        root=out,
        files=tuple(tally.files),
        manifest=out / "items.jsonl",
        truth_users=out / "truth" / "users.parquet",
        truth_items=out / "truth" / "items.parquet",
        users=users,
        items=items,
        days=tuple(iso(app.day_us(day))[:10] for day in range(days)),
        events=tally.events,
        rows=sum(file.rows for file in tally.files),
        duplicates=sum(file.duplicates for file in tally.files),
        late=tally.late,
        malformed=tally.malformed,
        exposures=tally.exposures,
        clicks=tally.clicks,
        broken=broken,
    )


@dataclass(slots=True)
class _Tally:
    """What has been written so far."""

    files: list[SimulatedFile] = field(default_factory=list)
    malformed: dict[str, int] = field(default_factory=dict)
    events: int = 0
    late: int = 0
    exposures: int = 0
    clicks: int = 0


def _write_logs(folder: Path, app: World, scale: float) -> _Tally:
    """All event files, one chunk at a time; what is sent again with the next day's file is carried over."""
    if folder.exists():
        # An older run's file under a name that this run does not write would be ingested with this run's.
        shutil.rmtree(folder)
    folder.mkdir()
    tally = _Tally()
    late_path, late_duplicates, late_rows = folder / "late.csv", 0, 0
    chunks = max(1, math.ceil(len(app.users.id) * world.REQUESTS_PER_DAY * scale / CHUNK_REQUESTS))
    carried = pl.DataFrame(schema=log.COLUMNS)
    for day in range(app.days):
        carry = []
        for chunk in range(chunks):
            rng = world.random(app.seed, 7, day, chunk)
            shown = world.expose(app, day=day, chunk=chunk, chunks=chunks, scale=scale)
            happened = log.events(app, shown, prefix=f"d{day + 1:02d}c{chunk:03d}")
            delivery = log.deliver(rng, happened)
            tally.events += len(happened)
            tally.late += len(delivery.late)
            tally.exposures += len(shown.item)
            tally.clicks += int((shown.click_us >= 0).sum())
            _write_chunk(folder, tally, rng, delivery.on_time, carried, day=day, chunk=chunk)
            carried = carried.clear()
            files.append_csv(late_path, delivery.late)
            late_rows += len(delivery.late)
            carry.append(log.resent(rng, log.sample(rng, delivery.on_time, log.RESENT_NEXT_DAY_SHARE)))
        carried = pl.concat(carry)
    # Nobody ships a file for the day after the last: its second deliveries travel with the late events.
    files.append_csv(late_path, carried)
    late_rows, late_duplicates = late_rows + len(carried), len(carried)
    tally.files.append(SimulatedFile(late_path, rows=late_rows, duplicates=late_duplicates, malformed=0))
    return tally


def _write_chunk(
    folder: Path,
    tally: _Tally,
    rng: np.random.Generator,
    on_time: pl.DataFrame,
    carried: pl.DataFrame,
    *,
    day: int,
    chunk: int,
) -> None:
    """One file: a span's events, some of them twice, with some of the day before once more, out of order."""
    again = log.sample(rng, on_time, log.RESENT_SHARE)
    rows = log.disordered(rng, pl.concat([on_time, again, carried]))
    form = FORMATS[day % len(FORMATS)]
    path = folder / f"day-{day + 1:02d}-{chunk:03d}.{form}"
    malformed = 0
    if form == "avro":
        files.write_avro(path, rows)
    elif form == "parquet":
        files.write_parquet(path, rows)
    else:
        spoilt = log.malformed_lines(rng, rows, prefix=f"d{day + 1:02d}c{chunk:03d}")
        files.write_json_lines(path, rows, [line for lines in spoilt.values() for line in lines], rng)
        malformed = sum(len(lines) for lines in spoilt.values())
        for kind, lines in spoilt.items():
            tally.malformed[kind] = tally.malformed.get(kind, 0) + len(lines)
    tally.files.append(
        SimulatedFile(path, rows=len(rows) + malformed, duplicates=len(again) + len(carried), malformed=malformed)
    )


def _write_truth(folder: Path, app: World) -> None:
    """Tastes, moods and topics: for tests and for reports that want to know how much there was to find."""
    folder.mkdir(exist_ok=True)
    users, items = app.users, app.items
    pl.DataFrame(
        {
            "user_id": users.id,
            "activity": users.activity,
            "taste": pl.Series(users.taste.tolist(), dtype=pl.List(pl.Float64)),
            "mood": pl.Series(users.mood.T.tolist(), dtype=pl.List(pl.Int64)),
        }
    ).write_parquet(folder / "users.parquet")
    pl.DataFrame(
        {
            "item_id": items.id,
            "topic": items.topic,
            "appeal": items.appeal,
            "first_day": items.first_day,
        }
    ).write_parquet(folder / "items.parquet")
