"""Merging eras: fewer, longer ones as history grows, with the same rows, ordinals and order within a user.

Which eras become one is decided in schemas/eras.py. Here a merged era is written, bucket by bucket and in pieces of a
bounded size: each piece holds all rows of its users (of a user with more than a piece, a run of ordinals), so that a
reader of one user opens one file of an era. One commit an era takes the parts out and the whole in; it says that no row
changed, so indexes that follow the log go on as they are. Appends and seals go on beside it: they touch other eras.
Who loses against another merge, or against an erasure, takes its files away and looks again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from ..schemas import shapes
from ..schemas.eras import Merge, merges, named
from ..schemas.errors import CommitConflictError
from . import parquet
from .catalog import Catalog
from .locks import deriving
from .places import Place, beside, parquet_file
from .table import Commit, Table

PIECE_BYTES = 64 << 20  # of a piece, encoded but not compressed; sorting it takes about eight times as much
TABLES = ("timelines", "directory")
_ATTEMPTS = 20

_Footers = Sequence[pq.FileMetaData]
_Piece = tuple[pa.Table, dict[str, int]]  # rows, and what their partition is beside the era


def merge_eras(catalog: Catalog, table: Table, *, piece_bytes: int = PIECE_BYTES) -> int:
    """Merge the eras of the timelines, or of the directory, that have rested long enough; how many were made.

    Raises:
        CommitConflictError: others kept rewriting the same files.
        StorageError: disk full, no permission, read-only.
    """
    made = 0
    for _ in range(_ATTEMPTS):
        try:
            for merge, parts in _due(catalog, table):
                # An erasure that found nobody must not be followed by files that still hold them.
                with deriving(catalog.root):
                    _merge(catalog, table, merge, parts, piece_bytes)
                made += 1
            return made
        except CommitConflictError:
            continue  # somebody else merged, or erased: what is left to do is looked at again
    raise CommitConflictError("others kept rewriting the same eras", where=table.name, got=f"{_ATTEMPTS} attempts")


def _due(catalog: Catalog, table: Table) -> list[tuple[Merge, pl.DataFrame]]:
    """What is to be merged, each with the files of its parts as `Table.live` gives them."""
    # The timelines say what is sealed. What the directory has of a later era is of a seal that is under way.
    sealed = catalog.sealed_through_us
    live = table.live() if table.exists and sealed is not None else pl.DataFrame()
    if sealed is None or live.is_empty():
        return []
    era = pl.col(f"partition.{shapes.ERA}")
    found = merges([named(name) for name in live.select(era.unique()).to_series()], sealed)
    return [(merge, live.filter(era.is_in([part.name for part in merge.parts]))) for merge in found]


def _merge(catalog: Catalog, table: Table, merge: Merge, parts: pl.DataFrame, piece_bytes: int) -> None:
    """Write one merged era and commit it, or leave nothing behind."""
    written: list[parquet.DataFile] = []
    try:
        for rows, partition in _joined(_pieces(table, parts, catalog.buckets, piece_bytes), piece_bytes):
            written.append(parquet.write(table.root, rows, {shapes.ERA: merge.era.name} | partition))
    except BaseException:
        for file in written:
            (table.root / file.path).unlink(missing_ok=True)
        raise
    commit = Commit(metadata={"reclake.merged": merge.era.name, "reclake.parts": str(len(merge.parts))})
    table.rearrange(parts["path"].to_list(), written, commit)


def _joined(pieces: Iterable[_Piece], piece_bytes: int) -> Iterator[_Piece]:
    """Successive pieces of one partition as one, as long as that is no larger than a piece."""
    held: list[pa.Table] = []
    where: dict[str, int] = {}
    for rows, partition in pieces:
        if held and (partition != where or sum(part.nbytes for part in held) + rows.nbytes > piece_bytes):
            yield pa.concat_tables(held), where
            held = []
        held.append(rows)
        where = partition
    if held:
        yield pa.concat_tables(held), where


def _pieces(table: Table, parts: pl.DataFrame, buckets: int, piece_bytes: int) -> Iterator[_Piece]:
    for bucket in range(buckets):
        yield from _pieces_of(table, parts, bucket, piece_bytes)


def _pieces_of(table: Table, parts: pl.DataFrame, bucket: int, piece_bytes: int) -> Iterator[_Piece]:
    """The rows of a bucket in the layout's order, some users at a time."""
    by_bucket = shapes.BUCKET in table.layout.partition_by
    if by_bucket:
        parts = parts.filter(pl.col(f"partition.{shapes.BUCKET}") == bucket)
    if parts.is_empty():
        return
    paths = [str(table.root / path) for path in parts["path"]]
    rows = table.scan_files(paths)
    stored = parquet.stored(table.schema()).remove_metadata()
    schema = pa.schema([field for field in stored if field.name not in table.layout.partition_by])
    if not by_bucket:
        rows = rows.filter(pl.col(shapes.BUCKET) == bucket)
    for some in _cuts(rows, [_footer(table.root, path) for path in paths], piece_bytes):
        piece = rows.filter(some)
        if table.name == "directory":
            piece = piece.group_by(shapes.BUCKET, "user_id").agg(pl.col("first_ordinal").min(), pl.col("count").sum())
        frame = piece.select(schema.names).sort(*table.layout.sort_by).collect(engine="streaming")
        if frame.height:
            yield frame.to_arrow().cast(schema), {shapes.BUCKET: bucket} if by_bucket else {}


