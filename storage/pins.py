"""Pins: a name for exact versions of all tables. The identity of a training set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..schemas.errors import PinError
from ..schemas.times import iso


@dataclass(frozen=True, slots=True)
class Pin:
    """Exact versions of everything a training set was made from. Vacuum and compaction keep them readable."""

    name: str
    tables: Mapping[str, int]
    contracts: Mapping[str, int]
    recipes: Mapping[str, int]
    sealed_through_us: int | None
    until_us: int | None = None  # from then on it holds nothing, and cannot be opened

    def holds_at(self, now_us: int) -> bool:
        """Whether the pin keeps its versions alive at a time."""
        return self.until_us is None or now_us < self.until_us

    def opened_at(self, now_us: int) -> Pin:
        """The pin itself.

        Raises:
            PinError: it has expired by then.
        """
        if not self.holds_at(now_us):
            raise PinError(
                "the pin has expired: its versions are no longer kept",
                where=f"pin {self.name}",
                expected=f"a time before {iso(self.until_us or 0)}",
                got=iso(now_us),
                hint="unpin it, and pin the present versions under another name",
            )
        return self

    def version_of(self, table: str) -> int:
        """The pinned version of a table.

        Raises:
            PinError: the table did not exist when the pin was made.
        """
        if table not in self.tables:
            raise PinError(
                "the pin does not hold this table",
                where=f"pin {self.name}",
                expected=", ".join(sorted(self.tables)),
                got=table,
                hint="make the table's rows first, then pin again under another name",
            )
        return self.tables[table]

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "tables": dict(self.tables),
            "contracts": dict(self.contracts),
            "recipes": dict(self.recipes),
            "sealed_through_us": self.sealed_through_us,
        } | ({} if self.until_us is None else {"until_us": self.until_us})

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Pin:
        return cls(
            name=document["name"],
            tables=document["tables"],
            contracts=document["contracts"],
            recipes=document["recipes"],
            sealed_through_us=document["sealed_through_us"],
            until_us=document.get("until_us"),
        )
