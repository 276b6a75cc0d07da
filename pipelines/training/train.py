"""The toy trainer: a small model and a popularity baseline from a feed, and what they are worth on the days after.

It shows that what a batch carries is enough, and gives the report a metric to slice. It is not a recommender.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import date, timedelta
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ...quality import statistics
from ...schemas import shapes
from ...schemas.errors import FeedError
from . import toy

Mask = NDArray[np.bool_]

DAY = timedelta(days=1)
DIMENSION = 8
RATE = 0.1
DECAY = 1.0
FIRST_SQUARES = 0.1  # Adagrad's accumulator at the start: tames the first steps
FEATURE_SAMPLE = 200_000  # feature values that bins are cut from; a feed's order is random, so the first will do
_LENGTH_EDGES = (1, 4, 16, 64, 256, 1024)


class FeedLike(Protocol):
    """What training needs of `reclake.Feed`: each `for` is one pass, and strings are codes into `vocabularies`."""

    @property
    def vocabularies(self) -> Mapping[str, tuple[str, ...]]: ...
    def __iter__(self) -> Iterator[toy.BatchLike]: ...


Passes = Callable[[int], FeedLike]  # epoch -> a feed of that epoch


class Scorer(Protocol):
    """Something that gives each sample of a batch the probability of the label."""

    @property
    def name(self) -> str: ...
    def score(self, batch: toy.BatchLike, keep: Mask) -> NDArray[np.float64]: ...


@dataclass(frozen=True, slots=True)
class Popularity:
    """An item's rate on the training days with additive smoothing: (positives + s * rate) / (shown + s)."""

    items: toy.Ints  # sorted
    rates: NDArray[np.float64]
    prior: float
    name: str = "popularity"

    def score(self, batch: toy.BatchLike, keep: Mask) -> NDArray[np.float64]:
        ids = np.asarray(batch["item_id"], dtype=np.int64)[keep]
        place = np.minimum(np.searchsorted(self.items, ids), len(self.items) - 1)
        return np.where(self.items[place] == ids, self.rates[place], self.prior)


@dataclass(frozen=True, slots=True)
class Model:
    """The trained toy model."""

    vocabulary: toy.Vocabulary
    parameters: toy.Parameters
    name: str = "toy"

    def score(self, batch: toy.BatchLike, keep: Mask) -> NDArray[np.float64]:
        encoded = toy.encode(batch, self.vocabulary, keep)
        return toy.probabilities(self.parameters, encoded).astype(np.float64)


@dataclass(frozen=True, slots=True)
class Trained:
    """What training gives."""

    label: str
    model: Model
    baseline: Popularity
    samples: int
    losses: tuple[float, ...]  # mean log loss of each epoch, nats, before each step


def train(
    passes: Passes,
    *,
    label: str,
    seed: int,
    epochs: int,
    before: date,
    features: Sequence[str] = (),
    smoothing: float = 20.0,
    on_epoch: Callable[[int, float], None] = lambda epoch, loss: None,
) -> Trained:
    """Train both on the mature samples of days strictly before `before`, in `epochs` + 1 passes; the first counts.

    On one machine the same feed, seed and arguments give the same bits (BLAS may add in another order elsewhere).

    Raises:
        FeedError: the feed holds no such sample, or lacks the label or a feature.
    """
    vocabulary, baseline, samples = _first_pass(passes(0), label, before, features, smoothing)
    parameters = toy.initial(vocabulary, dimension=DIMENSION, seed=seed)
    squares = toy.Parameters(*[np.full_like(getattr(parameters, f.name), FIRST_SQUARES) for f in fields(parameters)])
    losses: list[float] = []
    for epoch in range(epochs):
        total = 0.0
        for batch, keep in _selected(passes(epoch), date.min, before - DAY):
            target = np.asarray(batch[label], dtype=np.float32)[keep]
            encoded = toy.encode(batch, vocabulary, keep)
            total += target.size * toy.step(parameters, squares, encoded, target, rate=RATE, decay=DECAY)
        losses.append(total / samples)
        on_epoch(epoch, losses[-1])
    return Trained(label, Model(vocabulary, parameters), baseline, samples, tuple(losses))


