"""Messages framed as schema registries do to a batch: each is decoded by the schema whose id it names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl

from ...schemas.avro import AvroType
from ...schemas.contract import Contract
from ...schemas.errors import ContractError, SourceError
from ...schemas.resolution import read_framed_apart
from ...schemas.resolution.telling import told
from ..resolving.casts import default_of
from .batch import Rows, SourceBatch, Undecodable, decode_reason

_EXPECTED = "0, a 4-byte id of a known schema, and one datum of it"


def framed_batch(
    messages: Sequence[bytes], schemas_by_id: Mapping[int, AvroType], contract: Contract, *, first_row: int = 0
) -> SourceBatch:
    """A batch of messages, `first_row` on; writers with old and new schemas may take turns in it.

    Without a mapping each field gets the name that the contract has for it now, and its default where a message's
    schema does not know it. A message that does not decode is set aside as it stands.

    Raises:
        SourceError: a schema that messages name is malformed, or contains itself.
    """
    try:
        parts, bad = read_framed_apart(messages, schemas_by_id)
    except ContractError as error:
        raise SourceError(error.what, where=error.where, expected=error.expected, got=error.got) from None
    frames = [_named(pl.DataFrame(part.table), contract) for part in parts.values()]
    rows: Rows = np.concatenate([np.zeros(0, np.int64), *[part.indexes for part in parts.values()]])
    order = np.argsort(rows, kind="stable")
    end_row = first_row + len(messages)
    return SourceBatch(
        frame=_together(frames)[order] if frames else pl.DataFrame(),
        rows=rows[order] + first_row,
        first_row=first_row,
        end_row=end_row,
        undecodable=tuple(
            Undecodable(first_row + one.index, messages[one.index], "avro", decode_reason(_EXPECTED, one.reason))
            for one in bad
        ),
    )


def _named(frame: pl.DataFrame, contract: Contract) -> pl.DataFrame:
    """Fields by the names that the contract has now, and the defaults of those that the rows' schema does not know."""
    if contract.mapping is not None:
        return frame
    for field in contract.fields:
        found = next((name for name in (field.name, *field.aliases) if name in frame.columns), None)
        if found is not None:
            frame = frame.rename({found: field.name})
        elif field.default is not None:
            value = default_of(field.default, field.avro, where=f"contract {contract.name}, field {field.name}")
            frame = frame.with_columns(pl.lit(value).first().alias(field.name))
    return frame


def _together(frames: list[pl.DataFrame]) -> pl.DataFrame:
    """The rows of all schemas. Nested columns of several types are JSON, in which each record names its own fields."""
    for name in dict.fromkeys(name for frame in frames for name in frame.columns):
        types = {frame.schema[name] for frame in frames if name in frame.columns}
        if len(types) > 1 and any(dtype.is_nested() for dtype in types):
            frames = [_as_text(frame, name) if name in frame.columns else frame for frame in frames]
    return pl.concat(frames, how="diagonal_relaxed")


def _as_text(frame: pl.DataFrame, name: str) -> pl.DataFrame:
    text = pl.from_arrow(told(frame[name].to_arrow(compat_level=pl.CompatLevel.oldest())))
    assert isinstance(text, pl.Series)
    return frame.with_columns(text.alias(name))
