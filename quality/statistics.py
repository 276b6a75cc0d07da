"""Statistics of a report: AUC, log loss, rank correlation, each with a 95 % interval. Pure NumPy, float64.

Samples of one user resemble each other, so an interval that takes them for independent is too narrow. Where
`clusters` are given (user ids), the variance is taken over clusters.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Z95 = 1.959963984540054  # the 97.5 % quantile of the standard normal distribution
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value and its 95 % interval. None: undefined (AUC of one class), or no interval can be given."""

    value: float | None
    low: float | None
    high: float | None


UNDEFINED = Estimate(None, None, None)


def midranks(values: ArrayLike) -> Floats:
    """Ranks from 1; tied values share the mean of their places. Shape (n,) to (n,)."""
    return _weighted_midranks(np.asarray(values, dtype=np.float64), None)


def auc(labels: ArrayLike, scores: ArrayLike, *, weights: ArrayLike | None = None) -> float | None:
    """The probability that a positive scores above a negative, ties counting one half. None with one class only.

    `labels` are 0 or 1, `weights` >= 0; all of shape (n,). Exact: the (weighted) Mann-Whitney statistic.
    """
    components = _placements(labels, scores, weights)
    return None if components is None else components.value


def auc_interval(
    labels: ArrayLike, scores: ArrayLike, *, weights: ArrayLike | None = None, clusters: ArrayLike | None = None
) -> Estimate:
    """AUC with DeLong's interval, on the logit scale so that it stays inside (0, 1).

    DeLong, DeLong & Clarke-Pearson, Biometrics 44 (1988), by the midranks of Sun & Xu, IEEE SPL 21 (2014); with
    `clusters`, Obuchowski, Biometrics 53 (1997): the components are summed within a cluster first. Where the classes
    separate perfectly the variance is zero and says nothing: no interval is given.
    """
    parts = _placements(labels, scores, weights)
    if parts is None:
        return UNDEFINED
    deviation = _deviation(parts, clusters)
    if not 0.0 < parts.value < 1.0 or deviation == 0.0:
        return Estimate(parts.value, None, None)
    logit = np.log(parts.value / (1.0 - parts.value))
    half = Z95 * deviation / (parts.value * (1.0 - parts.value))
    return Estimate(parts.value, _sigmoid(logit - half), _sigmoid(logit + half))


def auc_difference(
    labels: ArrayLike, first: ArrayLike, second: ArrayLike, *, clusters: ArrayLike | None = None
) -> Estimate:
    """AUC of `first` minus AUC of `second` on the same samples, with DeLong's paired interval.

    Paired: the two share the samples, so the interval is much narrower than two intervals side by side suggest.
    """
    a, b = _placements(labels, first, None), _placements(labels, second, None)
    if a is None or b is None:
        return UNDEFINED
    paired = _Placements(a.value - b.value, a.influence - b.influence, a.positive)
    half = Z95 * _deviation(paired, clusters)
    return Estimate(paired.value, paired.value - half, paired.value + half)


def log_loss_interval(labels: ArrayLike, probabilities: ArrayLike, *, clusters: ArrayLike | None = None) -> Estimate:
    """Mean of -log(probability of what happened), nats, with the normal interval of a (clustered) mean.

    Probabilities are kept 1e-7 away from 0 and 1, so that one certain mistake does not make the mean infinite.
    """
    happened = np.asarray(labels) > 0
    if happened.size == 0:
        return UNDEFINED
    p = np.clip(np.asarray(probabilities, dtype=np.float64), 1e-7, 1 - 1e-7)
    losses = -np.log(np.where(happened, p, 1.0 - p))
    mean = float(losses.mean())
    if losses.size < 2:
        return Estimate(mean, None, None)
    half = Z95 * _clustered_deviation((losses - mean) / losses.size, clusters)
    return Estimate(mean, mean - half, mean + half)


def wilson(positives: int, samples: int) -> Estimate:
    """A rate with its Wilson score interval (Wilson, JASA 22, 1927): sound at rates near 0 and few samples."""
    if samples == 0:
        return UNDEFINED
    rate, z2 = positives / samples, Z95**2
    centre = (rate + z2 / (2 * samples)) / (1 + z2 / samples)
    half = Z95 / (1 + z2 / samples) * np.sqrt(rate * (1 - rate) / samples + z2 / (4 * samples**2))
    return Estimate(rate, max(0.0, float(centre - half)), min(1.0, float(centre + half)))


def rank_correlation(x: ArrayLike, y: ArrayLike, *, weights: ArrayLike | None = None) -> float | None:
    """Spearman's rho: Pearson's correlation of midranks, with `weights` weighted in ranks and moments alike.

    None with fewer than two points, or where one side is constant.
    """
    a, b = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    w = None if weights is None else np.asarray(weights, dtype=np.float64)
    if a.size < 2:
        return None
    share = np.full(a.size, 1.0 / a.size) if w is None else w / w.sum()
    ranks = [_weighted_midranks(values, w) for values in (a, b)]
    centred = [r - float(share @ r) for r in ranks]
    spread = float(share @ centred[0] ** 2) * float(share @ centred[1] ** 2)
    if spread <= 1e-18:
        return None
    return float(np.clip(float(share @ (centred[0] * centred[1])) / np.sqrt(spread), -1.0, 1.0))


