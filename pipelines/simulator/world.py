"""The simulated app's world: who is there, what there is to watch, and what happens in one span of one day.

Pure NumPy: a world and its events are functions of a seed, of sizes and of nothing else. No per-event Python.

The signal, by construction: a user likes two of eight topics, one of them more on a given day. A click depends on how
well the item's topic fits (a log-odds span of 3.6) and only weakly on the item itself (a standard deviation of 0.35)
and on the slot. The feed shows mostly topics drawn evenly, so what a user clicked before says what they click next,
and what everybody clicks says little.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ...schemas.errors import ReclakeError
from ...schemas.times import US_PER_DAY

TOPICS = ("ocean", "forest", "city", "kitchen", "music", "sport", "space", "animals")
SLOTS = 6  # items shown for one request
MIN_ITEMS = SLOTS * len(TOPICS)  # every slot's shelf holds an item of every topic from the first day on
REQUESTS_PER_DAY = 4.0  # of a user at scale 1, on average

FIRST_USER_ID = 100_001
FIRST_ITEM_ID = 9_001
SURFACES = 3
EVEN_SHARE = 0.7  # of the feed that is drawn evenly over topics; the rest follows the user's taste

# How the requests of a day fall on its 24 hours: quiet nights, a peak in the evening.
_HOURS = np.array([2, 1, 1, 1, 1, 2, 4, 6, 7, 6, 5, 6, 8, 7, 6, 6, 7, 9, 11, 13, 14, 12, 8, 4], dtype=np.float64)

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Users:
    id: Ints  # [users]
    activity: Floats  # [users], mean about 1: requests relative to the average user
    taste: Floats  # [users, topics], 0 to 1
    mood: Ints  # [days, users]: the topic of the day


@dataclass(frozen=True, slots=True)
class Items:
    """Sorted by (shelf, topic), so that a draw within a shelf and topic is a search in one cumulative sum."""

    id: Ints  # [items]
    topic: Ints  # [items]
    shelf: Ints  # [items], 0 to SLOTS - 1
    appeal: Floats  # [items], standard normal
    weight: Floats  # [items]: how often the feed draws it, relative to its shelf and topic
    duration_ms: Ints  # [items]
    first_day: Ints  # [items]: the day from which it is shown


@dataclass(frozen=True, slots=True)
class World:
    seed: int
    start_us: int
    days: int
    users: Users
    items: Items

    def day_us(self, day: int) -> int:
        return self.start_us + day * US_PER_DAY


@dataclass(frozen=True, slots=True)
class Exposures:
    """What was shown and what came of it; one entry for each slot of each request.

    Times are µs; -1 where it did not happen. `watch_ms` is 0 without a click.
    """

    request: Ints
    slot: Ints
    user: Ints  # index into Users
    item: Ints  # index into Items
    surface: Ints
    propensity: Floats
    shown_us: Ints
    click_us: Ints
    stop_us: Ints
    watch_ms: Ints
    long_view: npt.NDArray[np.bool_]
    like_us: Ints


def random(seed: int, *purpose: int) -> np.random.Generator:
    """An independent stream for each purpose, so that a day does not depend on how another was generated."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, *purpose])))


def build(seed: int, *, start_us: int, days: int, users: int, items: int) -> World:
    """A world of users and items.

    Raises:
        ReclakeError: a size is too small to be an app.
    """
    for name, got, least in (("days", days, 1), ("users", users, 1), ("items", items, MIN_ITEMS)):
        if got < least:
            raise ReclakeError(f"too few {name} to simulate", expected=f"at least {least}", got=got)
    return World(seed, start_us, days, _users(seed, users, days), _items(seed, items, days))


def _users(seed: int, count: int, days: int) -> Users:
    rng = random(seed, 1)
    order = np.argsort(rng.random((count, len(TOPICS))), axis=1)
    taste = rng.uniform(0.0, 0.12, (count, len(TOPICS)))
    rows = np.arange(count)
    taste[rows, order[:, 0]] = rng.uniform(0.75, 0.95, count)
    taste[rows, order[:, 1]] = rng.uniform(0.60, 0.80, count)
    mood = order[rows, rng.integers(0, 2, (days, count))]
    activity = rng.lognormal(-0.18, 0.6, count)  # mean 1
    return Users(FIRST_USER_ID + rows, activity, taste, mood)


