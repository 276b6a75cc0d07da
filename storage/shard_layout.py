"""How a shard is laid out: the tiers of its histories, where each chunk's columns lie, and their checksums.

A row's history is stored newest first in tiers, each with columns of its own, so that who asks for shorter windows does
not read what they do not reach: the columns `history` hold the events from 1,024 before the row's first request on,
`history_1` those before, up to 8,192, and `history_2` the rest. Sets with windows of 1,024 or fewer have one tier.

numpy and pyarrow only.
"""

from __future__ import annotations

import zlib

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

try:
    from ._pages import crc32_start
except ImportError:  # installed where there was no compiler
    crc32_start = None  # type: ignore[assignment]

TIERS = (1024, 8192)

Int64s = npt.NDArray[np.int64]
Ranges = npt.NDArray[np.int64]  # (chunks, columns, 2): the offset and length of each column chunk in the file


def tiers(length: int) -> tuple[int, ...]:
    """How far before a row's first request each tier reaches, the newest first, for windows of `length` events."""
    return (*(reach for reach in TIERS if reach < length), length)


def tier_name(number: int) -> str:
    """The struct column of a tier."""
    return f"history_{number}" if number else "history"


def leaf_name(struct: str, field: str) -> str:
    """The Parquet column of a field of a struct of lists."""
    return f"{struct}.{field}.list.element"


def tiers_read(packed: int, length: int) -> int:
    """How many tiers of a set with windows of `packed` events hold the last `length`."""
    return 1 + sum(reach < length for reach in tiers(packed)[:-1])


def places_of(offsets: list[Int64s]) -> tuple[Int64s, list[Int64s | slice]]:
    """Tiers as one: offsets (R+1,) of whole rows, and the place in them of each element of each tier.

    Args:
        offsets: (R+1,) of each tier, the newest first; within a row the oldest comes first.
    """
    whole: Int64s = np.sum(offsets, axis=0)
    if len(offsets) == 1:
        return whole, [slice(None)]
    begin = whole[:-1].copy()
    places: list[Int64s | slice] = []
    for own in reversed(offsets):
        lengths = np.diff(own)
        places.append(np.repeat(begin - own[:-1], lengths) + np.arange(own[-1]))
        begin += lengths
    return whole, places[::-1]


def column_ranges(footer: pq.FileMetaData) -> Ranges:
    """Where each column chunk lies."""
    ranges = np.empty((footer.num_row_groups, footer.num_columns, 2), dtype=np.int64)
    for group in range(footer.num_row_groups):
        columns = footer.row_group(group)
        for place in range(footer.num_columns):
            column = columns.column(place)
            first = column.dictionary_page_offset if column.has_dictionary_page else column.data_page_offset
            ranges[group, place] = first, column.total_compressed_size
    return ranges


def footer_start(ranges: Ranges) -> int:
    """Where the file's tail begins: behind the last chunk."""
    return int(ranges.sum(axis=2).max(initial=0))


def crc32(data: pa.Buffer) -> int:
    """CRC-32 as zlib's: by the compiled loop, four times as fast, where there is one."""
    if crc32_start is None:
        return zlib.crc32(data)
    done, crc = crc32_start(data)
    return zlib.crc32(data.slice(done), crc)
