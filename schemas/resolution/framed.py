"""Messages framed as schema registries do (a zero byte, a 4-byte schema id, one Avro datum) as an Arrow table.

The datums of one schema become one block of an in-memory container, decoded as columns. A *guard*, bytes that depend on
all of the batch, stands behind each: where it is not found again, a datum was longer or shorter than its schema says.
Then the batch is halved, down to the messages that are at fault.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ..avro import AvroType
from ..avro_blocks import SYNC_BYTES, block
from ..errors import SourceError
from . import columns
from .decoding import Layout, decode, layout_of, record_of, row_of
from .own import own_record
from .reading import READER, RUN_ROWS, reader_of, resolved, table
from .types import Record
from .wire import Wire

FRAME_BYTES = 5  # the magic byte and the id
_GUARD_BYTES = 8
_SYNC = bytes(SYNC_BYTES)
_NOT_FRAMED, _UNKNOWN = -1, -2


@dataclass(frozen=True, slots=True)
class BadMessage:
    """`index`: its place among the messages."""

    index: int
    reason: str


@dataclass(frozen=True, slots=True)
class Framed:
    """`table`: the rows of all good messages, in their order; `indexes`: the message of each row; `bad`: the other
    messages. Every message is in one of the two.
    """

    table: pa.Table
    indexes: npt.NDArray[np.int64]
    bad: tuple[BadMessage, ...]


def read_framed(messages: Sequence[bytes | None], schemas_by_id: Mapping[int, AvroType], reader: AvroType) -> Framed:
    """Framed messages as the reader's schema has them; those of one id are decoded together.

    A message is bad, alone, where it is none or not framed so, names an unknown id, does not decode to its very end, or
    holds a value that the reader's schema has no place for.

    Raises:
        ContractError: the reader's schema is malformed or has no columnar form, or does not resolve a schema that
            messages name.
    """
    wanted = reader_of(reader)
    parts, bad = _by_schema(messages, schemas_by_id, row_of, lambda _: wanted)
    arrays = [pa.nulls(0, columns.arrow_type(wanted, READER)), *[array for part in parts for array in part.arrays]]
    indexes = np.concatenate([np.zeros(0, np.int64), *[part.indexes for part in parts]])
    return _in_order(table(arrays), indexes, bad)


def read_framed_apart(
    messages: Sequence[bytes | None], schemas_by_id: Mapping[int, AvroType]
) -> tuple[dict[int, Framed], tuple[BadMessage, ...]]:
    """Framed messages as their own schemas have them: the rows of each id that is named, and the bad ones of all.

    What has no column of its own is text (see `own`). A message is bad as for `read_framed`.

    Raises:
        ContractError: a schema that messages name is malformed, contains itself, or is no record.
    """
    parts, bad = _by_schema(messages, schemas_by_id, record_of, lambda writer: own_record(writer.record))
    return {part.id: Framed(table(part.arrays), part.indexes, ()) for part in parts if part.arrays}, tuple(bad)


@dataclass(frozen=True, slots=True)
class _Part:
    """Messages of one id that are good: their rows, and the message of each row."""

    id: int
    arrays: list[pa.StructArray]
    indexes: npt.NDArray[np.int64]


def _by_schema(
    messages: Sequence[bytes | None],
    schemas_by_id: Mapping[int, AvroType],
    row: Callable[..., Record],
    reader: Callable[[Layout], Record],
) -> tuple[list[_Part], list[BadMessage]]:
    """Messages by their ids, and the bad ones, in their order; `row` makes a schema a row, `reader` what reads it."""
    data = pa.array(messages, pa.large_binary())
    ids = _ids(data, schemas_by_id)
    bad = [BadMessage(row, _unframed(messages[row], int(ids[row]))) for row in np.flatnonzero(ids < 0).tolist()]
    parts = []
    for id_ in np.unique(ids[ids >= 0]).tolist():
        where = f"schema {id_}"
        writer = layout_of(row(schemas_by_id[id_], where=where), where=where)
        rows = np.flatnonzero(ids == id_)
        own = data if len(rows) == len(data) else data.take(pa.array(rows))
        good, failed = _isolated(own, writer, reader(writer), where)
        indexes = [np.zeros(0, np.int64), *[rows[start:stop] for start, stop, _ in good]]
        parts.append(_Part(id_, [array for _, _, array in good], np.concatenate(indexes)))
        bad += [BadMessage(int(rows[index]), reason) for index, reason in failed]
    return parts, sorted(bad, key=lambda one: one.index)


def _in_order(rows: pa.Table, indexes: npt.NDArray[np.int64], bad: list[BadMessage]) -> Framed:
    if (indexes[1:] < indexes[:-1]).any():
        order = np.argsort(indexes, kind="stable")
        rows, indexes = rows.take(pa.array(order)), indexes[order]
    return Framed(rows, indexes, tuple(bad))


def _ids(data: pa.LargeBinaryArray, known: Mapping[int, AvroType]) -> npt.NDArray[np.int64]:
    """The schema id of each message; _NOT_FRAMED or _UNKNOWN where it has none that is known."""
    offsets = np.frombuffer(data.buffers()[1], np.int64)[: len(data) + 1]
    values = np.frombuffer(data.buffers()[2] or b"", np.uint8)
    framed = offsets[1:] - offsets[:-1] >= FRAME_BYTES
    starts = offsets[:-1][framed]
    ids = np.full(len(data), _NOT_FRAMED, np.int64)
    found = values[starts[:, None] + np.arange(1, FRAME_BYTES)].astype(np.int64) @ (256 ** np.arange(3, -1, -1))
    found[values[starts] != 0] = _NOT_FRAMED
    ids[framed] = found
    ids[(ids >= 0) & ~np.isin(ids, list(known))] = _UNKNOWN
    return ids


def _unframed(message: bytes | None, id_: int) -> str:
    if message is None:
        return "no message: expected a framed datum, got null"
    if id_ == _UNKNOWN:
        return f"an unknown schema id: {int.from_bytes(message[1:FRAME_BYTES], 'big')}"
    return f"not framed: expected 0 and a 4-byte schema id, got {message[:FRAME_BYTES].hex(' ') or 'nothing'}"


def _isolated(
    messages: pa.LargeBinaryArray, writer: Layout, reader: Record, where: str
) -> tuple[list[tuple[int, int, pa.StructArray]], list[tuple[int, str]]]:
    """((start, stop, rows) of every run that is good, in order; (index, reason) of every bad one), by halving."""
    guarded = _guarded(writer.wire)
    good, bad = [], []
    pending = [(start, min(start + RUN_ROWS, len(messages))) for start in range(0, len(messages), RUN_ROWS)][::-1]
    while pending:
        start, stop = pending.pop()
        try:
            decoded = _decoded(messages.slice(start, stop - start), guarded, where)
            good.append((start, stop, resolved(decoded, writer, reader)))
        except SourceError as error:
            if stop - start == 1:
                bad.append((start, ": ".join(error.parts()[part] for part in ("what", "got") if part in error.parts())))
                continue
            middle = (start + stop) // 2
            pending += [(middle, stop), (start, middle)]
    return good, bad


def _guarded(told: Wire) -> Wire:
    """The wire schema with a message's first bytes before the first field, and a guard behind the last."""
    around = [
        {"name": name, "type": {"type": "fixed", "name": name, "size": size}}
        for name, size in (("frame", FRAME_BYTES), ("guard", _GUARD_BYTES))
    ]
    arrow = pa.struct([pa.field("frame", pa.binary()), *told.arrow, pa.field("guard", pa.binary())])
    columnar = told.columnar or not told.schema["fields"]  # a record without fields is none to Polars; now it has some
    return Wire(told.schema | {"fields": [around[0], *told.schema["fields"], around[1]]}, arrow, columnar)


