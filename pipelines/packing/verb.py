"""Pack: a pinned sample set as shards, one row per user with its history window once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import polars as pl

from ...schemas.errors import RecipeError, SamplesError, ShardError
from ...schemas.recipe import Recipe
from ...schemas.times import from_us
from ...storage.locks import deriving
from ...storage.outputs import Output, register
from ...storage.shard_manifest import MANIFEST, Manifest, read_manifest, write_manifest
from ...storage.shard_writer import ShardWriter
from ...storage.staging import staged
from ..reading import rows_of
from ..run import Run
from .content import ContentIndex, write_content
from .days import Days, chosen
from .rows import encode_strings, pack_bucket

if TYPE_CHECKING:
    from ...storage.catalog import Catalog
    from ...storage.pins import Pin


Kept = Literal["before", "meanwhile"]


@dataclass(frozen=True, slots=True)
class PackResult:
    """What a pack wrote, or found there. `events` counts stored history events.

    `kept`: the same set was there, packed `before`, or by somebody else `meanwhile`; null if this pack made it.
    """

    path: Path
    samples: int
    users: int
    rows: int
    events: int
    shards: int
    chunks: int
    bytes: int
    fingerprint: str
    kept: Kept | None


def pack(
    catalog: Catalog,
    recipe_name: str,
    *,
    pin: str,
    out: Path,
    history: int | None = None,
    days: Days | None = None,
    window_us: int = 0,
    progress: Callable[[int, int], None] | None = None,
    run: Run | None = None,
) -> PackResult:
    """Write the shard set of a recipe's samples at a pin into the folder `out`, one bucket in memory at a time.

    With a window of time, shards hold one such window after the other, so that a feed can follow time. A user's history
    is then stored once a window.

    The folder appears whole or not at all. Where it holds the same set already (pin, recipe, history, days, window), it
    is kept; of two packs into it at once the first that is ready wins.

    Args:
        history: events of a window at most; the recipe's own by default.
        days: which of the pin's sample days: a list, or a text such as "2024-03-01..2024-03-07"; every one by default.
        window_us: length of the windows of request_time; 0 for none.
        progress: called with (parts done, parts).

    Raises:
        PinError, RecipeError: the pin or recipe is unknown, or the pin has no samples of the recipe.
        SamplesError: there is no sample, a day is not there, or some days are of an older version of the recipe.
        TimeError: a day cannot be read.
        ShardError: `out` holds something else, maybe since just now, or the samples do not fit the timelines.
        StorageError: the folder cannot be written.
    """
    pinned = catalog.pin(pin).opened_at((run or Run()).now_us())
    if recipe_name not in pinned.recipes:
        known = ", ".join(pinned.recipes) or "no recipe"
        raise RecipeError("the pin does not hold this recipe", where=f"pin {pin}", expected=known, got=recipe_name)
    recipe = catalog.recipe(recipe_name, pinned.recipes[recipe_name])
    length = recipe.history_length if history is None else history
    if length < 0:
        raise ShardError("not a history length", expected="0 or more events", got=length)
    if window_us < 0:
        raise ShardError("not a window of time", expected="0 or more µs", got=window_us)
    tables = ["timelines", f"samples/{recipe_name}", *(["content"] if recipe.content else [])]
    versions = {name: pinned.version_of(name) for name in tables}
    chosen_days = _days(catalog, recipe, versions, days, pin)
    source = _Source(catalog, recipe, pinned, versions, length, chosen_days, window_us)
    identity: dict[str, Any] = {
        "recipe": {"name": recipe.name, "version": recipe.version, "fingerprint": recipe.fingerprint},
        "pin": {"name": pin, "tables": source.versions},
        "history_length": length,
        "window_us": window_us,
    }
    if source.days is not None:
        identity["days"] = [day.isoformat() for day in source.days]
    kept = _existing(out, identity)
    if kept is not None:
        return _result(out, kept, "before")
    with deriving(catalog.root):
        register(catalog.root, Output("shards", out))
        try:
            with staged(out) as folder:
                manifest = write_manifest(folder, _write(source, folder, identity, progress))
        except FileExistsError:
            kept = _existing(out, identity)
            if kept is None:
                raise
            return _result(out, kept, "meanwhile")
    return _result(out, manifest, None)


@dataclass(frozen=True, slots=True)
class _Source:
    """The pinned tables that a pack reads."""

    catalog: Catalog
    recipe: Recipe
    pin: Pin
    versions: dict[str, int]
    length: int
    days: tuple[date, ...] | None  # None: every one
    window_us: int

    def scan(self, name: str) -> pl.LazyFrame:
        """A table as the pin's contracts say, fields by the names that the recipe has for them included."""
        names = self.recipe.content if name == "content" else ()
        return rows_of(self.catalog, name, pin=self.pin, names=names)

    def samples(self) -> pl.LazyFrame:
        """The samples that are packed."""
        rows = self.scan(f"samples/{self.recipe.name}")
        return rows if self.days is None else rows.filter(pl.col("day").is_in(self.days))

    def windows(self) -> list[int]:
        """The windows of time that have samples, in order; one, 0, where time does not matter."""
        if not self.window_us:
            return [0]
        found = self.samples().select(self._window.unique().sort()).collect()
        return found.to_series().to_list()

    @property
    def _window(self) -> pl.Expr:
        return pl.col("request_time").dt.epoch("us") // self.window_us

    def bucket(self, number: int, window: int) -> tuple[pl.DataFrame, pl.DataFrame]:
        """The samples of a bucket and window, and of its users' timelines what their histories need."""
        chosen = self.samples().filter(pl.col("bucket") == number)
        if self.window_us:
            begin = from_us(window * self.window_us)
            end = from_us((window + 1) * self.window_us)
            chosen = chosen.filter(pl.col("request_time").is_between(begin, end, closed="left"))
        samples = chosen.collect()
        needs = samples.group_by("user_id").agg(
            pl.max_horizontal(pl.col("seen").min() - self.length, 0).alias("_from"), pl.col("seen").max().alias("_to")
        )
        fields = [name for name in self.recipe.history_fields if name not in ("user_id", "ordinal", "known_at")]
        own = ("user_id", "ordinal", "known_at")
        timeline = rows_of(
            self.catalog, "timelines", pin=self.pin, names=fields, only=own, partition={"bucket": number}
        ).select(*own, *fields)
        if samples.height:
            timeline = timeline.filter(pl.col("known_at") < samples["request_time"].max())
        timeline = (
            timeline.join(needs.lazy(), on="user_id", how="inner")
            .filter((pl.col("ordinal") >= pl.col("_from")) & (pl.col("ordinal") < pl.col("_to")))
            .drop("_from", "_to")
        )
        return samples, timeline.collect()


