"""`reclake contract diff`: the verdict of `compatibility`, and of the modes over many versions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from reclake.cli.contract_commands import contract
from reclake.schemas.resolution import compatibility

R = {"type": "record", "name": "r"}
VERSIONS = [
    R | {"fields": [{"name": "a", "type": "int"}]},
    R | {"fields": [{"name": "a", "type": "long"}]},
    R | {"fields": [{"name": "a", "type": "long"}, {"name": "b", "type": "int", "default": 0}]},
]


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.chdir(tmp_path)
    paths = [Path(f"v{place}.avsc") for place in range(len(VERSIONS))]
    for path, version in zip(paths, VERSIONS, strict=True):
        path.write_text(json.dumps(version))
    return [str(path) for path in paths]


def diff(*arguments: str) -> tuple[Any, Any]:
    done = CliRunner().invoke(contract, ["diff", *arguments, "--json"], standalone_mode=False)
    return done.return_value, json.loads(done.stdout) if done.stdout else done.exception


def test_two_schemas_give_what_compatibility_gives(files: list[str]) -> None:
    assert diff(files[0], files[1]) == (0, compatibility(VERSIONS[0], VERSIONS[1]))
    assert diff(files[1], files[0]) == (1, compatibility(VERSIONS[1], VERSIONS[0]))


def test_a_mode_asks_whether_the_last_version_may_follow(files: list[str]) -> None:
    assert diff(*files, "--mode", "BACKWARD_TRANSITIVE")[0] == 0
    status, verdict = diff(*files, "--mode", "full_transitive")
    assert status == 1
    assert [(i["writer_version"], i["reader_version"], i["path"]) for i in verdict["incompatibilities"]] == [
        (2, 0, "/fields/0/type")
    ]
    assert "--mode" in str(diff(*files)[1])


def test_of_many_versions_people_are_told_which_two_do_not_fit(files: list[str]) -> None:
    done = CliRunner().invoke(contract, ["diff", *files, "--mode", "forward_transitive"], standalone_mode=False)
    (row,) = [line for line in done.stdout.splitlines() if "TYPE_MISMATCH" in line]
    assert [part.strip() for part in row.split("\u2502")[1:4]] == ["v2.avsc", "v0.avsc", "/fields/0/type"]
