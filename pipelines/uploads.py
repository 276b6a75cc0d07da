"""Uploads: content that is a user's own where its contract names an owner, and the media that only it refers to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from ..storage.catalog import Catalog


@dataclass(frozen=True, slots=True)
class Uploads:
    """Items of users, and the digests of their media."""

    items: Sequence[int]
    digests: Sequence[str]

    def remove_blobs(self, catalog: Catalog) -> int:
        """Delete the media that no other content refers to; how many there were."""
        digests = set(self.digests) - _digests(catalog, None, ())
        paths = [Path(catalog.blobs.path(digest)) for digest in sorted(digests)]
        present = [path for path in paths if path.is_file()]
        for path in present:
            path.unlink()
        return len(present)


def uploads_of(catalog: Catalog, users: Sequence[int]) -> Uploads:
    """What these users uploaded, by the owner that contracts name."""
    items: set[int] = set()
    digests: set[str] = set()
    for contract in catalog.contracts():
        table = catalog.table(contract.table)
        if contract.owner is None or not table.exists:
            continue
        owner = contract.field(contract.owner).column
        if owner in table.schema().names:
            theirs = table.scan().filter(pl.col(owner).is_in(list(users)))
            items |= set(theirs.select("item_id").unique().collect()["item_id"].to_list())
            digests |= _digests(catalog, owner, users)
    return Uploads(sorted(items), sorted(digests))


def _digests(catalog: Catalog, owner: str | None, users: Sequence[int]) -> set[str]:
    """Digests that content refers to; of these owners' rows if an owner column is named."""
    table = catalog.table("content")
    if not table.exists:
        return set()
    rows = table.scan() if owner is None else table.scan().filter(pl.col(owner).is_in(list(users)))
    schema = rows.collect_schema()
    # A plan's input digest is of several inputs together: no blob has it.
    names = [n for n, kind in schema.items() if n.endswith("_digest") and n != "input_digest" and kind == pl.String]
    if not names:
        return set()
    found = rows.select(pl.concat_list(names).explode().drop_nulls().unique().alias("digest")).collect()
    return set(found["digest"].to_list())
