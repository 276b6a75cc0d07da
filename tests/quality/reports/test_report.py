"""The report: everything it must say, nothing loaded from anywhere, whatever the data holds."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from html.parser import HTMLParser
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

from reclake.quality.correlation import correlate_days, daily_metrics, daily_quality
from reclake.quality.reports.report import ReportData, render
from reclake.schemas import shapes

FIRST = date(2022, 5, 1)
CHECKS = [
    ("expect_column_values_to_not_be_null", "event_id", "error"),
    ("expect_column_values_to_be_between", "event_time", "error"),
    ("expect_column_values_to_be_between", "watch_ms", "error"),
    ("expect_column_values_to_match_regex", "event_type", "critical"),
    ("expect_column_values_to_not_be_null", "available_at", "warning"),
]


def frame(rows: list[dict[str, Any]], schema: pa.Schema) -> pl.DataFrame:
    """Rows as a table of reclake's is read: missing columns are null."""
    return pl.DataFrame(pa.Table.from_pylist(rows, schema))


def verdicts(days: int) -> pl.DataFrame:
    rows: list[dict[str, Any]] = []
    for i in range(days):
        day = FIRST + timedelta(days=i)
        read = 16_000 + 900 * (i % 5)
        bad = 3 + (i * i) % 40 if i % 3 else 0
        verdict = "quarantine" if bad else "warn" if i % 4 == 0 else "pass"
        at = datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=1)
        common = {
            "verdict_id": f"v{i:02}",
            "run_id": "run-1",
            "at": at,
            "table": "events",
            "contract": "events",
            "contract_version": 1,
            "source": f"day{i:02}.avro",
            "event_day": day,
            "verdict": verdict,
        }
        sums = {"admitted": read - bad - 40 * (i % 4), "duplicates": 40 * (i % 4), "late": 12 * (i % 6)}
        batch = {"check": "batch", "severity": "error", "success": bad == 0, "evaluated": read, "unexpected": bad}
        rows.append(common | batch | sums)
        for place, (check, column, severity) in enumerate(CHECKS):
            unexpected = bad if place == 2 else 200 if severity == "warning" and i % 4 == 0 else 0
            rows.append(
                common
                | {"check": check, "column": column, "severity": severity, "success": unexpected == 0}
                | {"evaluated": read, "unexpected": unexpected, "observed": f"{unexpected} rows"}
            )
    return frame(rows, shapes.VERDICTS)