def evaluate(
    feed: FeedLike,
    scorers: Sequence[Scorer],
    *,
    label: str,
    first: date,
    last: date,
    run_id: str,
    pin: str | None,
    slices: Sequence[str] = (),
) -> pa.Table:
    """Metrics of each scorer on the mature samples of `first` to `last` (inclusive), shaped shapes.METRICS.

    AUC and log loss, each with a 95 % interval clustered by user, of all samples, by history length, by day and by
    each feature in `slices`; and `auc_gain`, the paired difference of every scorer's AUC to that of the last one.

    Raises:
        FeedError: there is no such sample, or a scorer gave a score that is not a number.
    """
    names = [scorer.name for scorer in scorers]
    parts: list[pl.DataFrame] = []
    for batch, keep in _selected(feed, first, last):
        columns = {
            "label": np.asarray(batch[label])[keep].astype(np.int8),
            "user_id": np.asarray(batch["user_id"])[keep],
            "day": _days(batch)[keep].astype(str),
            "history_length": _length_bins(np.diff(np.asarray(batch.history["item_id"].offsets))[keep]),
        }
        columns |= {name: toy.feature(batch, name)[keep] for name in slices}
        columns |= {f"score {scorer.name}": scorer.score(batch, keep) for scorer in scorers}
        parts.append(pl.DataFrame(columns))
    scored = pl.concat(parts) if parts else pl.DataFrame()
    if scored.height == 0:
        raise FeedError("no sample to evaluate on", expected=f"mature samples from {first} to {last}", got="none")
    for name in names:
        if not scored[f"score {name}"].is_finite().all():
            raise FeedError(
                "a score is not a number", where=f"model {name}", expected="finite scores", got="NaN or inf"
            )
    rows = [
        row for where in _slices(scored, slices, feed.vocabularies) for name in names for row in _metrics(*where, name)
    ]
    rows += _gains(scored, names)
    return pa.Table.from_pylist([{"run_id": run_id, "pin": pin, "label": label, **row} for row in rows], shapes.METRICS)


def backtest(
    passes: Passes,
    *,
    label: str,
    seed: int,
    epochs: int,
    days: Sequence[date],
    run_id: str,
    pin: str | None,
    features: Sequence[str] = (),
) -> pa.Table:
    """Each day's metrics of models trained on the days before it: the history that quality is correlated with.

    Only the "day" slice is given; shaped shapes.METRICS. Costs `epochs + 2` passes a day.
    """
    found = []
    for day in days:
        trained = train(passes, label=label, seed=seed, epochs=epochs, before=day, features=features)
        scorers = (trained.model, trained.baseline)
        rows = evaluate(passes(0), scorers, label=label, first=day, last=day, run_id=run_id, pin=pin)
        found.append(rows.filter(pc.equal(rows["slice"], "day")))
    return pa.concat_tables(found) if found else shapes.METRICS.empty_table()


def headline(metrics: pa.Table, *, metric: str = "auc") -> dict[str, statistics.Estimate]:
    """A metric over all samples, by model."""
    rows = [row for row in metrics.to_pylist() if row["metric"] == metric and row["slice"] == "all"]
    return {row["model"]: statistics.Estimate(row["value"], row["low"], row["high"]) for row in rows}


def _first_pass(
    batches: Iterable[toy.BatchLike], label: str, before: date, features: Sequence[str], smoothing: float
) -> tuple[toy.Vocabulary, Popularity, int]:
    """Items with their rates, event types and feature bins of the training days."""
    counts: list[pl.DataFrame] = []
    seen: dict[str, list[NDArray[np.float64]]] = {name: [] for name in features}
    types, samples = 1, 0
    for batch, keep in _selected(batches, date.min, before - DAY):
        ids, positives = np.asarray(batch["item_id"])[keep], np.asarray(batch[label])[keep].astype(np.int64)
        frame = pl.DataFrame({"item": ids.astype(np.int64), "positives": positives})
        counts.append(frame.group_by("item").agg(pl.col("positives").sum(), pl.len().cast(pl.Int64).alias("shown")))
        if samples < FEATURE_SAMPLE:
            for name in features:
                seen[name].append(toy.feature(batch, name)[keep])
        kinds = np.asarray(batch.history["event_type"].values)
        types = max(types, int(kinds.max()) + 1 if kinds.size else 1)
        samples += int(keep.sum())
    if samples == 0:
        raise FeedError("no sample to train on", expected=f"mature samples of days before {before}", got="none")
    items = pl.concat(counts).group_by("item").sum().sort("item")
    prior = float(items["positives"].sum()) / samples
    rates = (items["positives"] + smoothing * prior) / (items["shown"] + smoothing)
    ids = items["item"].to_numpy()
    binnings = tuple(toy.binning(name, np.concatenate(values)) for name, values in seen.items())
    return toy.Vocabulary(ids, types, binnings), Popularity(ids, rates.to_numpy(), prior), samples


