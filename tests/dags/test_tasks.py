"""The shipped DAGs over a real lake: an hour in, a day out, and the same again without harm."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from reclake import Lake
from reclake.dags import runner, settings
from reclake.dags.runner import DagRun
from reclake.dags.tasks import find
from reclake.schemas.errors import TaskError

EVENTS_PER_DAY = 40
Go = Callable[..., DagRun]


def write_hour(folder: Path, day: str) -> None:
    """30 exposures of 5 users at noon, every third clicked."""
    lines = []
    for number in range(30):
        row = {"user_id": number % 5, "item_id": number % 7, "surface": 1}
        row |= {"event_time": f"{day}T12:00:{number:02}Z", "available_at": f"{day}T12:01:{number:02}Z"}
        lines.append(row | {"event_id": f"{day}-{number}", "event_type": "exposure"})
        if number % 3 == 0:
            lines.append(row | {"event_id": f"{day}-{number}-click", "event_type": "click"})
    assert len(lines) == EVENTS_PER_DAY
    folder.mkdir(parents=True)
    (folder / "events.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.fixture
def config(tmp_path: Path) -> settings.Settings:
    """A fresh lake with two days of events in hourly folders."""
    Lake.create(tmp_path / "lake")
    for day in ("2022-05-01", "2022-05-02"):
        write_hour(tmp_path / "inbox" / day / "12", day)
    (tmp_path / "dags.toml").write_text('lake = "lake"\ninbox = "inbox/{date}/{hour}"\nretries = 0\n')
    return settings.load(tmp_path / "dags.toml")


@pytest.fixture
def go(config: settings.Settings) -> Go:
    def run(dag: str, at: str, *, again: bool = False) -> DagRun:
        return runner.run_dag(find(dag), at, config, again=again, say=print)

    return run


def counts(run: DagRun) -> dict[str, dict[str, object]]:
    return {task.task: dict(task.counts) for task in run.tasks}


def shard_bytes(tmp_path: Path, pin: str) -> dict[str, bytes]:
    folder = tmp_path / "shards" / pin
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_hours_and_a_day_make_shards_and_the_same_again_changes_nothing(go: Go, tmp_path: Path) -> None:
    for day in ("2022-05-01T12", "2022-05-02T12"):
        ingested = counts(go("hourly", day))["ingest"]
        assert (ingested["read"], ingested["admitted"]) == (EVENTS_PER_DAY, EVENTS_PER_DAY)
    first = go("daily", "2022-05-02")
    assert not first.failed
    assert counts(first)["seal"]["rows"] == 2 * EVENTS_PER_DAY
    assert counts(first)["pin"] == {"pin": "ctr-2022-05-02", "made": 1}
    shards = shard_bytes(tmp_path, "ctr-2022-05-02")
    assert shards

    assert counts(go("hourly", "2022-05-02T12", again=True))["ingest"]["admitted"] == 0
    again = go("daily", "2022-05-02", again=True)
    assert not again.failed
    assert counts(again)["seal"]["rows"] == 0
    assert counts(again)["pin"] == {"pin": "ctr-2022-05-02", "made": 0}
    assert shard_bytes(tmp_path, "ctr-2022-05-02") == shards
    lake = Lake.open(tmp_path / "lake")
    assert lake.catalog.table("timelines").scan().select(pl.len()).collect().item() == 2 * EVENTS_PER_DAY


def test_a_days_shards_hold_the_samples_of_its_window(config: settings.Settings, tmp_path: Path) -> None:
    for hour in ("2022-05-01T12", "2022-05-02T12"):
        runner.run_dag(find("hourly"), hour, config, again=False, say=print)
    held = {}
    for window in (1, 2):
        chosen = replace(config, pack_days=window, shards=str(tmp_path / f"shards-{window}"), state=str(tmp_path / "s"))
        run = runner.run_dag(find("daily"), "2022-05-02", chosen, again=True, say=print)
        assert not run.failed
        held[window] = counts(run)["pack"]["samples"]
    assert held == {1: 30, 2: 60}


def test_a_day_finishes_the_labels_of_the_day_before(go: Go, tmp_path: Path) -> None:
    def final(day: str) -> list[bool]:
        rows = Lake.open(tmp_path / "lake").catalog.table("samples/ctr").scan().collect()
        return rows.filter(pl.col("day").cast(pl.String) == day)["label_mature"].to_list()

    late = tmp_path / "inbox" / "2022-05-01" / "23"
    late.mkdir()
    row = {
        "event_id": "late",
        "user_id": 1,
        "item_id": 1,
        "event_type": "exposure",
        "event_time": "2022-05-01T23:30:00Z",
    }
    (late / "late.jsonl").write_text(json.dumps(row | {"available_at": "2022-05-01T23:30:01Z"}) + "\n")
    for hour in ("2022-05-01T12", "2022-05-01T23", "2022-05-02T12"):
        assert not go("hourly", hour).failed
    assert not go("daily", "2022-05-01").failed
    assert final("2022-05-01").count(False) == 1
    assert not go("daily", "2022-05-02").failed
    assert all(final("2022-05-01"))


def test_an_hour_without_a_folder_fails_and_an_empty_folder_is_a_quiet_hour(go: Go, tmp_path: Path) -> None:
    run = go("hourly", "2022-05-02T13")
    assert run.failed
    assert "no folder to ingest from" in str(run.tasks[0].error)
    (tmp_path / "inbox" / "2022-05-02" / "13").mkdir()
    run = go("hourly", "2022-05-02T13")
    assert not run.failed
    assert counts(run) == {"ingest": {"files": 0}}


def test_the_report_is_one_page_a_day(go: Go, tmp_path: Path) -> None:
    go("hourly", "2022-05-02T12")
    assert not go("report", "2022-05-02").failed
    assert "<html" in (tmp_path / "reports" / "2022-05-02.html").read_text(encoding="utf-8")[:200].lower()


def test_an_unknown_dag_is_answered_with_the_known_ones() -> None:
    with pytest.raises(TaskError) as refused:
        find("weekly")
    assert refused.value.expected == "one of hourly, daily, report"


def reclake_dags(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "reclake.dags", *arguments]
    return subprocess.run(command, cwd=cwd, env=os.environ, capture_output=True, text=True, check=False)


def test_the_command_runs_a_day_and_says_plainly_what_failed(config: settings.Settings, tmp_path: Path) -> None:
    done = reclake_dags("run", "daily", "2022-05-02", "--lake", config.lake, cwd=tmp_path)
    assert done.returncode == 1
    assert "no events to seal" in done.stdout
    assert [line.split()[2:4] for line in done.stdout.splitlines() if line.startswith("daily ")] == [
        ["seal", "failed"],
        ["samples", "skipped"],
        ["pin", "skipped"],
        ["pack", "skipped"],
        ["compact", "skipped"],
    ]
    assert "failed: daily 2022-05-02" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("arguments", "status", "type_", "says"),
    [
        (["task", "daily", "seal"], 2, "UsageError", "RUN"),
        (["run", "daily", "2022-05-02", "--lakes", "x"], 2, "UsageError", "--lake"),
        (["run", "weekly", "2022-05-02", "--lake", "x"], 1, "TaskError", "no such dag"),
        (["task", "daily", "seal", "2022-05-02", "--lake", "nowhere"], 1, "LakeNotFoundError", "no lake here"),
    ],
)
def test_whatever_is_wrong_is_an_object_for_machines_too(
    tmp_path: Path, arguments: list[str], status: int, type_: str, says: str
) -> None:
    done = reclake_dags(*arguments, "--json", cwd=tmp_path)
    error = json.loads(done.stdout)["error"]
    assert (done.returncode, error["type"]) == (status, type_)
    assert says in error["what"]
    assert done.stderr.startswith("error: ")


def test_a_backfill_stops_at_the_first_run_that_fails_and_says_which_were_not_run(
    config: settings.Settings, tmp_path: Path
) -> None:
    done = reclake_dags(
        "backfill", "hourly", "2022-05-02T12", "2022-05-02T15", "--lake", config.lake, "--json", cwd=tmp_path
    )
    answer = json.loads(done.stdout)
    assert done.returncode == 1
    assert [(run["run"], run["tasks"][0]["state"]) for run in answer["runs"]] == [
        ("2022-05-02T12", "done"),
        ("2022-05-02T13", "failed"),
    ]
    assert answer["not_run"] == ["2022-05-02T14", "2022-05-02T15"]


def test_the_list_names_every_dag_and_its_tasks_in_order(tmp_path: Path) -> None:
    assert "seal -> samples -> pin -> pack -> compact" in reclake_dags("list", cwd=tmp_path).stdout
    dags = json.loads(reclake_dags("list", "--json", cwd=tmp_path).stdout)["dags"]
    assert [dag["dag"] for dag in dags] == ["hourly", "daily", "report"]
