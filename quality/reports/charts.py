"""Charts as inline SVG: pure functions from plain values to strings. No dependency, no script, no external load.

Colours come from CSS classes (`page.py` gives them light and dark values), so a chart holds none. Every
text is escaped here; callers pass plain strings. Lengths are SVG user units; a chart scales to its container.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from .. import numbers
from ..numbers import count, percent

Format = Callable[[float], str]
CHARACTER = 7.3  # the mean width of a character at the 13-unit size that charts are set in


@dataclass(frozen=True, slots=True)
class Point:
    """One place of a column chart: a value, None where there is none, and its interval where there is one."""

    label: str
    value: float | None
    low: float | None = None
    high: float | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Mark:
    """One dot with its interval on a row of an interval chart; `series` is a CSS class."""

    series: str
    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class Row:
    """A row of an interval chart: marks, or a heading where it has none. `aside` stands right of the plot."""

    label: str
    marks: tuple[Mark, ...] = ()
    aside: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell of a grid: its row and column, a CSS class, what it says inside and when pointed at."""

    row: int
    column: int
    state: str
    text: str = ""
    note: str = ""


def ticks(low: float, high: float, wanted: int) -> list[float]:
    """Round places between low and high, about `wanted` of them: steps of 1, 2, 2.5 or 5 times a power of ten."""
    if high <= low:
        return [low]
    raw = (high - low) / max(wanted, 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(step * k, 12) for k in range(first, math.floor(high / step + 1e-9) + 1)]


@dataclass(frozen=True, slots=True)
class Axis:
    """How an axis writes its ticks, and how a chart writes its values."""

    tick: Format
    value: Format


PERCENT = Axis(numbers.whole_percent, numbers.percent)
COUNT = Axis(numbers.compact, numbers.count)
DECIMAL = Axis(numbers.plain, numbers.decimal)


def width_of(figures: int) -> int:
    """The width of a chart that shares its row with others, so that text is as large in each."""
    return {1: 1040, 2: 506}.get(figures, 340)


def columns(points: Sequence[Point], *, title: str, axis: Axis, series: str, width: int) -> str:
    """A bar for each point, from zero. `title` says what it is to those who cannot see it."""
    top = max((p.value for p in points if p.value is not None), default=0.0)
    frame = _Frame([p.label for p in points], 0.0, top, axis, width)
    thick = max(1.5, min(frame.pitch * 0.72, 34.0))
    body = []
    for place, point in enumerate(points):
        if point.value is not None:
            x, y = frame.x(place), frame.y(point.value)
            height = max(frame.bottom - y, 1.5 if point.value > 0 else 0.0)
            shape = f'<rect class="bar {series}" x="{x - thick / 2:.1f}" y="{frame.bottom - height:.1f}"'
            body.append(f'{shape} width="{thick:.1f}" height="{height:.1f}" rx="1.5">{_note(point, axis)}</rect>')
    if not top:
        body.append(_text((frame.left + width) / 2, (frame.top + frame.bottom) / 2, "none", "tick", "middle"))
    return frame.svg(title, "".join(body))


def dots(lines: Mapping[str, Sequence[Point]], *, title: str, axis: Axis, width: int) -> str:
    """Dots with intervals, joined by a thin line: by CSS class, points of the same places. Need not start at zero."""
    labels = [point.label for point in next(iter(lines.values()))]
    values = [v for points in lines.values() for p in points for v in (p.value, p.low, p.high) if v is not None]
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    pad = (high - low) * 0.1 or max(abs(high) * 0.1, 1e-3)
    frame = _Frame(labels, max(0.0, low - pad) if low >= 0 else low - pad, high + pad, axis, width)
    body = []
    for series, points in lines.items():
        places = [(frame.x(i), frame.y(p.value)) for i, p in enumerate(points) if p.value is not None]
        joined = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        body.append(f'<polyline class="join {series}" points="{joined}"/>')
        for place, point in enumerate(points):
            if point.value is None:
                continue
            x = frame.x(place)
            if point.low is not None and point.high is not None:
                ends = f'y1="{frame.y(point.low):.1f}" y2="{frame.y(point.high):.1f}"'
                body.append(f'<line class="whisker {series}" x1="{x:.1f}" x2="{x:.1f}" {ends}/>')
            dot = f'<circle class="dot {series}" cx="{x:.1f}" cy="{frame.y(point.value):.1f}" r="3.2">'
            body.append(f"{dot}{_note(point, axis)}</circle>")
    return frame.svg(title, "".join(body))