def metrics(days: int) -> pl.DataFrame:
    rows: list[dict[str, Any]] = []
    slices = [("all", "all", 13_690)]
    slices += [("history_length", n, s) for n, s in (("0", 226), ("1-3", 821), ("4-15", 4741), ("16-63", 7096))]
    slices += [("surface", str(n), 4_000 // (n + 1)) for n in range(11)]
    slices += [("day", str(FIRST + timedelta(days=i)), 13_000) for i in range(days)]
    for place, (name, value, samples) in enumerate(slices):
        for model, level in (("toy", 0.73), ("popularity", 0.66)):
            center = level + 0.01 * ((place * 7) % 5 - 2)
            half = 0.5 / samples**0.5
            none = name == "surface" and value == "3"
            rows.append(
                {"model": model, "metric": "auc", "slice": name, "slice_value": value, "samples": samples}
                | {"value": None if none else center, "low": None if none else center - half}
                | {"high": None if none else center + half, "positives": 0 if none else samples // 2}
            )
    rows.append(
        {"model": "toy", "metric": "auc_gain", "slice": "all", "slice_value": "all", "value": 0.07, "low": 0.062}
        | {"high": 0.078, "samples": 13_690, "positives": 6_163}
    )
    return frame([{"run_id": "run-1", "pin": "ctr", "label": "click"} | row for row in rows], shapes.METRICS)


def report_data(days: int = 14) -> ReportData:
    seen, values = verdicts(days), metrics(days)
    quality, by_day = daily_quality(seen), daily_metrics(values)
    labels = [
        {"recipe": "ctr", "label": label, "day": FIRST + timedelta(days=i), "samples": 14_000}
        | {
            "mature": 14_000 if i < days - 1 else 9_000,
            "positives": int((rate + 90 * (i % 3)) * (1 if i < days - 1 else 0.64)),
        }
        for label, rate in (("click", 6_100), ("long_view", 4_300))
        for i in range(days)
    ]
    lengths = [(0, 0, 4_000)] + [(2**k, 2 ** (k + 1) - 1, 30_000 // (1 + abs(k - 4) ** 2)) for k in range(9)]
    reasons = [
        ("events", "expect_column_values_to_be_between", "watch_ms", "error", ">= 0", ["-17", "-4"], 212),
        ("events", "decode", None, "error", "valid JSON", ['{"user_id": <b>&'], 31),
    ]
    tables = [("events", 236_104, 28, 3_400_000, 27, 25), ("samples/ctr", 195_712, 14, 5_100_000, 13, None)]
    return ReportData(
        lake="lake",
        pin="ctr-2022-05-14",
        sealed_through_us=1_652_572_800_000_000,
        generated_at_us=1_652_580_000_123_456,
        verdicts=seen,
        reasons=pl.DataFrame(
            reasons, schema=["contract", "check", "column", "severity", "expected", "got", "rows"], orient="row"
        ),
        quarantine=pl.DataFrame({"outcome": ["waiting", "admitted"], "rows": [243, 18]}),
        labels=pl.DataFrame(labels),
        history=pl.DataFrame(
            [("ctr", *row) for row in lengths], schema=["recipe", "low", "high", "samples"], orient="row"
        ),
        metrics=values,
        correlation=correlate_days(quality, by_day, seed=1),
        days=quality.join(by_day.filter(pl.col("metric") == "auc").drop("samples"), on="day"),
        tables=pl.DataFrame(tables, schema=["table", "rows", "files", "bytes", "version", "pinned"], orient="row"),
        nouns=pl.DataFrame(
            {"kind": ["contract", "recipe"], "name": ["events", "ctr"], "version": [1, 2], "fingerprint": ["a1", "b2"]}
        ),
    )


def empty_data() -> ReportData:
    full = report_data()
    names = (
        "verdicts",
        "reasons",
        "quarantine",
        "labels",
        "history",
        "metrics",
        "correlation",
        "days",
        "tables",
        "nouns",
    )
    frames = {name: getattr(full, name).clear() for name in names}
    return ReportData(lake="new", pin=None, sealed_through_us=None, generated_at_us=0, **frames)


VOID = {"meta", "link", "br", "img", "hr", "input"}


class Balanced(HTMLParser):
    """Collects addresses and text, and fails on a tag that is closed out of order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href", "data")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href", "data")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def read(html: str) -> Balanced:
    parser = Balanced()
    parser.feed(html)
    assert parser.open == []
    return parser


@pytest.mark.parametrize("data", [report_data(), report_data(1), empty_data()], ids=["full", "one day", "empty"])
def test_nothing_is_loaded_from_anywhere(data: ReportData) -> None:
    html = render(data)
    assert all(address.startswith(("#", "data:")) for address in read(html).addresses)
    assert not re.search(r"<script|@import|url\(|<iframe|<img|<object|https?://", html)


def test_every_section_is_there_in_the_order_of_the_questions() -> None:
    anchors = re.findall(r'<section id="(\w+)"', render(report_data()))
    assert anchors == ["summary", "quality", "quarantine", "labels", "history", "model", "correlation", "versions"]


def test_the_law_is_checked_and_shown() -> None:
    text = " ".join(read(render(report_data())).text)
    assert (
        "✓ 247,400 read = 246,504 admitted + 136 quarantined + 760 duplicates. It holds in each of 14 batches." in text
    )


def test_a_batch_that_loses_rows_is_called_out() -> None:
    data = report_data()
    admitted = pl.when(pl.col("verdict_id") == "v03").then(pl.col("admitted") - 5).otherwise(pl.col("admitted"))
    html = render(replace(data, verdicts=data.verdicts.with_columns(admitted)))
    assert "✗" in html
    assert "5 not accounted for, in 1 batch, first in day03.avro" in html


def test_a_stopped_batch_is_told_apart_and_not_counted() -> None:
    data = report_data()
    stop = pl.when(pl.col("verdict_id") == "v02").then(pl.lit("stop")).otherwise(pl.col("verdict")).alias("verdict")
    html = render(replace(data, verdicts=data.verdicts.with_columns(stop)))
    assert "1 batch was stopped by a critical check (17,800 events read)" in html
    assert "It holds in each of 13 batches" in html
    assert 'class="cell stop"' in html


def test_what_was_quarantined_is_shown_with_examples_escaped() -> None:
    html = render(report_data())
    assert "243 events wait in quarantine. Replays brought 18 back in" in html
    assert "{&quot;user_id&quot;: &lt;b&gt;&amp;" in html
    assert "<b>" not in html


def test_hostile_text_from_the_data_stays_text() -> None:
    data = report_data()
    nasty = "</style><script>alert(1)</script>`<i>`"
    verdicts = data.verdicts.with_columns(pl.lit(nasty).alias("contract"), pl.lit(nasty).alias("column"))
    metrics = data.metrics.with_columns(pl.lit(nasty).alias("label"), (nasty + pl.col("model")).alias("model"))
    labels = data.labels.with_columns(pl.lit(nasty).alias("recipe"))
    html = render(replace(data, lake=nasty, pin=nasty, verdicts=verdicts, metrics=metrics, labels=labels))
    assert "<script" not in html
    assert html.count("</style>") == 1
    read(html)


def test_the_model_stands_beside_its_baseline_with_the_paired_difference() -> None:
    html = render(report_data())
    assert "toy beats popularity by 0.070 AUC (95 % interval of the paired difference: 0.062 to 0.078" in html
    assert re.search(r"<title>0\.710 \(0\.706 to 0\.714\)</title>", html)
    assert "Not shown: 1 value with fewer than 10 positives or negatives; 2 values with fewer samples." in html


def test_few_days_are_called_too_few_and_no_figure_is_given() -> None:
    html = render(report_data(3))
    assert "Too few days to say: 3 days have both verdicts and a metric, and it takes 5" in html
    assert "Spearman" not in html


def test_enough_days_give_an_interval_and_a_warning() -> None:
    html = render(report_data())
    assert "14 days. With so few points only a very strong relation shows" in html
    assert "Spearman" in html


def test_an_empty_lake_says_what_is_missing_and_what_fills_it() -> None:
    text = " ".join(read(render(empty_data())).text)
    for command in ("reclake ingest LAKE", "reclake samples LAKE RECIPE --day DAY", "reclake demo"):
        assert command in text


def test_one_day_is_shown_by_batch() -> None:
    html = render(report_data(1))
    assert "Checks by batch" in html
    assert "in 1 batch" in html


def test_the_same_data_gives_the_same_bytes() -> None:
    assert render(report_data()) == render(report_data())


def test_a_year_of_days_stays_small() -> None:
    html = render(report_data(365))
    assert len(html.encode()) < 300_000
    assert "May 1<" not in html  # only the newest 60 days have room
