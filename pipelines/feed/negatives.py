"""Negatives drawn when a batch is made: items from the set's own, with the logarithm of how likely each was drawn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from ...schemas.errors import FeedError
from ...storage.shard_arrays import as_numpy
from ...storage.shard_manifest import ITEMS
from ...storage.shards import ShardSet
from .order import Int64s, key, words

Kind = Literal["uniform", "popularity", "in-batch"]


@dataclass(frozen=True, slots=True)
class Negatives:
    """What to draw for each sample.

    kind:  "uniform" over the items shown in the set, "popularity" in proportion to how often each was, or "in-batch":
           the other samples' items, for which nothing is drawn
    count: items a sample; 0 for "in-batch"
    """

    kind: Kind
    count: int = 0


def _drawable(negatives: object) -> bool:
    if not isinstance(negatives, Negatives) or not isinstance(negatives.count, int):
        return False
    if negatives.kind == "in-batch":
        return negatives.count == 0
    return negatives.kind in ("uniform", "popularity") and negatives.count > 0


class Sampler:
    """Draws negatives of a shard set.

    Raises:
        FeedError: the kind or the count does not fit.
    """

    def __init__(self, shards: ShardSet, negatives: Negatives, seed: int) -> None:
        if not _drawable(negatives):
            raise FeedError(
                "not negatives",
                expected='Negatives("uniform", 8), Negatives("popularity", 8) or Negatives("in-batch")',
                got=negatives,
            )
        items = pq.read_table(shards.right(ITEMS))
        self.kind, self.count, self._seed = negatives.kind, negatives.count, seed
        self._items: Int64s = as_numpy(items["item_id"])
        shown: Int64s = as_numpy(items["count"])
        if len(self._items) == 0:
            raise FeedError("no item to draw", where=shards.where, expected="samples that were shown", got="none")
        weight = np.ones_like(shown) if negatives.kind == "uniform" else shown
        self._upto: Int64s = np.cumsum(weight)
        self._logq = np.log(weight / self._upto[-1]).astype(np.float32)

    def draw(self, epoch: int, positions: Int64s) -> tuple[Int64s, npt.NDArray[np.float32]]:
        """(B, count) items and their log probabilities, for samples at positions of an epoch's order.

        A function of the seed, the epoch and the position: not of who asks. An item may be the sample's own.
        """
        states = (positions[:, None] * self.count + np.arange(self.count)).ravel()
        # Whole numbers only: the same draw on every platform. The bias of the remainder is below 2^-40 for any set.
        place = (words(states, key(self._seed, epoch, 2)) % np.uint64(self._upto[-1])).astype(np.int64)
        found = np.searchsorted(self._upto, place, side="right")
        shape = (len(positions), self.count)
        return self._items[found].reshape(shape), self._logq[found].reshape(shape)

    def logq(self, items: Int64s) -> npt.NDArray[np.float32]:
        """(B,) the log probability that each of some items is drawn; -inf for one that is never."""
        at = np.minimum(np.searchsorted(self._items, items), len(self._items) - 1)
        return np.where(self._items[at] == items, self._logq[at], np.float32(-np.inf)).astype(np.float32)
