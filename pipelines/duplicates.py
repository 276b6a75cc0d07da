"""Duplicates: which events a table holds already, told by fingerprints, in proportion to the batch.

A fingerprint is 128 bits of an event_id, two 64-bit hashes with seeds of their own. Two different ids of a table with n
events share one with a chance of n² / 2^129: 1.5e-21 at a billion. See docs/adr/0006.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

from ..storage.catalog import Catalog
from ..storage.index import Follower, Index, Pairs, keep_all
from ..storage.places import Place, scan

_SEEDS = (0x52_65_63, 0x6C_61_6B)


def held(catalog: Catalog, table: str, event_ids: pl.Series) -> pl.Series:
    """For each id, whether the table holds it, as of now or of a commit later than the call."""
    if not catalog.table(table).exists:
        return pl.Series(np.zeros(len(event_ids), dtype=bool))
    prints = fingerprints(event_ids)
    return pl.Series(_among(prints, _index(catalog, table).find(prints[0])))


class Held:
    """What `held` says, for a writer that asks before each of its commits: it remembers what they add. For one thread.

    The table must exist.
    """

    def __init__(self, catalog: Catalog, table: str) -> None:
        self._follower = Follower(_index(catalog, table))

    def __call__(self, prints: Pairs, version: int) -> npt.NDArray[np.bool_]:
        """For each fingerprint, whether the table holds it, as of a version or of a later one."""
        return _among(prints, self._follower.find(prints[0], version))

    def add(self, version: int, prints: Pairs) -> None:
        """What was added by the commit that followed the version that was asked for."""
        self._follower.add(version, prints)

    def close(self) -> None:
        """Leave to others what was remembered."""
        self._follower.keep()


def _among(prints: Pairs, matches: Pairs) -> npt.NDArray[np.bool_]:
    (places, found), known = matches, np.zeros(len(prints[0]), dtype=np.bool_)
    known[places[found == prints[1][places]]] = True
    return known


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
    # Of other columns the files may have more or fewer: contracts change.
    ids = scan(files, schema={"event_id": pl.String}, extra_columns="ignore", hive_partitioning=False)
    return fingerprints(ids.collect()["event_id"])
