"""Charts: well-formed, escaped, within their frame, with round ticks and numbers that read well."""

from __future__ import annotations

import itertools
import re
from datetime import date
from xml.etree import ElementTree

import pytest

from reclake.quality import numbers
from reclake.quality.reports import charts
from reclake.quality.reports.charts import DECIMAL, PERCENT, Cell, Mark, Point, Row

NASTY = '<script>alert("x")</script> & \' ]]>'


def all_charts(name: str) -> list[str]:
    points = [Point(name, 0.2, 0.1, 0.3, name), Point("b", None), Point("c", 0.0)]
    rows = [Row(name), Row(name, (Mark("model", 0.7, 0.6, 0.8), Mark("base", None, None, None)), (name, "1"))]
    heads = [name, "n"]
    return [
        charts.columns(points, title=name, axis=PERCENT, series="model", width=340),
        charts.dots({"model": points, "base": points}, title=name, axis=PERCENT, width=1040),
        charts.intervals(rows, title=name, caption=name, heads=heads, reference=0.5, axis=DECIMAL, limits=(0, 1)),
        charts.grid([name, name], [name], [Cell(1, 0, "warn", "12", name)], title=name),
        charts.shares([("model", name, 5.0), ("base", name, 0.0)], title=name),
    ]


@pytest.mark.parametrize("place", range(5))
def test_every_chart_is_well_formed_and_escapes_its_texts(place: int) -> None:
    chart = all_charts(NASTY)[place]
    tree = ElementTree.fromstring(chart)
    assert "<script" not in chart
    assert tree.find(".//script") is None
    assert any(e.get("aria-label") == NASTY for e in tree.iter())


@pytest.mark.parametrize("place", range(5))
def test_no_shape_leaves_its_chart(place: int) -> None:
    tree = ElementTree.fromstring(all_charts("a")[place])
    svg = next(e for e in tree.iter() if e.tag == "svg")
    width, height = (float(v) for v in svg.attrib["viewBox"].split()[2:])
    for shape in svg.iter("rect"):
        x, y, w, h = (float(shape.attrib[a]) for a in ("x", "y", "width", "height"))
        assert x >= 0
        assert y >= 0
        assert x + w <= width + 0.1
        assert y + h <= height + 0.1
    for dot in svg.iter("circle"):
        assert 0 <= float(dot.attrib["cx"]) <= width
        assert 0 <= float(dot.attrib["cy"]) <= height


def test_the_same_values_give_the_same_bytes() -> None:
    assert all_charts("a") == all_charts("a")


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0.0, 1.0, [0.0, 0.5, 1.0]), (0.0, 0.17, [0.0, 0.1]), (0.62, 0.8, [0.7, 0.8]), (3.0, 3.0, [3.0])],
)
def test_ticks_are_round(low: float, high: float, expected: list[float]) -> None:
    assert charts.ticks(low, high, 3) == expected


def test_a_column_chart_has_a_rule_above_its_highest_bar() -> None:
    chart = charts.columns([Point("a", 0.17)], title="t", axis=PERCENT, series="model", width=340)
    assert "20 %" in chart


def test_labels_are_thinned_out_where_they_would_overlap() -> None:
    points = [Point(f"May {i}", 0.1) for i in range(1, 32)]
    chart = charts.columns(points, title="t", axis=PERCENT, series="model", width=340)
    places = [float(x) for x in re.findall(r'class="tick" x="([\d.]+)" y="139', chart)]
    assert len(places) < 10
    assert min(b - a for a, b in itertools.pairwise(places)) > 40


def test_a_chart_of_nothing_but_zeros_says_none() -> None:
    chart = charts.columns([Point("a", 0.0), Point("b", 0.0)], title="t", axis=PERCENT, series="model", width=340)
    assert ">none<" in chart
    assert "100 %" not in chart


def test_no_points_at_all_is_an_empty_chart_and_not_an_error() -> None:
    assert "<svg" in charts.columns([], title="t", axis=PERCENT, series="model", width=340)
    assert "<svg" in charts.dots({"model": [Point("a", None)]}, title="t", axis=PERCENT, width=340)


@pytest.mark.parametrize(
    ("share", "expected"),
    [
        (0.124, "12.4 %"),
        (1.0, "100 %"),
        (0.9999, ">99.9 %"),
        (0.0, "0 %"),
        (0.00055, "0.055 %"),
        (0.000001, "<0.001 %"),
        (0.01, "1.0 %"),
    ],
)
def test_percent_never_reads_a_few_among_many_as_none(share: float, expected: str) -> None:
    assert numbers.percent(share) == expected


def test_numbers_read_as_people_write_them() -> None:
    assert numbers.count(228_329) == "228,329"
    assert [numbers.compact(n) for n in (7, 999, 1_234, 9_999, 34_400, 1_200_000)] == [
        "7",
        "999",
        "1.2k",
        "10k",
        "34k",
        "1.2M",
    ]
    assert numbers.decimal(-0.7331) == "\N{MINUS SIGN}0.733"
    assert numbers.decimal(None) == "\N{EN DASH}"
    assert (numbers.size(512), numbers.size(3_400_000)) == ("512 B", "3.4 MB")
    assert (numbers.several(1, "day", "days"), numbers.several(0, "day", "days")) == ("1 day", "0 days")
    assert numbers.day(date(2022, 5, 2)) == "May 2"
