"""Sealing: ordinals, eras, the directory, watermarks, engines."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import reclake
from reclake.pipelines.doctor import examine
from reclake.pipelines.ordinals import directory_of, give_ordinals
from reclake.pipelines.run import Run
from reclake.schemas.errors import EngineError, SealError, UsageError
from reclake.schemas.times import US_PER_DAY, to_us
from reclake.storage import followed
from reclake.storage.catalog import SEAL
from reclake.storage.table import Commit, Staged, Table

START = to_us("2024-03-01")
NOW = Run(id="test", now_us=lambda: START + 10 * US_PER_DAY)
NONE = pl.DataFrame(schema={"user_id": pl.Int64, "next_ordinal": pl.Int64})


def events(*rows: tuple[str, int, int]) -> pl.DataFrame:
    ids, users, known = zip(*rows, strict=True)
    return pl.DataFrame({"event_id": ids, "user_id": users, "known_at": known, "bucket": [0] * len(ids)}).with_columns(
        pl.col("known_at").cast(pl.Datetime("us", "UTC")), pl.col("bucket").cast(pl.Int32)
    )


def test_ordinals_follow_known_at_and_ties_follow_event_id() -> None:
    ordered = give_ordinals(events(("c", 1, 5), ("b", 1, 5), ("a", 1, 9), ("z", 2, 1)), NONE, "e")
    assert ordered.select("event_id", "ordinal").rows() == [("b", 0), ("c", 1), ("a", 2), ("z", 0)]


def test_ordinals_go_on_where_the_timeline_ended() -> None:
    first = pl.DataFrame({"user_id": [1], "next_ordinal": [7]})
    ordered = give_ordinals(events(("a", 1, 5), ("b", 2, 5)), first, "e")
    assert ordered["ordinal"].to_list() == [7, 0]
    assert directory_of(ordered).select("user_id", "first_ordinal", "count").rows() == [(1, 7, 1), (2, 0, 1)]


def lake_of(folder: Path, rows: int = 600, days: int = 3) -> reclake.Lake:
    rng = np.random.Generator(np.random.PCG64(3))
    lake = reclake.Lake.create(folder / "lake", buckets=4)
    time = START + rng.integers(0, days * US_PER_DAY, rows)
    frame = pl.DataFrame(
        {
            "event_id": [f"e{n}" for n in range(rows)],
            "user_id": rng.integers(0, 40, rows),
            "item_id": rng.integers(0, 9, rows),
            "event_type": rng.choice(["exposure", "click"], rows),
            "event_time": time,
            "available_at": time,
        }
    )
    frame.write_parquet(folder / "events.parquet")
    lake.ingest("events", folder / "events.parquet", run=NOW)
    return lake


def timelines(lake: reclake.Lake) -> pl.DataFrame:
    return lake.catalog.table("timelines").scan().sort("user_id", "ordinal").collect()


def test_sealing_day_by_day_gives_what_sealing_at_once_gives(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    once, daily = lake_of(tmp_path / "a"), lake_of(tmp_path / "b")
    assert len(once.seal(run=NOW).eras) == 3
    for day in ("2024-03-02", "2024-03-03", "2024-03-04"):
        assert len(daily.seal(through=day, run=NOW).eras) == 1
    assert timelines(once).equals(timelines(daily))
    assert once.seal(run=NOW).eras == ()


def test_half_a_day_is_an_era_too(tmp_path: Path) -> None:
    lake = lake_of(tmp_path)
    made = lake.seal(through="2024-03-01T12:00:00Z", run=NOW)
    assert made.eras == ("20240301T000000-20240301T120000",)
    lake.seal(run=NOW)
    assert (timelines(lake).group_by("user_id").agg(pl.col("ordinal").max() + 1 - pl.len())["ordinal"] == 0).all()


def test_a_timeline_is_read_back_to_the_last_events_asked_for(tmp_path: Path) -> None:
    lake = lake_of(tmp_path)
    lake.seal(through="2024-03-03", run=NOW)
    whole = lake.timeline(7).to_pylist()
    for last in (0, 1, 3, len(whole), len(whole) + 5):
        assert lake.timeline(7, last=last).to_pylist() == (whole[-last:] if last else [])
    before = whole[len(whole) // 2]["known_at"]
    expected = [event for event in whole if event["known_at"] < before]
    assert lake.timeline(7, before=before).to_pylist() == expected
    assert lake.timeline(7, before=before, last=2).to_pylist() == expected[-2:]
    assert lake.timeline(999_999).num_rows == 0
    assert lake.timeline(np.int64(7), last=np.int64(2)).to_pylist() == whole[-2:]


@pytest.mark.parametrize("user", ["7", 7.0, True, None, 2**63])
def test_what_is_no_id_has_no_timeline(tmp_path: Path, user: Any) -> None:
    with pytest.raises(UsageError, match="not a user id"):
        lake_of(tmp_path).timeline(user)


def test_a_span_that_is_not_over_cannot_be_sealed(tmp_path: Path) -> None:
    lake = lake_of(tmp_path)
    with pytest.raises(SealError, match="not over"):
        lake.seal(through=NOW.now_us() + 1, run=NOW)
    assert lake.catalog.sealed_through_us is None
    assert lake.seal(through=NOW.now_us(), run=NOW).rows == 600


class Killed(BaseException):
    """Nothing catches it, as nothing catches a kill."""


@pytest.mark.parametrize(
    ("began", "eras_before_the_kill", "then"),
    [
        ("2024-03-03", 1, "2024-03-02T12:00:00Z"),  # a shorter span
        ("2024-03-01T12:00:00Z", 0, "2024-03-03"),  # a longer one, whose first day holds what was begun
        ("2024-03-02T12:00:00Z", 1, "2024-03-04"),
    ],
)
def test_a_span_that_was_cut_off_is_finished_as_it_was_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, began: str, eras_before_the_kill: int, then: str
) -> None:
    lake = lake_of(tmp_path)
    commit, done = Table.commit, 0

    def killed(table: Table, staged: Sequence[Staged], what: Commit) -> int:
        nonlocal done
        if table.name == "timelines":
            if done == eras_before_the_kill:
                raise Killed
            done += 1
        return commit(table, staged, what)

    with monkeypatch.context() as patched:
        patched.setattr(Table, "commit", killed)
        with pytest.raises(Killed):
            lake.seal(through=began, run=NOW)
    assert lake.seal(through=then, run=NOW).through_us == max(to_us(began), to_us(then))
    lake.seal(run=NOW)
    assert [finding for finding in examine(lake.catalog) if not finding.kept] == []
    rows = timelines(lake)
    assert rows.height == 600
    assert rows.equals(rows.sort("user_id", "known_at", "event_id"))


def test_a_seal_that_meets_the_barrier_of_another_finishes_that_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = lake_of(tmp_path)
    events, mark = lake.catalog.table("events"), Table.mark

    def overtaken(table: Table, **options: Any) -> int:
        monkeypatch.setattr(Table, "mark", mark)
        events.mark(transactions={SEAL: to_us("2024-03-01T12:00:00Z")})
        return mark(table, **options)

    monkeypatch.setattr(Table, "mark", overtaken)
    assert lake.seal(through="2024-03-02", run=NOW).eras == (
        "20240301T000000-20240301T120000",
        "20240301T120000-20240302T000000",
    )
    assert [finding for finding in examine(lake.catalog) if not finding.kept] == []


def test_sealing_waits_for_the_watermark_of_a_followed_source(tmp_path: Path) -> None:
    lake = lake_of(tmp_path)
    source = followed.Source("folder-x", "events", "/inbox")
    with followed.following(lake.catalog.sources_folder, source, START + US_PER_DAY):
        with pytest.raises(SealError, match="has not got so far"):
            lake.seal(through="2024-03-03", run=NOW)
        assert lake.catalog.sealed_through_us is None
        assert lake.seal(through="2024-03-02", run=NOW).rows > 0
        forced = lake.seal(through="2024-03-03", ignore_watermarks=True, run=NOW)
        assert (forced.watermarks_ignored, forced.followers_gone) == (("/inbox",), ())
        assert [each.source for each in lake.catalog.followed()] == [source]
    assert lake.catalog.followed() == []


def test_content_that_comes_after_a_seal_is_known_after_it_whether_or_not_the_table_was_there(tmp_path: Path) -> None:
    lake = lake_of(tmp_path)
    for item, day in enumerate(("2024-03-02", "2024-03-03")):
        lake.seal(through=day, run=NOW)
        row = {"item_id": item, "plan": "p", "input_digest": f"d{item}", "available_at": START}
        (tmp_path / f"{item}.jsonl").write_text(json.dumps(row) + "\n")
        assert lake.ingest("content", tmp_path / f"{item}.jsonl", run=NOW).admitted == 1
    rows = lake.catalog.table("content").scan().sort("item_id").collect()
    assert rows["available_at"].to_physical().to_list() == [START, START]
    assert rows["known_at"].to_physical().to_list() == [NOW.now_us(), NOW.now_us()]


def test_an_empty_lake_and_an_unknown_engine_are_refused(tmp_path: Path) -> None:
    lake = reclake.Lake.create(tmp_path / "lake")
    with pytest.raises(SealError, match="no events"):
        lake.seal()
    with pytest.raises(EngineError, match="unknown engine"):
        lake.seal(engine="flink")


@pytest.mark.spark
@pytest.mark.timeout(600)
def test_spark_seals_the_same_rows_as_the_local_engine(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    local, spark = lake_of(tmp_path / "a", days=2), lake_of(tmp_path / "b", days=2)
    local.seal(through="2024-03-02", run=NOW)
    local.seal(run=NOW)
    spark.seal(through="2024-03-02", engine="spark", run=NOW)
    spark.seal(engine="spark", run=NOW)
    assert timelines(spark).equals(timelines(local))
    directory = [lake.catalog.table("directory").scan().sort("era", "user_id").collect() for lake in (local, spark)]
    assert directory[0].equals(directory[1])
    assert json.dumps([local.catalog.sealed_through_us]) == json.dumps([spark.catalog.sealed_through_us])


@pytest.mark.spark
def test_the_bucket_is_sparks_own_xxhash64() -> None:
    from pyspark.sql import functions as f

    from reclake.pipelines.engines.spark import session
    from reclake.schemas.buckets import bucket_of, xxhash64

    ids = [0, 1, 42, -1, 2**62, -(2**62), 123_456_789]
    with session() as spark:
        frame = spark.createDataFrame([(i,) for i in ids], "id long")
        rows = frame.select(f.xxhash64("id"), f.expr("pmod(xxhash64(id), 16)")).collect()
    assert [row[0] for row in rows] == xxhash64(ids).tolist()
    assert [row[1] for row in rows] == bucket_of(ids, 16).tolist()


def test_buckets_are_what_they_have_always_been() -> None:
    from reclake.schemas.buckets import bucket_of, xxhash64

    assert xxhash64([0, 1, 42, -1]).tolist() == [
        -5252525462095825812,
        -7001672635703045582,
        -6876166290308861218,
        3858142552250413010,
    ]
    assert bucket_of(range(10), 16).tolist() == [12, 2, 13, 11, 3, 5, 10, 1, 11, 12]
