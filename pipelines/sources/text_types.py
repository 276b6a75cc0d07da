"""Types for sources that have none: what a mapping declares or a source's beginning shows, cast strictly by row."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from ...schemas.avro import AvroType, split_nullable
from ...schemas.contract import Contract
from ..resolving.casts import cast, describe, type_name
from .batch import decode_reason

#: A file's first rows, from which names (JSON lines) and undeclared types of mapped columns are taken.
HEAD_ROWS = 1_000


@dataclass(frozen=True, slots=True)
class Typed:
    """`frame`: the columns with their types, null where a value does not fit; `bad`: (row of the frame, reason)."""

    frame: pl.DataFrame
    bad: list[tuple[int, dict[str, str | None]]]


def declared_types(contract: Contract) -> dict[str, AvroType]:
    """The Avro types that the contract's mapping declares, by source column."""
    return {} if contract.mapping is None else dict(contract.mapping.columns)


def apply_types(frame: pl.DataFrame, types: dict[str, AvroType]) -> Typed:
    """Cast text columns that have a type. A value that does not fit makes its row bad; the first column says why."""
    bad: dict[int, dict[str, str | None]] = {}
    for name in [name for name in frame.columns if name in types]:
        done = cast(frame[name], types[name])
        places = done.bad.arg_true()
        for place, got in zip(places, describe(frame[name].gather(places)), strict=True):
            bad.setdefault(place, decode_reason(type_name(types[name]), got, column=name))
        frame = frame.with_columns(done.values.alias(name))
    return Typed(frame, sorted(bad.items()))


def infer_types(frame: pl.DataFrame) -> dict[str, AvroType]:
    """The narrowest of long, double and boolean that every value of a text column is, or string."""
    return {name: _narrowest(frame[name]) for name, dtype in frame.schema.items() if dtype == pl.String}


def _narrowest(text: pl.Series) -> AvroType:
    some = text.drop_nulls()
    some = some.filter(some != "")
    if some.is_empty():
        return "string"
    if some.str.to_lowercase().is_in(["true", "false"]).all():
        return "boolean"
    return next((type_ for type_ in ("long", "double") if not cast(some, type_).bad.any()), "string")


def keeps_empty_text(avro: AvroType) -> bool:
    """Whether an empty CSV field is a value (text) of this type and not an absent one."""
    inner, _ = split_nullable(avro)
    return inner in ("string", "bytes")
