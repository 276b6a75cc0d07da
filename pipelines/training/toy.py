"""The toy model: item embeddings, the user's history pooled by event type, a logistic loss. NumPy only.

    logit = b0 + b[item] + w . dense + sum_f c[bin_f] + u . Q[item]
    u     = sum over history events e of S[type_e] * H[item_e] / sqrt(events) + sum_f C[bin_f]

A factored item similarity model (Kabbur, Ning & Karypis, KDD 2013) with one gate vector per event type, so that a
video that was shown and one that was watched pull differently, and factorization-machine terms for features (Rendle,
ICDM 2010). Trained by Adagrad (Duchi, Hazan & Singer, JMLR 12, 2011). It knows only what a batch carries.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]
MAX_CATEGORIES = 64  # a feature with more distinct values than this is cut into quantile bins
QUANTILES = 16


class JaggedLike(Protocol):
    """One history field of a batch: sample i's values are `values[offsets[i] : offsets[i + 1]]`, oldest first."""

    @property
    def values(self) -> Any: ...
    @property
    def offsets(self) -> Any: ...


class BatchLike(Protocol):
    """What the toy model reads of a feed's batch."""

    @property
    def history(self) -> Any: ...
    def __getitem__(self, name: str) -> Any: ...
    def valid(self, name: str) -> Any: ...


@dataclass(frozen=True, slots=True)
class Binning:
    """How one feature becomes bins: bin 0 is missing or never seen, then a bin per known value or per quantile."""

    name: str
    edges: NDArray[np.float64]
    categorical: bool

    @property
    def bins(self) -> int:
        return len(self.edges) + 1 + (not self.categorical)

    def assign(self, values: Any) -> Ints:
        raw = np.asarray(values, dtype=np.float64)
        known = ~np.isnan(raw)
        filled = np.where(known, raw, 0.0)
        if self.categorical:
            place = np.minimum(np.searchsorted(self.edges, filled), max(len(self.edges) - 1, 0))
            known &= self.edges[place] == filled if len(self.edges) else False
            return np.where(known, place + 1, 0).astype(np.int64)
        return np.where(known, np.searchsorted(self.edges, filled, side="right") + 1, 0).astype(np.int64)


def binning(name: str, values: Any) -> Binning:
    """The binning of a feature from its training values."""
    raw = np.asarray(values, dtype=np.float64)
    distinct = np.unique(raw[~np.isnan(raw)])
    if distinct.size <= MAX_CATEGORIES:
        return Binning(name, distinct, categorical=True)
    edges = np.unique(np.quantile(raw[~np.isnan(raw)], np.arange(1, QUANTILES) / QUANTILES))
    return Binning(name, edges, categorical=False)


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """What the training days hold: items by place (0: unknown), event types, features and their bins."""

    items: Ints  # sorted
    types: int
    features: tuple[Binning, ...]

    def places(self, item_ids: Any) -> Ints:
        raw = np.asarray(item_ids, dtype=np.int64)
        place = np.minimum(np.searchsorted(self.items, raw), len(self.items) - 1)
        return np.where(self.items[place] == raw, place + 1, 0).astype(np.int64)


@dataclass(frozen=True, slots=True)
class Encoded:
    """A batch in numbers: n samples, m history events."""

    item: Ints  # (n,)
    bins: Ints  # (n, features), into one table of all features' bins
    dense: Floats  # (n, 3 * types + 2)
    history_item: Ints  # (m,)
    history_type: Ints  # (m,)
    lengths: Ints  # (n,)


def feature(batch: BatchLike, name: str) -> NDArray[np.float64]:
    """A feature as numbers, NaN where the sample has none; strings are codes already. Shape (B,)."""
    values = np.asarray(batch[name], dtype=np.float64)
    known = batch.valid(name)
    return values if known is None else np.where(np.asarray(known), values, np.nan)


