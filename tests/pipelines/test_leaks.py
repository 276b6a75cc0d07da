"""The leak audit: a lake as it should be passes, with counts; a sample that sees too much or too little is found."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from deltalake import DeltaTable, write_deltalake

from reclake.cli.main import main
from reclake.pipelines.lake import Lake
from reclake.pipelines.leaks import audit
from reclake.quality import gate
from reclake.schemas.errors import PinError

PROMISES = [
    "is in the timeline",
    "was known before",
    "happened before",
    "none was known",
    "all that was known",
    "itself",
    "order of known_at",
    "that were written",
]


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """Three users; each hour an exposure, and a click on it half an hour later that is known another hour later."""
    folder = tmp_path_factory.mktemp("leaks")
    lake = Lake.create(folder / "lake", buckets=2)
    rows = []
    for user in range(3):
        for hour in range(20):
            shown = {"event_id": f"{user}-{hour}", "user_id": user, "item_id": hour % 4, "event_type": "exposure"}
            time = f"2024-03-01T{hour:02}:00:00"
            rows.append(shown | {"event_time": time, "available_at": time})
            click = shown | {"event_id": f"{user}-{hour}-click", "event_type": "click"}
            known = f"2024-03-01T{hour + 1:02}:30:00"
            rows.append(click | {"event_time": f"2024-03-01T{hour:02}:30:00", "available_at": known})
    (folder / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    lake.ingest("events", folder / "a.jsonl")
    lake.seal(through="2024-03-02")
    lake.samples("ctr", day="2024-03-01")
    lake.pin("good")
    return lake


def test_a_lake_as_it_should_be_has_no_leaks_and_says_how_much_was_checked(lake: Lake) -> None:
    findings = audit(lake.catalog, "good")
    assert [f.kept for f in findings] == [True] * 8
    assert all(promise in f.promise for promise, f in zip(PROMISES, findings, strict=True))
    seen = 3 * sum(hour + max(0, hour - 1) for hour in range(20))
    assert f"60 samples, {seen:,} events" in findings[0].detail
    # Of each exposure itself, and of each the clicks on its item from then on: hours h, h + 4, h + 8 …
    feedback = 3 * sum(len(range(hour, 20, 4)) for hour in range(20))
    assert f"{60 + feedback} exposures and feedback events, 0 broken" in findings[5].detail


@pytest.mark.parametrize(
    ("change", "broken"),
    [
        (pl.col("seen") + 1, {1, 5}),  # itself
        (pl.col("seen") + 2, {1, 2, 5}),  # and what came after
        (pl.col("seen") + 100, {0, 5}),  # what is not there
        (pl.col("seen") - 1, {4}),  # less than was known
        (pl.lit(-1, dtype=pl.Int64), {0}),  # what no history is
    ],
)
def test_a_sample_that_sees_too_much_or_too_little_is_found(
    lake: Lake, change: pl.Expr, broken: set[int], request: pytest.FixtureRequest
) -> None:
    table = lake.catalog.table("samples/ctr")
    before = lake.catalog.pin("good").tables["samples/ctr"]
    one = table.scan(before).filter((pl.col("user_id") == 1) & (pl.col("seen") == 17)).collect()
    assert one.height == 1
    schema = table.schema()
    rows = one.with_columns(change.alias("seen")).to_arrow().cast(schema)
    name = f"bad-{request.node.callspec.indices['change']}"
    table.append(gate.record(rows, schema, name="samples"), transactions={name: 1})
    lake.pin(name)
    findings = audit(lake.catalog, name)
    assert broken <= {number for number, finding in enumerate(findings) if not finding.kept}
    assert all(f"such as sample {one['sample_id'][0]}" in findings[number].detail for number in broken)


AT = {"user_id": 1, "ordinal": 8}  # the exposure of hour 4; at 9 the click of hour 3


EARLIER = pl.col("known_at") - pl.duration(minutes=10)


def planted(lake: Lake, folder: Path, table: str, change: Callable[[pl.DataFrame], pl.DataFrame]) -> list[str]:
    """The promises that are broken once somebody wrote a table anew."""
    shutil.copytree(lake.catalog.root, folder / "lake")
    bad = Lake.open(folder / "lake")
    uri = bad.tables()[table]
    parts = DeltaTable(uri).metadata().partition_columns
    write_deltalake(
        uri, change(pl.read_delta(uri)).to_arrow(), mode="overwrite", partition_by=parts, schema_mode="overwrite"
    )
    bad.pin("planted")
    return [finding.promise for finding in audit(bad.catalog, "planted") if not finding.kept]


def put(**values: pl.Expr) -> Callable[[pl.DataFrame], pl.DataFrame]:
    """Other values in the one row that `AT` says."""
    here = pl.all_horizontal(pl.col(name) == value for name, value in AT.items())
    return lambda rows: rows.with_columns(
        pl.when(here).then(value).otherwise(name).cast(rows.schema[name]).alias(name) for name, value in values.items()
    )


def swapped(one: int, other: int) -> Callable[[pl.DataFrame], pl.DataFrame]:
    ordinal = pl.when(pl.col("ordinal") == one).then(other).when(pl.col("ordinal") == other).then(one)
    return lambda rows: rows.with_columns(ordinal.otherwise("ordinal").cast(pl.Int64).alias("ordinal"))


@pytest.mark.parametrize(
    ("table", "change", "broken"),
    [
        ("timelines", put(known_at=pl.col("known_at") + pl.duration(hours=9)), "known before the request"),
        ("timelines", put(known_at=pl.col("known_at") + pl.duration(minutes=45)), "order of known_at"),
        ("timelines", put(known_at=pl.lit(None)), "none was known before it happened"),
        ("timelines", put(event_time=pl.col("event_time") + pl.duration(hours=9)), "happened before it"),
        ("timelines", swapped(8, 30), "known before the request"),
        ("timelines", swapped(8, 9), "order of known_at"),  # nothing too early, and yet another history
        ("timelines", lambda rows: rows.filter(pl.col("ordinal") != 8), "every event before `seen`"),
        # Backdated, and everything else in keeping with it.
        ("timelines", put(**dict.fromkeys(("event_time", "available_at", "known_at"), EARLIER)), "that were written"),
        ("timelines", lambda rows: rows.filter(pl.col("ordinal") < 39), "that were written"),
        ("samples/ctr", put(request_time=pl.lit(None)), "known before the request"),
        ("samples/ctr", put(seen=pl.lit(None)), "every event before `seen`"),
        ("samples/ctr", put(bucket=pl.lit(7)), "every event before `seen`"),
        # Its own exposure is elsewhere, so its own feedback could stand anywhere.
        ("samples/ctr", put(ordinal=pl.lit(10**6)), "no sample sees itself"),
        ("samples/ctr", put(ordinal=pl.lit(None)), "no sample sees itself"),
    ],
)
def test_a_leak_is_found_wherever_it_was_planted(
    lake: Lake, tmp_path: Path, table: str, change: Callable[[pl.DataFrame], pl.DataFrame], broken: str
) -> None:
    promises = planted(lake, tmp_path, table, change)
    assert any(broken in promise for promise in promises), promises


def test_the_command_says_what_it_found_and_fails_if_that_is_a_leak(
    lake: Lake, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor", str(lake.catalog.root), "--leaks", "good"]) == 0
    assert "every one was known before the request" in " ".join(capsys.readouterr().out.split())
    assert main(["doctor", str(lake.catalog.root), "--leaks", "nothing"]) == 1


def test_a_pin_without_samples_is_an_error(tmp_path: Path) -> None:
    lake = Lake.create(tmp_path / "lake")
    lake.pin("empty")
    with pytest.raises(PinError, match="no samples"):
        audit(lake.catalog, "empty")
