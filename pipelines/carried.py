"""Carried: what a commit takes with its rows, and how that reaches the tables it belongs to (docs/adr/0001).

The verdict of a batch, and of a replay which quarantined rows it settled, stand in the metadata of the commit that
made the rows part of their table. They are written to `verdicts` and `replays` right after it; where a kill came in
between, whoever comes next under the same cursor writes them from the commit.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from ..quality import gate
from ..quality.verdicts import versioned
from ..schemas import shapes
from ..schemas.errors import CommitConflictError
from ..storage.catalog import Catalog
from ..storage.table import Table

VERDICT_KEY = "reclake.verdict/"  # begins the keys under which a commit's metadata hold verdicts whole


@dataclass(frozen=True, slots=True)
class Carried:
    """Rows of shapes.VERDICTS, and of shapes.REPLAYS where the commit is a replay's.

    `cursor` and `number` are the application transaction of the commit.
    """

    cursor: str
    number: int
    verdict: pa.Table
    ledger: pa.Table | None = None

    @property
    def metadata(self) -> dict[str, str]:
        """What the commit says of itself, under keys that no other batch of the commit has."""
        said = {_key("verdict", self.cursor, self.number): _json(self.verdict)}
        if self.ledger is not None:
            # Thousands of ids that differ in a few digits: packed, they take a few bytes each in the log.
            packed = base64.b64encode(zlib.compress(_json(self.ledger).encode())).decode()
            said[_key("ledger", self.cursor, self.number)] = packed
        return said


def settle(catalog: Catalog, carried: Carried, version: int) -> None:
    """Write what a commit carried where it belongs, each once, whoever does it first. `version` is the commit's."""
    if carried.ledger is not None:
        _once(catalog.table("replays"), carried.ledger, shapes.REPLAYS, carried)
    _once(catalog.table("verdicts"), versioned(carried.verdict, version), shapes.VERDICTS, carried)


def recover(catalog: Catalog, table: Table, cursor: str, number: int) -> None:
    """Settle commits of a process that died before it could. `number` is the last that `table` has of the cursor."""
    settled = catalog.table("verdicts").transaction(cursor) or 0  # verdicts come last
    if number <= settled:
        return
    mine = _key("verdict", cursor)
    found: list[tuple[int, Mapping[str, Any]]] = []
    for entry in table.history():
        named = [key.rpartition("-") for key in entry if key.startswith(mine)]
        numbers = [int(number) for key, _, number in named if key == mine]
        found += [(one, entry) for one in numbers if settled < one <= number]
        if any(one <= settled for one in numbers):
            break
    for one, commit in sorted(found, key=lambda pair: pair[0]):
        settle(catalog, _read(commit, cursor, one), int(commit["version"]))


def _read(entry: Mapping[str, Any], cursor: str, number: int) -> Carried:
    verdict = _rows(entry[_key("verdict", cursor, number)].encode(), shapes.VERDICTS)
    packed = entry.get(_key("ledger", cursor, number))
    ledger = None if packed is None else _rows(zlib.decompress(base64.b64decode(packed)), shapes.REPLAYS)
    return Carried(cursor, number, verdict, ledger)


def _key(what: str, cursor: str, number: int | None = None) -> str:
    return f"reclake.{what}/{cursor}" + ("" if number is None else f"-{number}")


def carried_each(verdicts: pa.Table, sizes: Sequence[int], cursors: Sequence[tuple[str, int]]) -> list[dict[str, str]]:
    """`Carried.metadata` of many batches: of the verdicts' rows `sizes` are of each, whose cursor and number follow."""
    lines = pl.DataFrame(verdicts).write_ndjson().splitlines()
    ends = np.cumsum(sizes).tolist()
    return [
        {_key("verdict", *cursor): f"[{','.join(lines[end - size : end])}]"}
        for cursor, size, end in zip(cursors, sizes, ends, strict=True)
    ]


def _json(rows: pa.Table) -> str:
    return pl.DataFrame(rows).write_json()


def _rows(text: bytes, schema: pa.Schema) -> pa.Table:
    return pl.read_json(text, schema=pl.DataFrame(schema.empty_table()).schema).to_arrow()


def _once(table: Table, rows: pa.Table, schema: pa.Schema, carried: Carried) -> None:
    if (table.transaction(carried.cursor) or 0) >= carried.number:
        return
    try:
        table.append(gate.record(rows, schema, name=table.name), transactions={carried.cursor: carried.number})
    except CommitConflictError:
        if (table.transaction(carried.cursor) or 0) < carried.number:
            raise
