"""Report: gather what the lake knows of itself, and write it as one self-contained HTML file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pyarrow as pa

from ...quality.correlation import correlate_days, daily_metrics, daily_quality
from ...quality.expectation import PERSONAL
from ...quality.reports.report import ReportData, render
from ...schemas import shapes
from ...schemas.errors import PinError, StorageError
from ...storage.catalog import Catalog
from ...storage.outputs import Output, register, write_report
from ...storage.pins import Pin
from ...storage.quarantine import settled, waiting
from ...storage.table import Table
from .correlate import SEED

EXAMPLES = 3  # of what a check got

_LABELS = pl.Schema(
    {
        "recipe": pl.String,
        "label": pl.String,
        "day": pl.Date,
        "samples": pl.Int64,
        "mature": pl.Int64,
        "positives": pl.Int64,
    }
)
_HISTORY = pl.Schema({"recipe": pl.String, "low": pl.Int64, "high": pl.Int64, "samples": pl.Int64})
_REASONS = pl.Schema(
    [(name, pl.String()) for name in ("contract", "check", "column", "severity", "expected")]
    + [("got", pl.List(pl.String())), ("rows", pl.Int64())]
)
_QUARANTINE = pl.Schema({"outcome": pl.String, "rows": pl.Int64})
_TABLES = pl.Schema(
    {
        "table": pl.String,
        "rows": pl.Int64,
        "files": pl.Int64,
        "bytes": pl.Int64,
        "version": pl.Int64,
        "pinned": pl.Int64,
    }
)
_NOUNS = pl.Schema({"kind": pl.String, "name": pl.String, "version": pl.Int64, "fingerprint": pl.String})


@dataclass(frozen=True, slots=True)
class ReportResult:
    """Where the report is, and its size."""

    path: Path
    bytes: int


def build_report(catalog: Catalog, *, out: Path, pin: str | None = None, generated_at_us: int) -> ReportResult:
    """Write the report of a lake to `out`, whole or not at all.

    With `pin`, samples and metrics are those of the pin; quality history and quarantine are always the newest.

    Raises:
        PinError: the pin is unknown, or a version it names is gone.
        StorageError: `out` cannot be written.
    """
    check_place(out)
    return written(catalog, out, render(gather(catalog, pin=pin, generated_at_us=generated_at_us)))


def written(catalog: Catalog, out: Path, html: str) -> ReportResult:
    """Remember the page, then write it: forgetting a user must find it."""
    register(catalog.root, Output("report", out))
    return ReportResult(out, write_report(out, html))


def check_place(out: Path) -> None:
    """Before the work, not after it."""
    if out.is_dir():
        raise StorageError("the report needs a file name", where=out, expected=out / "report.html", got="a folder")
    above = next(folder for folder in out.absolute().parents if folder.exists())
    if not above.is_dir():
        raise StorageError("the report's folder cannot be made", where=out, expected="a folder", got=f"{above}, a file")


def gather(catalog: Catalog, *, pin: str | None, generated_at_us: int) -> ReportData:
    """Everything a report shows, read from the lake's tables."""
    pinned = None if pin is None else catalog.pin(pin).opened_at(generated_at_us)
    verdicts = verdicts_of(catalog)
    metrics, by_day = _metrics(catalog.table("metrics"), pin)
    quality = daily_quality(verdicts.filter(pl.col("table") == "events", pl.col("source") != shapes.REPLAYED))
    auc = by_day.filter(pl.col("metric") == "auc")
    labels, history = _samples(catalog, pinned)
    return ReportData(
        lake=catalog.root.name,
        pin=pin,
        sealed_through_us=catalog.sealed_through_us if pinned is None else pinned.sealed_through_us,
        generated_at_us=generated_at_us,
        verdicts=masked(catalog, verdicts),
        reasons=masked(catalog, _reasons(catalog)),
        quarantine=outcomes(catalog),
        labels=labels,
        history=history,
        metrics=metrics,
        correlation=correlate_days(quality, by_day, seed=SEED),
        days=quality.join(auc.drop("samples"), on="day"),
        tables=_tables(catalog, pinned),
        nouns=_nouns(catalog, pinned),
    )


