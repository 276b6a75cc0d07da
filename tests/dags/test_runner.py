"""The local runner: order, retries, books, and what it says. Faults are data: what each attempt of a task does."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from reclake.dags.graph import Context, Counts, Dag, Task
from reclake.dags.runner import Books, DagRun, TaskRun, run_dag, run_task
from reclake.dags.settings import Settings
from reclake.schemas.errors import SealError, TaskError


@dataclass
class World:
    """A dag a -> b -> c with d beside them; `faults[task]` are errors that its next attempts raise, in order."""

    folder: Path
    faults: dict[str, list[BaseException]] = field(default_factory=dict)
    ran: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    slept: list[float] = field(default_factory=list)

    def task(self, name: str) -> Callable[[Context], Counts]:
        def run(context: Context) -> Counts:
            self.ran.append(name)
            if self.faults.get(name):
                raise self.faults[name].pop(0)
            return {"rows": 1234}

        return run

    @property
    def dag(self) -> Dag:
        needs = {"a": (), "b": ("a",), "c": ("b",), "d": ("a",)}
        return Dag("chain", "daily", tuple(Task(name, self.task(name), need) for name, need in needs.items()))

    def go(self, *, again: bool = False, retries: int = 0) -> DagRun:
        settings = Settings(lake="unused", state=str(self.folder), retries=retries, retry_wait_s=9.0)
        return run_dag(self.dag, "2022-05-02", settings, again=again, say=self.said.append, sleep=self.slept.append)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "state")


def states(run: DagRun) -> dict[str, str]:
    return {task.task: task.state for task in run.tasks}


def test_tasks_run_in_order_and_each_says_a_line_with_seconds_and_counts(world: World) -> None:
    run = world.go()
    assert not run.failed
    assert world.ran.index("a") < world.ran.index("b") < world.ran.index("c")
    assert len(world.said) == 4
    assert all("done" in line and " s " in line and "rows 1,234" in line for line in world.said)


def test_a_failed_task_skips_what_needs_it_and_nothing_else(world: World) -> None:
    world.faults["b"] = [SealError("not now", where="here")]
    run = world.go()
    assert run.failed
    assert states(run) == {"a": "done", "b": "failed", "c": "skipped", "d": "done"}
    assert any("not now" in line and "where: here" in line for line in world.said)
    assert any("skipped" in line and "needs b" in line for line in world.said)


def test_the_next_run_goes_on_at_the_first_unfinished_task(world: World) -> None:
    world.faults["b"] = [SealError("not now")]
    world.go()
    world.ran.clear()
    run = world.go()
    assert world.ran == ["b", "c"]
    assert states(run) == {"a": "kept", "b": "done", "c": "done", "d": "kept"}
    world.ran.clear()
    assert states(world.go()) == dict.fromkeys("abcd", "kept")
    assert world.ran == []


def test_a_run_that_is_killed_goes_on_where_it_was(world: World) -> None:
    world.faults["c"] = [KeyboardInterrupt()]
    with pytest.raises(KeyboardInterrupt):
        world.go()
    finished = [name for name in world.ran if name != "c"]
    world.ran.clear()
    world.go()
    assert sorted(world.ran + finished) == ["a", "b", "c", "d"]


def test_again_runs_everything_again(world: World) -> None:
    world.go()
    world.ran.clear()
    assert states(world.go(again=True)) == dict.fromkeys("abcd", "done")
    assert sorted(world.ran) == ["a", "b", "c", "d"]


def test_what_follows_a_task_that_had_to_run_runs_again_too(world: World) -> None:
    world.go()
    books = Books(str(world.folder), "chain", "2022-05-02")
    kept = books.read()
    books.write(kept | {"b": TaskRun("b", "failed", 0.0, {}, "found wanting")})
    world.ran.clear()
    world.go()
    assert world.ran == ["b", "c"]


def test_a_task_is_tried_again_as_often_as_the_settings_say(world: World) -> None:
    world.faults["a"] = [SealError("one"), ValueError("two")]
    assert not world.go(retries=2).failed
    assert world.ran[:3] == ["a", "a", "a"]
    assert world.slept == [9.0, 9.0]


def test_an_error_nobody_foresaw_is_said_with_its_traceback_and_fails_the_run(world: World) -> None:
    world.faults["a"] = [ZeroDivisionError("in somebody's code")]
    run = world.go()
    assert states(run) == {"a": "failed", "b": "skipped", "c": "skipped", "d": "skipped"}
    assert "Traceback" in world.said[0]
    assert "in somebody's code" in world.said[0]


def test_the_books_are_json_and_say_what_happened(world: World) -> None:
    world.faults["b"] = [SealError("not now")]
    world.go()
    entries = json.loads((world.folder / "chain" / "2022-05-02.json").read_text())["tasks"]
    assert {entry["task"]: entry["state"] for entry in entries} == {
        "a": "done",
        "b": "failed",
        "c": "skipped",
        "d": "done",
    }
    assert [path.name for path in (world.folder / "chain").iterdir()] == ["2022-05-02.json"]


def test_books_that_cannot_be_read_are_refused_with_their_place(world: World) -> None:
    world.go()
    (world.folder / "chain" / "2022-05-02.json").write_text("half a fi")
    with pytest.raises(TaskError, match="books") as refused:
        world.go()
    assert "2022-05-02.json" in str(refused.value.where)


def test_one_task_runs_alone_and_keeps_no_books(world: World) -> None:
    settings = Settings(lake="unused", state=str(world.folder))
    assert run_task(world.dag, "c", "2022-05-02", settings) == {"rows": 1234}
    assert world.ran == ["c"]
    assert not world.folder.exists()
