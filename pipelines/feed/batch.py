"""What a feed yields: columns of B samples, jagged histories, content vectors; as NumPy or as torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...schemas.errors import FeedError, MissingExtraError
from ...storage.shards import CONTENT_ROW, Content

# NumPy arrays, or torch tensors after to_torch().
AnyArray = Any


@dataclass(frozen=True, slots=True)
class Jagged:
    """B lists of differing lengths, end to end: list i is values[offsets[i] : offsets[i+1]].

    values:  (N,)
    offsets: (B+1,) int64
    valid:   (N,) bool, False where the event had none (its value is then 0 or NaN); None where no event of the shard
             set lacks it
    """

    values: AnyArray
    offsets: AnyArray
    valid: AnyArray | None = None

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> AnyArray:
        """(B,) int64."""
        return self.offsets[1:] - self.offsets[:-1]

    def padded(self, length: int, fill: float = 0) -> AnyArray:
        """(B, length): each list from the left, `fill` behind it; of longer lists the last `length` values.

        For NumPy; call it before to_torch().
        """
        kept = np.minimum(self.lengths, length)
        inside = np.arange(length) < kept[:, None]
        first = self.offsets[1:] - kept
        out = np.full((len(self), length), fill, dtype=self.values.dtype)
        out[inside] = self.values[(first[:, None] + np.arange(length))[inside]]
        return out


class Batch:
    """B samples. `batch["click"]` is (B,); `batch.history["item_id"]` is Jagged, each window oldest event first.

    Columns: sample_id, user_id, item_id, seen, request_time (µs UTC), negative, the labels, label_mature, the features
    (strings as codes into `Feed.vocabularies`, -1 for null). A batch stays valid however long it is kept.
    """

    __slots__ = ("_columns", "_content", "_convert", "_valid", "history")

    def __init__(
        self,
        columns: Mapping[str, AnyArray],
        valid: Mapping[str, AnyArray],
        history: Mapping[str, Jagged],
        content: Mapping[str, Content],
        convert: Callable[[Any], AnyArray] = lambda array: array,
    ) -> None:
        self._columns = columns
        self._valid = valid
        self._content = content
        self._convert = convert
        self.history = history

    def __getitem__(self, name: str) -> AnyArray:
        return self._columns[name]

    def __contains__(self, name: object) -> bool:
        return name in self._columns

    def keys(self) -> list[str]:
        """The names of the columns."""
        return list(self._columns)

    def __len__(self) -> int:
        """B, the number of samples."""
        return len(self._columns["sample_id"])

    def valid(self, name: str) -> AnyArray | None:
        """(B,) bool, False where the sample has no value (it reads 0 or NaN); None if none of the set lacks it."""
        return self._valid.get(name)

    def content(self, name: str) -> AnyArray:
        """(B, D) float32: the vector of each item as it was known at the request; zeros where `content_mask` is False.

        Gathered from the memory-mapped snapshot when it is called.
        """
        content, rows, mask = self._content_rows(name)
        vectors = np.zeros((len(rows), content.vectors.shape[1]), dtype=np.float32)
        vectors[mask] = content.vectors[rows[mask]]
        return self._convert(vectors)

    def content_mask(self, name: str) -> AnyArray:
        """(B,) bool: whether a vector of the item was known at the request."""
        return self._convert(self._content_rows(name)[2])

    def _content_rows(self, name: str) -> tuple[Content, Any, Any]:
        content = self._content.get(name)
        if content is None:
            raise FeedError(
                "no such content",
                expected="one of " + ", ".join(self._content) if self._content else "a recipe that lists content",
                got=repr(name),
            )
        rows = np.asarray(self._columns[CONTENT_ROW])
        mask = rows >= 0
        mask[mask] = content.present[rows[mask]]
        return content, rows, mask

    def to_torch(self) -> Batch:
        """The same batch with torch tensors on the same memory.

        Raises:
            MissingExtraError: torch is not installed.
        """
        try:
            import torch
        except ImportError as error:
            raise MissingExtraError(
                "torch is not installed", expected="torch", got=str(error), hint="pip install 'reclake[torch]'"
            ) from error
        convert = torch.from_numpy
        history = {
            name: Jagged(convert(j.values), convert(j.offsets), None if j.valid is None else convert(j.valid))
            for name, j in self.history.items()
        }
        columns = {name: convert(array) for name, array in self._columns.items()}
        valid = {name: convert(array) for name, array in self._valid.items()}
        return Batch(columns, valid, history, self._content, convert)
