"""Personal data of source rows: hashed or dropped before anything else is done with a row, as its contract says.

What comes behind (mapping, gate, quarantine, verdicts, reports) never sees the values, so it cannot keep them. A row
that does not decode, or whose value cannot be hashed, keeps its place and its reason, and no bytes.
"""

from __future__ import annotations

import functools
import json
import operator
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from ..quality.expectation import PERSONAL
from ..schemas.avro import split_nullable
from ..schemas.contract import Contract, Field
from ..schemas.errors import ContractError
from ..schemas.failures import POLARS_FAILURES
from ..schemas.pii import Key, pseudonyms
from ..storage import keys
from ..storage.catalog import Catalog
from .resolving.casts import cast
from .sources import SourceBatch, Undecodable

NOT_KEPT = "not kept: the contract has personal data"


@dataclass(frozen=True, slots=True)
class Columns:
    """Source columns with personal data: `hashed`, with the Avro type of their field, and `dropped`."""

    hashed: Mapping[str, str]
    dropped: frozenset[str]


@dataclass(frozen=True, slots=True)
class Shield:
    """What is done to the rows of a contract's sources. `key` is None where nothing is hashed."""

    columns: Columns
    key: Key | None

    @classmethod
    def of(cls, catalog: Catalog, contract: Contract) -> Shield | None:
        """None where the contract's rows hold nothing to hide.

        Raises:
            PiiKeyError: there is no key, or not the one that was used before.
            ContractError: the contract's mapping would write a value as it is.
        """
        if not contract.hides:
            return None
        columns = columns_of(contract)
        return cls(columns, keys.current(catalog.root) if columns.hashed else None)

    @classmethod
    def for_a_look(cls, contract: Contract) -> Shield | None:
        """Where nothing is written any key will do: what is shown is as little of a user as what ingest would keep."""
        if not contract.hides:
            return None
        return cls(columns_of(contract), Key("look", secrets.token_bytes(32)))

    def rows(self, batch: SourceBatch) -> SourceBatch:
        """Kernel: the batch as it may be seen."""
        frame = batch.frame.drop(self.columns.dropped & set(batch.frame.columns))
        bad = np.zeros(frame.height, dtype=bool)
        undecodable = [replace(row, raw=b"", reason={**row.reason, "got": NOT_KEPT}) for row in batch.undecodable]
        for name in sorted(self.columns.hashed.keys() & set(frame.columns)):
            done = cast(frame[name], self.columns.hashed[name])
            frame = frame.with_columns(self._hashed(done.values).alias(name))
            here = done.bad.to_numpy() & ~bad
            reason = refusal(name, self.columns.hashed[name])
            refused = (Undecodable(int(row), b"", "json", reason) for row in batch.rows[here])
            undecodable.extend(refused)
            bad |= here
        return SourceBatch(
            frame=frame.filter(~bad) if bad.any() else frame,
            rows=batch.rows[~bad],
            first_row=batch.first_row,
            end_row=batch.end_row,
            undecodable=tuple(undecodable),
        )

    def values(self, row: Mapping[str, Any]) -> tuple[dict[str, Any], str | None]:
        """One row of a manifest as it may be seen, and the column whose value cannot be hashed, if there is one."""
        kept = {name: value for name, value in row.items() if name not in self.columns.dropped}
        for name in self.columns.hashed.keys() & kept.keys():
            done = cast(pl.Series([kept[name]], strict=False), self.columns.hashed[name])
            if done.bad.item():
                return {}, name
            kept[name] = self._hashed(done.values).item()
        return kept, None

    def _hashed(self, values: pl.Series) -> pl.Series:
        assert self.key is not None
        return pseudonyms(values, self.key)


def hidden(batch: SourceBatch, contract: Contract, shield: Shield | None) -> SourceBatch:
    """Kernel: a batch as it may be seen. Of values that are kept, that is all but what is said of rows that do not
    decode: nobody knows what in their texts is personal.
    """
    if shield is not None:
        return shield.rows(batch)
    if not (contract.personal and batch.undecodable):
        return batch
    told = {None, *contract.personal}
    bad = (
        replace(row, reason={**row.reason, "got": PERSONAL}) if row.reason["column"] in told else row
        for row in batch.undecodable
    )
    return replace(batch, undecodable=tuple(bad))


