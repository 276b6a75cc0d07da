"""Suites of the tables that reclake makes itself: what a lake expects of a partition before it is published.

LAKE/suites/TABLE/0002.json         Great Expectations' own JSON; every version. The first is what reclake ships

They come on top of the checks that reclake ships for the table, which guard its own laws and cannot be taken away.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..schemas.contract import shipped_suite
from ..schemas.errors import ReclakeError
from . import documents
from .places import Place


@dataclass(frozen=True, slots=True)
class Registered:
    """What a lake expects of a derived table (`timelines`, `samples/RECIPE`) besides; version 1: nothing."""

    version: int
    own: list[Any]

    def whole(self, table: str) -> dict[str, Any]:
        """The table's suite: reclake's checks first, then the lake's."""
        shipped = shipped_suite(table.partition("/")[0])
        return shipped | {"expectations": [*shipped["expectations"], *self.own]}


def registered(root: Place, table: str) -> Registered:
    """The newest version."""
    versions = sorted(path.stem for path in _folder(root, table).glob("[0-9]*.json"))
    if not versions:
        return Registered(1, [])
    document = documents.read(_folder(root, table) / f"{versions[-1]}.json")
    return Registered(int(versions[-1]), document["expectations"])


def add(root: Place, table: str, suite: Mapping[str, Any]) -> Registered:
    """Register the next version, or the same again."""
    last = registered(root, table)
    if last.own == suite["expectations"]:
        return last
    path = _folder(root, table) / f"{last.version + 1:04d}.json"
    if not documents.create(path, dict(suite)):
        raise ReclakeError("somebody else registered a suite at the same time", where=path, hint="run it again")
    return Registered(last.version + 1, suite["expectations"])


def _folder(root: Place, table: str) -> Place:
    return root / "suites" / table.replace("/", ".")
