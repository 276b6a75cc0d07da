"""The task graph: what makes a DAG, in which order, and the names of its runs."""

import pytest

from reclake.dags.graph import Context, Counts, Dag, Task
from reclake.schemas.errors import TaskError
from reclake.schemas.times import to_us


def nothing(context: Context) -> Counts:
    return {}


def dag(*tasks: tuple[str, tuple[str, ...]], schedule: str = "daily") -> Dag:
    return Dag("d", schedule, tuple(Task(name, nothing, needs) for name, needs in tasks))  # type: ignore[arg-type]


def test_every_task_comes_after_all_that_it_needs() -> None:
    order = [t.name for t in dag(("d", ("b", "c")), ("b", ("a",)), ("c", ("a",)), ("a", ())).order]
    assert order[0] == "a"
    assert order[-1] == "d"
    assert sorted(order) == ["a", "b", "c", "d"]


def test_tasks_that_wait_for_each_other_are_refused_with_the_circle() -> None:
    with pytest.raises(TaskError, match="wait for each other") as refused:
        dag(("a", ("c",)), ("b", ("a",)), ("c", ("b",)))
    assert {"a", "b", "c"} <= set(str(refused.value.got).split(" -> "))


def test_a_need_that_no_task_fills_is_refused_by_name() -> None:
    with pytest.raises(TaskError, match="does not have") as refused:
        dag(("a", ("ghost",)))
    assert refused.value.got == "ghost"
    assert refused.value.expected == "one of a"


def test_two_tasks_of_one_name_are_refused() -> None:
    with pytest.raises(TaskError, match="two tasks of one name"):
        dag(("a", ()), ("a", ()))


def test_an_unknown_task_is_answered_with_the_known_ones() -> None:
    with pytest.raises(TaskError) as refused:
        dag(("a", ()), ("b", ("a",))).task("c")
    assert refused.value.expected == "one of a, b"


def test_a_daily_run_spans_a_day_and_an_hourly_one_an_hour() -> None:
    day, next_day = to_us("2022-05-02"), to_us("2022-05-03")
    assert dag(schedule="daily").span("2022-05-02") == (day, next_day)
    assert dag(schedule="hourly").span("2022-05-02T13") == (to_us("2022-05-02T13:00"), to_us("2022-05-02T14:00"))


@pytest.mark.parametrize("at", ["yesterday", "2022-05-02T13", "2022-02-30", "", "2022-05"])
def test_what_is_not_a_day_is_no_daily_run(at: str) -> None:
    with pytest.raises(TaskError, match="not a run of a dag that is daily") as refused:
        dag(schedule="daily").span(at)
    assert refused.value.got == at


def test_runs_are_named_through_the_last_one() -> None:
    assert dag().runs("2022-04-30", "2022-05-02") == ["2022-04-30", "2022-05-01", "2022-05-02"]
    hourly = dag(schedule="hourly")
    assert hourly.runs("2022-05-02T22", "2022-05-03T01") == [
        "2022-05-02T22",
        "2022-05-02T23",
        "2022-05-03T00",
        "2022-05-03T01",
    ]
    assert len(hourly.runs("2022-05-02", "2022-05-03")) == 48


def test_a_last_run_before_the_first_is_refused() -> None:
    with pytest.raises(TaskError, match="nothing lies between"):
        dag().runs("2022-05-02", "2022-05-01")
