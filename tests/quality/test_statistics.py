"""Statistics against brute force, published formulas and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reclake.quality import statistics

SMALL = st.lists(st.tuples(st.booleans(), st.integers(0, 5), st.integers(1, 4)), min_size=2, max_size=30)


def brute_auc(labels: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> float:
    """Every pair of a positive and a negative, ties one half."""
    p, n = labels == 1, labels == 0
    won = (scores[p][:, None] > scores[n][None, :]) + 0.5 * (scores[p][:, None] == scores[n][None, :])
    pairs = weights[p][:, None] * weights[n][None, :]
    return float((won * pairs).sum() / pairs.sum())


@given(SMALL)
@settings(max_examples=200)
def test_auc_equals_the_count_over_all_pairs_with_ties_and_weights(rows: list[tuple[bool, int, int]]) -> None:
    labels, scores, weights = (np.array(column, dtype=float) for column in zip(*rows, strict=True))
    found = statistics.auc(labels, scores, weights=weights)
    if labels.min() == labels.max():
        assert found is None
    else:
        assert found == pytest.approx(brute_auc(labels, scores, weights))


@given(SMALL)
def test_an_integer_weight_is_that_many_equal_samples(rows: list[tuple[bool, int, int]]) -> None:
    labels, scores, weights = (np.array(column) for column in zip(*rows, strict=True))
    repeated = statistics.auc(np.repeat(labels, weights), np.repeat(scores, weights))
    weighted = statistics.auc(labels, scores, weights=weights)
    assert weighted == (None if repeated is None else pytest.approx(repeated))


def delong_variance(labels: np.ndarray, scores: np.ndarray) -> float:
    """DeLong's S10 / m + S01 / n from the definition, pair by pair."""
    x, y = scores[labels == 1], scores[labels == 0]
    won = (x[:, None] > y[None, :]) + 0.5 * (x[:, None] == y[None, :])
    return float(np.var(won.mean(axis=1), ddof=1) / len(x) + np.var(won.mean(axis=0), ddof=1) / len(y))


def test_the_interval_is_delongs_on_the_logit_scale() -> None:
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 2, 300)
    scores = np.round(labels * 0.8 + rng.normal(size=300), 1)
    found = statistics.auc_interval(labels, scores)
    assert found.value is not None
    half = statistics.Z95 * delong_variance(labels, scores) ** 0.5 / (found.value * (1 - found.value))
    logit = np.log(found.value / (1 - found.value))
    assert found.low == pytest.approx(1 / (1 + np.exp(-(logit - half))))
    assert found.high == pytest.approx(1 / (1 + np.exp(-(logit + half))))


def test_the_interval_covers_the_truth_about_95_times_in_100() -> None:
    rng, truth, hits = np.random.default_rng(5), 0.7602499389065233, 0  # Phi(1 / sqrt(2))
    for _ in range(400):
        labels = np.repeat([1, 0], [60, 140])
        found = statistics.auc_interval(labels, labels + rng.normal(size=200))
        hits += found.low <= truth <= found.high  # type: ignore[operator]
    assert 365 <= hits <= 395


def test_repeating_every_sample_within_its_cluster_does_not_narrow_the_interval() -> None:
    rng = np.random.default_rng(7)
    labels = rng.integers(0, 2, 200)
    scores = labels + rng.normal(size=200)
    once = statistics.auc_interval(labels, scores, clusters=np.arange(200))
    again = statistics.auc_interval(np.tile(labels, 3), np.tile(scores, 3), clusters=np.tile(np.arange(200), 3))
    naive = statistics.auc_interval(np.tile(labels, 3), np.tile(scores, 3))
    assert (again.low, again.high) == (pytest.approx(once.low), pytest.approx(once.high))
    assert naive.high - naive.low < 0.7 * (again.high - again.low)  # type: ignore[operator]


def test_one_class_has_no_auc_and_perfect_separation_no_interval() -> None:
    assert statistics.auc_interval([1, 1], [0.2, 0.4]) == statistics.UNDEFINED
    assert statistics.auc_interval([], []) == statistics.UNDEFINED
    assert statistics.auc_interval([0, 0, 1], [0.1, 0.2, 0.3]) == statistics.Estimate(1.0, None, None)


