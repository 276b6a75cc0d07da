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


@dataclass(frozen=True, slots=True)
class Owners:
    """Where content says whose it is, in every version of its contracts: rows are found where they were written."""

    names: frozenset[str]  # what the fields are and were called
    columns: frozenset[str]  # where the table keeps them and kept them

    @classmethod
    def of(cls, catalog: Catalog) -> Owners:
        fields = []
        for contract in catalog.contracts():
            versions = catalog.contract_versions(contract.name)
            ids = {version.field(version.owner).id for version in versions if version.owner is not None}
            fields += [field for version in versions for field in version.fields if field.id in ids]
        return cls(frozenset(field.name for field in fields), frozenset(field.column for field in fields))


def uploads_of(catalog: Catalog, users: Sequence[int]) -> Uploads:
    """What these users uploaded, by the owner that contracts name, or named."""
    items: set[int] = set()
    digests: set[str] = set()
    table = catalog.table("content")
    for owner in sorted(Owners.of(catalog).columns & set(table.schema().names)) if table.exists else ():
        theirs = table.scan().filter(_of_users(owner, users))
        items |= set(theirs.select("item_id").unique().collect()["item_id"].to_list())
        digests |= _digests(catalog, owner, users)
    return Uploads(sorted(items), sorted(digests))


def _of_users(owner: str, users: Sequence[int]) -> pl.Expr:
    return pl.col(owner).cast(pl.Int64).is_in(list(users))


def _digests(catalog: Catalog, owner: str | None, users: Sequence[int]) -> set[str]:
    """Digests that content refers to; of these owners' rows if an owner column is named."""
    table = catalog.table("content")
    if not table.exists:
        return set()
    rows = table.scan() if owner is None else table.scan().filter(_of_users(owner, users))
    schema = rows.collect_schema()
    # A plan's input digest is of several inputs together: no blob has it.
    names = [n for n, kind in schema.items() if n.endswith("_digest") and n != "input_digest" and kind == pl.String]
    if not names:
        return set()
    found = rows.select(pl.concat_list(names).explode().drop_nulls().unique().alias("digest")).collect()
    return set(found["digest"].to_list())
