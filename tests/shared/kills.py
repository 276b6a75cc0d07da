"""What tests of kills share: a source with every kind of row, a process that is killed at a point, a lake's rows."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import polars as pl

import reclake
from reclake.schemas.times import to_us

NOW = to_us("2024-03-05")
USERS = 7

# Before a script: a process that is given a point counts what it passes, and is killed at the point of that number. It
# watches functions: one point just before each call, one just after.
WATCHING = f"""
import os, signal, sys
from pathlib import Path
import reclake
from reclake.pipelines.run import Run

point, root, source = int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
passed = 0

def step():
    global passed
    if passed == point:
        os.kill(os.getpid(), signal.SIGKILL)
    passed += 1

def watch(owner, name):
    function = getattr(owner, name)
    def watched(*args, **kwargs):
        step()
        result = function(*args, **kwargs)
        step()
        return result
    setattr(owner, name, watched)

def run(name):
    return Run(id=name, now_us=lambda: {NOW})
"""


def source(folder: Path, events: int) -> Path:
    """Two days of events, the last twenty sent before, some malformed."""
    path, sent = folder / "events.jsonl", events - 20
    with path.open("w") as file:
        for n in range(events):
            at = to_us("2024-03-02") + n * 300_000_000
            row: dict[str, object] = {"event_id": f"e{n % sent}", "user_id": n % sent % USERS}
            row |= {"item_id": n % sent // 3 % 20, "event_type": "click" if n % 3 == 1 else "exposure"}
            row |= {"event_time": at, "available_at": at + 1}
            if n % 50 == 49:
                row["user_id"] = "nobody"
            file.write("{broken\n" if n % 97 == 96 else json.dumps(row) + "\n")
    return path


def run(script: str, point: int, lake: Path, file: Path) -> subprocess.CompletedProcess[str]:
    """The script in a process of its own, killed at a point; -1: at none, and it prints how many it passed."""
    command = [sys.executable, "-c", WATCHING + script, str(point), str(lake), str(file)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def state(lake: Path) -> dict[str, pl.DataFrame]:
    """Every table's rows, but for when and by whom they were written."""
    catalog = reclake.Lake.open(lake).catalog
    found = {}
    for name in catalog.table_names():
        rows = catalog.table(name).scan().collect()
        found[name] = rows.select(pl.all().exclude("run_id")).sort(pl.all().exclude("reasons"))
    return found


def check_same(lake: Path, expected: dict[str, pl.DataFrame], point: int) -> None:
    """The lake holds what an undisturbed one does."""
    found = state(lake)
    assert found.keys() == expected.keys(), f"killed at point {point}"
    for name, rows in expected.items():
        assert found[name].equals(rows), f"killed at point {point}, table {name} differs"
