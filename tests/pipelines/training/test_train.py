"""The toy trainer: beats popularity where taste matters, learns nothing where there is nothing, repeats to the bit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest

from reclake.pipelines.training import toy
from reclake.pipelines.training.train import Trained, backtest, evaluate, headline, train
from reclake.schemas import shapes
from reclake.schemas.errors import FeedError

FIRST = date(2022, 5, 1)
EXPOSURE, CLICK = 0, 1


@dataclass
class Jagged:
    values: np.ndarray
    offsets: np.ndarray


class FakeBatch:
    """A batch of the feed's interface from plain arrays."""

    def __init__(self, columns: dict[str, np.ndarray], history: dict[str, Jagged], valid: dict[str, np.ndarray]):
        self.columns, self.history, self.missing = columns, history, valid

    def __getitem__(self, name: str) -> np.ndarray:
        return self.columns[name]

    def valid(self, name: str) -> np.ndarray | None:
        return self.missing.get(name)


class FakeFeed:
    def __init__(self, batches: list[FakeBatch], vocabularies: Mapping[str, tuple[str, ...]] | None = None):
        self.batches, self.vocabularies = batches, vocabularies or {}

    def __iter__(self) -> Iterator[FakeBatch]:
        return iter(self.batches)


def taste_feed(*, taste: float, users: int = 400, items: int = 120, days: int = 5, each: int = 8) -> FakeFeed:
    """Users and items of two kinds; with `taste` > 0 a user clicks more on her own kind. All else is equal."""
    rng = np.random.default_rng(23)
    user_kind, item_kind = rng.integers(0, 2, users), rng.integers(0, 2, items)
    item_bias = rng.normal(0, 0.4, items)
    seen: list[list[tuple[int, int]]] = [[] for _ in range(users)]
    rows: list[tuple[int, int, int, int, list[tuple[int, int]]]] = []
    for day in range(days):
        for user in range(users):
            for item in rng.integers(0, items, each):
                match = 1.0 if user_kind[user] == item_kind[item] else -1.0
                click = int(rng.random() < 1 / (1 + np.exp(-(item_bias[item] + taste * match - 0.3))))
                rows.append((day, user, int(item), click, list(seen[user][-32:])))
                seen[user] += [(int(item), EXPOSURE)] + ([(int(item), CLICK)] if click else [])
    order = rng.permutation(len(rows))
    return FakeFeed([batch([rows[i] for i in order[k : k + 1024]], k) for k in range(0, len(rows), 1024)])


def batch(rows: list[tuple[int, int, int, int, list[tuple[int, int]]]], first: int) -> FakeBatch:
    day, user, item, click = (np.array([row[i] for row in rows]) for i in range(4))
    events = np.array([event for row in rows for event in row[4]]).reshape(-1, 2)
    offsets = np.cumsum([0] + [len(row[4]) for row in rows])
    days = (FIRST - date(1970, 1, 1)).days + day
    columns = {
        "sample_id": (days << 40) + first + np.arange(len(rows)),
        "user_id": user,
        "item_id": item,
        "click": click.astype(np.int8),
        "label_mature": np.ones(len(rows), dtype=bool),
        "surface": user % 3,
    }
    history = {"item_id": Jagged(events[:, 0], offsets), "event_type": Jagged(events[:, 1].astype(np.int32), offsets)}
    return FakeBatch(columns, history, {})


TEST_DAY = FIRST + timedelta(days=4)
TASTE = taste_feed(taste=1.2)


def trained(feed: FakeFeed, **changes: Any) -> Trained:
    arguments: dict[str, Any] = {"label": "click", "seed": 7, "epochs": 6, "before": TEST_DAY, "features": ("surface",)}
    return train(lambda epoch: feed, **(arguments | changes))


def measured(feed: FakeFeed, found: Trained, **changes: Any) -> Any:
    arguments: dict[str, Any] = {"label": "click", "first": TEST_DAY, "last": TEST_DAY, "run_id": "r", "pin": "p"}
    return evaluate(feed, (found.model, found.baseline), **(arguments | changes))


