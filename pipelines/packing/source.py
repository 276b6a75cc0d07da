"""What a shard set is made from: the pinned tables of a recipe, and their rows coded part by part."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import polars as pl
import pyarrow as pa

from ...schemas.errors import RecipeError, SamplesError, ShardError
from ...schemas.recipe import Recipe
from ...schemas.times import from_us
from ...storage.shard_manifest import Column, Manifest
from ...storage.shard_writer import ShardWriter
from ..reading import rows_of
from ..run import Run
from .content import ContentIndex, write_content
from .days import Days, chosen
from .rows import encode_strings, pack_bucket

if TYPE_CHECKING:
    from ...storage.catalog import Catalog
    from ...storage.pins import Pin


# A part holds so many events and samples at most, and one user more. Making its rows takes some 150 bytes for each.
PART_EVENTS = 1 << 22


class Part(NamedTuple):
    """The users from `first` to `last` of one bucket, with their samples of one window of time."""

    window: int
    bucket: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Source:
    """The pinned tables that a set is made from."""

    catalog: Catalog
    recipe: Recipe
    pin: Pin
    versions: dict[str, int]
    length: int
    days: tuple[date, ...] | None  # None: every one
    window_us: int

    @classmethod
    def open(
        cls,
        catalog: Catalog,
        recipe_name: str,
        *,
        pin: str,
        history: int | None,
        days: Days | None,
        window_us: int,
        run: Run | None,
    ) -> Self:
        """Raises as `pack` does."""
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
        return cls(catalog, recipe, pinned, versions, length, _days(catalog, recipe, versions, days, pin), window_us)

    @property
    def identity(self) -> dict[str, Any]:
        """Which set it is, as `Manifest.identity` has it."""
        recipe = self.recipe
        every: dict[str, Any] = {
            "recipe": {"name": recipe.name, "version": recipe.version, "fingerprint": recipe.fingerprint},
            "pin": {"name": self.pin.name, "tables": self.versions},
            "history_length": self.length,
            "window_us": self.window_us,
        }
        return every if self.days is None else every | {"days": [day.isoformat() for day in self.days]}

    def scan(self, name: str) -> pl.LazyFrame:
        """A table as the pin's contracts say, fields by the names that the recipe has for them included."""
        names = self.recipe.content if name == "content" else ()
        return rows_of(self.catalog, name, pin=self.pin, names=names)

    def samples(self) -> pl.LazyFrame:
        """The samples of the set."""
        rows = self.scan(f"samples/{self.recipe.name}")
        return rows if self.days is None else rows.filter(pl.col("day").is_in(self.days))

    def parts(self) -> list[Part]:
        """What is made at once, in the order of the set."""
        window = self._window if self.window_us else pl.lit(0, dtype=pl.Int64)
        # Of a user's events those that its windows reach, as if they all touched; its samples weigh like events.
        size = pl.col("seen").max() - (pl.col("seen").min() - self.length).clip(0) + pl.len()
        found = []
        for bucket in range(self.catalog.buckets):
            cuts = (
                self.samples()
                .filter(pl.col("bucket") == bucket)
                .group_by(window.alias("window"), "user_id")
                .agg(size.alias("size"))
                .sort("window", "user_id")
                .with_columns((pl.col("size").cum_sum().over("window") // PART_EVENTS).alias("number"))
                .group_by("window", "number", maintain_order=True)
                .agg(pl.col("user_id").first().alias("first"), pl.col("user_id").last().alias("last"))
                .collect()
            )
            found += [Part(at, bucket, first, last) for at, _, first, last in cuts.iter_rows()]
        return sorted(found)

    @property
    def _window(self) -> pl.Expr:
        return pl.col("request_time").dt.epoch("us") // self.window_us

    def read(self, part: Part) -> tuple[pl.DataFrame, pl.DataFrame]:
        """The samples of a part, and of its users' timelines what their histories need."""
        mine = pl.col("user_id").is_between(part.first, part.last)
        wanted = self.samples().filter((pl.col("bucket") == part.bucket) & mine)
        if self.window_us:
            begin = from_us(part.window * self.window_us)
            end = from_us((part.window + 1) * self.window_us)
            wanted = wanted.filter(pl.col("request_time").is_between(begin, end, closed="left"))
        samples = wanted.collect()
        needs = samples.group_by("user_id").agg(
            pl.max_horizontal(pl.col("seen").min() - self.length, 0).alias("_from"), pl.col("seen").max().alias("_to")
        )
        fields = [name for name in self.recipe.history_fields if name not in ("user_id", "ordinal", "known_at")]
        own = ("user_id", "ordinal", "known_at")
        timeline = rows_of(
            self.catalog, "timelines", pin=self.pin, names=fields, only=own, partition={"bucket": part.bucket}
        ).select(*own, *fields)
        timeline = (
            timeline.filter(mine & (pl.col("known_at") < samples["request_time"].max()))
            .join(needs.lazy(), on="user_id", how="inner")
            .filter((pl.col("ordinal") >= pl.col("_from")) & (pl.col("ordinal") < pl.col("_to")))
            .drop("_from", "_to")
        )
        return samples, timeline.collect()


@dataclass(frozen=True, slots=True)
class Coded:
    """A source with its strings as codes and its content numbered. `words` grow as parts are made in order."""

    source: Source
    content: ContentIndex | None
    words: dict[str, list[str]] = field(default_factory=dict)

    @classmethod
    def of(cls, source: Source) -> Self:
        return cls(source, ContentIndex.of(source.samples()) if source.recipe.content else None)

    def rows(self, part: Part) -> pa.Table:
        """The rows of a part, shaped as `storage.shards` says."""
        recipe = self.source.recipe
        samples, timeline = self.source.read(part)
        if self.content is not None:
            samples = self.content.number(samples)
        samples, words = encode_strings(samples, recipe.features, self.words)
        timeline, words = encode_strings(timeline, recipe.history_fields, words)
        self.words.update(words)
        return pack_bucket(
            samples,
            timeline,
            length=self.source.length,
            history_fields=recipe.history_fields,
            labels=[label.name for label in recipe.labels],
            features=recipe.features,
        )

    def manifest(
        self, folder: Path, writer: ShardWriter, closed: tuple[tuple[Column, ...], tuple[Column, ...], str]
    ) -> Manifest:
        """Write the content beside the shards; what says what the set is, of a writer that was closed."""
        source, (samples, history, digest) = self.source, closed
        content = (
            {}
            if self.content is None
            else write_content(folder, self.content, source.scan("content"), source.recipe.content)
        )
        days = None if source.days is None else tuple(day.isoformat() for day in source.days)
        return Manifest(
            **source.identity | {"days": days},
            labels=tuple(label.name for label in source.recipe.labels),
            features=source.recipe.features,
            samples=samples,
            history=history,
            vocabularies={name: tuple(words) for name, words in self.words.items()},
            content=content,
            samples_blake2b=digest,
            users=writer.users,
            shards=tuple(writer.shards),
            compression=writer.compression,
        )


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
