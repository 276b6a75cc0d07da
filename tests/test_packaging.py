"""What is shipped: the wheel holds the tracked package and nothing else, and works where no checkout is near."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

CHECKOUT = Path(__file__).resolve().parent.parent
ROOMS = ("cli", "dags", "pipelines", "quality", "schemas", "storage")
# What a caller's shell may carry would let the installed package find the checkout.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}


def run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run(command, cwd=cwd, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert not done.returncode, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def tracked() -> list[Path]:
    listed = run("git", "ls-files", "--cached", "--others", "--exclude-standard", cwd=CHECKOUT).splitlines()
    return sorted(path for path in map(Path, dict.fromkeys(listed)) if (CHECKOUT / path).is_file())


@pytest.fixture(scope="module")
def wheel(tracked: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from the tracked files alone, so that nothing lying about in the checkout can slip in."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    for path in tracked:
        if path.parts[0] != "typings":
            (source / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(CHECKOUT / path, source / path)
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, source, cwd=out)
    [built] = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` of a fresh environment outside the checkout that holds the wheel and what it depends on."""
    home = tmp_path_factory.mktemp("installed")
    run(sys.executable, "-m", "venv", home / "venv", cwd=home)
    python = home / "venv" / "bin" / "python"
    run(python, "-m", "pip", "install", "-qq", "--constraint", CHECKOUT / "constraints.txt", wheel, cwd=home)
    return python.parent


def test_the_wheel_holds_the_tracked_package_and_nothing_else(wheel: Path, tracked: list[Path]) -> None:
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    at_root = {Path("__init__.py"), Path("__main__.py"), Path("py.typed")}
    ours = {f"reclake/{path}" for path in tracked if path.parts[0] in ROOMS or path in at_root}
    compiled = {name for name in held if name.endswith(".so")}
    assert held - compiled == ours
    loops = {"reclake/pipelines/feed/_copy.abi3.so", "reclake/storage/_pages.abi3.so"}
    assert compiled == (loops if shutil.which("cc") else set())
    assert "-cp311-abi3-" in wheel.name


def test_an_install_adds_one_top_level_name(installed: Path, tmp_path: Path) -> None:
    script = """
import importlib.metadata, importlib.util, json
files = importlib.metadata.files("reclake")
tops = {f.parts[0] for f in files if f.parts[0] != ".."}
bare = [n for n in %r if importlib.util.find_spec(n)]
print(json.dumps([sorted(t for t in tops if not t.endswith(".dist-info")), bare]))
"""
    tops, bare = json.loads(run(installed / "python", "-c", script % (ROOMS,), cwd=tmp_path))
    assert tops == ["reclake"]
    assert bare == []


def test_the_installed_environment_has_no_broken_requirements(installed: Path, tmp_path: Path) -> None:
    assert "No broken requirements" in run(installed / "python", "-m", "pip", "check", cwd=tmp_path)


def test_the_installed_command_walks_the_first_steps(installed: Path, tmp_path: Path) -> None:
    reclake = installed / "reclake"
    for name in ("init", "ingest", "seal", "demo"):
        assert name in run(reclake, "--help", cwd=tmp_path)
    assert "--scale" in run(reclake, "demo", "--help", cwd=tmp_path)
    event = {"user_id": 7, "item_id": 9, "event_type": "click", "event_time": "2022-05-01T12:00:00Z"}
    events = [event | {"event_id": f"e{n}", "available_at": "2022-05-01T12:00:01Z"} for n in (1, 2, 2)]
    (tmp_path / "day.jsonl").write_text("".join(json.dumps(line) + "\n" for line in events) + "{ not json\n")
    run(reclake, "init", "lake", cwd=tmp_path)
    ingested = json.loads(run(reclake, "ingest", "lake", "events", "day.jsonl", "--json", cwd=tmp_path))
    counts = {name: ingested[name] for name in ("read", "admitted", "quarantined", "duplicates")}
    assert counts == {"read": 4, "admitted": 2, "quarantined": 1, "duplicates": 1}
    sealed = json.loads(run(reclake, "seal", "lake", "--through", "2022-05-02T00:00:00Z", "--json", cwd=tmp_path))
    assert sealed["rows"] == 2
    assert "timelines" in {path.name for path in (tmp_path / "lake").rglob("*")}
