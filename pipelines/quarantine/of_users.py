"""Quarantined rows of users: found by decoding the row as its contract says, and by its bytes only where that fails."""

from __future__ import annotations

import json

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow.parquet as pq

from ...schemas.contract import Contract
from ...schemas.errors import ReclakeError
from ...storage.catalog import Catalog
from ...storage.traces import Wanted
from .. import resolving, sources


def quarantined_of(catalog: Catalog, wanted: Wanted, version: int | None = None) -> list[str]:
    """Ids of the quarantined rows that are of one of the users, a row group in memory at a time.

    A row that decodes belongs to whom it says. One that does not, or not to the user's id, is taken if its bytes hold
    the id of one of them as a whole number.
    """
    table = catalog.table("quarantine")
    contracts = {contract.name: _naming(catalog, contract) for contract in catalog.contracts()}
    found: list[str] = []
    for path in table.files(version):
        with pq.ParquetFile(path) as file:
            for group in range(file.metadata.num_row_groups):
                rows = pl.DataFrame(file.read_row_group(group, columns=["quarantine_id", "contract", "raw"]))
                for (name,), part in rows.group_by("contract", maintain_order=True):
                    theirs = of_users(part["raw"], contracts.get(str(name)), wanted)
                    found += part["quarantine_id"].filter(theirs).to_list()
    return sorted(set(found))


def _naming(catalog: Catalog, contract: Contract) -> Contract:
    """The contract, or the last version of it that said whose its items are."""
    versions = reversed(catalog.contract_versions(contract.name))
    return next((version for version in versions if version.owner is not None), contract)


def of_users(raw: pl.Series, contract: Contract | None, wanted: Wanted) -> pl.Series:
    """Kernel: which raw rows of a contract are of one of the users. Without a contract only bytes can say."""
    if contract is not None and contract.kind == "content" and contract.owner is None:
        return pl.Series(np.zeros(len(raw), dtype=bool))  # items are nobody's
    rows, users = _decoded(raw, contract)
    theirs = np.zeros(len(raw), dtype=bool)
    theirs[rows[np.isin(users, wanted.ids)]] = True
    unknown = np.setdiff1d(np.arange(len(raw)), rows)
    theirs[unknown] = _named(raw.gather(unknown), wanted)
    return pl.Series(theirs)


def _decoded(raw: pl.Series, contract: Contract | None) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """(row, user) of every event or item that the rows decode to."""
    nothing = np.empty(0, dtype=np.int64)
    if contract is None or raw.is_empty():
        return nothing, nothing
    frame, bad = sources.raw_to_frame(raw.to_list(), contract)
    readable = np.setdiff1d(np.arange(len(raw)), np.asarray(bad, dtype=np.int64))
    try:
        column = contract.owner or "user_id"
        known = resolving.resolve(frame, contract).rows.select("_row", column).drop_nulls()
    except ReclakeError:  # columns that the mapping needs are in none of these rows
        return nothing, nothing
    return readable[known["_row"].to_numpy()], known[column].to_numpy()


def _named(raw: pl.Series, wanted: Wanted) -> npt.NDArray[np.bool_]:
    """Which rows hold one of the ids as a whole number; JSON's escapes are undone, binary ids looked for, where any."""
    named = wanted.rows_of(raw.to_list())
    odd = raw.bin.contains(b"\\u") | raw.bin.contains(b"\0")
    for row in odd.arg_true():
        named[row] |= _unescaped_holds(raw[row], wanted)
    return named


def _unescaped_holds(raw: bytes, wanted: Wanted) -> bool:
    if wanted.as_integers(raw):
        return True
    try:
        return wanted.in_bytes(json.dumps(json.loads(raw), ensure_ascii=False).encode()) > 0
    except (ValueError, UnicodeEncodeError):
        return False
