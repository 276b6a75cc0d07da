"""Which bucket a user is in. The same integer in Python, Polars and Spark, for ever.

`bucket = pmod(xxhash64(user_id), buckets)` in Spark SQL's words: XXH64 with seed 42 of the id's eight little-endian
bytes, as a signed 64-bit integer, modulo the number of buckets, never negative.

Source: XXH64, github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md; Spark's `XxHash64` (seed 42).
"""

from __future__ import annotations

import operator

import numpy as np
import numpy.typing as npt

from .errors import UsageError

_P1 = np.uint64(0x9E3779B185EBCA87)
_P2 = np.uint64(0xC2B2AE3D27D4EB4F)
_P3 = np.uint64(0x165667B19E3779F9)
_P4 = np.uint64(0x85EBCA77C2B2AE63)
_P5 = np.uint64(0x27D4EB2F165667C5)
_SEED = np.uint64(42)


def _rotl(x: npt.NDArray[np.uint64], bits: int) -> npt.NDArray[np.uint64]:
    return (x << np.uint64(bits)) | (x >> np.uint64(64 - bits))


def xxhash64(ids: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """XXH64 (seed 42) of each 64-bit integer, shape kept, as signed integers: what Spark's `xxhash64(long)` gives."""
    k = np.ascontiguousarray(ids, dtype=np.int64).view(np.uint64)
    with np.errstate(over="ignore"):
        h = np.full(k.shape, _SEED + _P5 + np.uint64(8), dtype=np.uint64)
        h ^= _rotl(k * _P2, 31) * _P1
        h = _rotl(h, 27) * _P1 + _P4
        h ^= h >> np.uint64(33)
        h *= _P2
        h ^= h >> np.uint64(29)
        h *= _P3
        h ^= h >> np.uint64(32)
    return h.view(np.int64)


def user_id_of(value: object) -> int:
    """A user's id as an int. A number that is cut until it fits is somebody else's.

    Raises:
        UsageError: it is no whole number of 64 bits.
    """
    known = None if isinstance(value, bool) or not hasattr(value, "__index__") else operator.index(value)
    if known is None or not -(2**63) <= known < 2**63:
        raise UsageError("not a user id", expected="a whole number of 64 bits", got=repr(value)[:80])
    return known


def bucket_of(user_ids: npt.ArrayLike, buckets: int) -> npt.NDArray[np.int32]:
    """The bucket, 0 … buckets-1, of each user id."""
    return np.mod(xxhash64(user_ids), np.int64(buckets)).astype(np.int32)


def bucket_groups(rows: int, buckets: int, rows_at_once: int) -> list[list[int]]:
    """All buckets, in as few groups as keep a group's share of `rows` at or below `rows_at_once`."""
    groups = max(1, min(buckets, -(-rows // rows_at_once)))
    return [part.tolist() for part in np.array_split(np.arange(buckets), groups)]
