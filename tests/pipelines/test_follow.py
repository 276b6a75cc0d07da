"""Following a folder: what comes to rest is read, what cannot be read is said and does not hold up the rest."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import reclake
from reclake.pipelines.follow import follow
from reclake.pipelines.ingest import IngestResult
from reclake.pipelines.run import Run
from reclake.schemas.errors import LakeBusyError, ReclakeError, SealError, SourceNotFoundError
from reclake.schemas.times import US_PER_DAY, to_us

NOW = to_us("2024-03-05")


def event(number: int) -> str:
    return json.dumps(
        {"event_id": f"e{number}", "user_id": 1, "item_id": 2, "event_type": "click", "event_time": "2024-03-01"}
    )


def followed(
    lake: reclake.Lake, folder: Path, looks: list[Callable[[], object]]
) -> tuple[list[IngestResult], list[ReclakeError]]:
    """What a follower read and refused; before each look something happens to the folder."""
    steps = iter(looks)
    read: list[IngestResult] = []
    refused: list[ReclakeError] = []

    def stop() -> bool:
        happens = next(steps, None)
        if happens is not None:
            happens()
        return happens is None

    run = Run(id="test", now_us=lambda: NOW)
    follow(
        lake.catalog,
        "events",
        folder,
        run=run,
        on_ingest=read.append,
        on_refused=refused.append,
        stop=stop,
        poll_seconds=0.001,
    )
    return read, refused


@pytest.fixture
def lake(tmp_path: Path) -> reclake.Lake:
    (tmp_path / "inbox").mkdir()
    return reclake.Lake.create(tmp_path / "lake", buckets=2)


def nothing() -> None:
    """Nothing happens between two looks."""


def test_a_file_is_read_once_it_rests(lake: reclake.Lake, tmp_path: Path) -> None:
    file = tmp_path / "inbox" / "a.jsonl"
    read, refused = followed(
        lake,
        tmp_path / "inbox",
        [
            lambda: file.write_text(event(1) + "\n"),
            lambda: file.write_text(event(1) + "\n" + event(2) + "\n"),
            nothing,
            nothing,
            nothing,
        ],
    )
    assert [(result.rows, result.admitted) for result in read] == [(2, 2)]
    assert refused == []


def test_a_file_that_cannot_be_read_is_said_once_and_the_others_go_on(lake: reclake.Lake, tmp_path: Path) -> None:
    inbox = tmp_path / "inbox"
    (inbox / "a.avro").write_bytes(b"Obj\x01junk")
    (inbox / "b.jsonl").write_text(event(1) + "\n")
    read, refused = followed(lake, inbox, [nothing] * 4)
    assert [str(error.where) for error in refused] == [str(inbox / "a.avro")]
    assert [result.admitted for result in read] == [1]


def test_a_file_that_goes_away_is_no_reason_to_end(lake: reclake.Lake, tmp_path: Path) -> None:
    file = tmp_path / "inbox" / "a.jsonl"
    file.write_text(event(1) + "\n")
    read, refused = followed(lake, tmp_path / "inbox", [nothing, file.unlink, nothing])
    assert (read, refused) == ([], [])


def test_sealing_waits_for_what_a_follower_has_not_read(lake: reclake.Lake, tmp_path: Path) -> None:
    (tmp_path / "inbox" / "a.jsonl").write_text(event(1) + "\n")

    def seal() -> None:
        with pytest.raises(SealError, match="has not got so far"):
            lake.seal(through=NOW + US_PER_DAY)

    followed(lake, tmp_path / "inbox", [nothing, nothing, nothing, seal])
    assert lake.catalog.followed() == []
    assert lake.seal(through=NOW + US_PER_DAY).rows == 1


def test_a_file_is_no_folder_to_follow(lake: reclake.Lake, tmp_path: Path) -> None:
    with pytest.raises(SourceNotFoundError, match="not a folder"):
        followed(lake, tmp_path / "nowhere", [])


@contextmanager
def follower(lake: reclake.Lake, inbox: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "reclake", "ingest", str(lake.catalog.root), "events", str(inbox), "--follow"]
    with subprocess.Popen([*command, "--poll", "0.05", "--json"], stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def test_a_followers_process_ends_in_order_when_it_is_told_to(lake: reclake.Lake, tmp_path: Path) -> None:
    inbox = tmp_path / "inbox"
    (inbox / "a.jsonl").write_text(event(1) + "\n")
    with follower(lake, inbox) as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["admitted"] == 1
        (inbox / ".b.jsonl").write_text(event(2) + "\n")
        time.sleep(0.2)
        (inbox / ".b.jsonl").rename(inbox / "b.jsonl")
        assert json.loads(process.stdout.readline())["admitted"] == 1
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    assert lake.catalog.followed() == []


def test_a_seal_passes_over_a_follower_that_was_killed_and_what_it_would_have_brought_is_known_later(
    lake: reclake.Lake, tmp_path: Path
) -> None:
    inbox = tmp_path / "inbox"
    (inbox / "a.jsonl").write_text(event(1) + "\n")
    with follower(lake, inbox) as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["admitted"] == 1
        while not (known := lake.catalog.followed()[0]).watermark_us:
            time.sleep(0.02)
        assert known.alive
        (inbox / "b.jsonl.part").write_text(event(2) + "\n")
        process.send_signal(signal.SIGKILL)
        process.wait()
    (dead,) = lake.catalog.followed()
    assert (dead.alive, dead.source.path) == (False, str(inbox))
    assert lake.seal(through=dead.watermark_us).followers_gone == ()  # it had got so far
    now = Run(id="now", now_us=lambda: dead.watermark_us + 5 * US_PER_DAY)
    sealed = lake.seal(through=dead.watermark_us + US_PER_DAY, run=now)
    assert (sealed.followers_gone, sealed.watermarks_ignored) == ((str(inbox),), ())
    told = [entry.get("reclake.followers_gone") for entry in lake.catalog.table("events").history()]
    assert [json.loads(each) for each in told if each] == [[str(inbox)]]
    assert lake.catalog.followed() == []
    # Started again, it goes on; nothing of what it brings is lost, or lands behind the seal.
    (inbox / "b.jsonl.part").rename(inbox / "b.jsonl")
    assert lake.ingest("events", inbox, run=now).admitted == 1
    assert lake.timeline(1).num_rows == 2
    assert lake.timeline(1, before=dead.watermark_us + US_PER_DAY).num_rows == 1


def test_a_second_follower_of_a_folder_is_refused_and_says_who_the_first_is(lake: reclake.Lake, tmp_path: Path) -> None:
    inbox = tmp_path / "inbox"
    (inbox / "a.jsonl").write_text(event(1) + "\n")
    with follower(lake, inbox) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with pytest.raises(LakeBusyError, match=f"process {process.pid} on"):
            followed(lake, inbox, [nothing])
        assert [each.alive for each in lake.catalog.followed()] == [True]
    # It was killed: the next one takes over what it left, and takes it away at the end.
    assert followed(lake, inbox, [nothing] * 3)[1] == []
    assert list(lake.catalog.sources_folder.iterdir()) == []


def line(name: str) -> str:
    event = {"event_id": name, "user_id": 1, "item_id": 1, "event_type": "view", "event_time": "2024-03-01"}
    return json.dumps(event) + "\n"


def test_files_come_in_once_they_are_at_rest(tmp_path: Path) -> None:
    lake, inbox = reclake.Lake.create(tmp_path / "lake", buckets=2), tmp_path / "inbox"
    inbox.mkdir()
    (inbox / "a.jsonl").write_text(line("a"))
    (inbox / "_b.jsonl").write_text(line("b"))
    results: list[IngestResult] = []
    looks: list[int] = []
    watermarks: list[int] = []

    def stop() -> bool:
        looks.append(len(results))
        watermarks.extend(source.watermark_us for source in lake.catalog.followed())
        if len(looks) == 2:
            (inbox / "c.jsonl").write_text(line("c"))  # between two looks: not at rest in the next one
        if len(looks) == 4:
            (inbox / "c.jsonl").write_text(line("c") + line("d"))
        return len(looks) > 12

    clock = iter(range(1_800_000_000_000_000, 1_900_000_000_000_000, 1_000_000))
    run = Run(id="test", now_us=lambda: next(clock))
    follow(
        lake.catalog,
        "events",
        inbox,
        run=run,
        on_ingest=results.append,
        on_refused=lambda error: None,
        stop=stop,
        poll_seconds=0.0,
    )
    assert sorted(lake.catalog.table("events").scan().collect()["event_id"]) == ["a", "c", "d"]
    assert sum(result.admitted for result in results) == 3
    assert watermarks == sorted(watermarks)
    assert watermarks[-1] > 1_800_000_000_000_000
    assert lake.catalog.followed() == []
