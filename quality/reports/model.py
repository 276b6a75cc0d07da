"""The report's last questions: is the model better, for whom, and does data quality move it?"""

from __future__ import annotations

import re
from datetime import date
from typing import Any

import polars as pl

from .. import numbers
from ..correlation import MEASURES, MIN_DAYS
from . import charts, page
from .charts import Mark, Point, Row

VALUES_MAX = 8  # values of a slice shown, those with most samples
CLASS_MIN = 10  # positives and negatives below which an AUC is noise and is not drawn
DAYS_MAX = 31


def metrics_section(metrics: pl.DataFrame) -> page.Section:
    """AUC by slice with 95 % intervals, models beside their baseline; from rows shaped shapes.METRICS."""
    title, lead = "Model", "Is the model better than counting, and for whom?"
    auc = metrics.filter(pl.col("metric") == "auc")
    if auc.is_empty():
        body = page.empty("No model was evaluated yet.", "reclake demo, or pipelines.train on a feed of your shards")
        return page.Section("model", title, lead, body)
    parts = []
    for label in auc["label"].unique().sort():
        of_label = metrics.filter(pl.col("label") == label)
        models = ordered_models(of_label)
        series = _series(models)
        parts.append(page.heading(f"AUC for {label}") + _verdict(of_label, models))
        parts.append(page.legend([(series[model], model) for model in models]))
        parts.append(_by_slice(of_label.filter(pl.col("metric") == "auc"), label, models, series))
        parts.append(_by_day(of_label.filter(pl.col("metric") == "auc", pl.col("slice") == "day"), label, series))
    note = (
        "Intervals are 95 %, DeLong's, with users as clusters: samples of one user resemble each other. "
        "History length is that of the window the model was given."
    )
    return page.Section("model", title, lead, "".join(parts) + page.say(note, "caption"))


def correlation_section(correlation: pl.DataFrame, days: pl.DataFrame, metrics: pl.DataFrame) -> page.Section:
    """Rank correlation of each quality measure with the metric by day, and the days themselves."""
    title, lead = "Data and model", "Does the quality of a day's data move the metric of that day?"
    shown = correlation.filter(pl.col("metric") == "auc")
    if shown.is_empty():
        body = page.empty(
            "No day has both verdicts and an evaluated model.",
            "reclake demo, or pipelines.train.backtest over several days",
        )
        return page.Section("correlation", title, lead, body)
    known = shown.filter(pl.col("rho").is_not_null())
    count = int(shown["days"].max())  # type: ignore[arg-type]
    body = _honest(count)
    if known.height:
        models = ordered_models(pl.concat([metrics, known], how="diagonal_relaxed"))
        series = _series(models)
        body += page.legend([(series[model], model) for model in models])
        for (label,), of_label in shown.group_by("label", maintain_order=True):
            body += charts.intervals(
                _correlation_rows(of_label, models, series),
                title=f"Rank correlation with AUC for {label}",
                caption=f"Spearman's rho with AUC of the day for {label}, 95 % interval",
                heads=[*(f"p, {model}" for model in models), "days"],
                reference=0.0,
                axis=charts.DECIMAL,
                limits=(-1.0, 1.0),
            )
    notes = (
        shown.filter(pl.col("note") != "", pl.col("days") >= MIN_DAYS)
        .select("note")
        .unique(maintain_order=True)["note"]
        .to_list()
    )
    body += page.say("Without a figure: " + "; ".join(notes) + ".", "caption") if notes else ""
    body += page.heading("The days it rests on") + _days_table(
        days, ordered_models(pl.concat([metrics, days], how="diagonal_relaxed"))
    )
    return page.Section("correlation", title, lead, body)


def ordered_models(metrics: pl.DataFrame) -> list[str]:
    """Models by name, those that gain over nobody (the baselines) last."""
    gains = set(metrics.filter(pl.col("metric") == "auc_gain")["model"])
    return sorted(metrics["model"].unique(), key=lambda name: (name not in gains, name))


