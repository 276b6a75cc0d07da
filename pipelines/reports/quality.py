"""Quality report: gather verdicts, quarantine and commits, mask what is personal, and write one HTML file."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl

from ...quality.expectation import PERSONAL
from ...quality.reports.checks import BEFORE
from ...quality.reports.commits import CommitSeen
from ...quality.reports.quality_report import QualityData, render_quality
from ...quality.reports.rows import FailedRow
from ...schemas.contract import Contract, Emit
from ...storage.catalog import Catalog
from ...storage.quarantine import waiting
from ..carried import VERDICT_KEY
from ..resolving.mapping import columns_read
from .report import ReportResult, check_place, masked, outcomes, verdicts_of, written

REASONS_MAX = 8  # of which rows are shown
ROWS_OF_REASON = 2
COMMITS_OF_TABLE = 30

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_REFUSED = pl.Schema({"contract": pl.String, "source": pl.String, "day": pl.Date, "events": pl.Int64})
_REASONS = pl.Schema({"contract": pl.String, "check": pl.String, "column": pl.String, "events": pl.Int64})


def build_quality_report(catalog: Catalog, *, out: Path, generated_at_us: int) -> ReportResult:
    """Write the quality report of a lake to `out`, whole or not at all.

    Raises:
        StorageError: `out` cannot be written.
    """
    check_place(out)
    return written(catalog, out, render_quality(gather_quality(catalog, generated_at_us=generated_at_us)))


def gather_quality(catalog: Catalog, *, generated_at_us: int) -> QualityData:
    """Everything a quality report shows, read from the lake's tables."""
    refused, reasons = _refused(catalog)
    return QualityData(
        lake=catalog.root.name,
        root=str(catalog.root),
        generated_at_us=generated_at_us,
        verdicts=masked(catalog, verdicts_of(catalog)),
        outcomes=outcomes(catalog),
        refused=refused,
        reasons=reasons,
        before=masked(catalog, _before(catalog)),
        failed=_failed(catalog),
        commits=_commits(catalog),
    )


def _refused(catalog: Catalog) -> tuple[pl.DataFrame, pl.DataFrame]:
    table = catalog.table("quarantine")
    if not table.exists:
        return pl.DataFrame(schema=_REFUSED), pl.DataFrame(schema=_REASONS)
    events = pl.len().cast(pl.Int64).alias("events")
    rows = table.scan()
    day = pl.col("quarantined_at").dt.date().alias("day")
    refused = rows.group_by("contract", "source", day).agg(events).sort("contract", "source", "day")
    return refused.collect(), _by_reason(rows).select(list(_REASONS)).collect()


def _before(catalog: Catalog) -> pl.DataFrame:
    """Why rows did not get so far as a gate, by batch: those reasons that no verdict has as a check."""
    quarantine, verdicts = catalog.table("quarantine"), catalog.table("verdicts")
    if not quarantine.exists or not verdicts.exists:
        return pl.DataFrame(schema=BEFORE)
    keys = ("contract", "source", "at", "check", "column", "severity", "expected")
    return (
        quarantine.scan()
        .select("contract", "source", pl.col("quarantined_at").alias("at"), "reasons")
        .explode("reasons")
        .unnest("reasons")
        .join(verdicts.scan().select("contract", "check").unique(), on=["contract", "check"], how="anti")
        .group_by(keys)
        .agg(pl.col("got").drop_nulls().unique().bottom_k(1), pl.len().cast(pl.Int64).alias("rows"))
        .select(list(BEFORE))
        .sort(list(keys))
        .collect()
    )


def _by_reason(rows: pl.LazyFrame) -> pl.LazyFrame:
    """contract, check, column, events and the newest `ids` of each reason, most frequent first. What is only a warning
    kept nothing out.
    """
    newest = pl.struct((-pl.col("quarantined_at").dt.epoch("us")).alias("at"), "quarantine_id")
    return (
        rows.select("contract", "quarantine_id", "quarantined_at", "reasons")
        .explode("reasons")
        .unnest("reasons")
        .filter(pl.col("severity") != "warning")
        .group_by("contract", "check", "column")
        .agg(
            pl.col("quarantine_id").n_unique().cast(pl.Int64).alias("events"),
            newest.unique().bottom_k(ROWS_OF_REASON).struct.field("quarantine_id").alias("ids"),
        )
        .sort(["events", "contract", "check", "column"], descending=[True, False, False, False], nulls_last=True)
    )


