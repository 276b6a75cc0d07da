"""A task graph that knows no scheduler: names, what needs what, and the span of time a run is about."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date
from graphlib import CycleError, TopologicalSorter
from typing import Literal

from ..schemas.errors import TaskError
from ..schemas.times import US_PER_DAY, US_PER_SECOND, TimeError, from_us, to_us
from .settings import Settings

Schedule = Literal["hourly", "daily"]
Counts = Mapping[str, int | float | str]  # what a task says it did; JSON values

_SPAN_US: Mapping[Schedule, int] = {"hourly": 3600 * US_PER_SECOND, "daily": US_PER_DAY}
_FORMAT: Mapping[Schedule, str] = {"hourly": "%Y-%m-%dT%H", "daily": "%Y-%m-%d"}


@dataclass(frozen=True, slots=True)
class Context:
    """What one run of a task is about: a span `[start_us, end_us)` of UTC time, and where things are."""

    start_us: int
    end_us: int
    settings: Settings

    @property
    def day(self) -> date:
        """The UTC day the span starts in."""
        return from_us(self.start_us).date()


@dataclass(frozen=True, slots=True)
class Task:
    """One step. `run` may be called again for the same span, after a failure or a success, and does no harm."""

    name: str
    run: Callable[[Context], Counts]
    needs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Dag:
    """Tasks of one schedule, checked when made.

    Raises:
        TaskError: two tasks of one name, a need that no task fills, or tasks that wait for each other.
    """

    name: str
    schedule: Schedule
    tasks: tuple[Task, ...]
    order: tuple[Task, ...] = field(init=False)  # every task after all that it needs; else as they were listed

    def __post_init__(self) -> None:
        by_name = {task.name: task for task in self.tasks}
        if len(by_name) != len(self.tasks):
            names = [task.name for task in self.tasks]
            raise TaskError("two tasks of one name", where=f"dag {self.name}", got=", ".join(names))
        for task in self.tasks:
            unknown = [need for need in task.needs if need not in by_name]
            if unknown:
                raise TaskError(
                    "a task needs one that the dag does not have",
                    where=f"dag {self.name}, task {task.name}",
                    expected="one of " + ", ".join(by_name),
                    got=", ".join(unknown),
                )
        try:
            names = list(TopologicalSorter({task.name: task.needs for task in self.tasks}).static_order())
        except CycleError as error:
            raise TaskError(
                "tasks wait for each other",
                where=f"dag {self.name}",
                expected="no task needing itself, directly or through others",
                got=" -> ".join(error.args[1]),
            ) from None
        object.__setattr__(self, "order", tuple(by_name[name] for name in names))

    def task(self, name: str) -> Task:
        """The task of that name.

        Raises:
            TaskError: the dag has none.
        """
        for task in self.tasks:
            if task.name == name:
                return task
        known = ", ".join(task.name for task in self.order)
        raise TaskError("no such task", where=f"dag {self.name}", expected=f"one of {known}", got=name)

    def span(self, at: str) -> tuple[int, int]:
        """`[start_us, end_us)` of the run named `2022-05-02` (daily) or `2022-05-02T13` (hourly).

        Raises:
            TaskError: it is not a time, or not the start of such a span.
        """
        example = from_us(1_651_496_400_000_000).strftime(_FORMAT[self.schedule])
        try:
            start_us = to_us(at)
        except TimeError:
            start_us = -1
        if start_us < 0 or start_us % _SPAN_US[self.schedule]:
            raise TaskError(
                f"not a run of a dag that is {self.schedule}",
                where=f"dag {self.name}",
                expected=f"e.g. {example}",
                got=at,
            )
        return start_us, start_us + _SPAN_US[self.schedule]

    def run_name(self, start_us: int) -> str:
        """The name of the run whose span starts there: `2022-05-02` or `2022-05-02T13`."""
        return from_us(start_us).strftime(_FORMAT[self.schedule])

    def runs(self, first: str, last: str) -> list[str]:
        """Names of all runs of the days or hours from `first` through `last`; a bare day means all its hours.

        Raises:
            TaskError: a name is not a run, or `last` is before `first`.
        """
        start_us, _ = self.span(first)
        last_us, end_us = self.span(last)
        if self.schedule == "hourly" and len(last) == len("2022-05-02"):
            end_us = last_us + US_PER_DAY
        if end_us <= start_us:
            raise TaskError(
                "nothing lies between",
                where=f"dag {self.name}",
                expected="FROM no later than TO",
                got=f"{first} .. {last}",
            )
        return [self.run_name(us) for us in range(start_us, end_us, _SPAN_US[self.schedule])]
