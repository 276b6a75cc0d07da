"""Assemble: samples of one day. Who, what, when, labels, and `seen`: how many of the user's events were known before.

The exposures of a day are those the lake learnt of on that day (known_at), so a sealed day has the same samples for
ever. An exposure that arrived late keeps its own request time, and sees only what was known before that.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from ..quality.findings import Finding
from ..schemas import recipe as recipes
from ..schemas import shapes
from ..schemas.buckets import bucket_groups, xxhash64
from ..schemas.errors import CommitConflictError, RecipeError, SamplesError
from ..schemas.recipe import Negatives, Recipe
from ..schemas.times import US_PER_DAY, Time, day_start_us, from_us, iso
from ..storage.catalog import Catalog
from ..storage.locks import deriving
from . import suites
from .knowing import TIME
from .publish import Suite, audited, published, restored, stage
from .reading import feature_columns, rows_of, view
from .run import Run

ROWS_AT_ONCE = 4_000_000  # timeline rows in memory at a time; buckets are grouped to stay below it
DAY_SHIFT = 40  # sample_id = days since 1970 << 40 | place in the day
NEGATIVES_FROM_DAYS = 7
_READ = ("user_id", "item_id", "event_id", "event_type", "event_time", "known_at", "ordinal", shapes.BUCKET)


@dataclass(frozen=True, slots=True)
class SamplesResult:
    """What one day of a sample set holds. `version` is the sample table's. `findings`: what was not as expected of
    samples that were made now.
    """

    recipe: str
    day: str
    rows: int
    exposures: int
    negatives: int
    mature: int
    positives: dict[str, int]
    version: int
    made_before: bool
    findings: tuple[Finding, ...] = ()


def samples(catalog: Catalog, recipe: str | Path, *, day: Time, run: Run | None = None) -> SamplesResult:
    """Assemble the samples of one sealed day. Again is safe: a day whose labels are final is left as it is.

    Args:
        recipe: a name the lake knows, or the path of a recipe file, which is registered first, with the suite that
            may stand beside it: `NAME.suite.json`.
        day: the UTC day, e.g. "2022-05-02".

    Raises:
        SamplesError: the day is not sealed to its end yet.
        GateError: the day's samples fail a check of their suite; none of them can be read, see publish.py.
        SuiteError: the suite beside the recipe is malformed or does not fit the samples.
        RecipeError: the recipe is unknown, or names a field that no event has.
    """
    run = run or Run()
    known = named_recipe(catalog, recipe)
    start = day_start_us(day)
    end = start + US_PER_DAY
    sealed = catalog.sealed_through_us
    if sealed is None or sealed < end:
        raise SamplesError(
            "the day is not sealed to its end",
            where=f"{catalog.root}, {from_us(start).date()}",
            expected=f"sealed through {iso(end)} or later",
            got="nothing is sealed" if sealed is None else f"sealed through {iso(sealed)}",
            hint=f"reclake seal {catalog.root} --through {iso(end)}",
        )
    schema = _schema(catalog, known)
    known = catalog.add_recipe(known)  # only now: a recipe whose fields nobody has is none
    _add_suite(catalog, known, Path(recipe), schema)
    table = catalog.table(f"samples/{known.name}")
    transaction = known.transaction(from_us(start).date())
    final_at = min(sealed, end + known.maturity_us + 1)
    if (table.transaction(transaction) or 0) >= final_at:
        restored(catalog, table, (transaction, table.transaction(transaction) or 0))
        made = table.scan().filter(pl.col("day") == from_us(start).date()).collect()
        return _result(made, known, start, table.version, made_before=True)
    with deriving(catalog.root):
        rows = assemble_day(catalog, known, start_us=start, sealed_us=sealed, run=run).select(schema.names)
        columns = feature_columns(known, schema, table.schema() if table.exists else pa.schema([]))
        schema = pa.schema([field.with_name(columns.get(field.name, field.name)) for field in schema])
        named = rows.rename(columns)
        version, found = _publish(catalog, known, named, schema, start_us=start, final_at=final_at, run=run)
    return _result(rows, known, start, version, found, made_before=False)


def _add_suite(catalog: Catalog, recipe: Recipe, path: Path, schema: pa.Schema) -> None:
    """Register the suite beside a recipe's file, if there is one."""
    beside = path.with_name(f"{path.stem}{suites.ENDING}")
    if path.suffix == ".json" and beside.is_file():
        suites.register(catalog, f"samples/{recipe.name}", suites.load(beside), schema)


