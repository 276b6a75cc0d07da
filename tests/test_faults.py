"""Faults along the whole way: a kill at any write, a full disk, a read-only mount, two processes doing the same."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import polars as pl
import pytest
from kills import USERS, check_same, run, source, state

import reclake
from reclake.pipelines import forget
from reclake.pipelines.doctor import examine
from reclake.schemas.errors import StorageError
from reclake.schemas.times import to_us
from reclake.storage.maintenance import vacuum

EVENTS, FORGOTTEN = 300, 3
KILLS = 200

# Everything from a writer and a file to forgetting a user; any of it may have been done before.
WAY = f"""
import polars as pl
from reclake.pipelines import forget
from reclake.pipelines.ingest import ingest
from reclake.storage import documents, outputs, parquet, table
from reclake.storage.log import drafts, redaction
from reclake.storage.maintenance import compact
from reclake.storage.shard_writer import ShardWriter

for owner, name in [
    (parquet, "write"), (drafts.Draft, "commit"), (table.Table, "create"), (table.Table, "vacuum"),
    (documents, "create"), (documents, "replace"), (redaction, "_put"), (outputs, "remove"),
    (ShardWriter, "_write_chunk"), (ShardWriter, "_end_shard"), (Path, "unlink"), (Path, "rename"),
]:
    watch(owner, name)

lake, shards = reclake.Lake.open(root), root.parent / (root.name + "-shards")
with lake.writer("events", run=run("test")) as writer:
    for number in range(1, 4):
        writer.append(pl.DataFrame(
            {{"event_id": [f"w{{number}}-{{n}}" for n in range(10)], "user_id": [n % {USERS} for n in range(10)],
              "item_id": [n % 3 for n in range(10)], "event_type": ["click"] * 10,
              "event_time": [{to_us("2024-03-02")} + n for n in range(10)],
              "available_at": [{to_us("2024-03-02")} + n for n in range(10)]}}
        ), producer="p", number=number)
ingest(lake.catalog, "events", [source], run=run("test"), batch_rows=40)
lake.seal(run=run("test"))
lake.samples("ctr", day="2024-03-02", run=run("test"))
compact(lake.catalog)
began = (root / "erasures").exists()
if not began:
    if "p" not in lake.catalog.pin_names():
        lake.pin("p")
    packed = lake.pack("ctr", pin="p", out=shards, run=run("test"))
    documents.replace(root.parent / (root.name + "-packed.json"), packed.fingerprint)
    forget.ask(lake.catalog, [{FORGOTTEN}], run=run("asked"))
if "p" in lake.catalog.pin_names():
    lake.unpin("p")