def test_the_paired_difference_of_a_score_with_itself_is_zero_and_certain() -> None:
    labels, scores = [0, 1, 0, 1, 1], [0.1, 0.5, 0.6, 0.7, 0.2]
    assert statistics.auc_difference(labels, scores, scores) == statistics.Estimate(0.0, 0.0, 0.0)


def test_the_paired_difference_is_narrower_than_two_intervals_suggest() -> None:
    rng = np.random.default_rng(11)
    labels = rng.integers(0, 2, 2000)
    good = labels + rng.normal(size=2000)
    worse = good + rng.normal(size=2000) * 0.5
    gain = statistics.auc_difference(labels, good, worse)
    apart = statistics.auc_interval(labels, good), statistics.auc_interval(labels, worse)
    assert gain.value == pytest.approx(apart[0].value - apart[1].value)  # type: ignore[operator]
    assert gain.low > 0
    assert apart[0].low < apart[1].high


def test_log_loss_is_the_mean_of_what_happened() -> None:
    found = statistics.log_loss_interval([1, 0], [0.5, 0.25])
    assert found.value == pytest.approx((np.log(2) + np.log(4 / 3)) / 2)
    assert statistics.log_loss_interval([1], [0.0]).value == pytest.approx(np.log(1e7))
    assert statistics.log_loss_interval([], []) == statistics.UNDEFINED


def test_wilson_equals_its_published_form_and_stays_inside_zero_and_one() -> None:
    found = statistics.wilson(10, 100)  # Brown, Cai & DasGupta (2001), by hand
    assert (found.value, found.low, found.high) == (
        0.1,
        pytest.approx(0.05523, abs=1e-5),
        pytest.approx(0.17437, abs=1e-5),
    )
    assert statistics.wilson(0, 5).low == 0.0
    assert statistics.wilson(5, 5).high == 1.0
    assert statistics.wilson(0, 0) == statistics.UNDEFINED


def test_rank_correlation_equals_scipys_with_ties() -> None:
    from scipy.stats import spearmanr

    rng = np.random.default_rng(13)
    for _ in range(20):
        x, y = rng.integers(0, 6, 12), rng.integers(0, 6, 12)
        assert statistics.rank_correlation(x, y) == pytest.approx(spearmanr(x, y).statistic)


def test_rank_correlation_of_weighted_points_is_that_of_repeated_points() -> None:
    x, y, w = np.array([1, 5, 2, 4]), np.array([2, 3, 9, 7]), np.array([1, 3, 2, 1])
    repeated = statistics.rank_correlation(np.repeat(x, w), np.repeat(y, w))
    assert statistics.rank_correlation(x, y, weights=w) == pytest.approx(repeated)


def test_rank_correlation_is_undefined_for_a_constant_side_or_one_point() -> None:
    assert statistics.rank_correlation([1, 1, 1], [1, 2, 3]) is None
    assert statistics.rank_correlation([1], [1]) is None
    assert statistics.rank_correlation_interval([1, 1, 1], [1, 2, 3], seed=1) == statistics.UNDEFINED
    assert statistics.permutation_p([1, 1, 1], [1, 2, 3], seed=1) is None


def test_bootstrap_and_permutations_depend_on_the_seed_alone() -> None:
    x, y = np.arange(12), np.array([3, 1, 2, 5, 4, 8, 6, 7, 11, 9, 12, 10])
    first, second = (statistics.rank_correlation_interval(x, y, seed=3) for _ in range(2))
    assert first == second
    assert first != statistics.rank_correlation_interval(x, y, seed=4)
    assert first.low < first.value <= first.high  # type: ignore[operator]
    assert statistics.permutation_p(x, y, seed=3) == statistics.permutation_p(x, y, seed=3)


def test_the_permutation_p_is_small_for_a_relation_and_large_for_none() -> None:
    rng, x = np.random.default_rng(17), np.arange(20)
    assert statistics.permutation_p(x, x + rng.normal(size=20), seed=1) == pytest.approx(1 / 2001)
    assert statistics.permutation_p(x, np.tile([0, 1], 10), seed=1) > 0.3  # type: ignore[operator]
