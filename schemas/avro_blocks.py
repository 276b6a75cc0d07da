"""The framing of Avro object container files: the header, and blocks without decoding what is in them.

Layout by the Avro specification 1.12, "Object Container Files": magic, metadata map, sync marker; then blocks of a
row count, a size in bytes, the data and the sync marker again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from .errors import SourceError

MAGIC = b"Obj\x01"
SYNC_BYTES = 16


class Bytes(Protocol):
    """What is walked: bytes, or a file mapped into memory."""

    def __len__(self) -> int: ...
    def __getitem__(self, key: Any) -> Any: ...


@dataclass(frozen=True, slots=True)
class Header:
    """`raw` is the header's bytes as they stand: with blocks behind it, it is a container of its own."""

    schema: Any
    codec: str
    sync: bytes
    raw: bytes


@dataclass(frozen=True, slots=True)
class Block:
    """Block `index` holds rows `first_row` to `end_row` in bytes `offset` to `end`, its sync marker included."""

    index: int
    offset: int
    end: int
    first_row: int
    end_row: int


def read_header(data: Bytes, *, where: object) -> Header:
    """The header of a container.

    Raises:
        SourceError: it is no Avro container, or its header is cut short or holds no schema.
    """
    if bytes(data[:4]) != MAGIC:
        raise SourceError(
            "not an Avro container file",
            where=where,
            expected="the bytes " + MAGIC.hex(" "),
            got=bytes(data[:4]).hex(" ") or "nothing",
            hint="only object container files are read, not bare Avro records",
        )
    try:
        meta, at = _metadata(data, len(MAGIC))
        if at + SYNC_BYTES > len(data):
            raise IndexError
        schema = json.loads(meta["avro.schema"])
    except (IndexError, KeyError, ValueError, OverflowError, RecursionError) as error:
        raise SourceError(
            "a damaged Avro header",
            where=where,
            expected="metadata with avro.schema, then a sync marker of 16 bytes",
            got=f"{len(data)} bytes ({error or 'cut short'})",
            hint="the file is truncated or damaged: fetch it again",
        ) from None
    codec = meta.get("avro.codec", b"null").decode("latin-1")
    end = at + SYNC_BYTES
    return Header(schema, codec, bytes(data[at:end]), bytes(data[:end]))


def walk(data: Bytes, header: Header, *, where: object) -> Iterator[Block]:
    """The blocks in their order, from their framing alone.

    Raises:
        SourceError: after the blocks before it, at one whose frame is cut short or whose sync marker is another.
    """
    at, index, row = len(header.raw), 0, 0
    while at < len(data):
        place = f"{where}, block {index}, byte {at}"
        try:
            rows, after = read_long(data, at)
            size, start = read_long(data, after)
        except (IndexError, OverflowError):
            raise _cut(place, "a row count and a size", f"{len(data) - at} bytes that are neither") from None
        if rows < 0 or size < 0:
            raise _cut(place, "a row count and a size, neither negative", f"{rows} rows, {size} bytes")
        end = start + size + SYNC_BYTES
        if end > len(data):
            raise _cut(place, f"{size} bytes of data and a sync marker", f"{len(data) - start} bytes to the end")
        sync = bytes(data[end - SYNC_BYTES : end])
        if sync != header.sync:
            raise _cut(place, f"sync marker {header.sync.hex()} at byte {end - SYNC_BYTES}", sync.hex())
        yield Block(index, at, end, row, row + rows)
        at, index, row = end, index + 1, row + rows


def _cut(place: str, expected: str, got: str) -> SourceError:
    return SourceError(
        "a damaged Avro block",
        where=place,
        expected=expected,
        got=got,
        hint="rows before this block are read; fetch the file again, or write it again without this block",
    )


def read_long(data: Bytes, at: int) -> tuple[int, int]:
    """A zig-zag variable-length long, and the place behind it.

    Raises:
        IndexError: the data ends within it.
        OverflowError: it is longer than 64 bits.
    """
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return (value >> 1) ^ -(value & 1), at
        shift += 7
        if shift > 63:
            raise OverflowError("a variable-length long of more than ten bytes")


def _metadata(data: Bytes, at: int) -> tuple[dict[str, bytes], int]:
    """The metadata map (string to bytes) and the place behind it."""
    meta: dict[str, bytes] = {}
    while True:
        count, at = read_long(data, at)
        if count == 0:
            return meta, at
        if count < 0:  # a negative count is followed by the map block's size
            _, at = read_long(data, at)
        for _ in range(abs(count)):
            key, at = _sized(data, at)
            meta[key.decode()], at = _sized(data, at)


def _sized(data: Bytes, at: int) -> tuple[bytes, int]:
    size, at = read_long(data, at)
    if size < 0 or at + size > len(data):
        raise IndexError("cut short")
    return bytes(data[at : at + size]), at + size


def container(schema: Any, codec: str, sync: bytes) -> bytes:
    """A container's header: blocks with the same sync marker behind it make it a container."""
    meta = {"avro.schema": json.dumps(schema).encode(), "avro.codec": codec.encode("latin-1")}
    pairs = b"".join(_with_size(key.encode()) + _with_size(value) for key, value in meta.items())
    return MAGIC + write_long(len(meta)) + pairs + write_long(0) + sync


def block(rows: int, data: bytes, sync: bytes) -> bytes:
    """One block of a container, as it stands there."""
    return write_long(rows) + _with_size(data) + sync


def write_long(value: int) -> bytes:
    """A zig-zag variable-length long of at most 64 bits."""
    left, out = (value << 1) ^ (value >> 63), bytearray()
    while left > 0x7F:
        out.append(left & 0x7F | 0x80)
        left >>= 7
    return bytes([*out, left])


def _with_size(data: bytes) -> bytes:
    return write_long(len(data)) + data