def hidden_since(
    catalog: Catalog, contract: Contract, frame: pl.DataFrame, rows: pl.DataFrame
) -> tuple[pl.DataFrame, npt.NDArray[np.bool_]]:
    """Quarantined rows with what was marked after they were quarantined hidden too, and which of them could be.

    Args:
        rows: `raw` and `contract_version` of each; what the version that quarantined a row hashed stays as it is.

    Raises:
        PiiKeyError: there is something to hash, and no key.
    """
    fits = np.ones(frame.height, dtype=bool)
    if not contract.hides:
        return frame, fits
    columns = columns_of(contract)
    frame = frame.drop(columns.dropped & set(frame.columns))
    for name, kind in columns.hashed.items():
        clear = _in_the_clear(catalog, contract, rows, name) if name in frame.columns else pl.Series([False])
        if clear.any():
            done = cast(frame[name], kind)
            hashed = pseudonyms(done.values, keys.current(catalog.root))
            frame = frame.with_columns(pl.select(pl.when(clear).then(hashed).otherwise(done.values).alias(name)))
            fits &= ~(clear & done.bad).to_numpy()
    return frame.filter(fits), fits


def _in_the_clear(catalog: Catalog, contract: Contract, rows: pl.DataFrame, column: str) -> pl.Series:
    """Which quarantined rows give a column's value by a name that was not hashed when they were quarantined. Without a
    mapping a field's column holds what rows give by the names that it had before, too.
    """
    names: tuple[str, ...] = (column,)
    if contract.mapping is None:
        names += next(field.aliases for field in contract.fields if field.name == column)
    clear = np.zeros(rows.height, dtype=bool)
    for version in rows["contract_version"].unique():
        hashed = columns_of(catalog.contract(contract.name, version)).hashed
        unmarked = [name for name in names if name not in hashed]
        here = rows["contract_version"] == version
        if unmarked and len(unmarked) < len(names):  # it was renamed since: which of its names does a row give?
            some = [rows["raw"].bin.contains(f'"{name}"'.encode()) for name in unmarked]
            here &= functools.reduce(operator.or_, some)
            for place in here.arg_true():
                given = json.loads(rows["raw"][place])
                clear[place] = next((name for name in names if given.get(name) is not None), column) in unmarked
        elif unmarked:
            clear |= here.to_numpy()
    return pl.Series(clear)


def columns_of(contract: Contract) -> Columns:
    """Kernel: the source columns that hold a contract's personal data, by name and alias or by its mapping.

    Raises:
        ContractError: the mapping computes a hashed field from more than a column as it is, reads a column as two
            types, or reads one that is dropped.
    """
    hashed: dict[str, str] = {}
    dropped = {name for field in contract.fields if field.pii == "drop" for name in (field.name, *field.aliases)}
    expressions = list(_expressions(contract))
    for field, text, parsed, where in expressions:
        if field is not None and field.pii == "drop":
            dropped |= set(parsed.meta.root_names())
        elif field is not None and field.pii == "hash":
            if not parsed.meta.is_column():
                raise ContractError(
                    "a hashed field that is computed",
                    where=where,
                    expected="a column of the source as it is: it is hashed before anything is computed",
                    got=text,
                )
            name, kind = parsed.meta.output_name(), _type(field)
            if hashed.setdefault(name, kind) != kind:
                raise ContractError(
                    "a column is hashed as two types", where=where, expected=hashed[name], got=f"{name} as {kind}"
                )
    if contract.mapping is None:
        named = [
            (field, name) for field in contract.fields if field.pii == "hash" for name in (field.name, *field.aliases)
        ]
        hashed = {name: _type(field) for field, name in named}
    for field, text, parsed, where in expressions:
        needed = dropped & set(parsed.meta.root_names())
        if needed and (field is None or field.pii != "drop"):
            raise ContractError(
                "an expression reads a column that is dropped",
                where=where,
                expected="only columns that may be used",
                got=f"{text}, with {sorted(needed)[0]}",
            )
    return Columns(hashed, frozenset(dropped))


def _expressions(contract: Contract) -> Iterable[tuple[Field | None, str, pl.Expr, str]]:
    """(field, or None for a condition; its text; parsed; where) of all of a mapping's expressions."""
    emits = () if contract.mapping is None else contract.mapping.emits
    for number, emit in enumerate(emits):
        texts: list[tuple[Field | None, str]] = [(contract.field(name), text) for name, text in emit.fields]
        for field, text in [*texts, *([(None, emit.when)] if emit.when is not None else [])]:
            where = f"contract {contract.name}, mapping, emit {number}, {'when' if field is None else field.name}"
            try:
                yield field, text, pl.sql_expr(text), where
            except POLARS_FAILURES:  # the mapping itself says what is wrong with it
                continue


def _type(field: Field) -> str:
    return str(split_nullable(field.avro)[0])


def refusal(column: str, kind: str) -> dict[str, str | None]:
    """Why a row is rejected whose value no pseudonym can be made of."""
    return {"check": "pii", "column": column, "severity": "error", "expected": kind, "got": NOT_KEPT}
