"""The simulated app: its counts reconcile, its faults are there, and there is something to learn."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import fastavro
import numpy as np
import polars as pl
import pytest

from reclake.pipelines.simulate import SimulatedApp, simulate
from reclake.schemas import contract as contracts
from reclake.schemas.errors import MissingExtraError, ReclakeError

SMALL = {"users": 120, "items": 96}


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> SimulatedApp:
    return simulate(tmp_path_factory.mktemp("app"), seed=7, media=False)


def read(path: Path) -> pl.DataFrame:
    """Good rows of a file, in the contract's types, with its format's own reader."""
    if path.suffix == ".avro":
        rows = pl.read_avro(path)
    elif path.suffix == ".parquet":
        rows = pl.read_parquet(path)
    elif path.suffix == ".csv":
        rows = pl.read_csv(path, try_parse_dates=True)
    else:
        good = []
        for line in path.read_text().splitlines():
            try:
                row = json.loads(line)
            except json.JSONDecodeError:
                continue
            if row["user_id"] != "abc" and "item_id" in row and (row["watch_ms"] or 0) >= 0:
                good.append(row)
        rows = pl.DataFrame(good, infer_schema_length=None)
    us = pl.Datetime("us", "UTC")
    times = [
        (
            pl.col(name).str.to_datetime(time_unit="us", time_zone="UTC")
            if rows[name].dtype == pl.String
            else pl.col(name).cast(us)
        )
        for name in ("event_time", "available_at")
    ]
    return rows.with_columns(times).select(
        "event_id", pl.col("user_id", "item_id").cast(pl.Int64), "event_type", "event_time", "available_at"
    )


def test_rows_are_events_and_duplicates_and_malformed_lines(app: SimulatedApp) -> None:
    good = [read(path) for path in app.paths]
    ids = pl.concat([frame["event_id"] for frame in good])
    assert app.rows == sum(len(frame) for frame in good) + sum(app.malformed.values())
    assert app.rows == app.events + app.duplicates + sum(app.malformed.values())
    assert ids.n_unique() == app.events
    assert len(ids) - ids.n_unique() == app.duplicates
    assert [file.rows - file.malformed for file in app.files] == [len(frame) for frame in good]
    assert 200_000 <= app.events <= 300_000


def test_malformed_lines_are_of_four_kinds(app: SimulatedApp) -> None:
    lines = app.paths[1].read_text().splitlines()
    counts = {"broken JSON": 0, "user_id is no number": 0, "negative watch_ms": 0, "no item_id": 0}
    for line in lines:
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            counts["broken JSON"] += 1
            continue
        counts["user_id is no number"] += row["user_id"] == "abc"
        counts["negative watch_ms"] += (row["watch_ms"] or 0) < 0
        counts["no item_id"] += "item_id" not in row
    assert counts == app.malformed
    assert all(count > 1 for count in counts.values())


def test_an_event_sent_twice_says_the_same_twice(app: SimulatedApp) -> None:
    rows = pl.concat([read(path) for path in app.paths])
    told = rows.group_by("event_id").agg(
        pl.struct("user_id", "item_id", "event_type", "event_time").n_unique().alias("n")
    )
    assert told["n"].max() == 1


def test_late_events_are_known_a_day_or_more_after_they_happened(app: SimulatedApp) -> None:
    rows = pl.concat([read(path) for path in app.paths]).sort("available_at").unique("event_id", keep="first")
    delay = rows["available_at"] - rows["event_time"]
    late = rows.filter(pl.col("available_at") - pl.col("event_time") >= pl.duration(days=1))
    assert len(late) == app.late
    assert delay.min().total_seconds() > 0  # type: ignore[union-attr]
    slow = rows.filter(
        (pl.col("available_at") - pl.col("event_time")).is_between(pl.duration(minutes=5), pl.duration(hours=6))
    )
    assert len(slow) > app.events * 0.003


def test_rows_are_out_of_order(app: SimulatedApp) -> None:
    at = read(app.paths[0])["available_at"].to_physical().to_numpy()
    assert (np.diff(at) < 0).mean() > 0.1


def test_outcomes_come_after_their_exposure_and_are_available_later_still(app: SimulatedApp) -> None:
    rows = pl.concat([read(path) for path in app.paths]).unique("event_id")
    key = pl.col("event_id").str.replace(r"-[ecvl](\d)$", "-$1").alias("key")
    rows = rows.with_columns(key)
    shown = rows.filter(pl.col("event_type") == "exposure").select("key", shown="event_time")
    other = rows.filter(pl.col("event_type") != "exposure").join(shown, on="key", how="left")
    assert other["shown"].null_count() == 0
    assert (other["event_time"] > other["shown"]).all()
    assert (rows["available_at"] > rows["event_time"]).all()


def test_avro_rows_fit_the_shipped_contract(app: SimulatedApp) -> None:
    with app.paths[0].open("rb") as file:
        reader = fastavro.reader(file, reader_schema=contracts.shipped("events").avro_schema)
        rows = list(reader)
    assert len(rows) == app.files[0].rows
    assert rows[0]["event_time"].tzinfo is not None


def test_parquet_of_the_newer_app_has_another_schema(app: SimulatedApp) -> None:
    schema = pl.read_parquet_schema(app.paths[2])
    assert "app_version" in schema
    assert "value" not in schema
    assert schema["watch_ms"] == pl.Int32


def test_propensities_are_the_logging_policys(app: SimulatedApp) -> None:
    """Inverse propensity weights estimate, for every item, how often an even policy would show it: equally often."""
    rows = pl.read_parquet(app.paths[2]).unique("event_id").filter(pl.col("event_type") == "exposure")
    assert rows["propensity"].is_between(0, 1, closed="right").all()
    truth = pl.read_parquet(app.truth_items)
    weights = rows.group_by("item_id").agg((1 / pl.col("propensity")).sum().alias("shown"))
    assert len(weights) == len(truth)
    estimate = weights["shown"].sum() / len(rows)  # the number of items, by the exposures alone
    assert estimate == pytest.approx(len(truth), rel=0.05)


def auc(score: np.ndarray, label: np.ndarray) -> float:
    """Mann and Whitney's U over the number of pairs; ties count half."""
    ranks = pl.Series(score).rank("average").to_numpy()
    positive = label.astype(bool)
    n = positive.sum()
    return float((ranks[positive].sum() - n * (n + 1) / 2) / (n * (len(label) - n)))


