"""The feed: batches of a shard set in one global order, resumable to the batch, for any number of ranks and workers."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from operator import index
from typing import Any, Literal

from ...schemas.errors import FeedError, FeedStateError, ShardError
from ...storage.shard_files import Cache
from ...storage.shard_manifest import Column, Manifest
from ...storage.shards import CONTENT_ROW, ShardSet
from . import order as orders
from .batch import Batch
from .expression import Expression
from .negatives import Negatives, Sampler
from .pool import Reading
from .reader import Epoch, Reader, Request
from .selection import SamplePlan, select
from .stats import Stage, Stats
from .windows import Buffers

STATE_VERSION = 2
# A pool is what is in memory at once (two or three of them with workers), so it is bounded in events too.
POOL_EVENTS = 1 << 24
KEYS = ("sample_id", "item_id", "seen", "request_time", "negative")

NUMBERS = ("batch_size", "history", "seed", "rank", "world_size", "epoch", "workers", "pool_samples")

Order = Literal["shuffled", "chronological", "stored"]


class Feed:
    """Iterates the batches of one epoch per `for`; the next `for` is the next epoch.

    The ranks' batches of one step, concatenated in rank order, are the next world_size * batch_size samples of one
    global order, which depends on the shard set, the seed, the epoch and what is selected alone. Every rank gets the
    same number of batches. A `for` that is left early is continued by the next one.

    Args:
        path: the folder of a shard set, or its URI (s3://…), which needs a `cache`; or an open set.
        batch_size: samples in a batch of one rank.
        history: the greatest window length, at most the packed one (the default).
        seed: of the shuffle and of all else that is drawn; there is no default.
        rank, world_size: which part of each step is this process's.
        epoch: the first epoch.
        order: "shuffled"; "chronological", shuffled within each window of time that the set was packed with, the
            windows one after the other; or "stored".
        workers: threads that read and gather ahead; 0 does it when a batch is asked for. Same batches, same bytes.
        remainder: of an epoch, when the samples left do not fill a step: "split" evenly, in batches that are smaller
            and may be empty; "drop"; or "pad" with the epoch's first, `Batch.padding` of them.
        fields: history fields to read; all by default, () for none. Others are not read from the files.
        columns: labels and features to read; all by default.
        events: of a window only the events for which this holds, such as "event_type in ('click', 'like')".
        where: only the samples for which this holds, such as "tab == 1 and label_mature" (see `feed.expression`).
        weight: how often a sample comes in an epoch on average, 0 to 255, such as "1 if click else 0.1".
        negatives: items to draw for each sample.
        deduplicate: a batch holds each distinct window once, and `Batch.inverse`.
        pool_samples: how many samples are shuffled among each other, and held in memory.
        pin: the pin that the set must be of, if given.
        cache: where chunks of remote shards are kept.

    Raises:
        ShardError: the shard set is missing, damaged or of another format or pin.
        FeedError: an argument does not fit the shard set.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | ShardSet,
        *,
        batch_size: int,
        history: int | None = None,
        seed: int | None = None,
        rank: int = 0,
        world_size: int = 1,
        epoch: int = 0,
        order: Order = "shuffled",
        workers: int = 0,
        remainder: orders.Remainder = "split",
        fields: Sequence[str] | None = None,
        columns: Sequence[str] | None = None,
        where: str | None = None,
        weight: str | None = None,
        negatives: Negatives | None = None,
        events: str | None = None,
        deduplicate: bool = False,
        pool_samples: int = 131_072,
        pin: str | None = None,
        cache: Cache | None = None,
    ) -> None:
        given = _whole_numbers({name: value for name, value in locals().items() if name not in ("self", "path")})
        self._given, self._path = given, path
        self._shards = path if isinstance(path, ShardSet) else ShardSet(path, cache)
        _check(given, self._shards.manifest)
        self._batch_size, self._rank, self._world_size = given["batch_size"], given["rank"], given["world_size"]
        self._seed, self._pool_samples = given["seed"], given["pool_samples"]
        self._kind, self._remainder = order, remainder
        manifest = self._shards.manifest
        self._fixed: dict[str, Any] = {
            "version": STATE_VERSION,
            "pin": manifest.pin["name"],
            "recipe": f"{manifest.recipe['name']} {manifest.recipe['version']}",
            "fingerprint": manifest.fingerprint,
            "order": order,
            "seed": self._seed,
            "pool_samples": self._pool_samples,
            "where": where,
            "weight": weight,
        }
        self._selection = select(self._shards, where, weight)
        if self._selection is not None and not self._selection.whole and seed is None:
            raise FeedError("a weight with a fraction needs a seed", expected="seed=7", got="seed=None")
        reading = _reading(self._shards, given)
        self._events_read = self._shards.events_read(reading.length)
        self._epochs: dict[int, Epoch] = {}
        self._epoch: int = given["epoch"]
        self._position = 0
        self._run = 0  # of the loop that may go on; loops before it may not
        if len(self) == 0:
            raise FeedError(
                "not one batch",
                where=self._shards.where,
                expected=f"{self._batch_size * self._world_size if remainder == 'drop' else 1} samples or more",
                got=f"{self.samples} samples",
            )
        sampler = None if negatives is None else Sampler(self._shards, negatives, self._seed or 0, self._selection)
        self._stats = Stats()
        self._reader = Reader(reading, self._epoch_at, sampler, given["workers"], self._stats)

    def __reduce__(self) -> tuple[Any, ...]:
        """Another process opens the files itself."""
        return _rebuilt, (self._path, self._given, self._epoch, self._position)

    @property
    def samples(self) -> int:
        """How many samples the epoch of the next batch has, over all ranks."""
        return self._epoch_at(self._epoch)[0].samples

    @property
    def epoch(self) -> int:
        """The epoch of the next batch, from 0."""
        return self._epoch

    @property
    def place(self) -> tuple[int, int]:
        """The rank, and the world size."""
        return self._rank, self._world_size

    @property
    def manifest(self) -> Manifest:
        """What the shard set is: recipe, pin, columns."""
        return self._shards.manifest

    @property
    def vocabularies(self) -> Mapping[str, tuple[str, ...]]:
        """For each string column the strings that its codes stand for."""
        return self._shards.manifest.vocabularies

    def __len__(self) -> int:
        """How many batches each rank gets in the whole of this epoch."""
        return self._steps_left(self._epoch, 0)

    def __iter__(self) -> Iterator[Batch]:
        self._run += 1
        return self._batches(self._run)

    def every(self, first: int, step: int) -> Iterator[Batch]:
        """Of the batches left of this epoch number `first`, `first + step`, …: what one of `step` processes makes that
        take turns. The feed stays where it is; the batches carry their states."""
        return self._reader.batches(self._requests(first, step))

    def set_epoch(self, epoch: int) -> None:
        """Go to the start of an epoch.

        Raises:
            FeedError: there is no such epoch.
        """
        given = _whole_numbers({"epoch": epoch})
        _at_least(given["epoch"], 0, "epoch")
        self._run += 1
        self._epoch, self._position = given["epoch"], 0

    def torch_dataset(self) -> Any:
        """This feed as a `torch.utils.data.IterableDataset` of batches; see `feed.torch_data`."""
        from .torch_data import as_dataset

        return as_dataset(self)

    def torch_loader(self, num_workers: int, **more: Any) -> Iterable[Batch]:
        """This feed through a torch DataLoader with worker processes; `more` is what else a DataLoader takes.

        The feed follows what the loop was given: `state_dict` and the next loop are as without it.
        """
        from .torch_data import loader

        return loader(self, self._stats, num_workers, more)

    def seconds(self) -> dict[Stage, float]:
        """Seconds by stage so far."""
        return self._stats.seconds()

    def stats(self) -> dict[str, Any]:
        """Counts, seconds by stage, and which stage the trainer waits for; see `feed.stats.Stats`.

        Under `torch_loader` too, where worker processes send what they took with each batch.
        """
        return self._stats.summary()

    def state_dict(self) -> dict[str, Any]:
        """Where the feed stands, as JSON values: the batches that were yielded are behind it, prefetched ones are not.

        The same on every rank after the same step.
        """
        return self._state(self._epoch, self._position)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go to where a state was taken, or to `Batch.state`: the next batch is the next batch.

        `position` counts samples of the global order, so batch size, world size, rank and workers may differ from
        when it was taken; each remaining sample still comes once, in the same global order.

        Raises:
            FeedStateError: naming all that differs: the shard set, its pin, the seed, the order, the selection.
        """
        own = self._fixed
        given = state if isinstance(state, Mapping) else {}
        missing = [name for name in (*own, "epoch", "position") if name not in given]
        if missing:
            raise FeedStateError(
                "not a feed's state", expected="what state_dict returned", got="no " + ", ".join(missing)
            )
        differing = [name for name in own if state[name] != own[name]]
        if differing:
            raise FeedStateError(
                "this state is of another feed: it differs in " + ", ".join(differing),
                where=self._shards.where,
                expected=", ".join(f"{name} {own[name]!r}" for name in differing),
                got=", ".join(f"{name} {state[name]!r}" for name in differing),
                hint="open the shards and the seed that the state was taken with, or start without it",
            )
        epoch, position = state["epoch"], state["position"]
        if not (isinstance(epoch, int) and epoch >= 0 and isinstance(position, int)):
            raise FeedStateError("not a feed's state", expected="whole numbers", got=f"{epoch!r}, {position!r}")
        samples = self._epoch_at(epoch)[0].samples
        if not 0 <= position <= samples:
            raise FeedStateError(
                "not a position of this feed",
                where=self._shards.where,
                expected=f"a position in 0..{samples}",
                got=position,
            )
        self._run += 1
        self._epoch, self._position = self._moved(epoch, position)

    def _state(self, epoch: int, position: int) -> dict[str, Any]:
        return self._fixed | {
            "epoch": epoch,
            "position": position,
            "batch_size": self._batch_size,
            "world_size": self._world_size,
        }

    def _steps_left(self, epoch: int, position: int) -> int:
        samples = self._epoch_at(epoch)[0].samples
        return orders.step_count(position, samples, self._batch_size, self._world_size, self._remainder)

    def _moved(self, epoch: int, position: int) -> tuple[int, int]:
        """The place; at the end of an epoch that is the start of the next, also of one of which nothing is selected."""
        return (epoch, position) if position == 0 or self._steps_left(epoch, position) else (epoch + 1, 0)

    def _batches(self, run: int) -> Iterator[Batch]:
        if not self._steps_left(self._epoch, self._position):  # an epoch of which nothing was selected
            self._epoch, self._position = self._epoch + 1, 0
            return
        for batch in self._reader.batches(self._requests()):
            if run != self._run:
                raise FeedError(
                    "this loop is over",
                    expected="one loop over a feed at a time",
                    got="another loop, or load_state_dict, after it began",
                    hint="begin a new loop",
                )
            # Before the yield: a state taken in the loop's body counts the batch that the body holds.
            self._epoch, self._position = batch.state["epoch"], batch.state["position"]
            yield batch

    def _requests(self, first: int = 0, every: int = 1) -> Iterator[Request]:
        epoch = self._epoch
        given = orders.steps(
            self._position,
            self.samples,
            self._batch_size,
            self._rank,
            self._world_size,
            self._remainder,
            first=first,
            every=every,
        )
        for step in given:
            ranges = tuple((epoch, begin, end) for begin, end in step.ranges)
            yield Request(ranges, self._state(*self._moved(epoch, step.after)), step.padding)

    def _epoch_at(self, epoch: int) -> Epoch:
        """The order and samples of an epoch; the last two are kept."""
        found = self._epochs.get(epoch)
        if found is None:
            shards = self._shards
            if self._selection is None:
                plan = SamplePlan(shards.chunk_samples, self._events_read)
            else:
                plan = self._selection.plan(self._seed, epoch, self._events_read)
            order = orders.epoch_order(
                plan.chunk_samples,
                shards.chunk_events,
                shards.chunk_windows if self._kind == "chronological" else None,
                fingerprint=shards.manifest.fingerprint,
                seed=None if self._kind == "stored" else self._seed,
                epoch=epoch,
                pool_samples=self._pool_samples,
                pool_events=POOL_EVENTS,
            )
            found = order, plan
            self._epochs = {e: kept for e, kept in self._epochs.items() if e == epoch - 1} | {epoch: found}
        return found


def _rebuilt(path: str, given: dict[str, Any], epoch: int, position: int) -> Feed:
    feed = Feed(path, **given)  # of the epoch that it was made with: of this one maybe nothing is selected
    feed._epoch, feed._position = epoch, position
    return feed


def _whole_numbers(given: dict[str, Any]) -> dict[str, Any]:
    """The arguments, with Python's own numbers for NumPy's: they come back in a state, which is JSON."""
    counted = {}
    for name in given.keys() & {
        "batch_size",
        "history",
        "seed",
        "rank",
        "world_size",
        "epoch",
        "workers",
        "pool_samples",
    }:
        try:
            counted[name] = None if given[name] is None else index(given[name])
        except TypeError:
            raise FeedError(
                f"{name} is not a whole number",
                expected="a whole number",
                got=repr(given[name]),
                hint="what comes from the environment is text: int(…)" if isinstance(given[name], str) else None,
            ) from None
    return given | counted


def _at_least(value: int, least: int, name: str) -> None:
    if value < least:
        raise FeedError(f"{name} is too small", expected=f"at least {least}", got=value)


def _check(given: Mapping[str, Any], manifest: Manifest) -> None:
    """What can be said of the arguments before anything is read."""
    for name, least in [("batch_size", 1), ("world_size", 1), ("epoch", 0), ("workers", 0), ("pool_samples", 1)]:
        _at_least(given[name], least, name)
    for name, known in [("order", ("shuffled", "chronological", "stored")), ("remainder", ("split", "drop", "pad"))]:
        if given[name] not in known:
            raise FeedError(f"no such {name}", expected="one of " + ", ".join(known), got=repr(given[name]))
    if not 0 <= given["rank"] < given["world_size"]:
        raise FeedError("no such rank", expected=f"0 <= rank < world_size = {given['world_size']}", got=given["rank"])
    seeded = given["order"] != "stored" or given["negatives"] is not None
    if seeded and given["seed"] is None:
        raise FeedError("what is drawn needs a seed", expected='seed=7, or order="stored"', got="seed=None")
    if given["negatives"] is not None and any(column.name == "logq" for column in manifest.samples):
        raise FeedError(
            "two columns of one name",
            expected="no column logq in the set, where negatives give a batch one",
            got="a label or feature logq",
            hint="name it otherwise in the recipe",
        )
    if given["order"] == "chronological" and not manifest.window_us:
        raise FeedError(
            "these shards do not follow time",
            expected="a set that was packed with a window",
            got="none",
            hint="reclake pack … --window 1h",
        )
    if given["pin"] not in (None, manifest.pin["name"]):
        raise ShardError("shards of another pin", expected=given["pin"], got=manifest.pin["name"])


def _reading(shards: ShardSet, given: Mapping[str, Any]) -> Reading:
    manifest, history = shards.manifest, given["history"]
    length = manifest.history_length if history is None else history
    if not 0 <= length <= manifest.history_length:
        raise FeedError(
            "no such history length",
            where=shards.where,
            expected=f"0..{manifest.history_length}, the length that was packed",
            got=length,
            hint=f"pack with a history of {length}" if length > 0 else None,
        )
    keys = (*KEYS, "label_mature", *([CONTENT_ROW] if manifest.content else []))
    chosen = [c for c in manifest.samples if c.name not in keys]
    events, types = given["events"], {c.name: c.type for c in manifest.history}
    samples = (
        *(c for c in manifest.samples if c.name in keys),
        *_choose(chosen, given["columns"], "column", shards),
    )
    history = _choose(manifest.history, given["fields"], "history field", shards)
    return Reading(
        shards=shards,
        samples=samples,
        history=history,
        length=length,
        # A pool that goes gives back an array for each column, for its users and its windows; batches do meanwhile.
        buffers=Buffers(kept=3 * (len(samples) + len(history) + 3)),
        content={name: shards.content(name) for name in manifest.content},
        deduplicate=given["deduplicate"],
        events=None if events is None else Expression(events, types, manifest.vocabularies),
    )


def _choose(columns: Sequence[Column], names: Sequence[str] | None, kind: str, shards: ShardSet) -> tuple[Column, ...]:
    if names is None:
        return tuple(columns)
    by_name = {column.name: column for column in columns}
    for name in names:
        if name not in by_name:
            known = ", ".join(by_name) or "none were packed"
            raise FeedError(f"no such {kind}", where=shards.where, expected=f"one of {known}", got=repr(name))
    return tuple(by_name[name] for name in dict.fromkeys(names))
