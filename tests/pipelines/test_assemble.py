"""Assembling: seen, labels with two clocks, negatives, content as of the request, days that are finished later."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import reclake
from reclake.pipelines.assemble import as_of_content, assemble, count_seen, credit, draw_negatives
from reclake.pipelines.run import Run
from reclake.schemas import recipe as recipes
from reclake.schemas.errors import RecipeError, SamplesError
from reclake.schemas.recipe import Negatives
from reclake.schemas.times import US_PER_DAY, to_us

DAY = to_us("2024-03-01")
MINUTE = 60_000_000
TIME = pl.Datetime("us", "UTC")
NOW = Run(id="test", now_us=lambda: DAY + 10 * US_PER_DAY)


def timeline(*rows: tuple[str, str, int, int], user: int = 1, item: int = 5) -> pl.DataFrame:
    """(event_id, event_type, minute it happened, minute it was known), in known order."""
    return pl.DataFrame(
        {
            "event_id": [row[0] for row in rows],
            "user_id": [user] * len(rows),
            "item_id": [item] * len(rows),
            "event_type": [row[1] for row in rows],
            "event_time": [DAY + row[2] * MINUTE for row in rows],
            "known_at": [DAY + row[3] * MINUTE for row in rows],
            "ordinal": range(len(rows)),
            "bucket": [0] * len(rows),
        }
    ).with_columns(
        pl.col("event_time", "known_at").cast(TIME), pl.col("ordinal").cast(pl.Int64), pl.col("bucket").cast(pl.Int32)
    )


def recipe(**more: object) -> recipes.Recipe:
    label = {"event_type": "click", "window": "1h", "lateness": "30m"}
    return recipes.parse({"name": "r", "exposure": "exposure", "labels": {"click": label}} | more)


def test_seen_counts_what_was_known_strictly_before() -> None:
    events = timeline(
        ("a", "exposure", 0, 0), ("b", "exposure", 10, 10), ("c", "click", 5, 10), ("d", "exposure", 11, 11)
    )
    seen = count_seen(events.filter(pl.col("event_type") == "exposure"), events).sort("ordinal")
    assert seen.select("event_id", "seen").rows() == [("a", 0), ("b", 1), ("d", 3)]


def test_seen_goes_on_from_events_that_are_not_loaded() -> None:
    events = timeline(("a", "exposure", 0, 0), ("b", "exposure", 10, 10)).with_columns(pl.col("ordinal") + 40)
    assert count_seen(events, events).sort("ordinal")["seen"].to_list() == [40, 41]


def test_an_outcome_is_credited_to_the_last_exposure_before_it() -> None:
    events = timeline(
        ("a", "exposure", 0, 0), ("b", "exposure", 30, 30), ("x", "click", 40, 41), ("y", "click", 200, 201)
    )
    shown, clicks = events.filter(pl.col("event_type") == "exposure"), events.filter(pl.col("event_type") == "click")
    assert credit(clicks, shown, ["user_id", "item_id"], 60 * MINUTE, 60 * MINUTE).to_list() == ["b"]


@pytest.mark.parametrize(("happened", "known", "label"), [(60, 60, 1), (61, 61, 0), (59, 90, 1), (59, 91, 0)])
def test_a_label_keeps_to_its_window_and_its_lateness(happened: int, known: int, label: int) -> None:
    events = timeline(("a", "exposure", 0, 0), ("x", "click", happened, known))
    rows = assemble(events, recipe(), day_start_us=DAY, sealed_us=DAY + US_PER_DAY)
    assert rows.select("click", "label_mature").rows() == [(label, True)]


def test_a_label_is_mature_once_nothing_can_reach_it_any_more() -> None:
    events = timeline(("a", "exposure", 0, 0))
    for sealed, mature in ((90, False), (91, True)):
        rows = assemble(events, recipe(), day_start_us=DAY, sealed_us=DAY + sealed * MINUTE)
        assert rows["label_mature"].to_list() == [mature]


def test_content_is_as_of_the_request() -> None:
    rows = pl.DataFrame({"item_id": [1, 1, 2], "request_time": [10, 20, 20]}).with_columns(
        pl.col("request_time").cast(TIME)
    )
    content = pl.DataFrame({"item_id": [1, 1, 1], "content_known_at": [5, 10, 20]})
    joined = as_of_content(rows, content.with_columns(pl.col("content_known_at").cast(TIME)))
    assert joined.sort("item_id", "request_time")["content_known_at"].dt.epoch("us").to_list() == [5, 10, None]


@pytest.mark.parametrize("kind", ["uniform", "popularity"])
def test_negatives_are_other_items_of_the_pool_and_the_same_every_time(kind: str) -> None:
    rows = pl.DataFrame(
        {"user_id": np.arange(2_000) % 50, "item_id": np.arange(2_000) % 4, "ordinal": np.arange(2_000) // 50}
    ).with_columns(pl.lit(False).alias("negative"), pl.lit(1, dtype=pl.Int8).alias("click"))
    pool = pl.DataFrame({"item_id": [0, 1, 2, 3], "count": [70, 10, 10, 10]})
    declared = Negatives(kind, 2, 7)  # type: ignore[arg-type]
    drawn = draw_negatives(rows, pool, declared, ["click"])
    assert drawn.equals(draw_negatives(rows.sample(fraction=1.0, shuffle=True, seed=1), pool, declared, ["click"]))
    negatives = drawn.filter("negative")
    assert negatives.height == 2 * rows.height
    assert negatives["click"].sum() == 0
    shown = rows.sort("user_id", "ordinal")["item_id"].to_numpy()
    assert not (negatives["item_id"].to_numpy() == np.tile(shown, 2)).any()
    of_others = negatives.filter(np.tile(shown, 2) != 0)
    share = of_others.select((pl.col("item_id") == 0).mean()).item()
    assert share == pytest.approx(1 / 3 + 1 / 12 if kind == "uniform" else 0.75, abs=0.12)
    assert draw_negatives(rows, pool.head(1), declared, ["click"]).height == rows.height


def lake_of(folder: Path) -> reclake.Lake:
    lake = reclake.Lake.create(folder / "lake", buckets=2)
    rows = [
        {"event_id": f"{day}-{n}", "user_id": n % 3, "item_id": n % 5, "event_type": "exposure"}
        | {"event_time": DAY + day * US_PER_DAY + n * MINUTE, "available_at": DAY + day * US_PER_DAY + n * MINUTE}
        for day in range(2)
        for n in range(30)
    ]
    rows.append(rows[-1] | {"event_id": "click", "event_type": "click", "event_time": rows[-1]["event_time"] + MINUTE})
    (folder / "events.jsonl").write_text("\n".join(map(json.dumps, rows)))
    lake.ingest("events", folder / "events.jsonl", run=NOW)
    return lake


def test_a_day_is_assembled_once_and_finished_when_its_labels_are(tmp_path: Path) -> None:
    lake = lake_of(tmp_path)
    with pytest.raises(SamplesError, match="not sealed"):
        lake.samples("ctr", day="2024-03-02")
    lake.seal(through="2024-03-03", run=NOW)
    first = lake.samples("ctr", day="2024-03-02", run=NOW)
    assert (first.rows, first.made_before) == (30, False)
    assert lake.samples("ctr", day="2024-03-02", run=NOW).made_before
    ids = lake.catalog.table("samples/ctr").scan().sort("sample_id").collect()["sample_id"]
    assert ids.to_list() == [(19_784 << 40) + place for place in range(30)]
    lake.seal(through="2024-03-04", run=NOW)
    assert lake.samples("ctr", day="2024-03-02", run=NOW).mature == 30
    assert lake.catalog.table("samples/ctr").scan().collect().height == 30


def test_a_recipe_from_a_file_with_negatives_is_registered_and_assembled(tmp_path: Path) -> None:
    lake = lake_of(tmp_path)
    lake.seal(through="2024-03-03", run=NOW)
    negatives = {"kind": "uniform", "per_exposure": 3, "seed": 7}
    document = {"exposure": "exposure", "labels": {"click": {"event_type": "click"}}, "negatives": negatives}
    (tmp_path / "drawn.json").write_text(json.dumps(document))
    assert lake.samples(tmp_path / "drawn.json", day="2024-03-01", run=NOW).negatives == 0  # nothing was shown before
    result = lake.samples("drawn", day="2024-03-02", run=NOW)
    assert (result.exposures, result.negatives, result.positives) == (30, 90, {"click": 1})
    assert lake.catalog.recipe("drawn").version == 1


def test_a_recipe_that_names_a_field_no_event_has_is_refused(tmp_path: Path) -> None:
    lake = lake_of(tmp_path)
    lake.seal(through="2024-03-03", run=NOW)
    (tmp_path / "odd.json").write_text(json.dumps({"exposure": "exposure", "features": ["colour"]}))
    with pytest.raises(RecipeError, match="no event has"):
        lake.samples(tmp_path / "odd.json", day="2024-03-02")
