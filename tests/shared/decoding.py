"""What tests of sources share: contracts, and files read to their end or to their error."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from reclake.pipelines.sources import SourceBatch, open_source
from reclake.schemas.contract import Contract, parse, shipped
from reclake.schemas.errors import SourceError

EVENTS = shipped("events")


def mapped(columns: dict[str, Any] | None = None) -> Contract:
    """Events by a mapping of the columns u, t and kind; `columns`: the types that it declares."""
    fields = {
        "event_id": "concat(u, '-', t)",
        "user_id": "u",
        "item_id": "u",
        "event_type": "kind",
        "event_time": "t * 1000000",
    }
    mapping = {"columns": columns or {}, "emit": [{"fields": fields}]}
    return parse("mapped", EVENTS.avro_schema, policy={"mapping": mapping})


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def read(path: Path, *, contract: Contract = EVENTS, batch_rows: int = 1000, start: int = 0) -> list[SourceBatch]:
    return list(open_source(path, contract=contract, batch_rows=batch_rows).batches(start))


def until_error(path: Path, *, batch_rows: int, contract: Contract = EVENTS) -> tuple[list[int], SourceError]:
    """The numbers of the rows that came, and the error that ended them."""
    rows: list[int] = []
    batches = open_source(path, contract=contract, batch_rows=batch_rows).batches(0)
    with pytest.raises(SourceError) as caught:
        rows.extend(number for batch in batches for number in batch.rows.tolist())
    return rows, caught.value