def encode(batch: BatchLike, vocabulary: Vocabulary, keep: NDArray[np.bool_] | None = None) -> Encoded:
    """A batch, or those samples of it that `keep` marks, as the model reads it."""
    item_ids = np.asarray(batch["item_id"], dtype=np.int64)
    keep = np.ones(item_ids.size, dtype=bool) if keep is None else keep
    offsets = np.asarray(batch.history["item_id"].offsets, dtype=np.int64)
    lengths = np.diff(offsets)
    events = np.repeat(keep, lengths)
    history_ids = np.asarray(batch.history["item_id"].values)[offsets[0] : offsets[-1]][events]
    kinds = np.asarray(batch.history["event_type"].values)[offsets[0] : offsets[-1]][events].astype(np.int64)
    lengths = lengths[keep]
    n = int(keep.sum())
    first = np.cumsum([0, *(f.bins for f in vocabulary.features)])
    columns = [f.assign(feature(batch, f.name)[keep]) + first[i] for i, f in enumerate(vocabulary.features)]
    return Encoded(
        item=vocabulary.places(item_ids[keep]),
        bins=np.stack(columns, axis=1) if columns else np.zeros((n, 0), dtype=np.int64),
        dense=_dense(item_ids[keep], history_ids, kinds, lengths, vocabulary.types),
        history_item=vocabulary.places(history_ids),
        history_type=np.clip(kinds, 0, vocabulary.types - 1),
        lengths=lengths,
    )


def _dense(item_ids: Ints, history_ids: Ints, kinds: Ints, lengths: Ints, types: int) -> Floats:
    """Counts of the history by event type, their rates, those of the candidate itself, and the length. float32."""
    n = len(lengths)
    sample = np.repeat(np.arange(n), lengths)
    cell = sample * types + np.clip(kinds, 0, types - 1)
    counts = np.bincount(cell, minlength=n * types).reshape(n, types)
    same = np.bincount(cell[history_ids == item_ids[sample]], minlength=n * types).reshape(n, types)
    rates = (counts + 0.5) / (lengths[:, None] + 2.0)
    empty = (lengths == 0)[:, None]
    parts = [np.log1p(counts), np.log(rates) * ~empty, np.log1p(same), np.log1p(lengths)[:, None], empty]
    dense: Floats = np.concatenate(parts, axis=1).astype(np.float32)
    return dense


@dataclass(frozen=True, slots=True)
class Parameters:
    """What is learned. All float32; `d` is the embedding dimension."""

    intercept: Floats  # (1,)
    item_bias: Floats  # (items + 1,)
    item: Floats  # (items + 1, d): Q, of the candidate
    history: Floats  # (items + 1, d): H, of history items
    gate: Floats  # (types, d): S
    bin_bias: Floats  # (bins,)
    bin: Floats  # (bins, d): C
    dense: Floats  # (columns,)


def initial(vocabulary: Vocabulary, *, dimension: int, seed: int) -> Parameters:
    """Small random embeddings and zero weights, from the seed alone."""
    rng = np.random.default_rng(seed)
    rows, bins = len(vocabulary.items) + 1, sum(f.bins for f in vocabulary.features)

    def normal(*shape: int) -> Floats:
        return (rng.standard_normal(shape) * 0.1).astype(np.float32)

    def zeros(size: int) -> Floats:
        return np.zeros(size, dtype=np.float32)

    return Parameters(
        intercept=zeros(1),
        item_bias=zeros(rows),
        item=normal(rows, dimension),
        history=normal(rows, dimension),
        gate=1.0 + normal(vocabulary.types, dimension),
        bin_bias=zeros(bins),
        bin=normal(bins, dimension),
        dense=zeros(3 * vocabulary.types + 2),
    )