def _empty(schema: pa.Schema) -> pl.DataFrame:
    return pl.DataFrame(schema.empty_table())


def verdicts_of(catalog: Catalog) -> pl.DataFrame:
    table = catalog.table("verdicts")
    return table.scan().sort("at", "verdict_id", "check").collect() if table.exists else _empty(shapes.VERDICTS)


def masked(catalog: Catalog, rows: pl.DataFrame) -> pl.DataFrame:
    """Without examples of columns that a contract marks as personal data, whatever it does with them, and of rows as
    a whole, where it marks any.
    """
    marked = {(c.name, field.name) for c in catalog.contracts() for field in c.fields if field.pii is not None}
    marked |= {(contract, "") for contract, _ in marked}
    names = rows.select("contract", pl.col("column").fill_null("").str.split(", ")).rows()
    mask = pl.Series(
        [any((contract, name) in marked for name in columns) for contract, columns in names], dtype=pl.Boolean
    )
    if not mask.any():
        return rows
    if "got" in rows.columns:
        hidden, shown = pl.lit([PERSONAL], dtype=pl.List(pl.String)), pl.col("got")
        return rows.with_columns(pl.when(mask).then(hidden).otherwise(shown).alias("got"))
    without = pl.col("observed").str.replace(r"(?s), e\.g\. .*", "")
    return rows.with_columns(pl.when(mask).then(without).otherwise("observed").alias("observed"))


def _reasons(catalog: Catalog) -> pl.DataFrame:
    keys = ("contract", "check", "column", "severity", "expected")
    return (
        waiting(catalog)
        .select("quarantine_id", "contract", "reasons")
        .explode("reasons")
        .unnest("reasons")
        .group_by(keys)
        .agg(
            pl.col("got").drop_nulls().unique().sort().head(EXAMPLES),
            pl.col("quarantine_id").n_unique().cast(pl.Int64).alias("rows"),
        )
        .select(list(_REASONS))
        .collect()
    )


def outcomes(catalog: Catalog) -> pl.DataFrame:
    """outcome, rows: where the rows are now that were ever quarantined."""
    if not catalog.table("quarantine").exists:
        return pl.DataFrame(schema=_QUARANTINE)
    counts = [("waiting", int(waiting(catalog).select(pl.len()).collect().item()))]
    counts += settled(catalog).group_by("outcome").agg(pl.len()).sort("outcome").collect().rows()
    return pl.DataFrame(counts, schema=_QUARANTINE, orient="row")


