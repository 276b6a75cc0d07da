"""Which event of its row a quarantined one is, where the contract's mapping is another by now."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

import polars as pl

from ...schemas.contract import Contract, Emit
from ...storage.catalog import Catalog

ALL = -1  # every event that the row gives
NONE = -2  # there is no such event any more


def emits_now(catalog: Catalog, contract: Contract, rows: pl.DataFrame) -> pl.Series:
    """The place, in the contract's mapping as it is now, of the event that each quarantined row is; or ALL, or NONE.

    Args:
        rows: columns `emit` and `contract_version` of shapes.QUARANTINE.
    """
    now = contract.mapping.emits if contract.mapping is not None else ()
    known: dict[tuple[int, int], int] = {}
    for version in rows["contract_version"].unique().to_list():
        then = catalog.contract(contract.name, version).mapping
        places = counterparts(then.emits if then is not None else (), now)
        known |= {(version, place): found for place, found in enumerate(places)}
    pairs = zip(rows["contract_version"], rows["emit"], strict=True)
    return pl.Series("emit", [known.get(pair, ALL) for pair in pairs], dtype=pl.Int32)


def counterparts(then: Sequence[Emit], now: Sequence[Emit]) -> list[int]:
    """Kernel: for each event that a mapping made of a row, its place in a later mapping.

    A row that gave one event at most gave none that came in: all it gives now is it (ALL). Of a row that gave several
    the others may be in already, so only the same one counts: the entry that is the same, or else has the same
    event_id, or else the same event_type. No mapping, (), is one event.
    """
    if len(then) < 2:
        return [ALL]
    found: dict[int, int] = {}
    for key in (_whole, _text("event_id"), _text("event_type")):
        old = _alone(key, then, set(found))
        new = _alone(key, now, set(found.values()))
        found |= {old[same]: new[same] for same in old.keys() & new.keys()}
    return [found.get(place, NONE) for place in range(len(then))]


def _whole(emit: Emit) -> Hashable:
    return emit


def _text(field: str) -> Callable[[Emit], Hashable]:
    return lambda emit: dict(emit.fields).get(field)


def _alone(key: Callable[[Emit], Hashable], emits: Sequence[Emit], taken: set[int]) -> dict[Hashable, int]:
    """The places of entries that share their key with no other that is left."""
    keys = {place: key(emit) for place, emit in enumerate(emits) if place not in taken}
    many = list(keys.values())
    return {value: place for place, value in keys.items() if many.count(value) == 1}