def _failed(catalog: Catalog) -> list[FailedRow]:
    """The newest rows that wait for each of the most frequent reasons, each row once."""
    ids = _by_reason(waiting(catalog)).head(REASONS_MAX).collect()["ids"].explode().drop_nulls()
    if ids.is_empty():
        return []
    wanted = ids.unique(maintain_order=True)
    rows = waiting(catalog).filter(pl.col("quarantine_id").is_in(wanted.implode())).collect()
    found = {row["quarantine_id"]: row for row in rows.iter_rows(named=True)}
    masks = {contract.name: Mask.of(contract) for contract in catalog.contracts()}
    return [failed_row(found[id_], masks.get(found[id_]["contract"])) for id_ in wanted if id_ in found]


@dataclass(frozen=True, slots=True)
class Mask:
    """Which of a source row's values may be shown. Of a contract with personal data those that nobody reads are not,
    as nobody has said what they are; nor are rows that do not decode.
    """

    personal: frozenset[str]
    read: frozenset[str]

    @classmethod
    def of(cls, contract: Contract) -> Mask:
        marked = [field for field in contract.fields if field.pii is not None]
        personal = {name for field in marked for name in (field.name, *field.aliases)}
        read = {name for field in contract.fields for name in (field.name, *field.aliases)}
        if contract.mapping is not None:
            names = {field.name for field in marked}
            emits = contract.mapping.emits
            personal |= columns_read([Emit(tuple(pair for pair in e.fields if pair[0] in names)) for e in emits])
            read = set(columns_read(emits))
        return cls(frozenset(personal), frozenset(read))

    def hides(self, name: str) -> bool:
        return name in self.personal or (bool(self.personal) and name not in self.read)


def failed_row(row: Mapping[str, Any], mask: Mask | None) -> FailedRow:
    """Kernel: a row of shapes.QUARANTINE as it may be shown; without its contract's mask none of its values is."""
    found = _values(row)
    if found is None:
        shown = mask is not None and not mask.personal and row["format"] != "avro"
        text = bytes(row["raw"]).decode("utf-8", errors="backslashreplace") if shown else PERSONAL
        if mask is not None and not mask.personal and not shown:
            text = f"{len(row['raw']):,} bytes of Avro"
        values: tuple[tuple[str, str], ...] = ()
    else:
        hidden = [(name, mask is None or mask.hides(name)) for name in found]
        values = tuple((name, PERSONAL if hide else _text(found[name])) for name, hide in hidden)
        text = ""
    return FailedRow(
        quarantine_id=row["quarantine_id"],
        contract=row["contract"],
        source=row["source"],
        row=row["row"],
        reasons=tuple(_reason(reason, mask) for reason in row["reasons"]),
        values=values,
        text=text,
    )


def _values(row: Mapping[str, Any]) -> dict[str, Any] | None:
    """The row's values by name; None where its bytes are no such thing."""
    if row["format"] != "json":
        return None
    try:
        found = json.loads(row["raw"])
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _reason(reason: Mapping[str, Any], mask: Mask | None) -> tuple[str, str, str, str]:
    columns = reason["column"] or ""
    roots = {name.partition(".")[0].partition("[")[0] for name in columns.split(", ")}
    # What does not decode has a reason without a column, and may have its text as what was got.
    hide = mask is None or (bool(mask.personal) and (not columns or not mask.personal.isdisjoint(roots)))
    got = PERSONAL if hide else "null" if reason["got"] is None else reason["got"]
    return reason["check"], columns, reason["expected"] or "", got


def _commits(catalog: Catalog) -> list[CommitSeen]:
    """The newest commits of each table whose rows go through a gate, the newest first."""
    own = {"verdicts", "quarantine", "replays", "metrics", "dead_letters", "directory"}
    found = [
        _commit(name, entry)
        for name in catalog.table_names()
        if name not in own
        for entry in catalog.table(name).history(COMMITS_OF_TABLE)
    ]
    return sorted(found, key=lambda commit: (commit.at, commit.table, commit.version), reverse=True)


def _commit(table: str, entry: Mapping[str, Any]) -> CommitSeen:
    at = _EPOCH + timedelta(milliseconds=int(entry.get("timestamp", 0)))
    return CommitSeen(table, int(entry["version"]), at, str(entry.get("operation", "")), tuple(_verdicts_in(entry)))


def _verdicts_in(entry: Mapping[str, Any]) -> Iterable[str]:
    """Ids that a commit names, and those of verdicts it holds whole: many, where batches were committed together."""
    named = [name for name in str(entry.get("reclake.verdict_id", "")).split(", ") if name]
    whole = [json.loads(text)[0]["verdict_id"] for key, text in sorted(entry.items()) if key.startswith(VERDICT_KEY)]
    return dict.fromkeys([*named, *whole])
