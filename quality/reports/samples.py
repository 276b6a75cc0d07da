"""The report on samples: how often labels come true, and how much history a request had."""

from __future__ import annotations

import polars as pl

from .. import numbers
from ..statistics import wilson
from . import charts, page
from .charts import Point

DAYS_MAX = 60  # a page must stay readable


def labels_section(labels: pl.DataFrame) -> page.Section:
    title, lead = "Labels", "How often does each label come true, and is it final?"
    if labels.is_empty():
        body = page.empty("No samples yet.", "reclake samples LAKE RECIPE --day DAY")
        return page.Section("labels", title, lead, body)
    figures: list[str] = []
    width = charts.width_of(labels.select("recipe", "label").n_unique())
    for (recipe, label), rows in labels.sort("recipe", "label", "day").group_by("recipe", "label", maintain_order=True):
        points = []
        for row in rows.tail(DAYS_MAX).iter_rows(named=True):
            rate = wilson(row["positives"], row["mature"])
            note = f"{row['day']}: {numbers.count(row['positives'])} of {numbers.count(row['mature'])} mature samples"
            points.append(Point(numbers.day(row["day"]), rate.value, rate.low, rate.high, note))
        samples, mature, positives = (int(rows[name].sum()) for name in ("samples", "mature", "positives"))
        rate_text = numbers.percent(positives / mature) if mature else "unknown"
        caption = (
            f"{numbers.count(positives)} of {numbers.count(mature)} mature samples: {rate_text}. "
            f"{numbers.percent(mature / samples) if samples else '0 %'} of {numbers.count(samples)} samples are mature."
        )
        title_text = f"Rate of {label} by day"
        chart = charts.dots({"model": points}, title=title_text, axis=charts.PERCENT, width=width)
        figures.append(page.figure(f"{recipe}: {label}, rate by day", caption, chart))
    note = (
        "Bars are 95 % Wilson intervals. A sample is mature once no outcome can reach its label any more; "
        "others are left out, and so are drawn negatives."
    )
    return page.Section("labels", title, lead, page.columns_of(figures) + page.say(note, "caption"))


def lengths_section(history: pl.DataFrame) -> page.Section:
    title, lead = "History length", "How much did the lake know of a user when a request came?"
    if history.is_empty():
        body = page.empty("No samples yet.", "reclake samples LAKE RECIPE --day DAY")
        return page.Section("history", title, lead, body)
    figures = []
    for (recipe,), bins in history.sort("recipe", "low").group_by("recipe", maintain_order=True):
        total = int(bins["samples"].sum())
        points = [
            Point(
                numbers.span(row["low"], row["high"]),
                row["samples"] / total,
                note=f"{numbers.span(row['low'], row['high'])} events: {numbers.count(row['samples'])} samples",
            )
            for row in bins.iter_rows(named=True)
        ]
        middle = bins.filter(pl.col("samples").cum_sum() >= total / 2).row(0, named=True)
        none = int(bins.filter(pl.col("high") == 0)["samples"].sum())
        median = numbers.span(middle["low"], middle["high"])
        without = f"{numbers.percent(none / total)} of {numbers.count(total)} samples have no history"
        caption = f"{without}; the median lies in {median} events."
        chart = charts.columns(
            points, title=f"History length of {recipe}", axis=charts.PERCENT, series="model", width=1040
        )
        figures.append(
            page.figure(f"{recipe}: share of samples by seen, the events known before the request", caption, chart)
        )
    return page.Section("history", title, lead, "".join(figures))
