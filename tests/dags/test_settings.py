"""dags.toml: where it is looked for, what its paths are relative to, and what is refused."""

from pathlib import Path

import pytest

from reclake.dags.settings import load
from reclake.schemas.errors import TaskError


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    (tmp_path / "dags.toml").write_text('lake = "l"\ninbox = "in/{date}/{hour}"\nshards = "/elsewhere"\n')
    settings = load(tmp_path / "dags.toml")
    assert settings.lake == str(tmp_path / "l")
    assert settings.inbox == str(tmp_path / "in/{date}/{hour}")
    assert settings.shards == "/elsewhere"


@pytest.mark.parametrize("folder", ["lake", "."])
def test_the_file_is_found_in_the_lake_and_beside_it(tmp_path: Path, folder: str) -> None:
    lake = tmp_path / "lake"
    lake.mkdir()
    (tmp_path / folder / "dags.toml").write_text("retries = 7\n")
    settings = load(lake=str(lake))
    assert (settings.retries, settings.lake) == (7, str(lake))


def test_the_file_is_found_in_the_current_folder_when_no_lake_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "dags.toml").write_text('lake = "here"\n')
    monkeypatch.chdir(tmp_path)
    assert load().lake == str(tmp_path / "here")


def test_without_a_file_everything_lies_beside_the_lake(tmp_path: Path) -> None:
    settings = load(lake=str(tmp_path / "lake"))
    assert settings.inbox == str(tmp_path / "inbox")
    assert settings.state == str(tmp_path / "dags-state")


def test_a_named_lake_goes_before_the_one_in_the_file(tmp_path: Path) -> None:
    (tmp_path / "dags.toml").write_text('lake = "l"\n')
    assert load(tmp_path / "dags.toml", "s3://bucket/lake").lake == "s3://bucket/lake"


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ('lake = "l"\nretires = 2\n', "unknown entry"),
        ('lake = "l"\nretries = "2"\n', "wrong type"),
        ('lake = "l"\nretries = true\n', "wrong type"),
        ('lake = "l"\npack_days = 0\n', "not a number of days"),
        ("lake = 5\n", "wrong type"),
        ("inbox = 'in'\n", "no lake named"),
        ("lake = \n", "not a TOML file"),
    ],
)
def test_a_file_that_says_something_else_is_refused_with_its_place(tmp_path: Path, text: str, what: str) -> None:
    path = tmp_path / "dags.toml"
    path.write_text(text)
    with pytest.raises(TaskError, match=what) as refused:
        load(path)
    assert str(refused.value.where).startswith(str(path))


def test_no_file_and_no_lake_is_refused_with_what_to_give(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TaskError, match="no lake named"):
        load()
    with pytest.raises(TaskError, match="no such configuration file"):
        load(tmp_path / "nowhere.toml")
