"""What a longer history costs: sealing a day, looking for a batch's duplicates, a user's last events; bytes and times.

History grows by days of equal size. At 1x, 4x, 16x, 64x of it the next days are ingested, sealed and looked into;
beside them what one would do without: group the whole directory, join the batch with all ids, scan with Polars.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
from compare import arguments

import reclake
from reclake.pipelines.duplicates import held
from reclake.pipelines.run import Run
from reclake.schemas.times import US_PER_DAY, to_us

START = to_us("2023-01-01")
EVENTS_OF_A_USER = 100  # a day; so 1x holds everybody's last 256 already
RUN = Run(id="bench", now_us=lambda: START + 4000 * US_PER_DAY)


def day_of(folder: Path, number: int, rows: int) -> Path:
    """A day's events as a file."""
    rng = np.random.Generator(np.random.PCG64(number))
    time_us = START + number * US_PER_DAY + np.sort(rng.integers(0, US_PER_DAY, rows))
    frame = pl.DataFrame(
        {
            "event_id": [f"{number:04d}-{n:08d}" for n in range(rows)],
            "user_id": rng.integers(0, rows // EVENTS_OF_A_USER, rows),
            "item_id": rng.integers(0, 50_000, rows),
            "event_type": rng.choice(["exposure", "click"], rows),
            "event_time": time_us,
            "available_at": time_us,
        }
    )
    frame.write_parquet(folder / "day.parquet")
    return folder / "day.parquet"


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def ids_by_join(lake: reclake.Lake, ids: pl.Series) -> None:
    scan = lake.catalog.table("events").scan().select("event_id")
    scan.join(ids.to_frame("event_id").lazy(), on="event_id", how="semi").collect(engine="streaming")


def ordinals_by_group(lake: reclake.Lake) -> None:
    ends = (pl.col("first_ordinal") + pl.col("count")).max()
    lake.catalog.table("directory").scan().group_by("user_id").agg(ends).collect(engine="streaming")


def last_by_scan(lake: reclake.Lake, user: int) -> None:
    scan = lake.catalog.table("timelines").scan().filter(pl.col("user_id") == user)
    scan.sort("ordinal").tail(256).collect()


def measure(lake: reclake.Lake, folder: Path, first: int, rows: int, rounds: int) -> dict[str, float]:
    """Medians over the next `rounds` days, ms."""
    fresh = pl.Series("event_id", [f"new-{first}-{n:08d}" for n in range(rows)])
    taken: dict[str, list[float]] = {}

    def take(name: str, work: Callable[[], object]) -> None:
        taken.setdefault(name, []).append(seconds(work))

    for number in range(first, first + rounds):
        path = day_of(folder, number, rows)
        take("ingest a day", lambda path=path: lake.ingest("events", path, run=RUN))  # type: ignore[misc]
        held(lake.catalog, "events", fresh[:1])  # the day's own ids are read once, by whoever looks first
        take("duplicates of a batch", lambda: held(lake.catalog, "events", fresh))
        take("  by a join with all ids", lambda: ids_by_join(lake, fresh))
        take("  all ordinals by group_by", lambda: ordinals_by_group(lake))
        through = START + (number + 1) * US_PER_DAY
        take("seal a day", lambda through=through: lake.seal(through=through, run=RUN))  # type: ignore[misc]
        for user in range(5):
            take("a user's last 256", lambda user=user: lake.timeline(user, last=256))  # type: ignore[misc]
        take("  by scan_delta and filter", lambda: last_by_scan(lake, 7))
    return {name: 1000 * statistics.median(times) for name, times in taken.items()}


def main() -> None:
    quick = arguments(__doc__ or "").quick
    unit, factors, rows, rounds = (4, (1, 4, 16), 10_000, 3) if quick else (4, (1, 4, 16, 64), 20_000, 7)
    curves = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lake = reclake.Lake.create(folder / "lake")
        days = 0
        for factor in factors:
            while days < unit * factor:
                lake.ingest("events", day_of(folder, days, rows), run=RUN)
                days += 1
            lake.seal(through=START + days * US_PER_DAY, run=RUN)
            curves.append(measure(lake, folder, days, rows, rounds))
            days += rounds
        index = sum(path.stat().st_size for path in lake.catalog.cache.rglob("*.npy"))
        tables = {name: lake.catalog.table(name) for name in ("events", "timelines", "directory")}
        sizes = {name: sum(Path(p).stat().st_size for p in table.files()) for name, table in tables.items()}
    print(f"\n{rows:,} events a day of {rows // EVENTS_OF_A_USER:,} users; 1x is {unit} days; medians in ms")
    print(f"  {'':<30}" + "".join(f"{f'{factor}x':>10}" for factor in factors) + f"{'last / first':>14}")
    for name in curves[0]:
        line = [curve[name] for curve in curves]
        print(f"  {name:<30}" + "".join(f"{ms:>10.1f}" for ms in line) + f"{line[-1] / line[0]:>13.2f}x")
    per = {name: size / (days * rows) for name, size in sizes.items()} | {"indexes": index / (days * rows)}
    print("  bytes an event: " + ", ".join(f"{name} {size:.1f}" for name, size in per.items()))


if __name__ == "__main__":
    main()
