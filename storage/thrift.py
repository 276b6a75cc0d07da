"""As much of Thrift's compact protocol as it takes to find one's way in a Parquet footer, and to write a small one.

Source: github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md. A struct is a row of fields, each one
byte of type and step in field numbers, then the value; a zero byte ends it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

BYTE, I16, I32, I64, DOUBLE, BINARY, LIST, SET, MAP, STRUCT = range(3, 13)
_BOOLEANS = (1, 2)


@dataclass(slots=True)
class Cursor:
    """A place in some bytes. What is read or skipped moves it to the next value."""

    data: bytes
    at: int = 0

    def varint(self) -> int:
        """An unsigned integer."""
        value = shift = 0
        while True:
            byte = self.data[self.at]
            self.at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7

    def signed(self) -> int:
        """A signed integer (zigzag)."""
        value = self.varint()
        return (value >> 1) ^ -(value & 1)

    def binary(self) -> bytes:
        """A string of bytes."""
        size = self.varint()
        self.at += size
        return self.data[self.at - size : self.at]

    def elements(self) -> int:
        """How many elements a list has; the first comes next."""
        head = self.data[self.at]
        self.at += 1
        return self.varint() if head >> 4 == 15 else head >> 4

    def skip(self, kind: int) -> int:
        """Pass over a value; where the next begins."""
        self.at = skip(self.data, self.at, kind)
        return self.at

    def fields(self) -> Iterator[int]:
        """The number of each field of a struct, the cursor at its value. One that was not read is passed over."""
        number = 0
        while head := self.data[self.at]:
            self.at += 1
            number = number + (head >> 4) if head > 15 else self.signed()
            before = self.at
            yield number
            if self.at == before:
                self.skip(head & 15)
        self.at += 1


def skip(data: bytes, at: int, kind: int) -> int:
    """Where the value after this one begins. Written flat: a wide footer has a million of them."""
    if kind == STRUCT:
        while head := data[at]:
            at += 1
            if head < 16:
                while data[at] > 0x7F:
                    at += 1
                at += 1
            field = head & 15
            if I16 <= field <= I64:
                while data[at] > 0x7F:
                    at += 1
                at += 1
            elif field not in _BOOLEANS:
                at = skip(data, at, field)
        return at + 1
    if I16 <= kind <= I64:
        while data[at] > 0x7F:
            at += 1
        return at + 1
    if kind == BINARY:
        size, at = _varint(data, at)
        return at + size
    if kind in (LIST, SET):
        count, element, at = data[at] >> 4, data[at] & 15, at + 1
        if count == 15:
            count, at = _varint(data, at)
        if element in _BOOLEANS:
            return at + count
        for _ in range(count):
            at = skip(data, at, element)
        return at
    if kind == MAP:
        count, at = _varint(data, at)
        kinds = data[at] if count else 0
        at += bool(count)
        for _ in range(count):
            at = skip(data, skip(data, at, kinds >> 4), kinds & 15)
        return at
    if kind in _BOOLEANS:
        return at
    if kind in (BYTE, DOUBLE):
        return at + (1 if kind == BYTE else 8)
    raise ValueError(f"no type of Thrift's compact protocol: {kind}")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    if data[at] < 0x80:
        return data[at], at + 1
    cursor = Cursor(data, at)
    return cursor.varint(), cursor.at


def put_varint(value: int) -> bytes:
    """An unsigned integer."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def put_integer(step: int, kind: int, value: int) -> bytes:
    """An integer field, `step` numbers after the one before it."""
    return bytes([step << 4 | kind]) + put_varint(value << 1 if value >= 0 else (-value << 1) - 1)


def put_list(step: int, count: int) -> bytes:
    """The head of a field that is a list of structs; they follow."""
    size = bytes([count << 4 | STRUCT]) if count < 15 else bytes([0xF0 | STRUCT]) + put_varint(count)
    return bytes([step << 4 | LIST]) + size


def put_binary(step: int, value: bytes) -> bytes:
    """A field of bytes."""
    return bytes([step << 4 | BINARY]) + put_varint(len(value)) + value