def _series(models: list[str]) -> dict[str, str]:
    """A CSS class for each model: the baseline grey."""
    kinds = ["model", "duplicates", "late", "quarantined"]
    return {
        model: "base" if place == len(models) - 1 and place else kinds[place % 4] for place, model in enumerate(models)
    }


def _verdict(metrics: pl.DataFrame, models: list[str]) -> str:
    gains = metrics.filter(pl.col("metric") == "auc_gain", pl.col("slice") == "all", pl.col("value").is_not_null())
    text = ""
    for gain in gains.iter_rows(named=True):
        better = "beats" if gain["low"] > 0 else "falls behind" if gain["high"] < 0 else "cannot be told from"
        by = f" by {numbers.decimal(gain['value'])} AUC" if better == "beats" else ""
        interval = f"{numbers.decimal(gain['low'])} to {numbers.decimal(gain['high'])}"
        rest = f"(95 % interval of the paired difference: {interval}; {numbers.count(gain['samples'])} samples)"
        text += page.say(f"{gain['model']} {better} {models[-1]}{by} {rest}.", "good" if better == "beats" else "bad")
    return text


def _by_slice(auc: pl.DataFrame, label: str, models: list[str], series: dict[str, str]) -> str:
    chart = charts.intervals(
        _slice_rows(auc, models, series),
        title=f"AUC for {label} by slice",
        caption="AUC: the chance that a positive scores above a negative (0.5: luck)",
        heads=[*models, "samples"],
        reference=0.5,
        axis=charts.DECIMAL,
        limits=(0.0, 1.0),
    )
    return chart + _undefined(auc)


def _by_day(auc: pl.DataFrame, label: str, series: dict[str, str]) -> str:
    """A line over days, where there is more than one."""
    days = auc["slice_value"].unique().sort().tail(DAYS_MAX).to_list()
    if len(days) < 2:
        return ""
    lines = {}
    for model, kind in series.items():
        found = {r["slice_value"]: r for r in auc.filter(pl.col("model") == model).iter_rows(named=True)}
        lines[kind] = [_day_point(day, model, found.get(day)) for day in days]
    title = f"AUC for {label} by day"
    return page.figure(title, "", charts.dots(lines, title=title, axis=charts.DECIMAL, width=charts.width_of(1)))


def _day_point(day: str, model: str, found: dict[str, Any] | None) -> Point:
    name = numbers.day(date.fromisoformat(day))
    if found is None or found["value"] is None:
        return Point(name, None)
    figures = f"{numbers.decimal(found['value'])} ({numbers.decimal(found['low'])} to {numbers.decimal(found['high'])})"
    return Point(name, found["value"], found["low"], found["high"], f"{model}, {day}: {figures}")


def _slice_rows(auc: pl.DataFrame, models: list[str], series: dict[str, str]) -> list[Row]:
    rows: list[Row] = []
    names = auc["slice"].unique(maintain_order=True).to_list()
    for name in sorted(set(names) - {"day"}, key=lambda n: ({"all": 0, "history_length": 1}.get(n, 2), n)):
        of_slice = auc.filter(pl.col("slice") == name)
        values = of_slice.filter(_enough()).group_by("slice_value").agg(pl.col("samples").max())
        kept = values.sort("samples", "slice_value", descending=[True, False]).head(VALUES_MAX)
        if kept.is_empty():
            continue
        if name != "all":
            rows.append(Row("By " + name.replace("_", " ")))
        for value in sorted(kept["slice_value"], key=_natural):
            of_value = {r["model"]: r for r in of_slice.filter(pl.col("slice_value") == value).iter_rows(named=True)}
            text = (
                "All samples"
                if name == "all"
                else value.replace("-", numbers.DASH)
                if name == "history_length"
                else value
            )
            rows.append(_slice_row(text, of_value, models, series))
    return rows


