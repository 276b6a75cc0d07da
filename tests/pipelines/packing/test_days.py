from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import reclake
from reclake.schemas.errors import FeedError, SamplesError, ShardError
from reclake.schemas.times import TimeError, to_us
from reclake.storage.shards import ShardSet


@pytest.fixture
def days(tmp_path: Path) -> reclake.Lake:
    """A lake of four days of exposures, an hour apart, the first three assembled."""
    lake = reclake.Lake.create(tmp_path / "lake", buckets=2)
    hours = [to_us("2022-04-15") + hour * 3_600_000_000 for hour in range(96)]
    pl.DataFrame(
        {
            "event_id": [f"e{n}" for n in range(96)],
            "user_id": [n % 3 for n in range(96)],
            "item_id": [n % 5 for n in range(96)],
            "event_type": ["exposure"] * 96,
            "event_time": hours,
            "available_at": hours,
        }
    ).write_parquet(tmp_path / "events.parquet")
    lake.ingest("events", tmp_path / "events.parquet")
    lake.seal(through="2022-04-20")
    return lake


def packed_days(folder: Path) -> list[tuple[date, int]]:
    rows = pl.read_parquet(folder / "shard-*.parquet")["samples"].struct.field("request_time")
    return rows.explode(empty_as_null=False).dt.date().value_counts(sort=True).sort("request_time").rows()


@pytest.mark.parametrize(
    ("wanted", "which"),
    [
        (None, [15, 16, 17]),
        ("2022-04-15..2022-04-30", [15, 16, 17]),
        ("2022-04-16..2022-04-30", [16, 17]),
        ("2022-04-17, 2022-04-15", [15, 17]),
        ([date(2022, 4, 16)], [16]),
    ],
)
def test_the_days_that_are_wanted_are_packed_and_no_others(
    days: reclake.Lake, tmp_path: Path, wanted: Any, which: list[int]
) -> None:
    for day in (15, 16, 17):
        days.samples("ctr", day=f"2022-04-{day}")
    days.pin("p")
    result = days.pack("ctr", pin="p", out=tmp_path / "out", days=wanted)
    assert packed_days(tmp_path / "out") == [(date(2022, 4, day), 24) for day in which]
    assert result.samples == 24 * len(which)
    manifest = ShardSet(tmp_path / "out").manifest
    assert manifest.days == (None if len(which) == 3 else tuple(f"2022-04-{day}" for day in which))
    # Asked for in other words it is the same set; of other days it is another.
    assert days.pack("ctr", pin="p", out=tmp_path / "out", days=[date(2022, 4, day) for day in which]).kept == "before"
    with pytest.raises(ShardError, match="another shard set"):
        days.pack("ctr", pin="p", out=tmp_path / "out", days="2022-04-16..2022-04-16" if len(which) > 1 else None)


@pytest.mark.parametrize(
    ("wanted", "error", "says"),
    [
        ("2022-04-18", SamplesError, "from 2022-04-15 to 2022-04-17"),
        (["2022-04-16", "2022-04-14"], SamplesError, "2022-04-14"),
        ("2022-04-17..2022-04-16", SamplesError, "ends before it begins"),
        ("yesterday", TimeError, "not a time"),
        ("2022-04-15T12:00:00Z", TimeError, "not a day"),
        ("2022-04-15..", TimeError, "not a time"),
        ([], SamplesError, "no day is wanted"),
    ],
)
def test_days_that_are_not_there_or_are_no_days_are_refused(
    days: reclake.Lake, tmp_path: Path, wanted: Any, error: type[Exception], says: str
) -> None:
    for day in (15, 16, 17):
        days.samples("ctr", day=f"2022-04-{day}")
    days.pin("p")
    with pytest.raises(error, match=says):
        days.pack("ctr", pin="p", out=tmp_path / "out", days=wanted)
    assert not (tmp_path / "out").exists()


def test_samples_of_two_versions_of_a_recipe_are_not_packed_as_one_set(days: reclake.Lake, tmp_path: Path) -> None:
    def recipe(label: str) -> Path:
        document = {"name": "mine", "exposure": "exposure", "labels": {label: {"event_type": "click"}}}
        (tmp_path / "mine.json").write_text(json.dumps(document))
        return tmp_path / "mine.json"

    days.samples(recipe("old"), day="2022-04-15")
    days.samples(recipe("new"), day="2022-04-16")
    days.pin("mixed")
    with pytest.raises(SamplesError, match="older version of the recipe") as caught:
        days.pack("mine", pin="mixed", out=tmp_path / "out")
    assert "2022-04-15" in str(caught.value)
    assert days.pack("mine", pin="mixed", out=tmp_path / "new", days="2022-04-16").samples == 24
    days.samples("mine", day="2022-04-15")
    days.pin("whole")
    assert days.pack("mine", pin="whole", out=tmp_path / "out").samples > 0


def test_labels_and_histories_of_any_names_are_packed_and_fed(days: reclake.Lake, tmp_path: Path) -> None:
    """No history at all; a label by the name of a history field of strings, or of a column that negatives add."""
    for name, label, fields in [("none", "shown", []), ("words", "event_type", ["event_type"]), ("q", "logq", [])]:
        document = {
            "name": name,
            "exposure": "exposure",
            "labels": {label: {"event_type": "click"}},
            "history": {"length": 4, "fields": fields},
        }
        (tmp_path / f"{name}.json").write_text(json.dumps(document))
        days.samples(tmp_path / f"{name}.json", day="2022-04-16")
        days.pin(name)
        days.pack(name, pin=name, out=tmp_path / name)
        given: dict[str, Any] = {"batch_size": 5, "seed": 1, "where": f"{label} == 0", "deduplicate": True}
        packed = reclake.Feed(tmp_path / name, **given)
        for batch, pinned in zip(packed, days.feed(name, pin=name, **given), strict=True):
            assert [*batch.history] == [*pinned.history] == fields
            assert batch["sample_id"].tolist() == pinned["sample_id"].tolist()
            assert not batch[label].any()
        if label == "logq":
            with pytest.raises(FeedError, match="two columns of one name"):
                reclake.Feed(tmp_path / name, **given, negatives=reclake.Negatives("uniform", 2))
    words = reclake.Feed(tmp_path / "words", batch_size=5, seed=1, events="event_type == 'exposure'")
    assert next(iter(words)).event_count == 20


def test_a_set_without_a_sample_is_refused_with_the_reason(tmp_path: Path) -> None:
    lake = reclake.Lake.create(tmp_path / "lake", buckets=2)
    row = {"event_id": "a", "user_id": 1, "item_id": 1, "event_type": "exposure", "event_time": "2022-04-15"}
    (tmp_path / "a.jsonl").write_text(json.dumps(row))
    lake.ingest("events", tmp_path / "a.jsonl")  # known from its arrival, years later
    lake.seal(through="2022-04-16")
    lake.samples("ctr", day="2022-04-15")
    lake.pin("p")
    with pytest.raises(SamplesError, match="no sample to pack") as caught:
        lake.pack("ctr", pin="p", out=tmp_path / "out")
    assert "available_at" in str(caught.value)
    assert not (tmp_path / "out").exists()
