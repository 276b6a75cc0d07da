"""Quarantined rows as they read: what the contract, as it is now, makes of their raw bytes."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from ...schemas.contract import Contract
from ...schemas.errors import ReclakeError
from ...storage.catalog import Catalog
from .. import resolving, sources
from ..private import hidden_since
from .emits import ALL, emits_now


def decoded(catalog: Catalog, rows: pl.DataFrame) -> list[dict[str, Any] | None]:
    """For each row (columns of shapes.QUARANTINE) its values, nulls left out; None: its bytes do not decode.

    An event that resolves is shown in the contract's fields, any other row in its source's columns. What was marked
    personal since is hashed or left out.
    """
    contracts = {contract.name: contract for contract in catalog.contracts()}
    found: list[dict[str, Any] | None] = [None] * rows.height
    for (name,), part in rows.with_row_index("_place").group_by("contract", maintain_order=True):
        if str(name) in contracts:
            for place, values in zip(part["_place"], _of_contract(catalog, contracts[str(name)], part), strict=True):
                found[place] = values
    return found


def _of_contract(catalog: Catalog, contract: Contract, rows: pl.DataFrame) -> list[dict[str, Any] | None]:
    values: list[dict[str, Any] | None] = [None] * rows.height
    frame, bad = sources.raw_to_frame(rows["raw"].to_list(), contract)
    readable = np.setdiff1d(np.arange(rows.height), np.asarray(bad, dtype=np.int64))
    frame, fits = hidden_since(catalog, contract, frame, rows[readable])
    readable = readable[fits]
    for place, row in zip(readable.tolist(), frame.iter_rows(named=True), strict=True):
        values[place] = _present(row)
    try:
        events = resolving.resolve(frame, contract).rows
    except ReclakeError:  # columns that the mapping needs are in none of these rows
        return values
    emits = emits_now(catalog, contract, rows).to_list()
    for row in events.iter_rows(named=True):
        place = int(readable[row.pop("_row")])
        if emits[place] in (ALL, row.pop("_emit")):
            values[place] = _present(row)
    return values


def _present(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if value is not None}