def _publish(
    catalog: Catalog, recipe: Recipe, rows: pl.DataFrame, schema: pa.Schema, *, start_us: int, final_at: int, run: Run
) -> tuple[int, tuple[Finding, ...]]:
    """Put a day's samples in place of those that were there, once their suite lets them through.

    Returns:
        The version, and what was not as expected.
    """
    table, suite = catalog.table(f"samples/{recipe.name}"), Suite.of(catalog, f"samples/{recipe.name}")
    day = from_us(start_us).date()
    transaction = recipe.transaction(day)
    audit = suite.of_day(catalog, schema, day, apart=None)
    part = stage(table, rows.to_arrow(), audit, schema)
    partition = audited(catalog, table, [part], audit, schema, version=suite.version, source=str(day), day=day, run=run)
    try:
        version = published(
            catalog,
            partition,
            (transaction, final_at),
            replaced={"day": day},
            metadata={"reclake.recipe": f"{recipe.name}/{recipe.version}"},
        )
    except CommitConflictError:
        if (table.transaction(transaction) or 0) < final_at:
            raise
        version = table.version  # somebody else made the same samples
    return version, partition.findings


def named_recipe(catalog: Catalog, recipe: str | Path) -> Recipe:
    """A recipe of the lake by name, or one from a file."""
    path = Path(recipe)
    if path.suffix == ".json":
        if not path.is_file():
            raise RecipeError("recipe file not found", where=path, hint="check the path")
        return recipes.load(path)
    return catalog.recipe(str(recipe))