def intervals(
    rows: Sequence[Row],
    *,
    title: str,
    caption: str,
    heads: Sequence[str],
    reference: float,
    axis: Axis,
    limits: tuple[float, float],
) -> str:
    """Dots with intervals on a common horizontal axis, a row each, figures in columns at the right.

    `heads` name the columns of `aside`; `reference` is drawn as a dashed line; values are clipped to `limits`.
    """
    bounds = [v for r in rows for m in r.marks for v in (m.value, m.low, m.high) if v is not None] + [reference]
    pad = (max(bounds) - min(bounds)) * 0.04 or 0.05
    low, high = max(limits[0], min(bounds) - pad), min(limits[1], max(bounds) + pad)
    left, width, column, head = 196.0, 1040.0, 116.0, 26.0
    right = width - column * len(heads) - 24
    step = {True: 27.0, False: 22.0}
    tops = [head]
    for row in rows:
        tops.append(tops[-1] + step[not row.marks])
    bottom = tops[-1] + 6

    def x(value: float) -> float:
        return left + (min(max(value, low), high) - low) / (high - low) * (right - left)

    body = []
    for tick in ticks(low, high, 7):
        line = f'<line class="rule" x1="{x(tick):.1f}" x2="{x(tick):.1f}" y1="{head}" y2="{bottom}"/>'
        body.append(line + _text(x(tick), bottom + 16, axis.tick(tick), "tick", "middle"))
    body.append(f'<line class="reference" x1="{x(reference):.1f}" x2="{x(reference):.1f}" y1="{head}" y2="{bottom}"/>')
    body.append(_text((left + right) / 2, bottom + 34, caption, "axis", "middle"))
    body += [_text(width - column * (len(heads) - 1 - i), 15, name, "tick", "end") for i, name in enumerate(heads)]
    for row, top in zip(rows, tops, strict=False):
        middle = top + step[not row.marks] / 2
        if not row.marks:
            body.append(_text(0, middle + 7, row.label, "group"))
            continue
        body.append(_text(12, middle + 4, _short(row.label, left - 24), "label"))
        spread = 6.0 if len(row.marks) > 1 else 0.0
        for place, mark in enumerate(row.marks):
            body.append(_mark(mark, x, middle + spread * (place - (len(row.marks) - 1) / 2), axis))
        for place, text in enumerate(row.aside):
            body.append(_text(width - column * (len(heads) - 1 - place), middle + 4, text, "figure", "end"))
    return wide(svg(width, bottom + 40, title, "".join(body)))


def grid(rows: Sequence[str], names: Sequence[str], cells: Sequence[Cell], *, title: str) -> str:
    """Rows by columns of small squares. A row name that no cell refers to is a heading."""
    left, width, high, top = 360.0, 1040.0, 23.0, 28.0
    pitch = min((width - left) / max(len(names), 1), 64.0)
    side = pitch - min(3.0, pitch * 0.2)
    used = {cell.row for cell in cells}
    body = []
    for place in _sparse(names, pitch):
        body.append(_text(left + place * pitch + side / 2, 14, names[place], "tick", "middle"))
    for place, name in enumerate(rows):
        kind = "label mono" if place in used else "group"
        shown = _short(name, left * (0.95 if place in used else 1))
        body.append(_text(0, top + place * high + 15, shown, kind))
    for cell in cells:
        x, y = left + cell.column * pitch, top + cell.row * high
        note = f"<title>{escape(cell.note)}</title>" if cell.note else ""
        shape = f'<rect class="cell {cell.state}" x="{x:.1f}" y="{y:.1f}" width="{side:.1f}" height="20" rx="3"'
        body.append(f"{shape}>{note}</rect>" if note else f"{shape}/>")
        if cell.text and len(cell.text) * CHARACTER <= side:
            body.append(_text(x + side / 2, y + 14.5, cell.text, f"inside {cell.state}", "middle"))
    return wide(svg(width, top + len(rows) * high + 4, title, "".join(body)))


