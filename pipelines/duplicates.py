"""Duplicates: which events a table holds already, told by fingerprints, in proportion to the batch.

A fingerprint is 128 bits of an event_id, two 64-bit hashes with seeds of their own. Two different ids of a table with n
events share one with a chance of n² / 2^129: 1.5e-21 at a billion. See docs/adr/0006.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from ..storage.catalog import Catalog
from ..storage.index import Index, Pairs, keep_all
from ..storage.places import Place, scan

_SEEDS = (0x52_65_63, 0x6C_61_6B)


def held(catalog: Catalog, table: str, event_ids: pl.Series) -> pl.Series:
    """For each id, whether the table holds it, as of now or of a commit later than the call."""
    if not catalog.table(table).exists:
        return pl.Series(np.zeros(len(event_ids), dtype=bool))
    keys, values = fingerprints(event_ids)
    places, found = _index(catalog, table).find(keys)
    known = np.zeros(len(event_ids), dtype=bool)
    known[places[found == values[places]]] = True
    return pl.Series(known)


def fingerprints(event_ids: pl.Series) -> Pairs:
    """Kernel: the two halves of each id's fingerprint."""
    key, value = (event_ids.hash(seed).reinterpret(signed=True).to_numpy() for seed in _SEEDS)
    return key, value


def _index(catalog: Catalog, table: str) -> Index:
    # Polars may hash otherwise in another version, or on another processor. Then the index has another name.
    flavour = (
        pl.Series(["reclake", "a longer id, of more than thirty-two bytes"]).hash(_SEEDS[0]).reinterpret(signed=False)
    )
    name = "-".join(f"{part:016x}" for part in flavour)
    return Index(catalog.cache / "event_ids" / name, catalog.table(table), _read, keep_all)


def _read(files: Sequence[Place]) -> Pairs:
    return fingerprints(scan(files, hive_partitioning=False).select("event_id").collect()["event_id"])