def assemble_day(catalog: Catalog, recipe: Recipe, *, start_us: int, sealed_us: int, run: Run) -> pl.DataFrame:
    """All samples of the day, sorted and numbered: columns of shapes.samples."""
    end_us = start_us + US_PER_DAY
    names = (*recipe.features, *recipe.match)
    timelines = rows_of(catalog, "timelines", names=names, only=_READ)
    of_day = timelines.filter(_between("known_at", start_us, end_us), pl.col("event_type") == recipe.exposure)
    first = of_day.select(pl.col("event_time").dt.epoch("us").min()).collect().item()
    parts: list[pl.DataFrame] = []
    if first is not None:
        needed = timelines.filter(_between("known_at", int(first), min(sealed_us, end_us + recipe.maturity_us + 1)))
        groups = bucket_groups(int(needed.select(pl.len()).collect().item()), catalog.buckets, ROWS_AT_ONCE)
        for number, group in enumerate(groups):
            timeline = needed.filter(pl.col(shapes.BUCKET).is_in(group)).collect(engine="streaming")
            parts.append(assemble(timeline, recipe, day_start_us=start_us, sealed_us=sealed_us))
            run.progress(f"samples {recipe.name}", number + 1, len(groups))
    rows = (
        pl.concat(parts)
        if parts
        else assemble(timelines.head(0).collect(), recipe, day_start_us=start_us, sealed_us=sealed_us)
    )
    rows = as_of_content(rows, _content_times(catalog))
    if recipe.negatives is not None:
        rows = draw_negatives(
            rows, _pool(timelines, recipe, start_us), recipe.negatives, [x.name for x in recipe.labels]
        )
        rows = as_of_content(rows.drop("content_known_at"), _content_times(catalog))
    order = ["bucket", "user_id", "request_time", "ordinal", "negative", "item_id"]
    numbered = rows.sort(order, maintain_order=True).with_columns(
        ((start_us // US_PER_DAY << DAY_SHIFT) + pl.int_range(pl.len(), dtype=pl.Int64)).alias("sample_id")
    )
    return numbered.with_columns(pl.lit(from_us(start_us).date(), dtype=pl.Date).alias("day"))


def assemble(timeline: pl.DataFrame, recipe: Recipe, *, day_start_us: int, sealed_us: int) -> pl.DataFrame:
    """Kernel: the samples of one day for some users.

    Args:
        timeline: these users' events with ordinals, at least all that were known from the day's earliest request
            until the last label is final; users may have earlier events that are not here.
        day_start_us: the day; its exposures are those known within it.
        sealed_us: through when the timeline is complete; labels that end later are not mature.

    Returns:
        one row an exposure: shapes.samples without sample_id, content_known_at and day.
    """
    timeline = timeline.sort("user_id", "ordinal")
    exposures = timeline.filter(pl.col("event_type") == recipe.exposure)
    of_day = exposures.filter(_between("known_at", day_start_us, day_start_us + US_PER_DAY))
    rows = count_seen(of_day, timeline)
    for label in recipe.labels:
        outcomes = timeline.filter(pl.col("event_type") == label.event_type)
        credited = credit(outcomes, exposures, ["user_id", *recipe.match], label.window_us, label.maturity_us)
        rows = rows.with_columns(pl.col("event_id").is_in(credited.implode()).cast(pl.Int8).alias(label.name))
    final = pl.lit(sealed_us - recipe.maturity_us).cast(TIME)
    return rows.select(
        "user_id",
        "item_id",
        "event_id",
        pl.col("event_time").alias("request_time"),
        "ordinal",
        "seen",
        pl.lit(False).alias("negative"),
        *[label.name for label in recipe.labels],
        (pl.col("event_time") < final).alias("label_mature"),
        *recipe.features,
        shapes.BUCKET,
    )


def count_seen(exposures: pl.DataFrame, timeline: pl.DataFrame) -> pl.DataFrame:
    """Kernel: `seen` = how many events of the user were known strictly before the exposure's event_time.

    The timeline is in known_at order, so that is one more than the ordinal of the last event known before. Where none
    of the events here was, all earlier ones were: the first ordinal here.
    """
    known = timeline.select("user_id", "known_at", pl.col("ordinal").alias("_last")).sort("known_at", "_last")
    first = timeline.group_by("user_id").agg(pl.col("ordinal").min().alias("_first"))
    return (
        exposures.sort("event_time", "ordinal")
        .join_asof(
            known,
            left_on="event_time",
            right_on="known_at",
            by="user_id",
            strategy="backward",
            allow_exact_matches=False,
            check_sortedness=False,
            coalesce=False,
        )
        .join(first, on="user_id", how="left")
        .with_columns(pl.coalesce(pl.col("_last") + 1, "_first").alias("seen"))
        .drop("_last", "_first")
    )


def credit(
    outcomes: pl.DataFrame, exposures: pl.DataFrame, keys: list[str], window_us: int, maturity_us: int
) -> pl.Series:
    """Kernel: the event_ids of exposures that an outcome followed (last touch; see schemas.recipe.Label)."""
    shown = exposures.select(
        *keys, pl.col("event_time").alias("_shown"), pl.col("event_id").alias("_credited"), "ordinal"
    )
    matched = (
        outcomes.select(*keys, "event_time", "known_at")
        .sort("event_time")
        .join_asof(
            shown.sort("_shown", "ordinal"),
            left_on="event_time",
            right_on="_shown",
            by=keys,
            strategy="backward",
            tolerance=f"{window_us}us",
            check_sortedness=False,
            coalesce=False,
        )
    )
    in_time = pl.col("known_at") <= pl.col("_shown") + pl.duration(microseconds=maturity_us)
    return matched.filter(pl.col("_credited").is_not_null() & in_time)["_credited"].unique()


def as_of_content(rows: pl.DataFrame, content: pl.DataFrame) -> pl.DataFrame:
    """Kernel: content_known_at, the known_at of the item's newest content strictly before the request; null: none."""
    return rows.sort("request_time").join_asof(
        content.sort("content_known_at"),
        left_on="request_time",
        right_on="content_known_at",
        by="item_id",
        strategy="backward",
        allow_exact_matches=False,
        check_sortedness=False,
        coalesce=False,
    )


def draw_negatives(rows: pl.DataFrame, pool: pl.DataFrame, negatives: Negatives, labels: list[str]) -> pl.DataFrame:
    """Kernel: the rows, and for each of them `per_exposure` more with another item of the pool and labels 0.

    Context features stay those of the request. A pool with fewer than two items gives none.

    Args:
        pool: (item_id, count) sorted by item_id.
    """
    if pool.height < 2 or rows.is_empty():
        return rows
    ordered = rows.sort("user_id", "ordinal")
    place = ordered["ordinal"].to_numpy().astype(np.int64) ^ xxhash64(ordered["user_id"].to_numpy())
    drawn = []
    for k in range(negatives.per_exposure):
        salt = np.array([(negatives.seed * 1_000_003 + k) % 2**64], dtype=np.uint64).view(np.int64)
        keys = xxhash64(xxhash64(place) + salt)
        at = _draw(keys.view(np.uint64), pool, negatives.kind)
        items = pool["item_id"].to_numpy()
        clash = items[at] == ordered["item_id"].to_numpy()
        at = np.where(clash, (at + 1) % pool.height, at)
        drawn.append(
            ordered.with_columns(
                pl.Series("item_id", items[at]),
                pl.lit(True).alias("negative"),
                *[pl.lit(0, dtype=pl.Int8).alias(label) for label in labels],
            )
        )
    return pl.concat([ordered, *drawn])


def _draw(keys: npt.NDArray[np.uint64], pool: pl.DataFrame, kind: str) -> npt.NDArray[np.int64]:
    if kind == "uniform":
        return (keys % np.uint64(pool.height)).astype(np.int64)
    cumulative = np.cumsum(pool["count"].to_numpy())
    ticket = (keys % np.uint64(cumulative[-1])).astype(np.int64)
    return np.searchsorted(cumulative, ticket, side="right").astype(np.int64)


def _pool(timelines: pl.LazyFrame, recipe: Recipe, start_us: int) -> pl.DataFrame:
    """Items shown in the days before, and how often."""
    before = _between("known_at", start_us - NEGATIVES_FROM_DAYS * US_PER_DAY, start_us)
    shown = timelines.filter(before, pl.col("event_type") == recipe.exposure)
    return shown.group_by("item_id").agg(pl.len().cast(pl.Int64).alias("count")).sort("item_id").collect()


def _content_times(catalog: Catalog) -> pl.DataFrame:
    content = catalog.table("content")
    if not content.exists:
        return pl.DataFrame(schema={"item_id": pl.Int64, "content_known_at": TIME})
    return content.scan().select("item_id", pl.col("known_at").alias("content_known_at")).unique().collect()


def _between(column: str, start_us: int, end_us: int) -> pl.Expr:
    return (pl.col(column) >= pl.lit(start_us).cast(TIME)) & (pl.col(column) < pl.lit(end_us).cast(TIME))


def _schema(catalog: Catalog, recipe: Recipe) -> pa.Schema:
    names = (*recipe.features, *recipe.match, *recipe.history_fields)
    table = catalog.table("timelines").schema()
    have = view(catalog, "timelines").schema(table, dict.fromkeys((*table.names, *names)))
    for what, names in (("match", recipe.match), ("history", recipe.history_fields)):
        missing = [name for name in names if name not in have.names]
        if missing:
            raise RecipeError(
                f"a {what} field that no event has",
                where=f"recipe {recipe.name}",
                expected="some of " + ", ".join(have.names),
                got=", ".join(missing),
            )
    known = catalog.contract("content").arrow.names if recipe.content else []
    missing = [name for name in recipe.content if name not in known]
    if missing:
        raise RecipeError(
            "content that no operator may write",
            where=f"recipe {recipe.name}",
            expected="some of " + ", ".join(known),
            got=", ".join(missing),
        )
    return shapes.samples(recipe, have)


def _result(
    rows: pl.DataFrame,
    recipe: Recipe,
    start_us: int,
    version: int,
    found: tuple[Finding, ...] = (),
    *,
    made_before: bool,
) -> SamplesResult:
    day: date = from_us(start_us).date()
    return SamplesResult(
        recipe=recipe.name,
        day=str(day),
        rows=rows.height,
        exposures=int((~rows["negative"]).sum()),
        negatives=int(rows["negative"].sum()),
        mature=int(rows["label_mature"].sum()),
        positives={label.name: int(rows[label.name].sum()) for label in recipe.labels},
        version=version,
        made_before=made_before,
        findings=found,
    )