@dataclass(frozen=True, slots=True)
class Tick:
    """One period of a sparkline: its place, a CSS class of what came of it, what was measured, and a note."""

    place: int
    state: str
    value: float | None
    note: str


def spark(ticks_: Sequence[Tick], places: int, *, title: str, line: bool) -> str:
    """A history in the height of a line of text: a bar for each share that failed, or a line through what was observed.

    Drawn to its own greatest value (a line: between its least and greatest); the newest place is the last.
    What is met is a low green tick, so that a gap is a period that was not looked at.
    """
    width, height = 180.0, 30.0
    pitch = min(width / max(places, 1), 14.0)
    values = [t.value for t in ticks_ if t.value is not None]
    low, high = (min(values, default=0.0), max(values, default=0.0)) if line else (0.0, max(values, default=0.0))
    span = (high - low) or 1.0
    body, joined, met = [], [], []
    for tick in ticks_:
        x = tick.place * pitch
        y = height - 4 - ((tick.value or 0.0) - low) / span * (height - 9) if tick.value is not None else height - 4
        if line and tick.value is not None:
            joined.append(f"{x + pitch / 2:.1f},{y:.1f}")
        if tick.state == "pass":
            met.append(f"M{x + pitch * 0.12:.1f} {height - 1:.1f}h{pitch * 0.76:.1f}")
            continue
        note = f"<title>{escape(tick.note)}</title>"
        if line and tick.value is not None:
            body.append(
                f'<circle class="cell {tick.state}" cx="{x + pitch / 2:.1f}" cy="{y:.1f}" r="3">{note}</circle>'
            )
        else:
            y = min(y, height - 7)
            shape = f'<rect class="cell {tick.state}" x="{x + pitch * 0.12:.1f}" y="{y:.1f}" rx="1"'
            body.append(f'{shape} width="{pitch * 0.76:.1f}" height="{height - y:.1f}">{note}</rect>')
    if met:
        body.insert(0, f'<path class="met" d="{"".join(met)}"/>')
    if len(joined) > 1:
        body.insert(0, f'<polyline class="join value" points="{" ".join(joined)}"/>')
    view = f'class="spark" viewBox="0 0 {width:.0f} {height:.0f}"'
    return f'<svg {view} role="img" aria-label="{escape(title, quote=True)}">{"".join(body)}</svg>'


def shares(parts: Sequence[tuple[str, str, float]], *, title: str) -> str:
    """One horizontal bar of (CSS class, name, size) parts. A part too small to see is drawn 2 units wide."""
    total, width, x = sum(size for _, _, size in parts) or 1.0, 1040.0, 0.0
    body = []
    for series, name, size in parts:
        wide = max(size / total * width, 2.0) if size else 0.0
        wide = min(wide, width - x)
        note = escape(f"{name}: {count(size)} ({percent(size / total)})")
        body.append(
            f'<rect class="bar {series}" x="{x:.1f}" y="0" width="{max(wide - 1, 0):.1f}" height="14" rx="2">'
            f"<title>{note}</title></rect>"
        )
        x += wide
    return svg(width, 14, title, "".join(body))


