"""Where a DAG's tasks read and write: the small file `dags.toml`, typed."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, fields, replace
from pathlib import Path

from ..schemas.errors import TaskError

FILE_NAME = "dags.toml"


@dataclass(frozen=True, slots=True)
class Settings:
    """What the tasks need to know; entries of `dags.toml` have the same names.

    Paths in the file are relative to the file. `inbox` may hold `{date}` (2022-05-02) and `{hour}` (13): then each hour
    has a folder of its own; without them the whole folder is looked through each time, and only new files are read.
    """

    lake: str
    inbox: str = "inbox"
    contract: str = "events"
    recipe: str = "ctr"
    shards: str = "shards"  # a folder for each day's shards
    pack_days: int = 7  # sample days in them, counted back from their own; what a day costs does not grow with history
    reports: str = "reports"  # a page for each day
    state: str = "dags-state"  # the local runner's books
    retries: int = 1
    retry_wait_s: float = 5.0


_ACCEPTED: dict[str, tuple[tuple[type, ...], str]] = {
    "str": ((str,), "a string"),
    "int": ((int,), "a whole number"),
    "float": ((int, float), "a number"),
}


def load(config: str | Path | None = None, lake: str | None = None) -> Settings:
    """The settings of `config`, else of `dags.toml` in the lake or beside it, else the defaults beside the lake.

    A `lake` given here goes before the file's.

    Raises:
        TaskError: no such file, not TOML, an unknown entry or one of the wrong type, or no lake named at all.
    """
    path = _find(config, lake)
    if path is None:
        if lake is None:
            raise TaskError(
                "no lake named",
                expected=f"--lake LAKE, or --config FILE with an entry `lake`, or {FILE_NAME} here",
            )
        return _anchored(Settings(lake=lake), _beside(lake), keep_lake=True)
    settings = _parse(path, lake)
    return _anchored(settings, str(path.resolve().parent), keep_lake=lake is not None)


def _find(config: str | Path | None, lake: str | None) -> Path | None:
    if config is not None:
        path = Path(config)
        if not path.is_file():
            raise TaskError("no such configuration file", where=path, expected=f"a TOML file such as {FILE_NAME}")
        return path
    folders = [Path.cwd()] if lake is None else [] if "://" in lake else [Path(lake), Path(lake).resolve().parent]
    return next((folder / FILE_NAME for folder in folders if (folder / FILE_NAME).is_file()), None)


def _parse(path: Path, lake: str | None) -> Settings:
    try:
        entries = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise TaskError("not a TOML file", where=path, got=str(error)) from None
    if lake is not None:
        entries["lake"] = lake
    known = {field.name: field.type for field in fields(Settings)}
    unknown = sorted(set(entries) - set(known))
    if unknown:
        raise TaskError("unknown entry", where=path, expected="one of " + ", ".join(known), got=", ".join(unknown))
    if "lake" not in entries:
        raise TaskError("no lake named", where=path, expected='lake = "lake", or --lake LAKE')
    for name, value in entries.items():
        types, words = _ACCEPTED[str(known[name])]
        if not isinstance(value, types) or isinstance(value, bool):
            raise TaskError("an entry of the wrong type", where=f"{path}, {name}", expected=words, got=repr(value))
    if entries.get("pack_days", 1) < 1:
        raise TaskError(
            "not a number of days", where=f"{path}, pack_days", expected="1 or more", got=entries["pack_days"]
        )
    return Settings(**entries)


def _beside(lake: str) -> str:
    """Where things go by default: the folder that holds the lake, or, for a lake that is not on a disk, here."""
    return str(Path.cwd() if "://" in lake else Path(lake).resolve().parent)


def _anchored(settings: Settings, folder: str, *, keep_lake: bool) -> Settings:
    """Relative paths made to start from `folder`; URLs and absolute paths as they are."""

    def at(path: str) -> str:
        return path if "://" in path else str(Path(folder) / path)

    return replace(
        settings,
        lake=settings.lake if keep_lake else at(settings.lake),
        inbox=at(settings.inbox),
        shards=at(settings.shards),
        reports=at(settings.reports),
        state=at(settings.state),
    )