def test_history_says_much_more_about_a_click_than_popularity(app: SimulatedApp) -> None:
    rows = pl.concat([read(path) for path in app.paths]).unique("event_id")
    key = pl.col("event_id").str.replace(r"-[ecvl](\d)$", "-$1").alias("key")
    clicks = rows.filter(pl.col("event_type") == "click").select(key, click=pl.lit(1))
    shown = (
        rows.filter(pl.col("event_type") == "exposure")
        .with_columns(key, day=pl.col("event_time").dt.day())
        .join(clicks, on="key", how="left")
        .with_columns(pl.col("click").fill_null(0))
        .join(pl.read_parquet(app.truth_items).select("item_id", "topic"), on="item_id")
    )
    past, today = shown.filter(pl.col("day") <= 2), shown.filter(pl.col("day") == 3)
    popularity = past.group_by("item_id").agg(pop=pl.col("click").mean())
    history = past.group_by("user_id", "topic").agg(own=pl.col("click").mean())
    today = today.join(popularity, on="item_id", how="left").join(history, on=["user_id", "topic"], how="left")
    today = today.with_columns(pl.col("pop", "own").fill_null(0.3)).sort("event_id")
    label = today["click"].to_numpy()
    by_popularity, by_history = (auc(today[name].to_numpy(), label) for name in ("pop", "own"))
    assert 0.50 < by_popularity < 0.62
    assert by_history > by_popularity + 0.08


def digests(root: Path) -> dict[str, str]:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_the_same_seed_gives_the_same_files_and_another_does_not(tmp_path: Path) -> None:
    pytest.importorskip("av")
    for name, seed in (("a", 7), ("b", 7), ("c", 8)):
        simulate(tmp_path / name, seed=seed, days=2, scale=0.5, **SMALL)
    first, second, third = (digests(tmp_path / name) for name in "abc")
    assert first == second
    assert first["events/day-01-000.avro"] != third["events/day-01-000.avro"]


def test_scale_multiplies_events_and_large_days_go_to_several_files(tmp_path: Path) -> None:
    small = simulate(tmp_path / "s", seed=1, days=1, users=10, items=48, media=False)
    large = simulate(tmp_path / "l", seed=1, days=1, users=10, items=48, media=False, scale=2_000)
    assert large.events == pytest.approx(small.events * 2_000, rel=0.4)
    assert [path.name for path in large.paths] == [*(f"day-01-{n:03d}.avro" for n in range(4)), "late.csv"]
    assert large.events / 10 > 50_000


def test_a_second_run_leaves_no_file_of_the_first(tmp_path: Path) -> None:
    simulate(tmp_path, seed=1, days=3, media=False, **SMALL)
    app = simulate(tmp_path, seed=1, days=1, media=False, **SMALL)
    assert sorted((tmp_path / "events").iterdir()) == sorted(app.paths)


def test_media_tell_the_topic_and_three_files_are_broken(tmp_path: Path) -> None:
    pytest.importorskip("av")
    from PIL import Image

    app = simulate(tmp_path, seed=3, days=1, **SMALL)
    items = pl.read_ndjson(app.manifest).join(pl.read_parquet(app.truth_items), on="item_id")
    assert items["cover"].null_count() == 0
    assert items["clip"].drop_nulls().len() == 40
    assert items["sound"].drop_nulls().len() == 60
    assert app.broken is not None
    with pytest.raises(OSError):
        Image.open(tmp_path / app.broken.cover).load()
    whole = items.filter(pl.col("cover") != app.broken.cover)
    colours = np.array([np.asarray(Image.open(tmp_path / c)).mean(axis=(0, 1)) for c in whole["cover"]])
    topics = whole["topic"].to_numpy()
    centres = np.array([colours[topics == t].mean(axis=0) for t in range(8)])
    nearest = ((colours[:, None] - centres) ** 2).sum(axis=2).argmin(axis=1)
    assert (nearest == topics).mean() > 0.9


def test_without_the_media_extra_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(MissingExtraError, match="Pillow and PyAV") as caught:
        simulate(tmp_path, seed=1)
    assert "reclake[media]" in str(caught.value.hint)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("wrong", [{"scale": 0}, {"days": 0}, {"users": 0}, {"items": 47}])
def test_sizes_that_are_no_app_are_refused(tmp_path: Path, wrong: dict[str, float]) -> None:
    with pytest.raises(ReclakeError):
        simulate(tmp_path, seed=1, media=False, **wrong)  # type: ignore[arg-type]
