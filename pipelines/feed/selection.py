"""Which samples an epoch has, and how often each: a function of (seed, epoch) and the samples' own columns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ...schemas.errors import FeedError
from ...storage.shards import Chunk, ShardSet
from .expression import Expression, Known, known
from .order import Int64s, key, words

_LIMIT = 255

Rows = slice | Int64s


@dataclass(frozen=True, slots=True)
class SamplePlan:
    """The samples of one epoch: how many each chunk gives (C,), and which; and how many of its events are read (C,)."""

    chunk_samples: Int64s
    chunk_events: Int64s
    times: npt.NDArray[np.uint8] | None = None
    bounds: Int64s | None = None

    def rows(self, chunk: int) -> Rows:
        """Which samples of a chunk come, in storage order, and again where they come more than once."""
        if self.times is None or self.bounds is None:
            return slice(None)
        own = self.times[self.bounds[chunk] : self.bounds[chunk + 1]]
        return np.repeat(np.arange(len(own)), own)


@dataclass(frozen=True, slots=True)
class Selection:
    """How often each sample of a set comes: w times on average, where w is a whole number and by chance of the rest.

    A weight of 0.1 lets a sample come in every tenth epoch, of 2.5 two or three times in each. In which, the seed, the
    epoch and the sample's place in the set say.

    rates:  (S,) float32 in storage order; a sample that the predicate leaves out has 0
    bounds: (C+1,) where each chunk's samples begin
    whole:  no rate has a fraction: every epoch has the same samples
    """

    rates: npt.NDArray[np.float32]
    bounds: Int64s
    whole: bool

    def rates_of(self, chunk: int) -> npt.NDArray[np.float32]:
        """How often each sample of a chunk comes in an epoch on average."""
        return self.rates[self.bounds[chunk] : self.bounds[chunk + 1]]

    def _times(self, seed: int | None, epoch: int) -> npt.NDArray[np.uint8]:
        """(S,) how often each sample comes in an epoch."""
        certain = np.floor(self.rates)
        times: npt.NDArray[np.uint8] = certain.astype(np.uint8)
        if not self.whole:
            assert seed is not None
            chance = words(np.arange(len(times)), key(seed, epoch, 3)) >> np.uint64(40)  # 24 bits: exact in float32
            times += chance.astype(np.float32) * np.float32(2**-24) < self.rates - certain
        return times

    def plan(self, seed: int | None, epoch: int, chunk_events: Int64s) -> SamplePlan:
        """The samples of an epoch."""
        times = self._times(seed, epoch)
        upto = np.concatenate([[0], np.cumsum(times, dtype=np.int64)])
        return SamplePlan(np.diff(upto[self.bounds]), chunk_events, times, self.bounds)


def select(shards: ShardSet, where: str | None, weight: str | None) -> Selection | None:
    """Evaluate both on all samples, reading the columns they name; None where there is nothing to evaluate.

    Takes 5 bytes a sample of memory, and one pass over those columns.

    Raises:
        FeedError: an expression does not fit the set, or a weight is not between 0 and 255.
    """
    if where is None and weight is None:
        return None
    types = {"user_id": "int64"} | {c.name: c.type for c in shards.manifest.samples}
    words_of = _words(shards)
    where_holds, rate_of = (Expression("1" if text is None else text, types, words_of) for text in (where, weight))
    names = sorted({*where_holds.columns, *rate_of.columns} - {"user_id"})
    bounds = np.concatenate([[0], np.cumsum(shards.chunk_samples)]).astype(np.int64)
    rates = np.empty(int(bounds[-1]), dtype=np.float32)
    for number in range(len(bounds) - 1):
        rates[bounds[number] : bounds[number + 1]] = _rates(
            shards.read_chunk(number, samples=names or ["sample_id"], history=[]), where_holds, rate_of, shards
        )
    if not ((rates >= 0) & (rates <= _LIMIT)).all():
        raise FeedError(
            "not a weight",
            where=repr(weight),
            expected=f"0 to {_LIMIT}, and never missing",
            got=float(rates[np.flatnonzero(~((rates >= 0) & (rates <= _LIMIT)))[0]]),
        )
    return Selection(rates, bounds, bool((rates == np.floor(rates)).all()))


def _rates(chunk: Chunk, where: Expression, weight: Expression, shards: ShardSet) -> npt.NDArray[np.float32]:
    columns = {"user_id": Known(np.repeat(chunk.user_id, np.diff(chunk.sample_offsets)))}
    columns |= known(chunk.samples, _words(shards))
    chosen = np.broadcast_to(where.evaluate(columns).true(), len(columns["user_id"].values))
    rate = weight.evaluate(columns)
    values = rate.values if rate.valid is None else np.where(rate.valid, rate.values, np.nan)
    return np.where(chosen, values, 0).astype(np.float32)


def _words(shards: ShardSet) -> dict[str, tuple[str, ...]]:
    """The words of the samples' columns of strings: a label may have the name of a field of the history that is one."""
    return {name: words for name, words in shards.manifest.vocabularies.items() if name in shards.manifest.features}
