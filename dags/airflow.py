"""The shipped DAGs as Airflow DAGs that only wire: one Airflow task runs one reclake task in a process of its own.

The process may be another environment's Python, so that Airflow's environment needs neither Polars nor Delta: for this
module, `pip install --no-deps reclake` there is enough.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import DAG, CronTriggerTimetable, Param, task

from ..schemas.errors import TaskError
from .graph import Dag, Schedule
from .tasks import DAGS

# When a run starts, and how long before that its span started. An hour is ingested ten minutes after it ended, so that
# its last files can arrive; a day is sealed two hours after it ended, so that its last hour has been ingested; the
# report comes after that.
_STARTS: dict[str, tuple[str, timedelta]] = {
    "hourly": ("10 * * * *", timedelta(minutes=70)),
    "daily": ("0 2 * * *", timedelta(hours=26)),
    "report": ("0 4 * * *", timedelta(hours=28)),
}
_RUN_NAMES: dict[Schedule, str] = {"hourly": "%Y-%m-%dT%H", "daily": "%Y-%m-%d"}


def build_dags(
    *,
    python: str,
    config: str,
    retries: int = 2,
    retry_delay: timedelta = timedelta(minutes=5),
    prefix: str = "reclake_",
) -> dict[str, DAG]:
    """Airflow DAGs by id, for a module's globals: `globals().update(build_dags(python=..., config=...))`.

    Args:
        python: the interpreter that reclake is installed for.
        config: the absolute path of a `dags.toml`, which names the lake.

    Days are sealed in order, so one run of a DAG is active at a time. Missed runs are not caught up by themselves: use
    `airflow backfill create`, or `python -m reclake.dags backfill`. A run triggered by hand is for the last finished
    day or hour, or for the one given as `{"date": "2022-05-02"}`.
    """
    built = {}
    for dag in DAGS.values():
        cron, span = _STARTS[dag.name]
        with DAG(
            dag_id=prefix + dag.name,
            schedule=CronTriggerTimetable(cron, timezone="UTC", interval=span),
            # Airflow passes over tasks before it and calls the run a success: earlier than anything to be backfilled.
            start_date=datetime(2000, 1, 1, tzinfo=UTC),
            catchup=False,
            max_active_runs=1,
            default_args={"retries": retries, "retry_delay": retry_delay},
            params={"date": Param(None, type=["null", "string"], description="A run's name; else from the schedule.")},
            tags=["reclake"],
        ) as airflow_dag:
            _wire(dag, python, config)
        built[airflow_dag.dag_id] = airflow_dag
    return built


def _wire(dag: Dag, python: str, config: str) -> None:
    made: dict[str, Any] = {}
    for step in dag.order:
        command = (python, "-m", "reclake.dags", "task", dag.name, step.name)
        made[step.name] = task(task_id=step.name)(_run_in_process)(command, dag.schedule, config)
        for need in step.needs:
            made[need] >> made[step.name]


def _run_in_process(
    command: Sequence[str],
    schedule: Schedule,
    config: str,
    params: dict[str, Any] | None = None,
    data_interval_start: datetime | None = None,
) -> dict[str, int | float | str]:
    """Run `command` for the run's day or hour; Airflow fills in the last two. Returns the task's counts.

    Raises:
        TaskError: the process failed (its output is in the log), or the run has neither a date nor a data interval.
    """
    run = (params or {}).get("date")
    if run is None:
        if data_interval_start is None:
            raise TaskError("the run has no data interval", expected='a configuration such as {"date": "2022-05-02"}')
        run = data_interval_start.astimezone(UTC).strftime(_RUN_NAMES[schedule])
    whole = [*command, run, "--config", config, "--json"]
    print("$ " + " ".join(whole), flush=True)
    # Errors and progress go straight to the task's log. Stopping the task kills the process, which the lake survives.
    done = subprocess.run(whole, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, check=False)
    print(done.stdout, end="", flush=True)
    if done.returncode:
        raise TaskError(
            "the task failed",
            where=" ".join(whole),
            got=f"exit status {done.returncode}",
            hint="see the lines above in the log",
        )
    counts: dict[str, int | float | str] = json.loads(done.stdout)["counts"]
    return counts
