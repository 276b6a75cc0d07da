"""Values as text: as they are, ISO 8601 or JSON. Only what has no column of its own is told so. Pure."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc


def told(values: pa.Array) -> pa.Array:
    """Text of values of any type; what is text stays as it is."""
    kind = values.type
    if pa.types.is_string(kind):
        return values
    if pa.types.is_nested(kind) or pa.types.is_binary(kind) or pa.types.is_fixed_size_binary(kind):
        return pa.array([None if value is None else _text(value) for value in values.to_pylist()], pa.string())
    if pa.types.is_timestamp(kind):
        return pc.strftime(values, format="%Y-%m-%dT%H:%M:%S" + ("Z" if kind.tz else ""))
    return values.cast(pa.string())


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return _of_bytes(value)
    return json.dumps(_plain(value), default=lambda one: one.isoformat() if hasattr(one, "isoformat") else str(one))


def _plain(value: Any) -> Any:
    """Bytes as text, maps as objects."""
    match value:
        case bytes():
            return _of_bytes(value)
        case dict():
            return {key: _plain(item) for key, item in value.items()}
        case list() if value and all(isinstance(item, tuple) for item in value):
            return {key: _plain(item) for key, item in value}
        case list():
            return [_plain(item) for item in value]
        case _:
            return value


def _of_bytes(value: bytes) -> str:
    """UTF-8, or else a character a byte, as Avro writes bytes in JSON."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")
