"""The local runner: tasks in order, retried, with books, so that an interrupted run goes on where it stopped."""

from __future__ import annotations

import json
import os
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from ..schemas.errors import ReclakeError, TaskError
from .graph import Context, Counts, Dag, Task
from .settings import Settings

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class TaskRun:
    """How one task of one run ended. `kept`: an earlier run had finished it, so it was not run again."""

    task: str
    state: Literal["done", "kept", "failed", "skipped"]
    seconds: float
    counts: Counts
    error: str | None = None


@dataclass(frozen=True, slots=True)
class DagRun:
    """How one run ended: every task of the dag, in order."""

    dag: str
    run: str
    tasks: tuple[TaskRun, ...]

    @property
    def failed(self) -> bool:
        return any(task.state in ("failed", "skipped") for task in self.tasks)


class Books:
    """What is done, in one JSON file for each run: `<folder>/<dag>/<run>.json`, replaced whole at each change."""

    def __init__(self, folder: str, dag: str, run: str) -> None:
        self.path = Path(folder) / dag / f"{run}.json"

    def read(self) -> dict[str, TaskRun]:
        """Task name -> how it last ended; empty when the run never started.

        Raises:
            TaskError: the file is not such a book.
        """
        if not self.path.exists():
            return {}
        try:
            return {
                entry["task"]: TaskRun(**entry) for entry in json.loads(self.path.read_text(encoding="utf-8"))["tasks"]
            }
        except (ValueError, KeyError, TypeError) as error:
            raise TaskError(
                "the books of this run cannot be read",
                where=self.path,
                got=str(error),
                hint="delete the file: the tasks can be run again safely",
            ) from None

    def write(self, runs: dict[str, TaskRun]) -> None:
        """Keep `runs`; a reader sees the old books or the new ones, never half."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            fresh = self.path.with_suffix(f".{os.getpid()}.tmp")
            fresh.write_text(
                json.dumps({"tasks": [asdict(run) for run in runs.values()]}, indent=1) + "\n", encoding="utf-8"
            )
            fresh.replace(self.path)
        except OSError as error:
            raise TaskError("cannot write down what is done", where=self.path, got=str(error)) from error


def run_dag(
    dag: Dag, run: str, settings: Settings, *, again: bool, say: Say, sleep: Callable[[float], None] = time.sleep
) -> DagRun:
    """Run the tasks that no earlier run finished (`again`: all of them), in order, and say one line for each.

    A task that fails is tried `settings.retries` more times. What needs a failed task is skipped; what does not, runs.
    """
    start_us, end_us = dag.span(run)
    run = dag.run_name(start_us)
    context = Context(start_us, end_us, settings)
    books = Books(settings.state, dag.name, run)
    known = {} if again else books.read()
    ended: dict[str, TaskRun] = {}
    for task in dag.order:
        before = known.get(task.name)
        blocked = [need for need in task.needs if ended[need].state in ("failed", "skipped")]
        rerun = any(ended[need].state == "done" for need in task.needs)
        if blocked:
            result = TaskRun(task.name, "skipped", 0.0, {}, f"needs {', '.join(blocked)}")
        elif before is not None and before.state in ("done", "kept") and not rerun:
            result = TaskRun(task.name, "kept", before.seconds, before.counts)
        else:
            result = _attempt(task, context, say, sleep)
        ended[task.name] = result
        books.write(known | ended)
        say(_line(dag, run, result))
    return DagRun(dag.name, run, tuple(ended.values()))


def run_task(dag: Dag, task: str, run: str, settings: Settings) -> Counts:
    """Run one task once and keep no books: the scheduler that asks has its own."""
    chosen = dag.task(task)
    start_us, end_us = dag.span(run)
    return chosen.run(Context(start_us, end_us, settings))


def _attempt(task: Task, context: Context, say: Say, sleep: Callable[[float], None]) -> TaskRun:
    started = time.perf_counter()
    for attempt in range(context.settings.retries + 1):
        if attempt:
            sleep(context.settings.retry_wait_s)
        try:
            counts = task.run(context)
        except (ReclakeError, OSError) as error:
            failure = str(error)
        except Exception:  # noqa: BLE001 - a task may hold anybody's code; its failure is written down and said, whole
            failure = traceback.format_exc()
        else:
            return TaskRun(task.name, "done", time.perf_counter() - started, dict(counts))
        say(f"{task.name}: attempt {attempt + 1} of {context.settings.retries + 1} failed: {failure}")
    return TaskRun(task.name, "failed", time.perf_counter() - started, {}, failure)


def _line(dag: Dag, run: str, result: TaskRun) -> str:
    counts = "  ".join(
        f"{name} {value:,}" if isinstance(value, int) else f"{name} {value}" for name, value in result.counts.items()
    )
    what = {
        "done": f"{result.seconds:.1f} s  {counts}",
        "kept": f"finished by an earlier run; --again runs it again  {counts}",
        "failed": f"after {result.seconds:.1f} s",
        "skipped": result.error or "",
    }[result.state]
    return f"{dag.name} {run}  {result.task:<8} {result.state:<8} {what}".rstrip()