def forward(p: Parameters, x: Encoded) -> tuple[Floats, Floats, Floats]:
    """(logits (n,), user vectors (n, d), gathered history rows (m, d))."""
    rows = p.history[x.history_item]
    pooled = segment_sum(rows * p.gate[x.history_type], x.lengths) * _scale(x.lengths)
    user = pooled + p.bin[x.bins].sum(axis=1)
    logits = p.intercept + p.item_bias[x.item] + x.dense @ p.dense + p.bin_bias[x.bins].sum(axis=1)
    return logits + np.einsum("nd,nd->n", user, p.item[x.item]), user, rows


def probabilities(p: Parameters, x: Encoded) -> Floats:
    logits, _, _ = forward(p, x)
    return _sigmoid(logits)


def step(p: Parameters, squares: Parameters, x: Encoded, label: Floats, *, rate: float, decay: float) -> float:
    """One Adagrad step in place on the mean loss gradient's sum; returns the mean loss before it, nats.

    `decay` shrinks the embeddings a batch touches (L2).
    """
    logits, user, rows = forward(p, x)
    chance = _sigmoid(logits)
    error = (chance - label).astype(np.float32)
    to_user = error[:, None] * p.item[x.item]
    to_event = np.repeat(to_user * _scale(x.lengths), x.lengths, axis=0)
    columns = x.bins.shape[1]
    by_type = np.stack([(to_event[x.history_type == k] * rows[x.history_type == k]).sum(0) for k in range(len(p.gate))])
    updates: list[tuple[Floats, Floats, Ints | None, Floats, float]] = [
        (p.intercept, squares.intercept, None, error.sum(keepdims=True), 0.0),
        (p.dense, squares.dense, None, x.dense.T @ error, 0.0),
        (p.gate, squares.gate, None, by_type, 0.0),
        (p.item_bias, squares.item_bias, x.item, error, decay),
        (p.bin_bias, squares.bin_bias, x.bins.ravel(), np.repeat(error, columns), 0.0),
        (p.bin, squares.bin, x.bins.ravel(), np.repeat(to_user, columns, axis=0), decay),
        (p.item, squares.item, x.item, error[:, None] * user, decay),
        (p.history, squares.history, x.history_item, to_event * p.gate[x.history_type], decay),
    ]
    for values, accumulated, index, gradient, shrink in updates:
        _adagrad(values, accumulated, index, gradient, rate=rate, decay=shrink)
    loss = -np.where(label > 0, np.log(chance + 1e-7), np.log(1 - chance + 1e-7))
    return float(loss.mean()) if loss.size else 0.0


def _adagrad(
    values: Floats, squares: Floats, index: Ints | None, gradient: Floats, *, rate: float, decay: float
) -> None:
    if index is None:
        squares += gradient**2
        values -= rate * gradient / np.sqrt(squares + 1e-8)
        return
    if index.size == 0:
        return
    order = np.argsort(index, kind="stable")
    sorted_index = index[order]
    starts = np.flatnonzero(np.r_[True, sorted_index[1:] != sorted_index[:-1]])
    touched = sorted_index[starts]
    summed = np.add.reduceat(gradient[order], starts, axis=0) + decay * values[touched]
    squares[touched] += summed**2
    values[touched] -= rate * summed / np.sqrt(squares[touched] + 1e-8)


def segment_sum(rows: Floats, lengths: Ints) -> Floats:
    """Sums of consecutive runs of rows: (m, d) and (n,) lengths that add up to m, to (n, d); an empty run sums to 0."""
    result = np.zeros((len(lengths), rows.shape[1]), dtype=rows.dtype)
    some = lengths > 0
    if some.any():
        starts = (np.cumsum(lengths) - lengths)[some]
        result[some] = np.add.reduceat(rows, starts, axis=0)
    return result


def _scale(lengths: Ints) -> Floats:
    scale: Floats = (1.0 / np.sqrt(np.maximum(lengths, 1)))[:, None].astype(np.float32)
    return scale


def _sigmoid(logits: Floats) -> Floats:
    result: Floats = (1.0 / (1.0 + np.exp(-np.clip(logits, -30.0, 30.0)))).astype(np.float32)
    return result
