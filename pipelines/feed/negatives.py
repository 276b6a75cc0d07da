"""Negatives drawn when a batch is made: items from the set's own, with the logarithm of how likely each was drawn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from ...schemas.errors import FeedError
from ...storage.shard_arrays import as_numpy
from ...storage.shard_manifest import ITEMS
from ...storage.shards import ShardSet
from .order import Int64s, key, words
from .selection import Selection

Kind = Literal["uniform", "popularity", "in-batch"]
# Items are counted chunk by chunk; the counts are summed when there are this many.
_PENDING = 1 << 20


@dataclass(frozen=True, slots=True)
class Negatives:
    """What to draw for each sample.

    kind:  "uniform" over the items shown in the set, "popularity" in proportion to how often each was, or "in-batch":
           the other samples' items, for which nothing is drawn; how likely one is there is its share of the samples
           that the feed selects, each counted by its weight
    count: items a sample; 0 for "in-batch"
    """

    kind: Kind
    count: int = 0


def _drawable(negatives: object) -> bool:
    if not isinstance(negatives, Negatives) or not isinstance(negatives.count, int | np.integer):
        return False
    if negatives.kind == "in-batch":
        return negatives.count == 0
    return negatives.kind in ("uniform", "popularity") and negatives.count > 0


class Sampler:
    """Draws negatives of a shard set.

    For "in-batch" it reads the items of all samples once, where some are left out, come more than once or were not
    shown: then they are not as the set's list has them.

    Raises:
        FeedError: the kind or the count does not fit.
    """

    def __init__(self, shards: ShardSet, negatives: Negatives, seed: int, selection: Selection | None = None) -> None:
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
        weight: npt.NDArray[Any] = np.ones_like(shown) if negatives.kind == "uniform" else shown
        if negatives.kind == "in-batch" and (selection is not None or shown.sum() != shards.manifest.sample_count):
            self._items, weight = _given(shards, selection)
        if len(self._items) == 0:
            raise FeedError("no item to draw", where=shards.where, expected="samples that were shown", got="none")
        self._upto = np.cumsum(weight)
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


def _given(shards: ShardSet, selection: Selection | None) -> tuple[Int64s, npt.NDArray[np.float64]]:
    """The items of a feed's samples, ascending, and how often each comes in an epoch on average."""
    items: Int64s = np.empty(0, dtype=np.int64)
    times: npt.NDArray[np.float64] = np.empty(0)
    pending: list[tuple[Int64s, npt.NDArray[np.float64]]] = []
    for number, count in enumerate(shards.chunk_samples.tolist()):
        own = shards.read_chunk(number, samples=["item_id"], history=[]).samples["item_id"].array
        pending.append(_summed(own, np.ones(count) if selection is None else selection.rates_of(number)))
        if sum(len(each) for each, _ in pending) > max(_PENDING, len(items)) or number == len(shards.chunk_samples) - 1:
            parts = [(items, times), *pending]
            items, times = _summed(*(np.concatenate(each) for each in zip(*parts, strict=True)))
            pending = []
    return items[times > 0], times[times > 0]


def _summed(items: Int64s, times: npt.NDArray[Any]) -> tuple[Int64s, npt.NDArray[np.float64]]:
    distinct, place = np.unique(items, return_inverse=True)
    return distinct, np.bincount(place, times, len(distinct)).astype(np.float64)
