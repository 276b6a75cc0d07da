"""Profile: a suite that files suggest, without writing anything to the lake."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from ..quality.profile import Proposal, propose
from ..schemas.contract import Contract
from ..schemas.errors import ReclakeError
from . import resolving, sources
from .ingest import BATCH_ROWS
from .private import Shield

ROWS_MAX = 1_000_000  # what is looked at, from the beginning: all of it is in memory at once


@dataclass(frozen=True, slots=True)
class Profile:
    """`rows` events were looked at. `suite`: what the contract has, then what is proposed and not there yet."""

    rows: int
    proposed: tuple[Proposal, ...]
    suite: dict[str, Any]


def profile(contract: Contract, paths: Sequence[str | Path]) -> Profile:
    """What the contract's suite might say, by the rows of files that resolve.

    Raises:
        SourceNotFoundError, SourceError: a path is missing, damaged, or lacks a required column.
    """
    shield = Shield.for_a_look(contract)
    parts: list[pl.DataFrame] = []
    rows = 0
    for path in sources.discover(paths).files:
        if rows >= ROWS_MAX:
            break
        for found in sources.open_source(path, contract=contract, batch_rows=BATCH_ROWS).batches(0):
            batch = found if shield is None else shield.rows(found)
            try:
                parts.append(resolving.resolve(batch.frame, contract).rows)
            except ReclakeError as error:
                raise error.within(path) from None
            rows += parts[-1].height
            if rows >= ROWS_MAX:
                break
    schema = contract.arrow
    if not parts:
        return Profile(0, (), contract.expectations)
    table = pl.concat(parts).head(ROWS_MAX).select(schema.names).to_arrow()
    hashed = {field.name for field in contract.fields if field.pii == "hash"}
    known = {_key(one["type"], one["kwargs"]) for one in contract.expectations["expectations"]}
    proposals = propose(table, schema, personal=contract.personal | hashed)
    proposed = tuple(one for one in proposals if _key(one.type, one.kwargs) not in known)
    suite = contract.expectations
    suite["expectations"] += [one.expectation for one in proposed]
    return Profile(table.num_rows, proposed, suite)


def _key(type_: str, kwargs: Any) -> tuple[Any, ...]:
    return type_, *(kwargs.get(name) for name in ("column", "column_A", "column_B"))
