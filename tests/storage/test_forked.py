"""Polars in a process that was forked: said, and not waited for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import reclake

PROGRAM = """
import os, sys
import reclake
from reclake.schemas.errors import EngineError
from reclake.storage import forked

forked._SECONDS = 1
lake = reclake.Lake.open(sys.argv[1])
if sys.argv[2] == "used":
    with lake.writer("events"):
        pass
child = os.fork()
if child == 0:
    try:
        with lake.writer("events") as writer:
            writer.append([GOOD], producer="p", number=1)
        os._exit(0)
    except EngineError as error:
        os._exit(3 if "forked" in str(error) and "spawn" in str(error) else 4)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
""".replace("GOOD", "dict(event_id='e', user_id=1, item_id=1, event_type='click', event_time='2024-03-01T00:00:00Z')")


def status(root: Path, before: str) -> int:
    return subprocess.run([sys.executable, "-c", PROGRAM, str(root), before], timeout=60, check=False).returncode


def test_a_process_that_was_forked_from_one_that_used_a_lake_is_told_so_and_does_not_hang(tmp_path: Path) -> None:
    reclake.Lake.create(tmp_path / "lake", buckets=2)
    assert status(tmp_path / "lake", "used") == 3


def test_a_process_that_was_forked_before_a_lake_was_used_writes_to_it(tmp_path: Path) -> None:
    lake = reclake.Lake.create(tmp_path / "lake", buckets=2)
    assert status(tmp_path / "lake", "not used") == 0
    assert lake.scan("events").collect().height == 1