def test_where_taste_decides_the_model_beats_popularity_clearly_on_the_following_day() -> None:
    metrics = measured(TASTE, trained(TASTE))
    auc, gain = headline(metrics), headline(metrics, metric="auc_gain")
    assert auc["toy"].low > auc["popularity"].high + 0.05  # type: ignore[operator]
    assert gain["toy"].low > 0.08  # type: ignore[operator]


def test_where_there_is_no_taste_the_model_claims_no_gain() -> None:
    feed = taste_feed(taste=0.0)
    gain = headline(measured(feed, trained(feed)), metric="auc_gain")["toy"]
    assert gain.high < 0.03  # type: ignore[operator]


def test_the_loss_falls_from_epoch_to_epoch() -> None:
    losses = trained(TASTE).losses
    assert list(losses) == sorted(losses, reverse=True)
    assert losses[0] < 0.72


def test_training_twice_gives_the_same_bits_and_another_seed_other_ones() -> None:
    first, again, other = trained(TASTE, epochs=1), trained(TASTE, epochs=1), trained(TASTE, epochs=1, seed=8)
    assert first.losses == again.losses
    assert first.model.parameters.item.tobytes() == again.model.parameters.item.tobytes()
    assert first.model.parameters.item.tobytes() != other.model.parameters.item.tobytes()


def test_labels_of_the_test_day_cannot_reach_the_model_or_the_baseline() -> None:
    turned = FakeFeed([FakeBatch(dict(b.columns), b.history, {}) for b in TASTE.batches])
    for changed in turned.batches:
        later = changed["sample_id"] >> 40 >= (TEST_DAY - date(1970, 1, 1)).days
        changed.columns["click"] = np.where(later, 1 - changed["click"], changed["click"]).astype(np.int8)
    a, b = trained(TASTE, epochs=1), trained(turned, epochs=1)
    assert a.model.parameters.item.tobytes() == b.model.parameters.item.tobytes()
    assert a.baseline.rates.tolist() == b.baseline.rates.tolist()