def rank_correlation_interval(
    x: ArrayLike, y: ArrayLike, *, seed: int, weights: ArrayLike | None = None, draws: int = 2000
) -> Estimate:
    """Spearman's rho with the percentile interval of a seeded bootstrap over points (Efron & Tibshirani 1993, ch. 13).

    Draws in which a side is constant have no rho and are left out; with fewer than half left, no interval is given.
    """
    a, b = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    value = rank_correlation(a, b, weights=weights)
    if value is None:
        return UNDEFINED
    w = np.ones(a.size) if weights is None else np.asarray(weights, dtype=np.float64)
    # A draw with replacement is a weight for each point: how often it was drawn.
    drawn = np.random.default_rng(seed).multinomial(a.size, np.full(a.size, 1.0 / a.size), size=draws) * w
    ranks = [drawn @ _below_or_half(side).T for side in (a, b)]
    kept = _weighted_correlations(ranks[0], ranks[1], drawn)
    kept = kept[~np.isnan(kept)]
    if kept.size < draws / 2:
        return Estimate(value, None, None)
    low, high = np.quantile(kept, [0.025, 0.975])
    return Estimate(value, float(low), float(high))


def permutation_p(
    x: ArrayLike, y: ArrayLike, *, seed: int, weights: ArrayLike | None = None, draws: int = 2000
) -> float | None:
    """How often a random pairing correlates at least as strongly (two-sided), the observed one counted in.

    Phipson & Smyth, Stat. Appl. Genet. Mol. Biol. 9 (2010): (b + 1) / (draws + 1), so it is never 0.
    """
    a, b = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    value = rank_correlation(a, b, weights=weights)
    if value is None:
        return None
    w = np.ones(a.size) if weights is None else np.asarray(weights, dtype=np.float64)
    rng = np.random.default_rng(seed)
    paired = rng.permuted(np.broadcast_to(_weighted_midranks(b, w), (draws, b.size)), axis=1)
    fixed = np.broadcast_to(_weighted_midranks(a, w), paired.shape)
    drawn = _weighted_correlations(fixed, paired, np.broadcast_to(w, paired.shape))
    stronger = int((np.abs(drawn) >= abs(value) - 1e-12).sum())
    return (stronger + 1) / (draws + 1)


@dataclass(frozen=True, slots=True)
class _Placements:
    """AUC and each sample's influence on it: (V - AUC) * weight / weight of its class, DeLong's components."""

    value: float
    influence: Floats
    positive: NDArray[np.bool_]


def _placements(labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None) -> _Placements | None:
    positive, s = np.asarray(labels) > 0, np.asarray(scores, dtype=np.float64)
    w = np.ones(s.size) if weights is None else np.asarray(weights, dtype=np.float64)
    total_positive, total_negative = float(w[positive].sum()), float(w[~positive].sum())
    if total_positive == 0.0 or total_negative == 0.0:
        return None
    everything, within = _weighted_below(s, w), np.empty(s.size)
    for side in (positive, ~positive):
        within[side] = _weighted_below(s[side], w[side])
    below_of_other = everything - within  # weight of the other class below, ties half
    placement = np.where(positive, below_of_other / total_negative, 1.0 - below_of_other / total_positive)
    value = float(w[positive] @ placement[positive] / total_positive)
    influence = (placement - value) * w / np.where(positive, total_positive, total_negative)
    return _Placements(value, influence, positive)


def _deviation(parts: _Placements, clusters: ArrayLike | None) -> float:
    if clusters is not None:
        return _clustered_deviation(parts.influence, clusters)
    variance = 0.0
    for side in (parts.positive, ~parts.positive):
        n = int(side.sum())
        variance += float((parts.influence[side] ** 2).sum()) * n / max(n - 1, 1)
    return float(np.sqrt(variance))


def _clustered_deviation(influence: Floats, clusters: ArrayLike | None) -> float:
    totals = influence
    if clusters is not None:
        _, inverse = np.unique(np.asarray(clusters), return_inverse=True)
        totals = np.bincount(inverse, weights=influence).astype(np.float64)
    n = totals.size
    return float(np.sqrt((totals**2).sum() * n / max(n - 1, 1)))


def _weighted_below(values: Floats, weights: Floats) -> Floats:
    """For each value the weight of those below it, plus half the weight of those equal to it."""
    _, inverse, tied = np.unique(values, return_inverse=True, return_counts=True)
    group = np.bincount(inverse, weights=weights, minlength=tied.size)
    below: Floats = (np.cumsum(group) - group / 2.0)[inverse]
    return below


def _weighted_midranks(values: Floats, weights: Floats | None) -> Floats:
    w = np.ones(values.size) if weights is None else weights
    return _weighted_below(values, w) + 0.5


def _below_or_half(values: Floats) -> Floats:
    """(n, n): 1 where the column's value is below the row's, one half where they are equal."""
    below = (values[None, :] < values[:, None]).astype(np.float64)
    tied: Floats = 0.5 * (values[None, :] == values[:, None])
    return below + tied


def _weighted_correlations(a: Floats, b: Floats, weights: Floats) -> Floats:
    """Pearson's correlation of each row: three arrays (draws, n) to (draws,). NaN where a side is constant."""
    share = weights / weights.sum(axis=1, keepdims=True)
    x = a - (share * a).sum(axis=1, keepdims=True)
    y = b - (share * b).sum(axis=1, keepdims=True)
    spread = (share * x**2).sum(axis=1) * (share * y**2).sum(axis=1)
    found: Floats = np.full(len(a), np.nan)
    varied = spread > 1e-18
    found[varied] = (share * x * y).sum(axis=1)[varied] / np.sqrt(spread[varied])
    return found


def _sigmoid(x: Any) -> float:
    return float(1.0 / (1.0 + np.exp(-x)))
