"""The report of a lake: gathered from its own tables, by pin, written whole or not at all."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

from reclake.pipelines.reports.report import build_report, gather
from reclake.quality import gate
from reclake.schemas import shapes
from reclake.schemas.contract import shipped
from reclake.schemas.errors import PinError, StorageError
from reclake.storage.catalog import Catalog

DAY = date(2022, 5, 2)
NOW = datetime(2022, 5, 3, tzinfo=UTC)
REASON = {"check": "expect_column_values_to_be_between", "column": "watch_ms", "severity": "error", "expected": ">= 0"}


def append(catalog: Catalog, name: str, rows: list[dict[str, Any]], schema: pa.Schema) -> None:
    catalog.table(name).append(gate.record(pa.Table.from_pylist(rows, schema), schema, name=name))


def quarantined(name: str, got: list[str]) -> dict[str, Any]:
    return {
        "quarantine_id": name,
        "contract": "events",
        "contract_version": 1,
        "source": "a.jsonl",
        "row": 1,
        "emit": 0,
        "format": "json",
        "raw": b"{}",
        "reasons": [REASON | {"got": value} for value in got],
        "quarantined_at": NOW,
        "run_id": "r",
    }


def metric(run: str, value: float, *, pin: str = "p", where: tuple[str, str] = ("all", "all")) -> dict[str, Any]:
    row = {"run_id": run, "pin": pin, "model": "toy", "label": "click", "metric": "auc", "value": value, "low": value}
    return row | {"slice": where[0], "slice_value": where[1], "high": value, "samples": 10, "positives": 5}


def batch_verdict(day: date) -> dict[str, Any]:
    row = {"verdict_id": "v", "run_id": "r", "at": NOW, "table": "events", "contract": "events", "contract_version": 1}
    row |= {"source": "a.jsonl", "event_day": day, "verdict": "quarantine", "check": "batch", "severity": "error"}
    return row | {"success": False, "evaluated": 10, "unexpected": 3, "admitted": 6, "duplicates": 1, "late": 0}


def sample(place: int, *, seen: int, click: int, mature: bool = True, negative: bool = False) -> dict[str, Any]:
    return {
        "sample_id": place,
        "user_id": place,
        "item_id": 1,
        "event_id": f"e{place}",
        "request_time": NOW,
        "ordinal": seen,
        "seen": seen,
        "negative": negative,
        "click": click,
        "long_view": 0,
        "label_mature": mature,
        "bucket": 0,
        "day": DAY,
    }


def lake(folder: Path) -> Catalog:
    """A lake with a batch, three quarantined rows of which one came back, six samples and a metric."""
    catalog = Catalog.create(folder / "lake")
    append(catalog, "verdicts", [batch_verdict(DAY)], shapes.VERDICTS)
    rows = [quarantined("a", ["-1"]), quarantined("b", ["-7", "-7"]), quarantined("c", ["-9"])]
    append(catalog, "quarantine", rows, shapes.QUARANTINE)
    replayed = {"contract_version": 2, "replayed_at": NOW, "run_id": "s"}
    outcomes = [("b", "quarantined"), ("c", "admitted")]
    replays = [{"quarantine_id": name, "outcome": outcome} | replayed for name, outcome in outcomes]
    append(catalog, "replays", replays, shapes.REPLAYS)
    schema = shapes.samples(catalog.recipe("ctr"), shapes.timelines(shapes.events(shipped("events"))))
    samples = [
        sample(0, seen=0, click=0),
        sample(1, seen=1, click=1),
        sample(2, seen=2, click=1),
        sample(3, seen=3, click=0),
        sample(4, seen=9, click=0, mature=False),
        sample(5, seen=9, click=0, negative=True),
    ]
    append(catalog, "samples/ctr", samples, schema)
    append(catalog, "metrics", [metric("r", 0.7)], shapes.METRICS)
    return catalog


def test_a_new_lake_has_a_report_that_says_what_is_missing(tmp_path: Path) -> None:
    catalog = Catalog.create(tmp_path / "lake")
    result = build_report(catalog, out=tmp_path / "deep" / "report.html", generated_at_us=0)
    html = result.path.read_text(encoding="utf-8")
    assert result.bytes == result.path.stat().st_size
    assert "reclake ingest LAKE CONTRACT SOURCE" in html
    assert [path.name for path in result.path.parent.iterdir()] == ["report.html"]


def test_the_same_lake_at_the_same_time_gives_the_same_bytes(tmp_path: Path) -> None:
    catalog = lake(tmp_path)
    first, second = (
        build_report(catalog, out=tmp_path / name, generated_at_us=7).path for name in ("a.html", "b.html")
    )
    assert first.read_bytes() == second.read_bytes()


def test_quarantine_counts_rows_that_wait_and_reasons_once_a_row(tmp_path: Path) -> None:
    data = gather(lake(tmp_path), pin=None, generated_at_us=0)
    assert dict(data.quarantine.rows()) == {"waiting": 2, "admitted": 1}
    assert data.reasons.to_dicts() == [REASON | {"contract": "events", "got": ["-1", "-7"], "rows": 2}]


def test_labels_count_mature_exposures_and_no_drawn_negatives(tmp_path: Path) -> None:
    labels = gather(lake(tmp_path), pin=None, generated_at_us=0).labels
    click = labels.row(by_predicate=pl.col("label") == "click", named=True)
    assert click == {"recipe": "ctr", "label": "click", "day": DAY, "samples": 5, "mature": 4, "positives": 2}


def test_history_lengths_fall_into_bins_that_double(tmp_path: Path) -> None:
    history = gather(lake(tmp_path), pin=None, generated_at_us=0).history
    assert history.drop("recipe").rows() == [(0, 0, 1), (1, 1, 1), (2, 3, 2), (8, 15, 1)]


def test_the_newest_run_of_a_label_is_shown_and_its_days_join_those_before(tmp_path: Path) -> None:
    catalog = lake(tmp_path)
    days = [str(DAY), str(DAY + timedelta(days=1))]
    append(catalog, "metrics", [metric("z", 0.5), metric("z", 0.51, where=("day", days[0]))], shapes.METRICS)
    append(catalog, "metrics", [metric("b", 0.8), metric("b", 0.81, where=("day", days[1]))], shapes.METRICS)
    metrics = gather(catalog, pin=None, generated_at_us=0).metrics
    assert metrics.filter(pl.col("slice") == "all")["run_id"].to_list() == ["b"]
    assert sorted(metrics.filter(pl.col("slice") == "day")["slice_value"]) == days


def test_a_pin_shows_its_own_samples_metrics_and_versions(tmp_path: Path) -> None:
    catalog = lake(tmp_path)
    catalog.create_pin("p")
    schema = catalog.table("samples/ctr").schema()
    append(catalog, "samples/ctr", [sample(9, seen=0, click=1)], schema)
    append(catalog, "metrics", [metric("z", 0.5, pin="q")], shapes.METRICS)
    data = gather(catalog, pin="p", generated_at_us=0)
    assert data.history["samples"].sum() == 5
    assert data.metrics["run_id"].to_list() == ["r"]
    pinned = data.tables.row(by_predicate=pl.col("table") == "samples/ctr", named=True)
    assert (pinned["version"], pinned["pinned"]) == (2, 1)


def test_an_unknown_pin_is_an_error_and_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(PinError, match="unknown pin"):
        build_report(lake(tmp_path), out=tmp_path / "r.html", pin="nobody", generated_at_us=0)
    assert not (tmp_path / "r.html").exists()


def test_a_place_that_cannot_hold_a_file_is_refused_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    catalog = Catalog.create(tmp_path / "lake")
    with pytest.raises(StorageError, match="folder cannot be made"):
        build_report(catalog, out=tmp_path / "file" / "deep" / "r.html", generated_at_us=0)
    with pytest.raises(StorageError, match="needs a file name"):
        build_report(catalog, out=tmp_path, generated_at_us=0)