def _decoded(messages: pa.LargeBinaryArray, guarded: Wire, where: str) -> pa.StructArray:
    """Messages of one schema in the writer's wire layout.

    Raises:
        SourceError: one does not decode, or not to its end.
    """
    guard = pa.scalar(hashlib.blake2b(_bytes(messages), digest_size=_GUARD_BYTES).digest(), pa.large_binary())
    joined = _bytes(pc.binary_join_element_wise(messages, guard, pa.scalar(b"", pa.large_binary())))
    rows = len(messages)
    found = decode(block(rows, joined, _SYNC), rows, guarded, codec="null", sync=_SYNC, where=where)
    _, *children, guards = (found.field(place) for place in range(found.type.num_fields))
    if not pc.all(pc.equal(guards, guard.cast(pa.binary()))).as_py():
        raise SourceError("a datum that does not end where its message does", where=where)
    if not children:
        return pa.array([{}] * len(found), pa.struct([]))
    return pa.StructArray.from_arrays(children, fields=list(guarded.arrow)[1:-1])


def _bytes(values: pa.LargeBinaryArray) -> bytes:
    """All values, one behind the other."""
    if not len(values):
        return b""
    offsets = np.frombuffer(values.buffers()[1], np.int64)[values.offset : values.offset + len(values) + 1]
    data = values.buffers()[2]
    return b"" if data is None else data.slice(offsets[0], offsets[-1] - offsets[0]).to_pybytes()