def _items(seed: int, count: int, days: int) -> Items:
    rng = random(seed, 2)
    index = np.arange(count)
    shelf, topic = index % SLOTS, (index // SLOTS) % len(TOPICS)
    # A tenth of the items is new: shown from a later day on. The first of each shelf and topic is always old.
    later = (rng.random(count) < 0.1) & (index >= MIN_ITEMS) & (days > 1)
    first_day = np.where(later, rng.integers(1, max(days, 2), count), 0)
    appeal = rng.standard_normal(count)
    # Old items last within their shelf and topic: rounding at the end of a cumulative sum never draws an item that
    # is not there yet.
    order = np.lexsort((-first_day, topic, shelf))
    return Items(
        id=FIRST_ITEM_ID + rng.permutation(count)[order],
        topic=topic[order],
        shelf=shelf[order],
        appeal=appeal[order],
        weight=np.exp(0.8 * appeal + 0.5 * rng.standard_normal(count))[order],
        duration_ms=rng.lognormal(np.log(15_000), 0.5, count).astype(np.int64)[order].clip(3_000, 90_000),
        first_day=first_day[order],
    )


def expose(world: World, *, day: int, chunk: int, chunks: int, scale: float) -> Exposures:
    """What happened in one of `chunks` equally busy spans of a day."""
    rng = random(world.seed, 3, day, chunk)
    users = world.users
    per_user = rng.poisson(users.activity * (REQUESTS_PER_DAY * scale / chunks))
    who = np.repeat(np.arange(len(users.id)), per_user)
    requests = len(who)
    cumulative = np.concatenate([[0.0], np.cumsum(_HOURS) / _HOURS.sum()])
    at = np.interp((chunk + rng.random(requests)) / chunks, cumulative, np.arange(25) / 24)
    at_us = world.day_us(day) + (at * US_PER_DAY).astype(np.int64).clip(0, US_PER_DAY - 1)
    order = np.argsort(at_us, kind="stable")
    who, at_us = who[order], at_us[order]

    taste = users.taste.copy()
    taste[np.arange(len(users.id)), users.mood[day]] += 0.25
    surface = rng.integers(0, SURFACES, requests)
    shelf = (np.arange(SLOTS) + rng.integers(0, SLOTS, (requests, 1))) % SLOTS
    user = np.repeat(who, SLOTS)
    topic, of_topic = _draw_topics(rng, taste, user)
    item, of_item = _draw_items(rng, world.items, day, shelf.ravel(), topic)
    slot = np.tile(np.arange(SLOTS), requests)
    return _respond(
        rng,
        world.items,
        match=taste[user, topic],
        request=np.repeat(np.arange(requests), SLOTS),
        slot=slot,
        user=user,
        item=item,
        surface=np.repeat(surface, SLOTS),
        # The shelf behind a slot is drawn evenly, then a topic, then an item: the product is exact, and over all
        # items it adds up to 1.
        propensity=of_topic * of_item / SLOTS,
        shown_us=np.repeat(at_us, SLOTS),
    )


def _draw_topics(rng: np.random.Generator, taste: Floats, user: Ints) -> tuple[Ints, Floats]:
    """A topic for each slot, and the probability it was drawn with."""
    shares = EVEN_SHARE / len(TOPICS) + (1 - EVEN_SHARE) * taste / taste.sum(axis=1, keepdims=True)
    edges = np.cumsum(shares, axis=1)[:, :-1]
    topic = (rng.random((len(user), 1)) >= edges[user]).sum(axis=1)
    return topic, shares[user, topic]


def _draw_items(rng: np.random.Generator, items: Items, day: int, shelf: Ints, topic: Ints) -> tuple[Ints, Floats]:
    """An item of each slot's shelf and topic, and the probability it was drawn with."""
    weight = np.where(items.first_day <= day, items.weight, 0.0)
    group = items.shelf * len(TOPICS) + items.topic
    ends = np.searchsorted(group, np.arange(MIN_ITEMS), side="right")
    below = np.concatenate([[0.0], np.cumsum(weight)])
    starts = np.concatenate([[0], ends[:-1]])
    wanted = shelf * len(TOPICS) + topic
    low, high = below[starts[wanted]], below[ends[wanted]]
    drawn = np.searchsorted(below, low + rng.random(len(wanted)) * (high - low), side="right") - 1
    item = np.clip(drawn, starts[wanted], ends[wanted] - 1)
    return item, weight[item] / (high - low)


def _respond(
    rng: np.random.Generator,
    items: Items,
    *,
    match: Floats,
    request: Ints,
    slot: Ints,
    user: Ints,
    item: Ints,
    surface: Ints,
    propensity: Floats,
    shown_us: Ints,
) -> Exposures:
    """What users did with what they saw; `match` is how well each item's topic fits its user, 0 to about 1.2."""
    count = len(item)
    odds = -2.5 + 3.6 * match + 0.35 * items.appeal[item] - 0.12 * slot
    click = rng.random(count) < _sigmoid(odds)
    fraction = _sigmoid(-1.2 + 2.4 * match + rng.standard_normal(count))
    watch_ms = np.where(click, (fraction * items.duration_ms[item]).astype(np.int64), 0)
    long_view = click & (2 * watch_ms > items.duration_ms[item])
    like = long_view & (rng.random(count) < _sigmoid(-2.6 + 2.2 * match))
    # Lower slots are reached later; playing ends watch_ms after the click; a like follows within two seconds.
    click_us = shown_us + ((0.4 + 1.5 * slot + rng.exponential(0.8, count)) * 1e6).astype(np.int64)
    stop_us = click_us + watch_ms * 1_000
    like_us = stop_us + (rng.uniform(0.1, 2.0, count) * 1e6).astype(np.int64)
    return Exposures(
        request=request,
        slot=slot,
        user=user,
        item=item,
        surface=surface,
        propensity=propensity,
        shown_us=shown_us,
        click_us=np.where(click, click_us, -1),
        stop_us=np.where(click, stop_us, -1),
        watch_ms=watch_ms,
        long_view=long_view,
        like_us=np.where(like, like_us, -1),
    )


def _sigmoid(x: Floats) -> Floats:
    return 1.0 / (1.0 + np.exp(-x))