def _slice_row(text: str, of_value: dict[str, dict[str, Any]], models: list[str], series: dict[str, str]) -> Row:
    marks = tuple(
        Mark(series[m], of_value[m]["value"], of_value[m]["low"], of_value[m]["high"]) for m in models if m in of_value
    )
    figures = [numbers.decimal(of_value.get(model, {}).get("value")) for model in models]
    samples = max(row["samples"] for row in of_value.values())
    return Row(text, marks, (*figures, numbers.count(samples)))


def _natural(value: str) -> tuple[tuple[int, float, str], ...]:
    """Numbers by size, other text by letters: 2 before 10, 4-15 before 16-63."""
    parts = re.findall(r"\d+(?:\.\d+)?|\D+", value)
    return tuple((0, float(p), "") if p[0].isdigit() else (1, 0.0, p) for p in parts)


def _enough() -> pl.Expr:
    """Rows of slices with enough of both classes for an AUC that says something."""
    negatives = pl.col("samples") - pl.col("positives")
    return pl.col("value").is_not_null() & (pl.min_horizontal("positives", negatives) >= CLASS_MIN)


def _undefined(auc: pl.DataFrame) -> str:
    """What the chart leaves out."""
    values = auc.filter(~pl.col("slice").is_in(["all", "day"])).unique(["slice", "slice_value"])
    few = values.filter(~_enough()).height
    shown = values.filter(_enough()).group_by("slice").agg(pl.len().cast(pl.Int64).alias("n"))["n"]
    hidden = sum(max(0, n - VALUES_MAX) for n in shown)
    notes = []
    if few:
        notes.append(f"{numbers.several(few, 'value', 'values')} with fewer than {CLASS_MIN} positives or negatives")
    if hidden:
        notes.append(f"{numbers.several(hidden, 'value', 'values')} with fewer samples")
    return page.say(f"Not shown: {'; '.join(notes)}.", "caption") if notes else ""


def _honest(days: int) -> str:
    if days < MIN_DAYS:
        have = "1 day has" if days == 1 else f"{days} days have"
        return page.say(
            f"Too few days to say: {have} both verdicts and a metric, and it takes {MIN_DAYS} for any figure. "
            "What there is stands below; nothing can be concluded from it."
        )
    return page.say(
        f"{days} days. With so few points only a very strong relation shows; an interval that spans zero says nothing, "
        "and none of them says what causes what."
    )


def _correlation_rows(of_label: pl.DataFrame, models: list[str], series: dict[str, str]) -> list[Row]:
    rows = []
    for measure in MEASURES:
        found = {r["model"]: r for r in of_label.filter(pl.col("measure") == measure).iter_rows(named=True)}
        if all(row["rho"] is None for row in found.values()):
            continue
        marks = tuple(Mark(series[m], found[m]["rho"], found[m]["low"], found[m]["high"]) for m in models if m in found)
        days = max(row["days"] for row in found.values())
        aside = (*(numbers.decimal(found.get(model, {}).get("p")) for model in models), str(days))
        rows.append(Row(measure.replace("_", " "), marks, aside))
    return rows


def _days_table(days: pl.DataFrame, models: list[str]) -> str:
    if days.is_empty():
        return page.say("None.", "caption")
    heads = [page.Column("Day"), page.Column("Label")]
    heads += [page.Column(n, "number") for n in ("Events read", "Quarantined", "Duplicates", "Late", "Failed checks")]
    heads += [page.Column(f"AUC, {model}", "number") for model in models]
    wide = days.pivot("model", index=["day", "label", "rows", *MEASURES], values="value").sort("day", "label")
    rows = [
        [str(d["day"]), d["label"], numbers.count(d["rows"])]
        + [numbers.percent(d[name]) for name in ("quarantined_share", "duplicate_share", "late_share")]
        + [numbers.count(d["failed_checks"]), *(numbers.decimal(d.get(model)) for model in models)]
        for d in wide.tail(DAYS_MAX).iter_rows(named=True)
    ]
    return page.table(heads, rows)
