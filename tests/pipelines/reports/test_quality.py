"""The quality report: what changed, what fails, who is shown; and both reports in a real browser, on the wire alone."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from browser import Knocks, Page, browsing

import reclake
from reclake.pipelines.reports.quality import Mask, failed_row, gather_quality
from reclake.pipelines.run import Run
from reclake.quality.expectation import PERSONAL
from reclake.quality.reports.commits import CommitSeen, commits_sections
from reclake.quality.reports.quality_report import render_quality
from reclake.schemas.contract import Contract, shipped
from reclake.schemas.errors import GateError
from reclake.schemas.times import to_us

DAYS = 5
FIRST = date(2024, 3, 1)
NOW = datetime(2024, 3, 7, tzinfo=UTC)
USER = 700_000_000_000_007
MARKED: list[dict[str, Any]] = [
    {"name": "town", "type": ["null", "string"], "default": None, "field-id": 91, "pii": "keep", "purpose": "tax"},
    {"name": "price", "type": ["null", "double"], "default": None, "field-id": 92},
]
CHECKS = [
    {"type": "expect_column_values_to_be_between", "kwargs": {"column": "price", "min_value": 0}},
    {"type": "expect_column_values_to_not_match_regex", "kwargs": {"column": "town", "regex": "^[0-9]+$"}},
    {
        "type": "expect_column_mean_to_be_between",
        "kwargs": {"column": "price", "max_value": 50},
        "meta": {"severity": "warning"},
    },
    {
        "type": "expect_column_values_to_be_in_set",
        "kwargs": {"column": "event_type", "value_set": ["view", "buy"]},
        "meta": {"severity": "critical"},
    },
]


def day_of(n: int) -> list[dict[str, Any]]:
    """Twenty events of a day. Even days are good; odd ones have a price below zero, a town of digits and a bad id."""
    at = to_us((FIRST + timedelta(days=n)).isoformat())
    rows: list[dict[str, Any]] = [
        {
            "event_id": f"d{n}e{i}",
            "user_id": USER + i % 3,
            "item_id": i,
            "event_type": "view",
            "event_time": at + i,
            "price": 10.0 * n + i,
            "town": "Ulm",
            "unread": "secret words",
        }
        for i in range(20)
    ]
    if n % 2:
        rows[3]["price"], rows[4]["town"], rows[5]["user_id"] = -7.5, "4711", "<b>nobody</b>"
    return rows


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> reclake.Lake:
    """Five days through a gate, one line that is no JSON, and a batch that was stopped."""
    folder = tmp_path_factory.mktemp("quality")
    schema = shipped("events").avro_schema
    (folder / "mine.avsc").write_text(json.dumps(schema | {"fields": [*schema["fields"], *MARKED]}))
    (folder / "mine.suite.json").write_text(json.dumps({"name": "mine", "expectations": CHECKS}))
    (folder / "mine.contract.json").write_text("{}")
    lake = reclake.Lake.create(folder / "lake", buckets=2)
    lake.add_contract(folder / "mine.avsc")
    for n in range(DAYS - 1):
        lines = [json.dumps(row) for row in day_of(n)] + (['{"town": "Ulm", oh'] if n == 1 else [])
        (folder / f"day{n}.jsonl").write_text("\n".join(lines))
        lake.ingest("mine", folder / f"day{n}.jsonl", run=Run(now_us=lambda: to_us(NOW)))
    (folder / "stop.jsonl").write_text(json.dumps(day_of(DAYS - 1)[0] | {"event_type": "swim"}))
    for at_us in (to_us(NOW), to_us(NOW) + 1):  # the same batch, stopped twice
        with pytest.raises(GateError):
            lake.ingest("mine", folder / "stop.jsonl", run=Run(now_us=itertools.repeat(at_us).__next__))
    return lake


@pytest.fixture(scope="module")
def html(lake: reclake.Lake) -> str:
    return render_quality(gather_quality(lake.catalog, generated_at_us=to_us(NOW)))


def section(html: str, name: str) -> str:
    found = re.search(rf'<section id="{name}">(.*?)</section>', html, re.DOTALL)
    assert found is not None
    return found[1]


def text(html: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html))


def test_it_begins_with_what_changed_since_the_day_before(html: str) -> None:
    told = text(section(html, "changes"))
    assert "mine: Mar 5, against Mar 4" in told
    assert "2 batches were stopped by a critical check" in told
    assert "new event_type: values to be in set: 2 of 2 rows fail" in told
    assert "mended price: values to be between: was 1 of 19 rows fail" in told


def test_rows_that_did_not_reach_the_gate_are_checks_with_a_history_too(html: str) -> None:
    every = section(html, "checks")
    assert re.search(r"user_id: resolve.*?2 of 5", text(every))
    assert re.search(r"decode.*?1 of 5", text(every))


def test_every_check_has_a_sparkline_and_one_that_observes_a_number_a_line(html: str) -> None:
    every = section(html, "checks")
    assert len(re.findall(r'<svg class="spark"', every)) == len(re.findall(r"<tr", every)) - 1
    mean = re.search(r"price: mean to be between.*?</tr>", every)
    assert mean is not None
    assert "<polyline" in mean[0]


def test_failing_checks_say_what_was_expected_and_since_when(html: str) -> None:
    told = text(section(html, "failing"))
    assert "event_type: values to be in set critical one of view, buy &quot;swim&quot; 2 100 % Mar 5" in told


def test_quarantine_is_counted_by_reason_and_source(html: str) -> None:
    told = text(section(html, "quarantine"))
    assert "Waits 7" in told
    for reason in ("price: values to be between 2", "town: values to not match regex 2", "the row: decode 1"):
        assert f"mine, {reason}" in told


def test_what_is_only_a_warning_refused_nothing(tmp_path: Path) -> None:
    (tmp_path / "mine.avsc").write_text(json.dumps(shipped("events").avro_schema))
    checks = [("user_id", "error"), ("item_id", "warning")]
    type_ = "expect_column_values_to_be_between"
    suite = [{"type": type_, "kwargs": {"column": c, "min_value": 0}, "meta": {"severity": s}} for c, s in checks]
    (tmp_path / "mine.suite.json").write_text(json.dumps({"name": "mine", "expectations": suite}))
    lake = reclake.Lake.create(tmp_path / "lake", buckets=2)
    lake.add_contract(tmp_path / "mine.avsc")
    row = {"event_id": "a", "user_id": -1, "item_id": -1, "event_type": "click", "event_time": to_us(NOW)}
    (tmp_path / "a.jsonl").write_text(json.dumps(row))
    assert lake.ingest("mine", tmp_path / "a.jsonl").quarantined == 1
    told = text(section(render_quality(gather_quality(lake.catalog, generated_at_us=to_us(NOW))), "quarantine"))
    assert "mine, user_id: values to be between 1" in told
    assert "item_id" not in told


def test_failed_rows_are_shown_without_personal_values_and_without_what_nobody_reads(html: str) -> None:
    shown = section(html, "rows")
    assert "<i>price</i> <b>-7.5</b>" in shown
    assert "&lt;b&gt;nobody&lt;/b&gt;" in shown
    assert f"<i>town</i> <b>{PERSONAL}</b>" in shown
    for hidden in ("Ulm", "4711", "secret words", "oh"):
        assert hidden not in text(shown).split()
        assert f">{hidden}<" not in html
    assert "4711" not in html
    assert "secret words" not in html


def test_a_commit_links_to_its_verdict_and_the_verdict_back(html: str) -> None:
    ids = set(re.findall(r'id="([^"]+)"', html))
    links = re.findall(r'href="#([^"]+)"', html)
    assert set(links) <= ids
    verdict = re.search(r'<tr id="(verdict-\d+)">(?:(?!</tr>).)*day3\.jsonl.*?</tr>', html, re.DOTALL)
    assert verdict is not None
    there = re.search(r'href="#(commit-events-\d+)"', verdict[0])
    assert there is not None
    commit = re.search(rf'<tr id="{there[1]}">.*?</tr>', html, re.DOTALL)
    assert commit is not None
    assert f'href="#{verdict[1]}"' in commit[0]


def test_of_a_commit_of_many_batches_the_worst_verdicts_are_shown_and_how_many_more(lake: reclake.Lake) -> None:
    data = gather_quality(lake.catalog, generated_at_us=to_us(NOW))
    batch = data.verdicts.filter(pl.col("check") == "batch").head(1)
    ids = [f"v{n:03}" for n in range(64)]
    verdict = pl.when(pl.col("verdict_id") == "v007").then(pl.lit("warn")).otherwise(pl.lit("pass"))
    many = pl.concat([batch.with_columns(pl.lit(id_).alias("verdict_id")) for id_ in ids])
    commits = [CommitSeen("events", n, NOW, "WRITE", tuple(ids)) for n in range(3)]
    verdicts, section_ = commits_sections(many.with_columns(verdict.alias("verdict")), commits)
    assert section_.body.count("and 61 more") == 3
    assert section_.body.count(">warning: ") == 3
    assert verdicts.body.count("<tr id=") <= 60 + 3


def test_a_stopped_batch_has_no_commit(html: str) -> None:
    row = re.search(r"<tr id=\"verdict-\d+\">(?:(?!</tr>).)*stop\.jsonl.*?</tr>", html, re.DOTALL)
    assert row is not None
    assert "nothing was written" in row[0]
    assert row[0].count("values to be in set") == 1


def test_rows_that_were_shown_are_gone_from_the_page_when_anybody_is_forgotten(tmp_path: Path) -> None:
    lake = reclake.Lake.create(tmp_path / "lake", buckets=2)
    good = {k: v for k, v in day_of(0)[0].items() if k not in ("town", "price", "unread")}
    lines = [good, good | {"event_id": "odd", "event_type": "<b>", "user_id": 5}]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, lines)))
    lake.ingest("events", tmp_path / "a.jsonl")
    page = tmp_path / "quality.html"
    lake.report_quality(page)
    assert "<i>event_id</i> odd" in page.read_text()
    receipt = lake.forget([USER])
    assert receipt is not None
    assert receipt.reports_cleaned == (str(page),)
    assert "<i>event_id</i> odd" not in page.read_text()
    assert "make the report again" in page.read_text()


def test_a_new_lake_says_what_fills_the_report(tmp_path: Path) -> None:
    lake = reclake.Lake.create(tmp_path / "lake")
    lake.report_quality(tmp_path / "quality.html")
    assert "reclake ingest LAKE" in (tmp_path / "quality.html").read_text()


def test_of_a_contract_that_is_gone_no_value_is_shown() -> None:
    reason = {"check": "c", "column": "price", "expected": ">= 0", "got": "-1"}
    row = {"quarantine_id": "q", "contract": "x", "source": "s", "row": 1, "format": "json", "reasons": [reason]}
    shown = failed_row(row | {"raw": b'{"price": -1}'}, None)
    assert shown.values == (("price", PERSONAL),)
    assert shown.reasons[0][3] == PERSONAL


def test_with_a_mapping_the_source_columns_of_personal_fields_are_masked() -> None:
    plain: Contract = shipped("kuairand")
    assert not Mask.of(plain).hides("anything")
    fields = tuple(replace(f, pii="keep", purpose="x") if f.name == "user_id" else f for f in plain.fields)
    mask = Mask.of(replace(plain, fields=fields))
    assert mask.hides("user_id")
    assert mask.hides("a column that nobody reads")
    assert not mask.hides("video_id")


@pytest.fixture(scope="module")
def browser() -> Iterator[tuple[Page, Knocks]]:
    with browsing() as found:
        yield found


def test_the_browser_that_watches_does_see_what_a_page_asks_for(browser: tuple[Page, Knocks], tmp_path: Path) -> None:
    page, knocks = browser
    (tmp_path / "tracking.html").write_text(
        '<link rel="preconnect" href="https://b.example"><img src="http://a.example/x.png">'
        '<script>setTimeout(() => fetch("http://c.example/later"), 50)</script>'
    )
    page.open(tmp_path / "tracking.html")
    assert page.requests[1:] == ["http://a.example/x.png", "http://c.example/later"]
    assert {"GET http://a.example/x.png HTTP/1.1", "GET http://c.example/later HTTP/1.1"} <= set(knocks.heard)
    knocks.heard.clear()


@pytest.mark.parametrize("kind", ["quality", "whole"])
def test_no_request_leaves_a_report_and_it_reads_well_wide_narrow_light_and_dark(
    kind: str, browser: tuple[Page, Knocks], lake: reclake.Lake, tmp_path: Path
) -> None:
    page, knocks = browser
    knocks.heard.clear()
    path = tmp_path / f"{kind}.html"
    (lake.report_quality if kind == "quality" else lake.report)(path)
    colours = set()
    for width, dark in ((1280, False), (1280, True), (390, False)):
        page.size(width, dark=dark)
        page.open(path)
        assert page.requests == [path.as_uri()]
        assert page.evaluate("getComputedStyle(document.body).fontSize") == "16px"
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate("document.querySelectorAll('script').length") == 0
        assert float(page.evaluate(SMALLEST)) >= 12
        colours.add((page.evaluate("getComputedStyle(document.body).backgroundColor"), dark))
        assert float(page.evaluate(CONTRAST)) >= 4.5
    assert len(colours) == 2
    assert knocks.heard == []


# The smallest text, in CSS px; of charts as they are drawn.
SMALLEST = """
Math.min(...[...document.querySelectorAll('main *')].filter(e => [...e.childNodes].some(n => n.nodeType == 3 &&
  n.textContent.trim()) && e.tagName != 'title').map(e => {
    const size = parseFloat(getComputedStyle(e).fontSize), box = e.ownerSVGElement;
    return box ? size * box.getBoundingClientRect().width / box.viewBox.baseVal.width : size;
  }))
"""
# The least contrast of text and what is behind it, as WCAG 2.2 has it.
CONTRAST = """
(() => {
  const light = c => { const [r, g, b] = c.match(/[\\d.]+/g).map(Number).map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const behind = e => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor;
    if (!/, 0\\)$|transparent/.test(c)) return c; } return 'rgb(255, 255, 255)'; };
  const all = [...document.querySelectorAll('body *')].filter(e => !e.ownerSVGElement && e.tagName != 'STYLE' &&
    [...e.childNodes].some(n => n.nodeType == 3 && n.textContent.trim()));
  return Math.min(...all.map(e => { const [a, b] = [light(getComputedStyle(e).color), light(behind(e))].sort();
    return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05); }));
})()
"""


def test_the_page_says_the_same_of_the_same_lake(lake: reclake.Lake, html: str) -> None:
    assert render_quality(gather_quality(lake.catalog, generated_at_us=to_us(NOW))) == html


def test_a_personal_example_of_a_row_that_did_not_decode_is_in_no_report(lake: reclake.Lake, tmp_path: Path) -> None:
    lake.report(tmp_path / "report.html")
    assert "oh" not in text((tmp_path / "report.html").read_text()).split()
