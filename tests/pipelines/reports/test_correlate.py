"""Correlation of daily quality with daily metrics: joined by day, honest about how few days there are."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

from reclake.pipelines.reports.correlate import correlate
from reclake.quality import gate
from reclake.quality.correlation import CORRELATION, MEASURES, correlate_days, daily_metrics, daily_quality
from reclake.schemas import shapes
from reclake.storage.catalog import Catalog

FIRST = date(2022, 5, 1)


def table(rows: list[dict[str, Any]], schema: pa.Schema) -> pa.Table:
    return pa.Table.from_pylist(rows, schema)


def verdicts(shares: list[float], *, name: str = "events") -> pa.Table:
    """A batch of 1,000 events a day, of which these shares were quarantined, and a check that failed for them."""
    rows: list[dict[str, Any]] = []
    for place, share in enumerate(shares):
        bad = round(1000 * share)
        common = {
            "verdict_id": f"v{place}",
            "run_id": "r",
            "at": datetime(2022, 6, 1, tzinfo=UTC),
            "table": name,
            "contract": "events",
            "contract_version": 1,
            "source": "s",
            "event_day": FIRST + timedelta(days=place),
            "verdict": "quarantine" if bad else "pass",
            "severity": "error",
            "success": bad == 0,
            "evaluated": 1000,
            "unexpected": bad,
        }
        rows.append(common | {"check": "batch", "admitted": 990 - bad, "duplicates": 10, "late": 0})
        rows.append(common | {"check": "expect_column_values_to_be_between", "column": "watch_ms"})
    return table(rows, shapes.VERDICTS)


def metrics(values: list[float], *, run: str = "r", samples: int = 100) -> pa.Table:
    common = {"run_id": run, "pin": "p", "model": "toy", "label": "click", "metric": "auc", "slice": "day"}
    rows = [
        common
        | {"slice_value": str(FIRST + timedelta(days=i)), "value": v, "samples": samples, "positives": samples // 2}
        for i, v in enumerate(values)
    ]
    return table(rows, shapes.METRICS)


def frames(shares: list[float], values: list[float]) -> pl.DataFrame:
    quality = daily_quality(pl.DataFrame(verdicts(shares)))
    return correlate_days(quality, daily_metrics(pl.DataFrame(metrics(values))), seed=1)


def row(found: pl.DataFrame, measure: str) -> dict[str, Any]:
    return found.row(by_predicate=pl.col("measure") == measure, named=True)


def test_quality_of_a_day_is_shares_of_rows_read_and_checks_failed() -> None:
    days = daily_quality(pl.concat([pl.DataFrame(verdicts([0.1, 0.0])), pl.DataFrame(verdicts([0.3]))]))
    assert days["day"].to_list() == [FIRST, FIRST + timedelta(days=1)]
    assert days.row(0, named=True) == {
        "day": FIRST,
        "rows": 2000,
        "quarantined_share": pytest.approx(0.2),
        "duplicate_share": pytest.approx(0.01),
        "late_share": 0.0,
        "failed_checks": 2.0,
    }


def test_a_day_that_was_evaluated_twice_counts_with_its_mean_weighted_by_samples() -> None:
    twice = pl.concat([pl.DataFrame(metrics([0.7])), pl.DataFrame(metrics([0.6], run="s", samples=300))])
    assert daily_metrics(twice)["value"].to_list() == [pytest.approx(0.625)]


def test_a_worse_day_with_a_lower_metric_correlates_negatively() -> None:
    shares = [0.0, 0.01, 0.02, 0.03, 0.05, 0.08, 0.1]
    found = row(frames(shares, [0.75, 0.74, 0.74, 0.73, 0.71, 0.7, 0.68]), "quarantined_share")
    assert found["days"] == 7
    assert found["rho"] < -0.9
    assert found["low"] <= found["rho"] <= found["high"] < 0
    assert found["p"] < 0.01
    assert found["note"] == ""


@pytest.mark.parametrize("days", [1, 2, 4])
def test_fewer_than_five_days_give_no_figure_and_say_so(days: int) -> None:
    found = frames([0.1 * i for i in range(days)], [0.7 + 0.01 * i for i in range(days)])
    assert found["measure"].to_list() == list(MEASURES)
    assert found.select("rho", "low", "high", "p").null_count().row(0) == (4, 4, 4, 4)
    assert set(found["note"]) == {f"too few days: {days} of the 5 it takes"}


def test_a_measure_that_never_changes_has_no_correlation_and_says_so() -> None:
    found = frames([0.0, 0.01, 0.02, 0.03, 0.05], [0.75, 0.74, 0.74, 0.73, 0.71])
    assert row(found, "duplicate_share")["rho"] is None
    assert row(found, "duplicate_share")["note"] == "duplicate share is the same on every day"


def test_the_same_rows_give_the_same_interval() -> None:
    shares, values = [0.0, 0.03, 0.01, 0.02, 0.05, 0.04], [0.7, 0.71, 0.69, 0.72, 0.66, 0.68]
    assert frames(shares, values).equals(frames(shares, values))


def test_days_that_only_one_side_knows_are_left_out() -> None:
    assert row(frames([0.0] * 9, [0.7, 0.71, 0.69]), "late_share")["days"] == 3
    assert frames([0.1], []).is_empty()


def test_a_lake_without_metrics_gives_an_empty_frame_of_the_same_shape(tmp_path: Path) -> None:
    catalog = Catalog.create(tmp_path / "lake")
    assert correlate(catalog).schema == CORRELATION
    assert correlate(catalog).is_empty()


def test_a_lake_is_correlated_from_its_own_tables_and_by_pin(tmp_path: Path) -> None:
    catalog = Catalog.create(tmp_path / "lake")
    shares = [0.0, 0.01, 0.02, 0.03, 0.05, 0.08]
    catalog.table("verdicts").append(gate.record(verdicts(shares), shapes.VERDICTS, name="verdicts"))
    derived = verdicts([0.9] * 6, name="timelines")
    catalog.table("verdicts").append(gate.record(derived, shapes.VERDICTS, name="verdicts"))
    values = metrics([0.75, 0.74, 0.73, 0.72, 0.71, 0.7])
    catalog.table("metrics").append(gate.record(values, shapes.METRICS, name="metrics"))
    assert row(correlate(catalog, pin="p"), "quarantined_share")["rho"] == pytest.approx(-1.0)
    assert correlate(catalog, pin="another").is_empty()