def _samples(catalog: Catalog, pin: Pin | None) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Label and history summaries of every sample set; of a pin, those it holds. Drawn negatives are left out."""
    labels, history = [pl.DataFrame(schema=_LABELS)], [pl.DataFrame(schema=_HISTORY)]
    for recipe in catalog.recipes():
        table = catalog.table(f"samples/{recipe.name}")
        if not table.exists or (pin is not None and table.name not in pin.tables):
            continue
        rows = table.scan(None if pin is None else pin.version_of(table.name)).filter(~pl.col("negative"))
        names = [label.name for label in recipe.labels]
        labels.append(_label_rates(rows, recipe.name, names))
        history.append(_length_bins(rows, recipe.name))
    return pl.concat(labels), pl.concat(history)


def _label_rates(rows: pl.LazyFrame, recipe: str, labels: list[str]) -> pl.DataFrame:
    mature = pl.col("label_mature")
    sums = [pl.col(name).filter(mature).cast(pl.Int64).sum().alias(name) for name in labels]
    by_day = rows.group_by("day").agg(pl.len().alias("samples"), mature.sum().alias("mature"), *sums).collect()
    long = by_day.unpivot(labels, index=["day", "samples", "mature"], variable_name="label", value_name="positives")
    return long.with_columns(pl.lit(recipe).alias("recipe")).select(list(_LABELS)).cast(_LABELS).sort("label", "day")


def _length_bins(rows: pl.LazyFrame, recipe: str) -> pl.DataFrame:
    """Samples by `seen` in bins that double: bin 0 is 0, bin k the numbers of k binary digits: 1, 2-3, 4-7 …"""
    digits = (64 - pl.col("seen").bitwise_leading_zeros().cast(pl.Int64)).alias("digits")
    counts = rows.group_by(digits).agg(pl.len().alias("samples")).sort("digits").collect()
    low = pl.when(pl.col("digits") == 0).then(0).otherwise(pl.lit(2).pow(pl.col("digits") - 1))
    high = pl.lit(2).pow(pl.col("digits")) - 1
    binned = counts.with_columns(low.alias("low"), high.alias("high"), pl.lit(recipe).alias("recipe"))
    return binned.select(list(_HISTORY)).cast(_HISTORY)


def _metrics(table: Table, pin: str | None) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Of each label the newest run's metrics (of the pin, if one is asked for), and every run's metrics by day."""
    if not table.exists:
        none = _empty(shapes.METRICS)
        return none, daily_metrics(none)
    rows = table.scan().collect()
    chosen = rows if pin is None else rows.filter(pl.col("pin") == pin)
    newest = _newest_runs(table, chosen)
    shown = chosen.join(newest, on=["label", "run_id"], how="semi").filter(pl.col("slice") != "day")
    days = chosen.filter(pl.col("slice") == "day").unique(
        ["model", "label", "metric", "slice_value"], keep="last", maintain_order=True
    )
    return pl.concat([shown, days]), daily_metrics(chosen)


def _newest_runs(table: Table, rows: pl.DataFrame) -> pl.DataFrame:
    """label, run_id of each label's last run that looked at all samples. Only the log knows which came last."""
    whole = rows.filter(pl.col("slice") == "all").select("label", "run_id").unique()
    found = whole.clear()
    for version in range(table.version, -1, -1):
        left = whole.join(found, on="label", how="anti")
        if left.n_unique("run_id") <= left.n_unique("label") or version == 0:
            return pl.concat([found, left.sort("label", "run_id").unique("label", keep="last", maintain_order=True)])
        try:
            before = table.scan(version - 1).select("label", "run_id").unique().collect()
        except PinError:  # vacuumed: what is older cannot be told apart
            return pl.concat([found, left.sort("label", "run_id").unique("label", keep="last", maintain_order=True)])
        found = pl.concat([found, left.join(before, on=["label", "run_id"], how="anti").unique("label")])
    return found


def _tables(catalog: Catalog, pin: Pin | None) -> pl.DataFrame:
    rows = []
    for name in catalog.table_names():
        table = catalog.table(name)
        live = table.live()
        size = int(live["size_bytes"].sum())
        count = int(table.scan().select(pl.len()).collect().item())
        rows.append((name, count, live.height, size, table.version, None if pin is None else pin.tables.get(name)))
    return pl.DataFrame(rows, schema=_TABLES, orient="row")


def _nouns(catalog: Catalog, pin: Pin | None) -> pl.DataFrame:
    """Contracts and recipes, at the pinned versions or the newest."""
    contracts = [(c.name, c.version) for c in catalog.contracts()] if pin is None else list(pin.contracts.items())
    recipes = [(r.name, r.version) for r in catalog.recipes()] if pin is None else list(pin.recipes.items())
    rows = [("contract", name, version, catalog.contract(name, version).fingerprint) for name, version in contracts]
    rows += [("recipe", name, version, catalog.recipe(name, version).fingerprint) for name, version in recipes]
    return pl.DataFrame(rows, schema=_NOUNS, orient="row")
