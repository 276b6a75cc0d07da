"""Avro decimals (two's complement, big-endian, of any length) as Arrow decimals, whole columns at a time. Pure."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from ..errors import SourceError


def decimals(a: pa.BinaryArray, target: pa.DataType, at: str) -> pa.Array:
    """Unscaled values in bytes as `target`, decimal128 or decimal256; no bytes at all are 0.

    Raises:
        SourceError: a value has more digits than the target.
    """
    width = target.byte_width
    offsets = np.frombuffer(a.buffers()[1], np.int32)[a.offset : a.offset + len(a) + 1]
    data = np.frombuffer(a.buffers()[2] or b"", np.uint8)
    starts, ends = offsets[:-1].astype(np.int64), offsets[1:].astype(np.int64)
    lengths = ends - starts
    sign = np.zeros(len(a), np.uint8)
    some = lengths > 0
    sign[some] = np.where(data[starts[some]] > 0x7F, 0xFF, 0)
    out = np.repeat(sign[:, None], width, axis=1)
    for byte in range(min(width, int(lengths.max(initial=0)))):
        has = lengths > byte
        out[has, byte] = data[ends[has] - 1 - byte]
    for row in np.flatnonzero(lengths > width):
        above = data[starts[row] : ends[row] - width]
        if (above != sign[row]).any() or (out[row, -1] > 0x7F) != (sign[row] > 0):
            raise _too_long(target, at, f"{lengths[row]} bytes")
    # A bitmap of its own: that of a slice would begin in the middle of another's.
    valid = pa.array(a.is_valid().to_numpy(zero_copy_only=False)).buffers()[1] if a.null_count else None
    made = pa.Array.from_buffers(target, len(a), [valid, pa.py_buffer(out)])
    try:
        made.validate(full=True)
    except pa.ArrowInvalid as error:
        raise _too_long(target, at, str(error)) from None
    return made


def _too_long(target: pa.DataType, at: str, got: str) -> SourceError:
    return SourceError("a decimal of too many digits", where=at, expected=f"at most {target.precision}", got=got)