def _selected(batches: Iterable[toy.BatchLike], first: date, last: date) -> Iterator[tuple[toy.BatchLike, Mask]]:
    """Batches with a mask of their mature samples of `first` to `last`; batches without one are left out."""
    span = np.array([first, last], dtype="datetime64[D]")
    for batch in batches:
        days = _days(batch)
        keep = (days >= span[0]) & (days <= span[1]) & np.asarray(batch["label_mature"], dtype=bool)
        if keep.any():
            yield batch, keep


def _days(batch: toy.BatchLike) -> NDArray[np.datetime64]:
    """The request's day of each sample: the upper bits of its id."""
    return (np.asarray(batch["sample_id"], dtype=np.int64) >> 40).astype("datetime64[D]")


def _length_bins(lengths: NDArray[np.int64]) -> NDArray[np.str_]:
    names = ["0", *(f"{a}-{b - 1}" for a, b in pairwise(_LENGTH_EDGES)), "1024+"]
    return np.array(names)[np.searchsorted(np.array(_LENGTH_EDGES), lengths, side="right")]


def _slices(
    scored: pl.DataFrame, features: Sequence[str], vocabularies: Mapping[str, tuple[str, ...]]
) -> Iterator[tuple[str, str, pl.DataFrame]]:
    """("all", "all", everything), then (slice, value, its samples) in a stable order."""
    yield "all", "all", scored
    for name in ("history_length", "day"):
        for (value,), part in scored.sort(name).group_by(name, maintain_order=True):
            yield name, str(value), part
    for name in features:
        words = vocabularies.get(name)
        for (code,), part in scored.sort(name).group_by(name, maintain_order=True):
            missing = np.isnan(code) or (words is not None and code < 0)
            yield name, "missing" if missing else words[int(code)] if words else f"{code:g}", part


def _metrics(slice_name: str, value: str, part: pl.DataFrame, model: str) -> list[dict[str, Any]]:
    labels, users, scores = (part[c].to_numpy() for c in ("label", "user_id", f"score {model}"))
    estimates = {
        "auc": statistics.auc_interval(labels, scores, clusters=users),
        "logloss": statistics.log_loss_interval(labels, scores, clusters=users),
    }
    return [_row(model, metric, (slice_name, value), found, part) for metric, found in estimates.items()]


def _gains(scored: pl.DataFrame, names: Sequence[str]) -> list[dict[str, Any]]:
    """AUC of each scorer minus the last one's on the same samples: what a comparison must rest on."""
    labels, users = scored["label"].to_numpy(), scored["user_id"].to_numpy()
    base = scored[f"score {names[-1]}"].to_numpy()
    found = {
        name: statistics.auc_difference(labels, scored[f"score {name}"].to_numpy(), base, clusters=users)
        for name in names[:-1]
    }
    return [_row(name, "auc_gain", ("all", "all"), gain, scored) for name, gain in found.items()]


def _row(
    model: str, metric: str, where: tuple[str, str], found: statistics.Estimate, part: pl.DataFrame
) -> dict[str, Any]:
    return {
        "model": model,
        "metric": metric,
        "slice": where[0],
        "slice_value": where[1],
        "value": found.value,
        "low": found.low,
        "high": found.high,
        "samples": part.height,
        "positives": int(part["label"].sum()),
    }