def svg(width: float, height: float, title: str, body: str) -> str:
    """A chart that scales to its container, with a name for those who cannot see it."""
    view = f'viewBox="0 0 {width:.0f} {height:.0f}"'
    return f'<svg {view} role="img" aria-label="{escape(title, quote=True)}">{body}</svg>'


def wide(chart: str) -> str:
    """A chart that keeps its size on a narrow screen and scrolls there, so that its text stays legible."""
    return f'<div class="scroll wide">{chart}</div>'


class _Frame:
    """The axes of a column chart: places along x, a scale from `low` to `high` along y."""

    def __init__(self, labels: Sequence[str], low: float, high: float, axis: Axis, width: int) -> None:
        self.labels, self.axis, self.width = labels, axis, width
        marks = ticks(low, high, 3)
        marks = ticks(low, high, 5) if len(marks) < 2 else marks
        if len(marks) > 1 and marks[-1] < high:
            marks.append(2 * marks[-1] - marks[-2])  # a rule above the highest, so that its size can be read
        self.marks, self.low, self.high = marks, low, max(high, marks[-1])
        self.span = (self.high - self.low) or 1.0
        self.left = 12 + CHARACTER * max(len(axis.tick(mark)) for mark in marks)
        self.top, self.bottom, self.height = 8.0, 122.0, 148.0
        self.pitch = (width - self.left) / max(len(labels), 1)

    def x(self, place: int) -> float:
        return self.left + (place + 0.5) * self.pitch

    def y(self, value: float) -> float:
        return self.bottom - (value - self.low) / self.span * (self.bottom - self.top)

    def svg(self, title: str, body: str) -> str:
        axes = []
        for mark in self.marks:
            line = f'x1="{self.left:.1f}" x2="{self.width}" y1="{self.y(mark):.1f}" y2="{self.y(mark):.1f}"'
            axes.append(f'<line class="rule" {line}/>')
            axes.append(_text(self.left - 7, self.y(mark) + 4, self.axis.tick(mark), "tick", "end"))
        for place in _sparse(self.labels, self.pitch):
            axes.append(_text(self.x(place), self.bottom + 17, self.labels[place], "tick", "middle"))
        chart = svg(self.width, self.height, title, "".join(axes) + body)
        return chart if self.width < 600 else wide(chart)


def _mark(mark: Mark, x: Callable[[float], float], y: float, axis: Axis) -> str:
    if mark.value is None:
        return ""
    whisker, note = "", axis.value(mark.value)
    if mark.low is not None and mark.high is not None:
        ends = f'x1="{x(mark.low):.1f}" x2="{x(mark.high):.1f}" y1="{y:.1f}" y2="{y:.1f}"'
        whisker = f'<line class="whisker {mark.series}" {ends}/>'
        note += f" ({axis.value(mark.low)} to {axis.value(mark.high)})"
    dot = f'<circle class="dot {mark.series}" cx="{x(mark.value):.1f}" cy="{y:.1f}" r="4">'
    return f"{whisker}{dot}<title>{escape(note)}</title></circle>"


def _note(point: Point, axis: Axis) -> str:
    value = "" if point.value is None else axis.value(point.value)
    return f"<title>{escape(point.note or f'{point.label}: {value}')}</title>"


def _sparse(labels: Sequence[str], pitch: float) -> range:
    """Every k-th place, k so that neighbouring labels keep apart."""
    longest = max((len(label) for label in labels), default=0) * CHARACTER + 10
    return range(0, len(labels), max(1, math.ceil(longest / max(pitch, 0.1))))


def _short(text: str, room: float) -> str:
    fits = max(int(room / CHARACTER), 4)
    return text if len(text) <= fits else text[: fits - 1] + "…"


def _text(x: float, y: float, text: str, kind: str, anchor: str = "start") -> str:
    end = "" if anchor == "start" else f' text-anchor="{anchor}"'
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}"{end}>{escape(text)}</text>'
