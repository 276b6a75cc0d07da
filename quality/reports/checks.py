"""The quality report on checks: what changed since the period before, which fail, and the history of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from .. import numbers
from ..periods import STATES, check_name, place, state
from . import charts, page
from .charts import Tick

WORDS = {"pass": "met", "warn": "warning", "quarantine": "quarantined", "stop": "stopped"}
_KEY = ("check", "column", "variant")


@dataclass(frozen=True, slots=True)
class History:
    """A contract's verdicts by period. `batches`: a row a period with counts; `checks`: a row a check and period.

    `names` are those of the periods, oldest first; `unit` is "day" or "batch".
    """

    contract: str
    names: tuple[str, ...]
    unit: str
    batches: pl.DataFrame
    checks: pl.DataFrame


# Rows that did not get so far as a gate, by batch and reason; `got`: an example or none.
BEFORE = pl.Schema(
    [("contract", pl.String()), ("source", pl.String()), ("at", pl.Datetime("us", "UTC"))]
    + [(name, pl.String()) for name in ("check", "column", "severity", "expected")]
    + [("got", pl.List(pl.String())), ("rows", pl.Int64())]
)


def with_refusals(gated: pl.DataFrame, before: pl.DataFrame) -> pl.DataFrame:
    """Kernel: the verdicts, and why rows did not get so far (see BEFORE) as checks of every batch of their contract.

    A batch is quarantined before its verdict is written, so a reason is of the next verdict of its source.
    """
    batches = gated.filter(pl.col("check") == "batch").sort("at")
    keys = ["contract", "check", "column", "severity", "expected"]
    if before.is_empty() or batches.is_empty():
        return gated
    place = ["contract", "source"]
    # A batch that is read again after it was stopped has the same verdict id, at another time.
    met = batches.select(*place, "at", "verdict_id", pl.col("at").alias("judged"))
    found = before.sort("at").join_asof(met, on="at", by=place, strategy="forward", check_sortedness=False)
    found = found.drop_nulls("verdict_id")
    counted = found.group_by("verdict_id", pl.col("judged").alias("at"), *keys).agg(
        pl.col("rows").sum().alias("unexpected"), pl.col("got").explode().drop_nulls().first()
    )
    refused = (
        batches.drop("check", "column", "severity", "expected", "unexpected")
        .join(found.select(keys).unique(), on="contract")
        .join(counted, on=["verdict_id", "at", *keys], how="left", nulls_equal=True)
        .with_columns(pl.col("unexpected").fill_null(0), pl.lit(None, dtype=pl.Float64).alias("value"))
        .with_columns((pl.col("unexpected") == 0).alias("success"))
    )
    example = pl.when(pl.col("got").is_not_null()).then(pl.format(", e.g. {}", "got")).otherwise(pl.lit(""))
    observed = pl.format("{} of {} rows{}", "unexpected", "evaluated", example).alias("observed")
    return pl.concat([gated, refused.with_columns(observed).select(gated.columns)])


def histories(gated: pl.DataFrame) -> list[History]:
    """Kernel: the verdicts of what came in from outside, by contract; from rows shaped shapes.VERDICTS."""
    found = []
    for (contract,), rows in gated.sort("at").group_by("contract", maintain_order=True):
        placed, unit = place(rows)
        names = placed.group_by("period").agg(pl.col("name").first()).sort("period")["name"].to_list()
        found.append(History(str(contract), tuple(names), unit, _batches(placed), _checks(placed)))
    return sorted(found, key=lambda history: history.contract)


def _batches(placed: pl.DataFrame) -> pl.DataFrame:
    stopped = pl.col("verdict") == "stop"
    counts = [pl.col(name).filter(~stopped).fill_null(0).sum() for name in ("admitted", "duplicates", "late")]
    return (
        placed.filter(pl.col("check") == "batch")
        .group_by("period")
        .agg(
            pl.len().alias("batches"),
            stopped.sum().alias("stopped"),
            pl.col("evaluated").filter(~stopped).sum().alias("read"),
            pl.col("unexpected").filter(~stopped).sum().alias("quarantined"),
            *counts,
        )
        .sort("period")
    )


def _checks(placed: pl.DataFrame) -> pl.DataFrame:
    """check, column, variant (tells two checks of one type and column apart), name, period and what was seen."""
    rows = placed.filter(pl.col("check") != "batch").with_columns(check_name().alias("row"), state().alias("state"))
    several = (pl.len().over("verdict_id", "check", "column") > 1).any().over("check", "column")
    variant = pl.when(several).then(pl.col("expected")).otherwise(pl.lit("")).fill_null("")
    return (
        rows.with_columns(variant.alias("variant"))
        .group_by(*_KEY, "period", maintain_order=True)
        .agg(
            pl.col("state").max(),
            pl.col("unexpected", "evaluated").sum(),
            pl.col("row", "severity", "expected", "value").last(),
            pl.col("observed").sort_by("state", maintain_order=True).last(),
        )
        .sort("row", "variant", "period")
    )


def changes_section(found: list[History]) -> page.Section:
    title, lead = "What changed", "Is the newest as good as what came before it?"
    body = "".join(_changes(history) for history in found)
    return page.Section("changes", title, lead, body)


def _changes(history: History) -> str:
    newest = len(history.names) - 1
    now = history.batches.filter(pl.col("period") == newest).row(0, named=True)
    rest = history.batches.filter(pl.col("period") < newest)
    before = rest.row(-1, named=True) if rest.height else None
    name = _named(history, newest)
    past = "the first" if before is None else f"against {_named(history, before['period'])}"
    tiles = [("", "Read", numbers.count(now["read"]), _than(now, before, "read"))]
    tiles += [
        (series, series.capitalize(), numbers.count(now[series]), _than(now, before, series))
        for series in ("quarantined", "duplicates", "late")
    ]
    body = page.heading(f"{history.contract}: {name}, {past}") + page.tiles(tiles)
    if now["stopped"]:
        many = numbers.several(now["stopped"], "batch was", "batches were")
        them = "it" if now["stopped"] == 1 else "them"
        body += page.say(f"{many} stopped by a critical check: nothing of {them} was written or counted above.", "bad")
    told = _told(history, newest, None if before is None else before["period"])
    total = history.checks.filter(pl.col("period") == newest).height
    if told:
        return body + page.bullets(told)
    return body + page.say(f"✓ All {numbers.several(total, 'check', 'checks')} met.", "good")


def _named(history: History, period: int) -> str:
    return history.names[period] if history.unit == "day" else f"batch {history.names[period]}"


def _periods(history: History, number: int) -> str:
    return numbers.several(number, history.unit, "batches" if history.unit == "batch" else "days")


def _than(now: Mapping[str, Any], before: Mapping[str, Any] | None, what: str) -> str:
    """The share, and the same of the period before: what was read is compared as it is."""

    def share(of: Mapping[str, Any]) -> str:
        return numbers.percent(of[what] / of["read"]) if of["read"] else "0 %"

    if what == "read":
        return "" if before is None else f"before: {numbers.count(before['read'])}"
    return share(now) if before is None else f"{share(now)}, before: {share(before)}"


def _told(history: History, newest: int, before: int | None) -> list[tuple[str, str, str]]:
    """What fails now and what did the period before, newly failing first."""
    rows = history.checks.filter(pl.col("period").is_in([newest, newest if before is None else before]))
    found: list[tuple[int, tuple[str, str, str]]] = []
    for _, of_check in rows.group_by(*_KEY, maintain_order=True):
        at = {row["period"]: row for row in of_check.iter_rows(named=True)}
        now, then = at.get(newest), at.get(before) if before is not None else None
        failing, failed = bool(now and now["state"]), bool(then and then["state"])
        if now is not None and failing:
            word = "still" if failed else "new"
            found.append((int(failed), (STATES[now["state"]], word, f"{now['row']}: {_rows(now)}")))
        elif failed and then is not None:
            text = f"{then['row']}: was {_rows(then)}" if now else f"{then['row']}: no longer looked at"
            found.append((2, ("pass", "mended" if now else "gone", text)))
    return [line for _, line in sorted(found, key=lambda one: one[0])]


def _rows(seen: Mapping[str, Any]) -> str:
    if seen["unexpected"]:
        return f"{numbers.count(seen['unexpected'])} of {numbers.count(seen['evaluated'])} rows fail"
    return "not met"


def failing_section(found: list[History]) -> page.Section:
    title, lead = "Failing checks", "What is not as expected in the newest, and since when?"
    heads = [page.Column("Check", "check")]
    heads += [page.Column(head) for head in ("Severity", "Expected")]
    heads += [
        page.Column("Observed, for example", "code"),
        page.Column("Rows", "number"),
        page.Column("Share", "number"),
    ]
    heads += [page.Column("Since", "short"), page.Column("History")]
    body = ""
    for history in found:
        newest = len(history.names) - 1
        lines = [line for _, rows in _each(history) if (line := _failing(history, rows, newest))]
        if lines:
            body += page.heading(f"{history.contract}, {_named(history, newest)}") + page.table(heads, lines)
    if not body:
        return page.Section("failing", title, lead, page.say("✓ Every check of the newest is met.", "good"))
    body += page.legend([(name, text) for name, text in zip(STATES, _STATE_TEXTS, strict=True)])
    return page.Section("failing", title, lead, body)


_STATE_TEXTS = (
    "met",
    "warning: recorded only",
    "error: rows quarantined",
    "critical: nothing of the batch written",
)


def _each(history: History) -> list[tuple[str, pl.DataFrame]]:
    return [
        (str(rows["row"][0]), rows.sort("period")) for _, rows in history.checks.group_by(*_KEY, maintain_order=True)
    ]


def _failing(history: History, rows: pl.DataFrame, newest: int) -> list[str] | None:
    now = rows.row(-1, named=True)
    if now["period"] != newest or not now["state"]:
        return None
    return [
        now["row"],
        page.badge(STATES[now["state"]], now["severity"]),
        now["expected"] or "",
        _observed(now["observed"]),
        numbers.count(now["unexpected"]) if now["unexpected"] else "",
        numbers.percent(now["unexpected"] / now["evaluated"]) if now["unexpected"] and now["evaluated"] else "",
        history.names[_since(rows)] if history.unit == "day" else f"batch {history.names[_since(rows)]}",
        page.Html(_spark(history, rows)),
    ]


def _since(rows: pl.DataFrame) -> int:
    """The first period of the failures that reach to the newest."""
    since = int(rows["period"][-1])
    for period, failed in zip(reversed(rows["period"].to_list()), reversed(rows["state"].to_list()), strict=True):
        if not failed:
            break
        since = period
    return since


def _observed(observed: str | None) -> str:
    """What was observed of the batch, or the example of a row: counts have columns of their own."""
    text = observed or ""
    head, _, example = text.partition(", e.g. ")
    shown = example if example else "" if head.endswith(" rows") else head
    return shown if len(shown) <= 80 else shown[:79] + "…"


def _spark(history: History, rows: pl.DataFrame) -> str:
    """The share that failed by period; of a check of the batch that observes a number, that number."""
    line = rows["value"].drop_nulls().len() > 0 and not rows["unexpected"].sum()
    ticks = []
    for row in rows.iter_rows(named=True):
        share = row["unexpected"] / row["evaluated"] if row["evaluated"] else 0.0
        value = row["value"] if line else share
        told = numbers.plain(value) if line and value is not None else f"{_rows(row)} ({numbers.percent(share)})"
        ticks.append(Tick(row["period"], STATES[row["state"]], value, f"{_named(history, row['period'])}: {told}"))
    failed = sum(tick.state != "pass" for tick in ticks)
    title = f"{rows['row'][0]}: not met in {failed} of {_periods(history, len(ticks))}"
    return charts.spark(ticks, len(history.names), title=title, line=line)


def every_section(found: list[History]) -> page.Section:
    """Each check of each contract with its history."""
    title, lead = "Every check", "How did each check fare over time?"
    heads = [page.Column("Check", "check"), page.Column("Severity"), page.Column("Expected"), page.Column("Newest")]
    heads += [page.Column("History"), page.Column("Not met", "number"), page.Column("Worst", "short")]
    body = ""
    for history in found:
        span = f"{_named(history, 0)} to {_named(history, len(history.names) - 1)}"
        body += page.heading(f"{history.contract}: {_periods(history, len(history.names))}, {span}")
        body += page.table(heads, [_line(history, rows) for _, rows in _each(history)])
    note = (
        "A bar is the share of rows that failed, drawn to the check's own worst; a line is what a check of a whole "
        "batch observed. A gap: not looked at. Days are those most rows of a batch happened on, UTC."
    )
    return page.Section("checks", title, lead, body + page.say(note, "caption"))


def _line(history: History, rows: pl.DataFrame) -> list[str]:
    now = rows.row(-1, named=True)
    bad = rows.filter(pl.col("state") > 0)
    word = STATES[now["state"]] if now["period"] == len(history.names) - 1 else ""
    return [
        now["row"],
        now["severity"],
        now["expected"] or "",
        page.badge(word, WORDS[word]) if word else "not looked at",
        page.Html(_spark(history, rows)),
        f"{bad.height} of {rows.height}",
        _worst(history, bad),
    ]


def _worst(history: History, bad: pl.DataFrame) -> str:
    if bad.is_empty():
        return ""
    share = pl.col("unexpected") / pl.max_horizontal("evaluated", 1)
    worst = bad.with_columns(share.alias("share")).sort("share", "period").row(-1, named=True)
    when = _named(history, worst["period"])
    return f"{numbers.percent(worst['share'])}, {when}" if worst["unexpected"] else f"not met, {when}"
