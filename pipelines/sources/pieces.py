"""Runs of decoded rows of formats whose every row decodes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import polars as pl


@dataclass(frozen=True, slots=True)
class Piece:
    """Rows from `first_row` of a source on."""

    frame: pl.DataFrame
    first_row: int


def sliced(frame: pl.DataFrame, first_row: int, *, start_row: int, batch_rows: int) -> Iterator[Piece]:
    """`frame` in pieces of at most `batch_rows` rows, counted from its own first row, without rows before `start_row`.

    The cuts do not depend on `start_row`, so a resumed source gives the same batches.
    """
    for offset in range(0, frame.height, batch_rows):
        piece = frame.slice(offset, batch_rows)
        first = first_row + offset
        done = max(0, start_row - first)
        if done < piece.height:
            yield Piece(piece.slice(done), first + done)
