"""The report's last questions: is the model better, for whom, and does data quality move it?"""

from __future__ import annotations

import re
from typing import Any

import polars as pl

from . import charts, numbers, page
from .charts import Mark, Row
from .correlation import MEASURES, MIN_DAYS

VALUES_MAX = 8  # values of a slice shown, those with most samples
DAYS_MAX = 31


def metrics_section(metrics: pl.DataFrame) -> page.Section:
    """AUC by slice with 95 % intervals, models beside their baseline; from rows shaped shapes.METRICS."""
    title, lead = "Model", "Is the model better than counting, and for whom?"
    auc = metrics.filter(pl.col("metric") == "auc")
    if auc.is_empty():
        body = page.empty("No model was evaluated yet.", "reclake demo, or pipelines.train on a feed of your shards")
        return page.Section("model", title, lead, body)
    body = ""
    for (label,), of_label in auc.sort("label", maintain_order=True).group_by("label", maintain_order=True):
        models = ordered_models(metrics.filter(pl.col("label") == label))
        body += page.heading(f"AUC for {label}")
        body += _verdict(metrics.filter(pl.col("label") == label), models)
        series = _series(models)
        body += page.legend([(series[model], model) for model in models])
        rows = _slice_rows(of_label, models, series)
        body += charts.intervals(
            rows,
            title=f"AUC for {label} by slice",
            axis="AUC: chance that a positive scores above a negative (0.5: by luck)",
            heads=[*models, "samples"],
            reference=0.5,
            form=numbers.decimal,
            limits=(0.0, 1.0),
        )
        body += _undefined(of_label)
    note = (
        "Intervals are 95 %, DeLong's, with users as clusters: samples of one user resemble each other. "
        "History length is that of the window the model was given."
    )
    return page.Section("model", title, lead, body + page.say(note, "caption"))


def correlation_section(correlation: pl.DataFrame, days: pl.DataFrame) -> page.Section:
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
        models = known["model"].unique(maintain_order=True).to_list()
        series = _series(ordered_models(correlation))
        body += page.legend([(series[model], model) for model in models])
        for (label,), of_label in shown.group_by("label", maintain_order=True):
            body += charts.intervals(
                _correlation_rows(of_label, models, series),
                title=f"Rank correlation with AUC for {label}",
                axis=f"Spearman's rho with AUC of the day for {label}, 95 % interval",
                heads=[*(f"p, {model}" for model in models), "days"],
                reference=0.0,
                form=numbers.decimal,
                limits=(-1.0, 1.0),
            )
    notes = (
        shown.filter(pl.col("note") != "", pl.col("days") >= MIN_DAYS)
        .select("note")
        .unique(maintain_order=True)["note"]
        .to_list()
    )
    body += page.say("Without a figure: " + "; ".join(notes) + ".", "caption") if notes else ""
    body += page.heading("The days it rests on") + _days_table(days)
    return page.Section("correlation", title, lead, body)


def ordered_models(metrics: pl.DataFrame) -> list[str]:
    """Models first, the baseline (which gains over nobody) last."""
    gains = set(metrics.filter(pl.col("metric") == "auc_gain")["model"])
    names = metrics["model"].unique(maintain_order=True).to_list()
    return sorted(names, key=lambda name: (name not in gains and name == "popularity", name not in gains, name))


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


def _slice_rows(auc: pl.DataFrame, models: list[str], series: dict[str, str]) -> list[Row]:
    rows: list[Row] = []
    names = auc["slice"].unique(maintain_order=True).to_list()
    for name in sorted(names, key=lambda n: {"all": 0, "history_length": 1, "day": 3}.get(n, 2)):
        of_slice = auc.filter(pl.col("slice") == name)
        values = of_slice.group_by("slice_value").agg(pl.col("samples").max(), pl.col("value").is_not_null().any())
        values = values.filter("value").sort("samples", "slice_value", descending=[True, False])
        kept = values.sort("slice_value").tail(DAYS_MAX) if name == "day" else values.head(VALUES_MAX)
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


def _undefined(auc: pl.DataFrame) -> str:
    empty = auc.filter(pl.col("value").is_null()).select("slice", "slice_value").unique().height
    rare = auc.group_by("slice").agg(pl.col("slice_value").filter(pl.col("value").is_not_null()).n_unique().alias("n"))
    hidden = sum(max(0, n - VALUES_MAX) for name, n in rare.iter_rows() if name != "day")
    notes = []
    if empty:
        notes.append(f"{empty} slice values hold one class only and have no AUC")
    if hidden:
        notes.append(f"{hidden} slice values with fewer samples are not shown")
    return page.say("; ".join(notes) + ".", "caption") if notes else ""


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


def _days_table(days: pl.DataFrame) -> str:
    if days.is_empty():
        return page.say("None.", "caption")
    heads = [page.Column("Day"), page.Column("Model"), page.Column("Label")]
    heads += [
        page.Column(name, "number")
        for name in ("Events read", "Quarantined", "Duplicates", "Late", "Failed checks", "AUC")
    ]
    newest = days.sort("day", "label", "model").tail(DAYS_MAX)
    rows = [
        [str(d["day"]), d["model"], d["label"], numbers.count(d["rows"])]
        + [numbers.percent(d[name]) for name in ("quarantined_share", "duplicate_share", "late_share")]
        + [numbers.count(d["failed_checks"]), numbers.decimal(d["value"])]
        for d in newest.iter_rows(named=True)
    ]
    return page.table(heads, rows)