def _footer(root: Place, path: str) -> pq.FileMetaData:
    with parquet_file(beside(root, path)) as file:
        return file.metadata


def _cuts(rows: pl.LazyFrame, footers: _Footers, piece_bytes: int) -> Iterator[pl.Expr]:
    """Predicates that cut rows into pieces of about so many bytes: users together, unless one is more than a piece."""
    groups = [footer.row_group(n) for footer in footers for n in range(footer.num_row_groups)]
    at = next(n for n in range(footers[0].num_columns) if footers[0].schema.column(n).path == "user_id")
    known = [group.column(at).statistics for group in groups]
    low = np.array([each.min for each in known], dtype=np.int64)
    high = np.array([each.max for each in known], dtype=np.int64)
    size = np.array([group.total_byte_size for group in groups], dtype=np.int64)
    user, rest = pl.col("user_id"), pl.lit(True)
    for last in user_cuts(low, high, size, piece_bytes):
        # Row groups of one user alone are that user's own: more of them than a piece is one user with more.
        if size[(low == last) & (high == last)].sum() > piece_bytes:
            yield rest & (user < last)
            yield from _ordinal_cuts(
                rows.filter(user == last), size.sum() / sum(g.num_rows for g in groups), piece_bytes
            )
        else:
            yield rest & (user <= last)
        rest = user > last
    yield rest


def user_cuts(
    low: npt.NDArray[np.int64], high: npt.NDArray[np.int64], size: npt.NDArray[np.int64], piece: int
) -> list[int]:
    """Kernel: user ids at which to cut, ascending, so that what lies between two of them is about `piece` bytes.

    Args:
        low, high: smallest and greatest user id of each row group, of several sorted files.
        size: the row groups' bytes.
    """
    order = np.argsort(high, kind="stable")
    filled = np.cumsum(size[order]) // piece
    ends = np.flatnonzero(np.diff(filled, prepend=0)) if len(order) else np.empty(0, dtype=np.int64)
    return sorted({int(high[order][end]) for end in ends})


def _ordinal_cuts(rows: pl.LazyFrame, row_bytes: float, piece_bytes: int) -> Iterator[pl.Expr]:
    """Cut the rows of one user by ordinals."""
    user, first, last = (
        rows.select(
            pl.col("user_id").first(), pl.col("ordinal").min().alias("first"), pl.col("ordinal").max().alias("last")
        )
        .collect(engine="streaming")
        .row(0)
    )
    step = max(1, int(piece_bytes / row_bytes))
    for start in range(first, last + 1, step):
        yield (pl.col("user_id") == user) & pl.col("ordinal").is_between(start, start + step, closed="left")