forget.carry_out(lake.catalog, run=run("erased"))
print(passed)
"""


def check(folder: Path, points: list[int], whole: Path, file: Path) -> None:
    """Kill and run again at each point; as many points at a time as there are cores."""
    expected = state(whole)
    packed = (folder / "whole-packed.json").read_text()

    def one(point: int) -> None:
        lake = folder / f"killed-{point}"
        reclake.Lake.create(lake, buckets=2)
        killed = run(WAY, point, lake, file)
        assert killed.returncode == -9, f"point {point}: {killed.stderr}"
        # Two hours later: what the killed writer staged and never committed is nobody's any more.
        for staged in [*(lake / "tables").rglob("part-*.parquet"), *(lake / "tables").rglob(".*.draft")]:
            os.utime(staged, (staged.stat().st_mtime - 7200,) * 2)
        again = run(WAY, -1, lake, file)
        assert again.returncode == 0, f"point {point}: {again.stderr}"
        check_same(lake, expected, point)
        assert (folder / f"killed-{point}-packed.json").read_text() == packed
        assert not (folder / f"killed-{point}-shards").exists()
        assert [path.name for path in (lake / "receipts").glob("*.json")] == ["erased.json"], f"point {point}"
        assert not list((lake / "erasures").iterdir()), f"point {point}"
        shutil.rmtree(lake)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for done in [pool.submit(one, point) for point in points]:
            done.result()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int, Path]:
    """An undisturbed lake, how many points its way has, and its source."""
    folder = tmp_path_factory.mktemp("faults")
    file = source(folder, EVENTS)
    reclake.Lake.create(folder / "whole", buckets=2)
    done = run(WAY, -1, folder / "whole", file)
    assert done.returncode == 0, done.stderr
    return folder / "whole", int(done.stdout), file


def test_the_undisturbed_way_holds_what_its_source_holds_but_for_the_forgotten(whole: tuple[Path, int, Path]) -> None:
    lake, points, file = whole
    said = {(f"w{number}-{n}", n % USERS) for number in range(1, 4) for n in range(10)}
    for line in file.read_text().splitlines():
        if line != "{broken" and isinstance((row := json.loads(line))["user_id"], int):
            said.add((row["event_id"], row["user_id"]))
    first = {}
    for event, user in sorted(said):
        first.setdefault(event, user)
    rows = state(lake)["events"]
    assert rows["event_id"].n_unique() == rows.height
    assert set(zip(rows["event_id"], rows["user_id"], strict=True)) <= {pair for pair in said if pair[1] != FORGOTTEN}
    assert points > KILLS


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_killed_at_200_random_points_of_the_way_and_run_again_gives_the_same_rows(
    whole: tuple[Path, int, Path],
) -> None:
    lake, points, file = whole
    chosen = random.Random(20240305).sample(range(points), KILLS)
    check(lake.parent, sorted(chosen), lake, file)


@pytest.mark.slow
def test_killed_in_the_middle_of_erasing_and_run_again_gives_the_same_rows(whole: tuple[Path, int, Path]) -> None:
    lake, points, file = whole
    check(lake.parent, [points - 25], lake, file)


AT_ONCE = textwrap.dedent(
    """
    import contextlib, io, json, sys, time
    from pathlib import Path
    import reclake.pipelines.forget, reclake.pipelines.seal, reclake.storage.maintenance
    from reclake.cli.main import main

    me, folder, commands = sys.argv[1], Path(sys.argv[2]), json.loads(sys.argv[3])
    for number, words in enumerate(commands):
        (folder / f"ready-{number}-{me}").touch()
        while len(list(folder.glob(f"ready-{number}-*"))) < 2:
            time.sleep(0.001)
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = main(words)
        (folder / f"done-{number}-{me}.json").write_text(json.dumps([status, out.getvalue(), err.getvalue()]))
    """
)


def test_two_processes_that_seal_compact_and_forget_at_once_leave_what_one_would(tmp_path: Path) -> None:
    lake = reclake.Lake.create(tmp_path / "lake", buckets=2)
    lines = source(tmp_path, EVENTS).read_text().splitlines()
    for number in range(3):
        (tmp_path / f"{number}.jsonl").write_text("\n".join(lines[number * 100 : number * 100 + 100]) + "\n")
        lake.ingest("events", tmp_path / f"{number}.jsonl")
    whole = lake.catalog.table("events").scan().collect()
    root = str(lake.catalog.root)
    verbs = [["seal", root, "--through", "2024-03-04", "--json"], ["compact", root], ["forget", root, str(FORGOTTEN)]]
    words = [sys.executable, "-c", AT_ONCE]
    both = [subprocess.Popen([*words, str(n), str(tmp_path), json.dumps(verbs)]) for n in range(2)]
    assert [process.wait() for process in both] == [0, 0]

    def outcomes(number: int) -> list[tuple[int, str, str]]:
        return [tuple(json.loads(path.read_text())) for path in sorted(tmp_path.glob(f"done-{number}-*.json"))]

    assert [status for status, _, _ in outcomes(0)] == [0, 0], outcomes(0)
    assert sum(json.loads(out)["rows"] for _, out, _ in outcomes(0)) == whole.height
    assert [status for status, _, _ in outcomes(1)] == [0, 0], outcomes(1)
    erased = outcomes(2)
    assert 0 in [status for status, _, _ in erased], erased
    assert all("somebody else works" in err for status, _, err in erased if status), erased
    kept = whole.filter(pl.col("user_id") != FORGOTTEN)
    assert lake.catalog.table("events").scan().collect().sort("event_id").equals(kept.sort("event_id"))
    # Whoever came second has left its request; there is nothing more to remove.
    forget.carry_out(lake.catalog)
    assert [finding for finding in examine(lake.catalog) if not finding.kept] == []
    assert not list((lake.catalog.root / "erasures").glob("*.json"))


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, of one megabyte."""
    place = tmp_path / "small"
    place.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
    if subprocess.run(words, capture_output=True, check=False).returncode:
        pytest.skip("no right to mount a small file system")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def fill(place: Path) -> Path:
    """Leave two blocks of a file system free."""
    filler = place / "filler"
    with filler.open("wb") as file:
        free = os.statvfs(place).f_bavail * os.statvfs(place).f_frsize
        file.write(b"0" * max(0, free - 8192))
    return filler


