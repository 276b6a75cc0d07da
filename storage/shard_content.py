"""Content vectors beside shards: mapped into memory, and checked block by block as they are first gathered.

An array may be far larger than memory, so nobody reads it whole to find out whether it is what was packed: beside
content/NAME.npy stands content/NAME.crc32.npy, the CRC-32 of each of its blocks. numpy and pyarrow only.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from ..schemas.errors import ShardError
from .shard_arrays import Int64s, as_numpy
from .shard_layout import crc32

CONTENT = "content"
# Small enough that gathering a few rows of a large array reads little more than those.
BLOCK_BYTES = 1 << 16

Sums = npt.NDArray[np.uint32]


def array_name(name: str) -> str:
    """Where the vectors of a content column are, within the set."""
    return f"{CONTENT}/{name}.npy"


def sums_name(name: str) -> str:
    """Where the checksums of their blocks are."""
    return f"{CONTENT}/{name}.crc32.npy"


def block_sums(path: Path) -> Sums:
    """(N,) the CRC-32 of each `BLOCK_BYTES` of a file."""
    data = _mapped(path)
    return np.array([crc32(_block(data, n)) for n in range(-(-data.size // BLOCK_BYTES))], dtype=np.uint32)


@dataclass(frozen=True, slots=True)
class Content:
    """A memory-mapped array of content vectors (rows, D), and which rows hold one; `gather` them.

    right: (N,) of each block whether it was found to be what was packed
    """

    vectors: npt.NDArray[np.float32]
    present: npt.NDArray[np.bool_]
    data: pa.Buffer
    sums: Sums
    right: npt.NDArray[np.bool_]
    opened: tuple[Any, ...]

    @classmethod
    def open(
        cls, array: Path, index: Path, sums: Path | None, name: str, shape: tuple[int, int], blake2b: str
    ) -> Content:
        """The array of a content column.

        Args:
            sums: None for an array that was just found to be right as a whole.
            shape: content rows, and how long a vector is; of no rows the array holds one, which nothing points at.
            blake2b: the array's digest, which tells it from another that stood there before.

        Raises:
            ShardError: a file cannot be read, or is not what was packed.
        """
        try:
            data = _mapped(array)
            expected = block_sums(array) if sums is None else np.load(sums)
            present = as_numpy(pq.read_table(index, columns=[name])[name])
            right = np.zeros(len(expected), dtype=np.bool_)
            _check(array, data, expected, right, np.zeros(1, dtype=np.int64))
            vectors = np.load(array, mmap_mode="r")
        except (OSError, pa.ArrowException) as error:
            raise ShardError("content cannot be read", where=array, expected="a NumPy array", got=str(error)) from error
        if vectors.shape != (max(1, shape[0]), shape[1]) or len(present) != shape[0]:
            raise ShardError("not the content that was packed", where=array, expected=shape, got=vectors.shape)
        return cls(vectors, present, data, expected, right, (array, index, sums, name, shape, blake2b))

    def gather(self, rows: Int64s) -> npt.NDArray[np.float32]:
        """(B, D) the vectors of some rows.

        Raises:
            ShardError: they are not the bytes that were packed.
        """
        width = self.vectors.shape[1] * self.vectors.itemsize
        if len(rows) and width:
            begin = int(self.vectors.offset) + rows.astype(np.int64) * width  # type: ignore[attr-defined]
            first, last = begin // BLOCK_BYTES, (begin + width - 1) // BLOCK_BYTES
            reach = int((last - first).max()) + 1
            touched = np.concatenate([np.minimum(first + n, last) for n in range(reach)])
            _check(self.opened[0], self.data, self.sums, self.right, touched)
        gathered: npt.NDArray[np.float32] = self.vectors[rows]
        return gathered

    def __reduce__(self) -> tuple[Any, ...]:
        """Another process maps the file itself: vectors are never copied."""
        return _opened_once, self.opened


@lru_cache(maxsize=16)
def _opened_once(*opened: Any) -> Content:
    """What a process is given with every batch that its loader's workers made."""
    return Content.open(*opened)


def _mapped(path: Path) -> pa.Buffer:
    with pa.memory_map(str(path)) as mapped:
        return mapped.read_buffer()


def _block(data: pa.Buffer, number: int) -> pa.Buffer:
    begin = number * BLOCK_BYTES
    return data.slice(begin, min(BLOCK_BYTES, data.size - begin))


def _check(array: Path, data: pa.Buffer, sums: Sums, right: npt.NDArray[np.bool_], blocks: Int64s) -> None:
    """Blocks that were not looked at before are as they were packed."""
    for number in np.unique(blocks[~right[blocks]]).tolist():
        if crc32(_block(data, number)) != sums[number]:
            raise ShardError(
                "content is damaged",
                where=f"{array}, from byte {number * BLOCK_BYTES} on",
                expected="the bytes that were packed",
                got="other bytes",
                hint="copy the file again, or pack again",
            )
        right[number] = True
