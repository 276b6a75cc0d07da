"""The shipped DAGs in a real Airflow, in an environment of its own that holds none of reclake's dependencies."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from reclake.dags.tasks import DAGS

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(900)]

CHECKOUT = Path(__file__).resolve().parents[2]
CONSTRAINTS = CHECKOUT / "constraints-airflow.txt"


@dataclass(frozen=True)
class Airflow:
    """Airflow's interpreter, its variables, and the folder that holds the lake and dags.toml."""

    bin: Path
    environment: dict[str, str]
    folder: Path

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [str(self.bin / command[0]), *command[1:]],
            env=self.environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
        )
        assert not check or not done.returncode, f"{command}\n{done.stdout[-6000:]}\n{done.stderr[-6000:]}"
        return done


@pytest.fixture(scope="module")
def environment_bin() -> Path:
    """`.venv-airflow` beside the checkout's own files, or RECLAKE_AIRFLOW_VENV; made once for each set of versions."""
    folder = Path(os.environ.get("RECLAKE_AIRFLOW_VENV", CHECKOUT / ".venv-airflow"))
    made = folder / f".made-{hashlib.blake2b(CONSTRAINTS.read_bytes(), digest_size=8).hexdigest()}"
    if not made.exists():
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        install = ["-m", "pip", "install", "-qq", "--constraint", CONSTRAINTS, "apache-airflow"]
        subprocess.run([folder / "bin" / "python", *install], check=True)
        made.touch()
    return folder / "bin"


@pytest.fixture
def airflow(environment_bin: Path, tmp_path: Path) -> Airflow:
    """A fresh Airflow home whose dags folder holds the file that the example tells users to drop there."""
    for name in ("path", "home", "dags"):
        (tmp_path / name).mkdir()
    (tmp_path / "path" / "reclake").symlink_to(CHECKOUT)
    example = (CHECKOUT / "examples" / "airflow" / "reclake_dags.py").read_text(encoding="utf-8")
    assert "    build_dags(\n" in example
    # The example's own retries come minutes apart; here a failure is to show at once.
    impatient = example.replace("build_dags(\n", "build_dags(\n        retries=0,\n")
    (tmp_path / "dags" / "reclake_dags.py").write_text(impatient, encoding="utf-8")
    shutil.copy(CHECKOUT / "examples" / "airflow" / "dags.toml", tmp_path)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
    environment = kept | {
        "AIRFLOW_HOME": str(tmp_path / "home"),
        "AIRFLOW__CORE__DAGS_FOLDER": str(tmp_path / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__PARALLELISM": "2",
        "PYTHONPATH": str(tmp_path / "path"),
        "RECLAKE_PYTHON": sys.executable,
        "RECLAKE_CONFIG": str(tmp_path / "dags.toml"),
    }
    return Airflow(environment_bin, environment, tmp_path)


def write_inbox(folder: Path) -> int:
    """Two days of exposures at noon, every third clicked, an hour a folder; returns the events of the second day."""
    for day in ("2022-05-01", "2022-05-02"):
        lines = []
        for number in range(30):
            shown = {"user_id": number % 5, "item_id": number % 7, "surface": 1}
            times = {"event_time": f"{day}T12:00:{number:02}Z", "available_at": f"{day}T12:01:{number:02}Z"}
            lines.append(shown | times | {"event_id": f"{day}-{number}", "event_type": "exposure"})
            if number % 3 == 0:
                lines.append(shown | times | {"event_id": f"{day}-{number}-click", "event_type": "click"})
        hour = folder / "inbox" / day / "12"
        hour.mkdir(parents=True)
        (hour / "events.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return len(lines)


def test_airflow_loads_the_dags_without_errors_and_without_our_dependencies(airflow: Airflow) -> None:
    script = """
import importlib.util, json
from airflow.dag_processing.dagbag import DagBag
bag = DagBag()
dags = {i: {t.task_id: sorted(t.upstream_task_ids) for t in d.tasks} for i, d in bag.dags.items()}
ours = [n for n in ("polars", "pyarrow", "deltalake", "great_expectations") if importlib.util.find_spec(n)]
print(json.dumps([{str(k): str(v) for k, v in bag.import_errors.items()}, dags, ours]))
"""
    airflow.run("airflow", "db", "migrate")
    errors, dags, ours = json.loads(airflow.run("python", "-c", script).stdout.splitlines()[-1])
    assert errors == {}
    assert ours == []
    assert dags == {
        f"reclake_{dag.name}": {task.name: sorted(task.needs) for task in dag.tasks} for dag in DAGS.values()
    }


def test_airflow_runs_a_day_from_inbox_to_shards(airflow: Airflow) -> None:
    events = write_inbox(airflow.folder)
    reclake = [sys.executable, "-m", "reclake"]
    subprocess.run([*reclake, "init", str(airflow.folder / "lake")], env=airflow.environment, check=True)
    hours = [sys.executable, "-m", "reclake.dags", "run", "hourly"]
    for day in ("2022-05-01T12", "2022-05-02T12"):
        subprocess.run([*hours, day, "--config", airflow.folder / "dags.toml"], env=airflow.environment, check=True)
    airflow.run("airflow", "db", "migrate")
    dag_file = str(airflow.folder / "dags" / "reclake_dags.py")
    # The run that the schedule starts at two o'clock is for the day before.
    done = airflow.run("airflow", "dags", "test", "reclake_daily", "2022-05-03T02:00:00+00:00", "-f", dag_file)
    said = done.stdout + done.stderr
    assert "DagRun success" in said or "state=success" in said or "state:success" in said, said[-6000:]
    answers = [json.loads(line) for line in said.splitlines() if line.startswith('{"dag": "daily"')]
    assert [answer["task"] for answer in answers] == ["seal", "samples", "pin", "pack", "compact"]
    assert answers[0]["counts"]["rows"] == 2 * events
    assert answers[2]["counts"] == {"pin": "ctr-2022-05-02", "made": 1}
    assert (airflow.folder / "lake" / "pins" / "ctr-2022-05-02.json").is_file()
    assert any((airflow.folder / "shards" / "ctr-2022-05-02").iterdir())


def test_a_task_that_fails_fails_the_airflow_run(airflow: Airflow) -> None:
    airflow.run("airflow", "db", "migrate")
    dag_file = str(airflow.folder / "dags" / "reclake_dags.py")
    command = ("airflow", "dags", "test", "reclake_daily", "-f", dag_file, "-c", '{"date": "2022-05-02"}')
    done = airflow.run(*command, check=False)
    said = done.stdout + done.stderr
    assert done.returncode or "DagRun failed" in said
    assert "error: " in said
    assert "expected: " in said