def test_a_disk_that_fills_up_in_any_verb_is_said_and_with_room_again_the_same_verb_goes_on(
    small: Path, tmp_path: Path
) -> None:
    lake = reclake.Lake.create(small / "lake", buckets=2)
    lake.ingest("events", source(tmp_path, EVENTS))
    verbs: dict[str, Callable[[], object]] = {
        "seal": lambda: lake.seal(through="2024-03-04"),
        "samples": lambda: lake.samples("ctr", day="2024-03-02"),
        "forget": lambda: lake.forget([FORGOTTEN]),
    }
    for name, verb in verbs.items():
        filler = fill(small)
        with pytest.raises(StorageError, match="disk is full"):
            verb()
        assert [finding for finding in examine(lake.catalog) if not finding.kept] == [], name
        filler.unlink()
        verb()
    forget.carry_out(lake.catalog)
    assert [finding for finding in examine(lake.catalog) if not finding.kept] == []
    assert FORGOTTEN not in set(lake.catalog.table("timelines").scan().collect()["user_id"])


def test_vacuum_makes_room_on_a_disk_that_has_none(small: Path, tmp_path: Path) -> None:
    lake = reclake.Lake.create(small / "lake", buckets=2)
    lines = source(tmp_path, EVENTS).read_text().splitlines()
    for number in range(3):
        (tmp_path / f"{number}.jsonl").write_text("\n".join(lines[number * 100 : number * 100 + 100]) + "\n")
        lake.ingest("events", tmp_path / f"{number}.jsonl")
    lake.compact()
    rows = lake.scan("events").collect().sort("event_id")
    for files in (True, False):  # the second time nothing is left to go, and that is no error either
        filler = fill(small)
        with contextlib.suppress(OSError), filler.open("ab", buffering=0) as file:
            while True:
                file.write(b"0" * 4096)
        with pytest.raises(StorageError, match="disk is full"):
            lake.pin("after")
        done = vacuum(lake.catalog, retention_hours=0, dry_run=False, now_us=to_us("2024-03-10"))
        assert bool(sum(table.files for table in done)) == files
        filler.unlink()
    assert lake.scan("events").collect().sort("event_id").equals(rows)
    assert [finding for finding in examine(lake.catalog) if not finding.kept] == []


def test_a_read_only_lake_can_be_read_and_says_so_to_whoever_would_write(small: Path, tmp_path: Path) -> None:
    lake = reclake.Lake.create(small / "lake", buckets=2)
    lake.ingest("events", source(tmp_path, EVENTS))
    lake.seal(through="2024-03-04")
    lake.samples("ctr", day="2024-03-02")
    lake.pin("p")
    subprocess.run(["mount", "-o", "remount,ro", str(small)], check=True)
    more = {"event_id": "more", "user_id": 1, "item_id": 1, "event_type": "click", "event_time": "2024-03-03T00:00:00Z"}
    (tmp_path / "more.jsonl").write_text(json.dumps(more) + "\n")
    verbs: dict[str, Callable[[], object]] = {
        "ingest": lambda: lake.ingest("events", tmp_path / "more.jsonl"),
        "seal": lambda: lake.seal(through="2024-03-05"),
        "samples": lambda: lake.samples("ctr", day="2024-03-03"),
        "pin": lambda: lake.pin("q"),
        "pack": lambda: lake.pack("ctr", pin="p", out=tmp_path / "shards"),
        "forget": lambda: lake.forget([1]),
        "unpin": lambda: lake.unpin("p"),
        "compact": lambda: lake.compact(),
    }
    for verb in verbs.values():
        with pytest.raises(StorageError, match="read-only"):
            verb()
    assert [finding for finding in examine(lake.catalog) if not finding.kept] == []
    assert lake.timeline(1).num_rows > 0
    assert not (tmp_path / "shards").exists()