def test_immature_samples_are_neither_trained_on_nor_evaluated() -> None:
    half = FakeFeed([FakeBatch(dict(b.columns), b.history, {}) for b in TASTE.batches])
    for changed in half.batches:
        changed.columns["label_mature"] = changed["user_id"] % 2 == 0
    found = trained(half, epochs=1)
    assert found.samples == 400 * 8 * 4 // 2
    rows = measured(half, found).to_pylist()
    assert {row["samples"] for row in rows if row["slice"] == "all"} == {400 * 8 // 2}


def test_metrics_come_by_history_length_day_and_feature_and_conform_to_their_shape() -> None:
    feed = FakeFeed(TASTE.batches, {"surface": ("home", "search", "profile")})
    metrics = measured(feed, trained(TASTE, epochs=1), slices=("surface",), first=FIRST)
    assert metrics.schema.equals(shapes.METRICS)
    auc = pl.DataFrame(metrics).filter(pl.col("metric") == "auc", pl.col("model") == "toy")
    by = {name: part["slice_value"].to_list() for (name,), part in auc.group_by("slice")}
    assert by["all"] == ["all"]
    assert by["day"] == [str(FIRST + timedelta(days=i)) for i in range(5)]
    assert by["surface"] == ["home", "search", "profile"]
    assert set(by["history_length"]) == {"0", "1-3", "4-15", "16-63"}
    for name in by:
        assert auc.filter(pl.col("slice") == name)["samples"].sum() == 400 * 8 * 5
    inside = auc.filter(pl.col("value").is_between("low", "high"))
    assert inside.height == auc.height


def test_a_missing_feature_is_a_value_of_its_own() -> None:
    missing = FakeFeed([FakeBatch(b.columns, b.history, {"surface": b["surface"] > 0}) for b in TASTE.batches])
    rows = measured(missing, trained(missing, epochs=1), slices=("surface",)).to_pylist()
    assert {row["slice_value"] for row in rows if row["slice"] == "surface"} == {"missing", "1", "2"}


def test_popularity_is_the_smoothed_rate_of_the_training_days() -> None:
    baseline = trained(TASTE, epochs=0, smoothing=20.0).baseline
    clicks = shown = 0
    item = int(baseline.items[5])
    total, count = 0, 0
    for part in TASTE.batches:
        early = part["sample_id"] >> 40 < (TEST_DAY - date(1970, 1, 1)).days
        total, count = total + int(part["click"][early].sum()), count + int(early.sum())
        mine = early & (part["item_id"] == item)
        clicks, shown = clicks + int(part["click"][mine].sum()), shown + int(mine.sum())
    assert baseline.rates[5] == pytest.approx((clicks + 20 * total / count) / (shown + 20))


def test_a_backtest_gives_a_row_a_day_of_models_trained_before_it() -> None:
    days = [FIRST + timedelta(days=i) for i in (2, 3)]
    rows = backtest(lambda epoch: TASTE, label="click", seed=7, epochs=1, days=days, run_id="r", pin=None).to_pylist()
    assert {row["slice"] for row in rows} == {"day"}
    assert [row["slice_value"] for row in rows if (row["model"], row["metric"]) == ("toy", "auc")] == list(
        map(str, days)
    )


def test_no_training_or_test_day_is_an_error_that_says_which() -> None:
    with pytest.raises(FeedError, match="no sample to train on"):
        trained(TASTE, before=FIRST)
    with pytest.raises(FeedError, match="no sample to evaluate on"):
        measured(TASTE, trained(TASTE, epochs=0), first=date(2023, 1, 1), last=date(2023, 1, 2))


def test_a_step_follows_the_gradient_of_the_loss() -> None:
    part = TASTE.batches[0]
    vocabulary = toy.Vocabulary(np.unique(part["item_id"]), 2, (toy.binning("surface", part["surface"]),))
    encoded = toy.encode(part, vocabulary)
    label = part["click"].astype(np.float32)
    parameters = toy.initial(vocabulary, dimension=4, seed=1)

    def loss() -> float:
        p = toy.probabilities(parameters, encoded).astype(np.float64)
        return float(-np.where(label > 0, np.log(p), np.log(1 - p)).sum())

    before = {name: getattr(parameters, name).copy() for name in ("item", "history", "gate", "bin", "dense")}
    gradients = {}
    for name, values in before.items():
        place = (1,) * values.ndim
        found = []
        for shift in (1e-2, -1e-2):
            getattr(parameters, name)[place] = values[place] + shift
            found.append(loss())
        getattr(parameters, name)[place] = values[place]
        gradients[name] = (found[0] - found[1]) / 2e-2
    squares = toy.Parameters(*[np.full_like(getattr(parameters, n), 1e8) for n in toy.Parameters.__slots__])
    toy.step(parameters, squares, encoded, label, rate=1.0, decay=0.0)
    for name, values in before.items():  # with huge squares a step is the gradient / 1e4
        place = (1,) * values.ndim
        step = (values[place] - getattr(parameters, name)[place]) * 1e4
        assert step == pytest.approx(gradients[name], rel=0.03, abs=0.03), name


def test_segment_sums_of_empty_runs_are_zero() -> None:
    rows = np.arange(8, dtype=np.float32).reshape(4, 2)
    summed = toy.segment_sum(rows, np.array([0, 1, 0, 3, 0]))
    assert summed.tolist() == [[0, 0], [0, 1], [0, 0], [12, 15], [0, 0]]
    assert toy.segment_sum(rows[:0], np.array([0, 0])).tolist() == [[0, 0], [0, 0]]


def test_bins_of_a_feature_keep_missing_and_never_seen_apart_from_the_known() -> None:
    few = toy.binning("surface", np.array([4.0, 1.0, 4.0, np.nan]))
    assert few.assign(np.array([1.0, 4.0, 2.0, np.nan])).tolist() == [1, 2, 0, 0]
    many = toy.binning("duration", np.arange(1000.0))
    assert many.assign(np.array([-5.0, 0.0, 999.0, 1e9, np.nan])).tolist() == [1, 1, 16, 16, 0]
    assert many.bins == 17