def _days(
    catalog: Catalog, recipe: Recipe, versions: Mapping[str, int], wanted: Days | None, pin: str
) -> tuple[date, ...] | None:
    """The sample days that are packed; None where that is every one.

    Samples of two versions of a recipe are not one set: what the one labels, the other leaves null.
    """
    name = f"samples/{recipe.name}"
    table, version, where = catalog.table(name), versions[name], f"{name} at pin {pin}"
    there: list[date] = table.partition_values("day", version)
    days = tuple(there) if wanted is None else chosen(wanted, there, where=where)
    if not days:
        raise SamplesError(
            "there is no sample to pack",
            where=where,
            expected=f"an event of type {recipe.exposure} or more, known on a day that was assembled",
            got="no sample",
            hint="an event without available_at is known when it is ingested; `reclake timeline` shows when that was",
        )
    made = table.committed([recipe.transaction(day) for day in days], version)
    older = [day for day in days if recipe.transaction(day) not in made]
    if older:
        raise SamplesError(
            "samples of an older version of the recipe",
            where=where,
            expected=f"every day of version {recipe.version}",
            got=f"{len(older)} of {len(days)} days of others: " + ", ".join(map(str, older[:5])),
            hint=f"reclake samples {catalog.root} {recipe.name} --day {older[0]}, and so on; then pin again",
        )
    return None if len(days) == len(there) else days


def _write(
    source: _Source, folder: Path, identity: dict[str, Any], progress: Callable[[int, int], None] | None
) -> Manifest:
    recipe, buckets = source.recipe, source.catalog.buckets
    labels = [label.name for label in recipe.labels]
    index = ContentIndex.of(source.samples()) if recipe.content else None
    writer = ShardWriter(folder)
    vocabularies: dict[str, list[str]] = {}
    try:
        parts = [(window, bucket) for window in source.windows() for bucket in range(buckets)]
        for done, (window, bucket) in enumerate(parts, 1):
            samples, timeline = source.bucket(bucket, window)
            if samples.height:
                if index is not None:
                    samples = index.number(samples)
                samples, vocabularies = encode_strings(samples, recipe.features, vocabularies)
                timeline, vocabularies = encode_strings(timeline, recipe.history_fields, vocabularies)
                rows = pack_bucket(
                    samples,
                    timeline,
                    length=source.length,
                    history_fields=recipe.history_fields,
                    labels=labels,
                    features=recipe.features,
                )
                writer.add(rows, window=window)
            if progress is not None:
                progress(done, len(parts))
        columns, history, digest = writer.close()
    finally:
        writer.abort()
    content = {} if index is None else write_content(folder, index, source.scan("content"), recipe.content)
    return Manifest(
        **identity | {"days": None if source.days is None else tuple(identity["days"])},
        labels=tuple(labels),
        features=recipe.features,
        samples=columns,
        history=history,
        vocabularies={name: tuple(words) for name, words in vocabularies.items()},
        content=content,
        samples_blake2b=digest,
        users=writer.users,
        shards=tuple(writer.shards),
    )


def _existing(out: Path, identity: dict[str, Any]) -> Manifest | None:
    """The manifest of the same set, if `out` holds it; None if there is nothing."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return None
    hint = "choose another folder, or remove this one"
    if not (out / MANIFEST).is_file():
        raise ShardError("the folder holds something else", where=out, expected="no folder, or a shard set", hint=hint)
    manifest = read_manifest(out)
    found = {name: value for name, value in manifest.identity.items() if name != "format_version"}
    if found != identity:
        raise ShardError("the folder holds another shard set", where=out, expected=identity, got=found, hint=hint)
    return manifest


def _result(out: Path, manifest: Manifest, kept: Kept | None) -> PackResult:
    shards = manifest.shards
    return PackResult(
        path=out,
        samples=manifest.sample_count,
        users=manifest.users,
        rows=sum(s.rows for s in shards),
        events=sum(sum(s.chunk_events) for s in shards),
        shards=len(shards),
        chunks=sum(len(s.chunk_samples) for s in shards),
        bytes=sum(s.bytes for s in shards),
        fingerprint=manifest.fingerprint,
        kept=kept,
    )
