"""What a longer history costs: sealing a day, looking for a batch's duplicates, a user's last events; bytes and times.

A lake grows by days of equal size, each sealed; eras are merged by `reclake compact`. At 1x, 4x, 16x
and 64x of its history it is copied; then the copies get their next days in turn, so that a machine that drifts drifts
for all of them. Beside them what one would do without: join the batch with all ids, scan with Polars.

Of a user's last 256 events the work is counted, too: files and row groups opened, and bytes asked of the file system.
Times are of the clock and of the processor; the latter hardly depends on what else the machine does.
"""

from __future__ import annotations

import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq
from compare import arguments

import reclake
from reclake.pipelines.duplicates import held
from reclake.pipelines.run import Run
from reclake.schemas.times import US_PER_DAY, to_us
from reclake.storage import user_rows

START = to_us("2023-01-01")
RUN = Run(id="bench", now_us=lambda: START + 4000 * US_PER_DAY)
LAST = 256
ACTIVE, SOMETIMES = 100, 80  # events a day of two kinds of users; a third kind comes every fourth day
PEOPLE = {"active": 7, "now and then": 10_003, "rare": 99_999}
Taken = dict[str, dict[int, list[tuple[float, float]]]]


def day_of(folder: Path, number: int, rows: int) -> Path:
    """A day's events as a file: two thirds by active users, a third by others, and one user who seldom comes."""
    rng = np.random.Generator(np.random.PCG64(number))
    time_us = START + number * US_PER_DAY + np.sort(rng.integers(0, US_PER_DAY, rows))
    active, others = rows * 2 // 3 // ACTIVE, rows // 3 // SOMETIMES
    users = np.where(rng.random(rows) < 2 / 3, rng.integers(0, active, rows), 10_000 + rng.integers(0, others, rows))
    if number % 4 == 0:
        users[rows // 2] = PEOPLE["rare"]
    frame = pl.DataFrame(
        {
            "event_id": [f"{number:04d}-{n:08d}" for n in range(rows)],
            "user_id": users,
            "item_id": rng.integers(0, 50_000, rows),
            "event_type": rng.choice(["exposure", "click"], rows),
            "event_time": time_us,
            "available_at": time_us,
        }
    )
    frame.write_parquet(folder / "day.parquet")
    return folder / "day.parquet"


def ids_by_join(lake: reclake.Lake, ids: pl.Series) -> None:
    scan = lake.catalog.table("events").scan().select("event_id")
    scan.join(ids.to_frame("event_id").lazy(), on="event_id", how="semi").collect(engine="streaming")


def last_by_scan(lake: reclake.Lake, user: int) -> None:
    scan = lake.catalog.table("timelines").scan().filter(pl.col("user_id") == user)
    scan.sort("ordinal").tail(LAST).collect()


def read_of(lake: reclake.Lake, user: int) -> tuple[int, int, int, int]:
    """Events found, files and row groups opened, and bytes asked of the file system for a user's last events."""
    files: list[object] = []
    groups: list[object] = []
    opened, read = user_rows.parquet_file, pq.ParquetFile.read_row_group
    before = _asked()
    try:
        user_rows.parquet_file = lambda path: files.append(path) or opened(path)
        pq.ParquetFile.read_row_group = lambda file, *args, **how: groups.append(file) or read(file, *args, **how)
        found = lake.timeline(user, last=LAST).num_rows
    finally:
        user_rows.parquet_file, pq.ParquetFile.read_row_group = opened, read
    return found, len(files), len(groups), _asked() - before


def _asked() -> int:
    counters = Path("/proc/self/io")
    return int(counters.read_text().split("rchar: ")[1].split()[0]) if counters.exists() else 0


def grown(folder: Path, unit: int, factors: tuple[int, ...], rows: int) -> dict[int, reclake.Lake]:
    """Lakes with so many times `unit` days of history, by how many times."""
    lake = reclake.Lake.create(folder / "lake")
    copies = {}
    days = 0
    for factor in factors:
        while days < unit * factor:
            lake.ingest("events", day_of(folder, days, rows), run=RUN)
            days += 1
            lake.seal(through=START + days * US_PER_DAY, run=RUN)
        lake.compact()
        copies[factor] = reclake.Lake.open(shutil.copytree(lake.catalog.root, folder / f"{factor}x"))
    return copies


def measure(lakes: dict[int, reclake.Lake], folder: Path, unit: int, rows: int, rounds: int) -> Taken:
    """ms of each thing, of the clock and of the processor, by name and factor, round by round."""
    taken: Taken = {}

    def take(name: str, factor: int, work: Callable[[], object]) -> None:
        began, cpu = time.perf_counter(), time.process_time()
        work()
        spent = 1000 * (time.perf_counter() - began), 1000 * (time.process_time() - cpu)
        taken.setdefault(name, {}).setdefault(factor, []).append(spent)

    for number in range(rounds):
        for factor, lake in lakes.items():
            day = unit * factor + number
            fresh = pl.Series("event_id", [f"new-{day}-{n:08d}" for n in range(rows)])
            path, through = day_of(folder, day, rows), START + (day + 1) * US_PER_DAY
            take("ingest a day", factor, lambda lake=lake, path=path: lake.ingest("events", path, run=RUN))  # type: ignore[misc]
            held(lake.catalog, "events", fresh[:1])  # the day's own ids are read once, by whoever looks first
            take("duplicates of a batch", factor, lambda lake=lake, fresh=fresh: held(lake.catalog, "events", fresh))  # type: ignore[misc]
            take("  by a join with all ids", factor, lambda lake=lake, fresh=fresh: ids_by_join(lake, fresh))  # type: ignore[misc]
            take("seal a day", factor, lambda lake=lake, through=through: lake.seal(through=through, run=RUN))  # type: ignore[misc]
            take("compact", factor, lake.compact)
            lake.timeline(0, last=1)  # the day's directory is read once, by whoever looks first
            for who, user in PEOPLE.items():
                for _ in range(3):
                    take(f"last {LAST}, {who}", factor, lambda lake=lake, user=user: lake.timeline(user, last=LAST))  # type: ignore[misc]
            take("  by scan_delta and filter", factor, lambda lake=lake: last_by_scan(lake, PEOPLE["active"]))  # type: ignore[misc]
    return taken


def main() -> None:
    quick = arguments(__doc__ or "").quick
    unit, factors, rows, rounds = (2, (1, 4, 16), 2_000, 3) if quick else (4, (1, 4, 16, 64), 5_000, 5)
    with tempfile.TemporaryDirectory() as folder_name:
        folder = Path(folder_name)
        lakes = grown(folder, unit, factors, rows)
        taken = measure(lakes, folder, unit, rows, rounds)
        print(f"\n{rows:,} events a day; 1x is {unit} days; medians of {rounds} rounds in ms, the sizes in turn")
        for place, what in enumerate(("by the clock", "of the processor")):
            print(f"\n  {what:<30}" + "".join(f"{f'{factor}x':>10}" for factor in factors) + f"{'last / first':>14}")
            for name, curve in taken.items():
                line = [statistics.median(spent[place] for spent in curve[factor]) for factor in factors]
                print(f"  {name:<30}" + "".join(f"{ms:>10.1f}" for ms in line) + f"{line[-1] / line[0]:>13.2f}x")
        print(f"\n  {'events, files, groups, kB':<30}" + "".join(f"{f'{factor}x':>20}" for factor in factors))
        for who, user in PEOPLE.items():
            counted = [read_of(lakes[factor], user) for factor in factors]
            told = [f"{found}, {files}, {groups}, {asked >> 10}" for found, files, groups, asked in counted]
            print(f"  {who:<30}" + "".join(f"{each:>20}" for each in told))
        _sizes(lakes[factors[-1]])


def _sizes(lake: reclake.Lake) -> None:
    tables = {name: lake.catalog.table(name) for name in ("events", "timelines", "directory")}
    events = int(tables["events"].scan().select(pl.len()).collect().item())
    sizes = {name: sum(Path(path).stat().st_size for path in table.files()) for name, table in tables.items()}
    sizes["indexes"] = sum(path.stat().st_size for path in lake.catalog.cache.rglob("*.npy"))
    print("\n  bytes an event: " + ", ".join(f"{name} {size / events:.1f}" for name, size in sizes.items()))


if __name__ == "__main__":
    main()
